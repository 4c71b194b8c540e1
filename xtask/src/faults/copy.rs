//! The copies of the tree that the faults are put into. They lie below `target/`, where nobody commits them and
//! `cargo clean` takes them away, and have build folders of their own: what is built from a fault must never be
//! found where the product is.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::fault::Fault;
use crate::process;

/// Where the copies are; while this value lives no second run works on them.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    _lock: File,
}

impl Place {
    pub(crate) fn take() -> Result<Self> {
        let folder = process::workspace_root().join("target/faults");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let lock = lock(&folder.join("lock"))?;
        Ok(Self { folder, _lock: lock })
    }
}

/// A copy of the tree. It stays for the next run, with what was built.
#[derive(Debug)]
pub(crate) struct Copy {
    root: PathBuf,
    build: PathBuf,
}

impl Copy {
    /// Makes it what git knows or would add, as it stands now. What is the same already, from an earlier run,
    /// stays as it is, and so does what was built from it.
    pub(crate) fn make(place: &Place, name: &str) -> Result<Self> {
        let source = process::workspace_root();
        let folder = place.folder.join(name);
        let copy = Self { root: folder.join("tree"), build: folder.join("build") };
        let mut git = process::command("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let mut wanted = HashSet::new();
        for name in process::output(&mut git)?.split_terminator('\0') {
            let (from, to) = (source.join(name), copy.root.join(name));
            // Deleted and not committed yet.
            if !from.is_file() {
                continue;
            }
            let text = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            if fs::read(&to).is_ok_and(|present| present == text) {
                wanted.insert(to);
                continue;
            }
            let folder = to.parent().expect("a file is in a folder");
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            fs::copy(&from, &to)
                .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
            wanted.insert(to);
        }
        remove_others(&copy.root, &wanted)?;
        Ok(copy)
    }

    /// Its folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where what is built from it goes.
    pub(crate) fn build(&self) -> &Path {
        &self.build
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
        // Nobody debugs a fault; without it each is built and linked in less time.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
        cargo
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

/// Removes the files below `folder` that are not among these.
fn remove_others(folder: &Path, wanted: &HashSet<PathBuf>) -> Result<()> {
    let failed = || format!("cannot clear {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let path = entry.path();
        if entry.file_type().with_context(failed)?.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(&path).with_context(failed)?;
        }
    }
    Ok(())
}
