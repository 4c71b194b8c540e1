//! Text to resolved model. Pure, but for [`load`], which reads the files: no kernel, no clock, no network.

mod address;
pub mod catalogue;
mod decode;
pub mod diagnostic;
pub mod expectation;
mod files;
pub mod lints;
pub mod model;
mod names;
mod port;
pub mod ranges;
pub mod render;
mod resolve;
mod selection;
mod source;
mod syntax;
mod text;

use schemars::transform::transform_subschemas;

pub use files::{Blob, LoadError, Loaded, load, load_for, load_inquiry, load_tests, load_tree};
pub use names::meant;
pub use resolve::{Resolved, resolve, resolve_for};
pub use selection::{Label, Labels, Selection};
pub use source::SourceFile;

/// The JSON Schema of a policy's files, for editors.
pub fn schema() -> schemars::Schema {
    titled("Policy of Clinigate", schemars::schema_for!(text::PolicyText))
}

/// The JSON Schema of the files in a policy's directory `tests`.
pub fn tests_schema() -> schemars::Schema {
    titled("Tests of a policy of Clinigate", schemars::schema_for!(expectation::ExpectationsText))
}

fn titled(title: &str, mut schema: schemars::Schema) -> schemars::Schema {
    schema.insert("title".to_owned(), title.into());
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
