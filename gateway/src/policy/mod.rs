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

use schemars::transform::transform_subschemas;

pub use files::{LoadError, Loaded, load};
pub use resolve::{Resolved, resolve};
pub use source::SourceFile;

/// The JSON Schema of a policy's files, for editors.
pub fn schema() -> schemars::Schema {
    let mut schema = schemars::schema_for!(text::PolicyText);
    schema.insert("title".to_owned(), "Policy of Clinigate".into());
    // A key that may be left out may not be left empty: `null` is never a value.
    transform_subschemas(&mut without_null, &mut schema);
    schema
}

fn without_null(schema: &mut schemars::Schema) {
    let null = serde_json::json!({ "type": "null" });
    if let Some(serde_json::Value::Array(options)) = schema.get_mut("anyOf") {
        options.retain(|option| *option != null);
    }
    if let Some(serde_json::Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
    }
    transform_subschemas(&mut without_null, schema);
}

#[cfg(test)]
mod tests;
