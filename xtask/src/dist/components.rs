//! The crates that are in the program: as cargo resolves it by itself, with the features that it has then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::build::{self, EBPF_CRATE};
use crate::process;

/// What a program is made of.
pub(super) struct Components {
    /// Of the program.
    pub(super) version: String,
    /// SPDX expression, of the program.
    pub(super) licence: String,
    /// All crates but those of this project, by name and version.
    pub(super) crates: Vec<Component>,
}

/// A crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) version: String,
    /// SPDX expression.
    pub(super) licence: String,
    /// SHA-256 of its package, as Cargo.lock has it.
    pub(super) checksum: Option<String>,
    pub(super) repository: Option<String>,
    /// Where its source lies on this machine.
    pub(super) folder: PathBuf,
}

/// The components of a package of the workspace, and of the programs in the kernel that are inside.
pub(super) fn of(package: &str) -> Result<Components> {
    let mut named = BTreeSet::new();
    for tree in [package, EBPF_CRATE] {
        let mut cargo = process::cargo();
        // Of a build for this machine; what only runs while building is not part of it.
        cargo.args(["tree", "--locked", "--package", tree, "--edges", "normal,no-proc-macro"]);
        cargo.args(["--prefix", "none", "--no-dedupe", "--format", "{p}"]);
        named.extend(process::output(&mut cargo)?.lines().filter_map(name_and_version));
    }
    let mut cargo = process::cargo();
    let metadata = process::output(cargo.args([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        &build::host()?,
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is no JSON")?;
    let checksums = checksums()?;
    let mut crates = Vec::new();
    let mut own = None;
    for found in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let text = |key: &str| found[key].as_str().map(str::to_owned);
        let (name, version) = (text("name").context("a name")?, text("version").context("a version")?);
        if name == package {
            own = Some((version.clone(), text("license").context("a licence")?));
        }
        let key = (name, version);
        if !named.contains(&key) || found["source"].is_null() {
            continue;
        }
        let manifest = PathBuf::from(text("manifest_path").context("a manifest")?);
        let folder = manifest.parent().context("a manifest lies in a folder")?.to_owned();
        let licence = text("license").with_context(|| format!("{} does not name its licence", key.0))?;
        let checksum = checksums.get(&key).cloned();
        let (name, version) = key;
        // The older way to write OR.
        let licence = licence.replace('/', " OR ");
        crates.push(Component { name, version, licence, checksum, repository: text("repository"), folder });
    }
    crates.sort();
    ensure!(!crates.is_empty(), "{package} is made of nothing");
    let (version, licence) = own.with_context(|| format!("no package {package} in the workspace"))?;
    Ok(Components { version, licence, crates })
}

/// `name v1.2.3 (where)`, as cargo tree writes a package.
fn name_and_version(line: &str) -> Option<(String, String)> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next()?;
    let version = words.next()?.strip_prefix('v')?;
    Some((name.to_owned(), version.to_owned()))
}

/// Checksums of Cargo.lock, by name and version.
fn checksums() -> Result<BTreeMap<(String, String), String>> {
    let text = fs::read_to_string(process::workspace_root().join("Cargo.lock")).context("no Cargo.lock")?;
    let of = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.and_then(|rest| rest.strip_suffix('"')).map(str::to_owned)
    };
    let blocks = text.split("[[package]]").skip(1);
    Ok(blocks
        .filter_map(|block| Some(((of(block, "name")?, of(block, "version")?), of(block, "checksum")?)))
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::{checksums, name_and_version};

    #[test]
    fn packages_are_read_as_cargo_writes_them() {
        let tokio = Some(("tokio".to_owned(), "1.54.0".to_owned()));
        assert_eq!(name_and_version("tokio v1.54.0"), tokio);
        assert_eq!(name_and_version("tokio v1.54.0 (/somewhere) (*)"), tokio);
        assert_eq!(name_and_version(""), None);
        let aya = checksums().unwrap().remove(&("aya".to_owned(), "0.14.0".to_owned())).unwrap();
        assert!(aya.len() == 64 && aya.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
