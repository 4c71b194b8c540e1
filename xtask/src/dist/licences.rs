//! The licences of everything that is in the program: `copyright`, as Debian Policy 12.5 asks for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::components::{Component, Components};
use crate::process;

/// How the files with a licence's text are called.
const NAMES: [&str; 6] = ["license", "licence", "copying", "notice", "copyright", "unlicense"];

pub(super) fn copyright(components: &Components) -> Result<String> {
    let own = process::workspace_root().join("LICENSE");
    let own = fs::read_to_string(&own).with_context(|| format!("no {}", own.display()))?;
    let mut text = format!(
        "Clinigate is licensed under {}, whose text comes first. The crates that are linked into it, with their \
         licences, follow; then the texts that come with them, each once.\n\n{own}\n\n",
        components.licence
    );
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    text += "Crates\n======\nThe Rust standard library: MIT OR Apache-2.0\n";
    for component in &components.crates {
        let Component { name, version, licence, folder, .. } = component;
        writeln!(text, "{name} {version}: {licence}").expect("a string takes any text");
        for found in texts_in(folder)? {
            texts.entry(found).or_default().push(format!("{name} {version}"));
        }
    }
    for (licence, crates) in texts {
        let crates = crates.join(", ");
        write!(text, "\n\n{}\nOf {crates}\n\n{}\n", "-".repeat(78), licence.trim_end())
            .expect("a string takes any text");
    }
    Ok(text)
}

/// The licences' texts in a crate's folder.
fn texts_in(folder: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if NAMES.iter().any(|start| name.starts_with(start)) && entry.path().is_file() {
            let text =
                fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
            texts.push(String::from_utf8_lossy(&text).replace("\r\n", "\n"));
        }
    }
    texts.sort();
    Ok(texts)
}
