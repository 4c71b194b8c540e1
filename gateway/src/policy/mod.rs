//! Text to resolved model. Pure, but for [`load`], which reads the files: no kernel, no clock, no network.

mod address;
pub mod catalogue;
mod decode;
pub mod diagnostic;
mod files;
pub mod lints;
pub mod model;
mod names;
mod port;
pub mod ranges;
pub mod render;
mod resolve;
mod source;
mod syntax;
mod text;

pub use files::{LoadError, Loaded, load};
pub use resolve::{Resolved, resolve};
pub use source::SourceFile;

/// The JSON Schema of a policy's files, for editors.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(text::PolicyText)
}
