//! The copy of the tree that the faults are put into. It lies below `target/`, where nobody commits it and
//! `cargo clean` takes it away, and has a build folder of its own: what is built from a fault must never be
//! found where the product is.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::fault::Fault;
use crate::process;

/// A copy of the tree; it is removed with this value. What was built stays for the next run.
#[derive(Debug)]
pub(crate) struct Copy {
    root: PathBuf,
    build: PathBuf,
    /// Held, so that no second run works on the same copy.
    _lock: File,
}

impl Copy {
    /// Copies what git knows or would add, as it stands now. Takes away what a run left that was broken off.
    pub(crate) fn make() -> Result<Self> {
        let source = process::workspace_root();
        let place = source.join("target/faults");
        fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        let lock = lock(&place.join("lock"))?;
        let copy = Self { root: place.join("tree"), build: place.join("build"), _lock: lock };
        remove(&copy.root)?;
        let mut git = process::command("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        for name in process::output(&mut git)?.split_terminator('\0') {
            let (from, to) = (source.join(name), copy.root.join(name));
            // Deleted and not committed yet.
            if !from.is_file() {
                continue;
            }
            let folder = to.parent().expect("a file is in a folder");
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            fs::copy(&from, &to)
                .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        }
        Ok(copy)
    }

    /// Runs `work` while the copy has this fault.
    pub(crate) fn with<T>(&self, fault: &Fault, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = self.root.join(fault.file);
        let write = |text| fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()));
        let (right, wrong) = fault.texts(&self.root)?;
        write(wrong)?;
        let outcome = work();
        write(right)?;
        outcome
    }

    /// A cargo that works on the copy.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = process::cargo();
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.build);
        cargo
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.root) {
            eprintln!("warning: {error:#}");
        }
    }
}

fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another run of this command is under way"),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))
}
