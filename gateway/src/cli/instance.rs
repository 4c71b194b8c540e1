//! Which gateway of this machine a command means.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::daemon::control::DEFAULT_SOCKET;
use crate::dataplane::Options;

/// Where a gateway keeps its things. Stands last in each command: its heading covers what follows.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Another gateway than the one of the package's service")]
pub(super) struct Instance {
    /// Directory of the pinned programs and tables, on a BPF file system.
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().pin_root)]
    pub(super) pin_root: PathBuf,
    /// Directory of what must outlive a reboot.
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().state_dir)]
    pub(super) state_dir: PathBuf,
    /// Socket on which the service is asked.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(super) socket: PathBuf,
}

impl Instance {
    /// Whether there are pins. What may not be seen (the BPF file system is root's alone where
    /// systemd mounts it) is an error: it must not pass for "nothing is in force".
    pub(super) fn is_present(&self) -> anyhow::Result<bool> {
        self.pin_root.try_exists().with_context(|| {
            format!("cannot tell what is in force without sight of {}", self.pin_root.display())
        })
    }

    /// As the dataplane wants it.
    pub(super) fn options(&self) -> Options {
        Options { pin_root: self.pin_root.clone(), state_dir: self.state_dir.clone(), ..Options::default() }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn pins_that_cannot_be_looked_at_are_not_absent_ones() {
        let directory = tempfile::tempdir().unwrap();
        let instance =
            |pin_root: PathBuf| Instance { pin_root, state_dir: PathBuf::new(), socket: PathBuf::new() };
        assert!(instance(directory.path().to_owned()).is_present().unwrap());
        assert!(!instance(directory.path().join("none")).is_present().unwrap());
        // Below a file nothing can be looked at, not even by root.
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = instance(file.join("pins")).is_present().unwrap_err().to_string();
        assert!(error.contains("cannot tell what is in force"), "{error}");
    }
}
