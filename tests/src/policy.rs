//! Copies of the reference hospital's policy, changed for a test.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Directory of the reference hospital's policy.
pub fn hospital() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/hospital")
}

/// Copies the policy in `from` to `to`, which is made.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("no policy in {}", from.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Takes one flow, written as a list item over several lines, out of `flows.yaml`.
pub fn remove_flow(directory: &Path, name: &str) -> Result<()> {
    let file = directory.join("flows.yaml");
    let text = fs::read_to_string(&file)?;
    let (mut kept, mut within, mut found) = (String::new(), false, false);
    for line in text.lines() {
        // An item's lines are deeper than its dash.
        within = if line.trim_start().starts_with("- ") {
            line.trim() == format!("- name: {name}")
        } else {
            within && line.starts_with("    ")
        };
        found |= within;
        if !within {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    ensure!(found, "no flow {name} in {}", file.display());
    Ok(fs::write(file, kept)?)
}

/// Sets the mode of one segment, which stands on one line of `segments.yaml`.
pub fn set_mode(directory: &Path, segment: &str, mode: &str) -> Result<()> {
    let file = directory.join("segments.yaml");
    let text = fs::read_to_string(&file)?;
    let (start, mut found) = (format!("{segment}:"), false);
    let lines = text.lines().map(|line| {
        let mode_of = line.rsplit_once("mode: ").filter(|_| line.trim_start().starts_with(&start));
        found |= mode_of.is_some();
        mode_of.map_or_else(|| line.to_owned(), |(before, _)| format!("{before}mode: {mode} }}"))
    });
    let changed: Vec<_> = lines.collect();
    ensure!(found, "no mode of segment {segment} in {}", file.display());
    Ok(fs::write(file, changed.join("\n") + "\n")?)
}
