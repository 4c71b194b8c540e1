//! The folder of the compiler, where the source of `core` has its place.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process;

pub(super) struct Sysroot {
    path: PathBuf,
    /// Of the compiler in it, such as `1.95.0`.
    pub(super) release: String,
}

impl Sysroot {
    pub(super) fn of_the_compiler() -> Result<Self> {
        let path = process::output(process::command("rustc").args(["--print", "sysroot"]))?;
        let version = process::output(process::command("rustc").arg("-vV"))?;
        let release = version.lines().find_map(|line| line.strip_prefix("release: "));
        let release = release.context("rustc does not name its release")?.to_owned();
        Ok(Self { path: path.trim().into(), release })
    }

    pub(super) fn has_core_source(&self) -> bool {
        self.library().join("core").is_dir()
    }

    /// A compiler that the distribution's package manager owns: its files are not ours to add to.
    pub(super) fn is_the_distribution_s(&self) -> bool {
        self.path == Path::new("/usr")
    }

    /// Copies the library's source to its place: to a name beside it first, so that a copy that was
    /// interrupted is never taken for a whole one.
    pub(super) fn adopt_library(&self, from: &Path) -> Result<()> {
        let library = self.library();
        let place = library.parent().expect("it was joined");
        let partial = place.join("library.partial");
        fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
        for stale in [&partial, &library] {
            if stale.exists() {
                fs::remove_dir_all(stale).with_context(|| format!("cannot remove {}", stale.display()))?;
            }
        }
        process::output(process::command("cp").arg("-R").arg(from).arg(&partial))?;
        fs::rename(&partial, &library).with_context(|| format!("cannot create {}", library.display()))
    }

    /// Where cargo's `build-std` looks for it.
    fn library(&self) -> PathBuf {
        self.path.join("lib/rustlib/src/rust/library")
    }
}
