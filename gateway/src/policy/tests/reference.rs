//! The reference: its examples are read, and it has every key and every code.

use crate::policy::{SourceFile, render, resolve, schema, tests_schema};

const REFERENCE: &str = include_str!("../../../../docs/policy.md");

#[test]
fn the_examples_of_the_reference_are_one_policy() {
    let blocks = REFERENCE.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let files: Vec<SourceFile> =
        blocks.zip(0..).map(|(text, n)| SourceFile::new(&format!("{n:02}.yaml"), text)).collect();
    let resolved = resolve(files.clone());
    let report = render::Report::new(&files, false);
    let shown: Vec<String> =
        resolved.diagnostics.iter().map(|diagnostic| report.render(diagnostic)).collect();
    assert!(resolved.policy.is_some(), "{}", shown.join("\n"));
}

/// An editor offers what is read: a key that may be left out may not be left empty.
#[test]
fn schemas_have_a_title_and_no_null() {
    let policy = (schema(), "Policy of Clinigate", "flows");
    let tests = (tests_schema(), "Tests of a policy of Clinigate", "must-pass");
    for (schema, title, key) in [policy, tests] {
        let schema = schema.to_value();
        assert_eq!(schema["title"], title);
        assert!(schema["properties"][key].is_object(), "{schema}");
        assert!(!schema.to_string().contains("\"null\""), "{schema}");
    }
    let rule = &tests_schema().to_value()["$defs"]["ExpectationText"]["properties"]["rule"];
    assert_eq!(rule["type"], serde_json::json!(["string", "number"]));
}

#[test]
fn the_reference_has_every_key() {
    fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(properties) = schema.get("properties").and_then(|value| value.as_object()) {
            found.extend(properties.keys().cloned());
        }
        for value in schema.as_object().into_iter().flat_map(|object| object.values()) {
            keys(value, found);
        }
    }
    let mut found = Vec::new();
    keys(&schema().to_value(), &mut found);
    assert!(found.len() > 60);
    for key in found {
        let documented =
            REFERENCE.contains(&format!("`{key}`")) || REFERENCE.contains(&format!("## {key}\n"));
        assert!(documented, "docs/policy.md does not say what `{key}` means");
    }
}

#[test]
fn the_reference_has_every_code() {
    let sources = [
        include_str!("../decode.rs"),
        include_str!("../syntax.rs"),
        include_str!("../files.rs"),
        include_str!("../names.rs"),
        include_str!("../selection.rs"),
        include_str!("../address.rs"),
        include_str!("../resolve/mod.rs"),
        include_str!("../resolve/devices.rs"),
        include_str!("../resolve/endpoints.rs"),
        include_str!("../resolve/interfaces.rs"),
        include_str!("../resolve/rules.rs"),
        include_str!("../resolve/segments.rs"),
        include_str!("../resolve/services.rs"),
        include_str!("../resolve/settings.rs"),
        include_str!("../resolve/vendors.rs"),
    ];
    let starts = ["Diagnostic::error(", "AddressError::new(", "self.unknown("];
    for source in sources {
        for rest in starts.iter().flat_map(|start| source.split(start).skip(1)) {
            let Some(code) = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
            else {
                continue;
            };
            assert!(REFERENCE.contains(&format!("`{code}`")), "docs/policy.md does not name `{code}`");
        }
    }
}
