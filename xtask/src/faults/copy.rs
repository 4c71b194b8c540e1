//! The copies of the tree that the faults are put into. They lie below `target/`, where nobody commits them and
//! `cargo clean` takes them away, and have build folders of their own: what is built from a fault must never be
//! found where the product is.

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

/// A copy of the tree; it is removed with this value. What was built stays for the next run.
#[derive(Debug)]
pub(crate) struct Copy {
    root: PathBuf,
    build: PathBuf,
}

impl Copy {
    /// Copies what git knows or would add, as it stands now. Takes away what a run left that was broken off.
    pub(crate) fn make(place: &Place, name: &str) -> Result<Self> {
        let source = process::workspace_root();
        let folder = place.folder.join(name);
        let copy = Self { root: folder.join("tree"), build: folder.join("build") };
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
