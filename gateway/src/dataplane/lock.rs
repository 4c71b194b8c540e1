//! One owner: the pin root and the state directory are locked as long as a process uses them.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::error::DataplaneError;

/// Held locks; they go with the process, however it ends.
pub(super) struct Lock {
    _pins: Flock<File>,
    _state: Option<Flock<File>>,
}

impl Lock {
    /// Locks both directories, which must exist.
    pub(super) fn take(pin_root: &Path, state: &Path) -> Result<Self, DataplaneError> {
        Ok(Self { _pins: lock(pin_root)?, _state: Some(lock(state)?) })
    }

    /// Locks the pins alone: enough to take them off.
    pub(super) fn take_pins(pin_root: &Path) -> Result<Self, DataplaneError> {
        Ok(Self { _pins: lock(pin_root)?, _state: None })
    }
}

fn lock(directory: &Path) -> Result<Flock<File>, DataplaneError> {
    let file = File::open(directory).map_err(DataplaneError::io("cannot open", directory))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => {
            DataplaneError::Owned { path: directory.to_owned(), pid: holder(&file) }
        }
        other => DataplaneError::io("cannot lock", directory)(other.into()),
    })
}

/// Process that holds the lock, from `/proc/locks`:
/// `1: FLOCK  ADVISORY  WRITE 4242 00:2a:1337 0 EOF`.
fn holder(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let device = metadata.dev();
    let wanted = format!("{:02x}:{:02x}:{}", libc::major(device), libc::minor(device), metadata.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let held = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&wanted.as_str());
        if held { fields.get(4)?.parse().ok() } else { None }
    })
}
