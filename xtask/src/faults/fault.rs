//! A fault: one line of the product, written wrong on purpose.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// One line of the product, and what somebody could have written in its place.
#[derive(Debug)]
pub(crate) struct Fault {
    /// By which it is asked for.
    pub(crate) name: &'static str,
    /// Path from the root of the workspace.
    pub(crate) file: &'static str,
    /// Text that stands there exactly once: the line, with a neighbour where it alone stands twice.
    pub(crate) right: &'static str,
    /// What replaces it; one line of it differs.
    pub(crate) wrong: &'static str,
    /// What it breaks, as somebody in the hospital would put it.
    pub(crate) breaks: &'static str,
    /// The tests that should see it, asked before all others: a layer, and a part of their names.
    pub(crate) near: (&'static str, &'static str),
}

impl Fault {
    /// The text of its file with the fault in it.
    pub(crate) fn apply_to(&self, text: &str) -> Result<String> {
        let found = text.matches(self.right).count();
        ensure!(
            found == 1,
            "{}: in {} this stands {found} times instead of once; say in xtask/src/faults/catalogue where the fault \
             belongs now:\n{}",
            self.name,
            self.file,
            self.right
        );
        Ok(text.replacen(self.right, self.wrong, 1))
    }

    /// The right text of its file below `root`, and the wrong one.
    pub(crate) fn texts(&self, root: &Path) -> Result<(String, String)> {
        let path = root.join(self.file);
        let right = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let wrong = self.apply_to(&right)?;
        Ok((right, wrong))
    }

    /// Whether it is in the programs in the kernel, and nowhere else.
    pub(crate) fn is_in_programs(&self) -> bool {
        self.file.starts_with("gateway-ebpf/")
    }
}
