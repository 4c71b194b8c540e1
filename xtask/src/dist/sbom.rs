//! The bill of materials: `CycloneDX` 1.5, as JSON.

use serde_json::{Value, json};

use super::components::{Component, Components};

pub(super) fn sbom(components: &Components, version: &str) -> Value {
    let own = json!({
        "type": "application",
        "bom-ref": "clinigate",
        "name": "clinigate",
        "version": version,
        "licenses": [{ "expression": components.licence }],
    });
    let refs: Vec<String> = components.crates.iter().map(purl).collect();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": own },
        "components": components.crates.iter().map(component).collect::<Vec<_>>(),
        // Everything is linked into the one program.
        "dependencies": [{ "ref": "clinigate", "dependsOn": refs }],
    })
}

fn component(component: &Component) -> Value {
    let mut value = json!({
        "type": "library",
        "bom-ref": purl(component),
        "purl": purl(component),
        "name": component.name,
        "version": component.version,
        "licenses": [{ "expression": component.licence }],
    });
    if let Some(checksum) = &component.checksum {
        value["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(repository) = &component.repository {
        value["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    value
}

/// The package's address (purl, type cargo).
fn purl(Component { name, version, .. }: &Component) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}
