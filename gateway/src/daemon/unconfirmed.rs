//! A change that goes back by itself unless somebody confirms it: what is on disk about it.
//!
//! `<state>/unconfirmed/` holds its text, `<state>/unconfirmed.json` says until when. The last good policy stays
//! the one before until the confirmation comes: a boot, and whoever goes back, takes that.
//!
//! Written before the change comes into force, so that no crash leaves a change that nobody confirms.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::dataplane::replace_file;

/// A change that waits for its confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unconfirmed {
    /// SHA-256 of its text.
    pub(super) policy_hash: String,
    /// Commit, where it is known.
    pub(super) commit: Option<String>,
    /// Seconds within which it must be confirmed.
    pub(super) within_s: u64,
    /// Nanoseconds of `CLOCK_BOOTTIME`, which no one sets: then it goes back.
    pub(super) deadline: u64,
    /// The boot that the clock counts from.
    boot: String,
}

/// A policy that was taken back: it does not come into force again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// SHA-256 of its text.
    pub policy_hash: String,
    /// Commit, where it is known.
    pub commit: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub at: u64,
    /// Why.
    pub why: String,
}

impl Unconfirmed {
    /// A change that is made now.
    pub(super) fn new(policy_hash: String, commit: Option<String>, within: Duration) -> Self {
        let within_ns = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        let deadline = since_boot().saturating_add(within_ns);
        Self { policy_hash, commit, within_s: within.as_secs(), deadline, boot: boot() }
    }

    /// What is on disk, where something is.
    pub(super) fn read(state: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(state)).ok()?).ok()
    }

    /// Onto the disk.
    pub(super) fn write(&self, state: &Path) -> io::Result<()> {
        replace_file(&path(state), &serde_json::to_vec_pretty(self)?)
    }

    /// Forgets it.
    pub(super) fn remove(state: &Path) -> io::Result<()> {
        remove(&path(state))
    }

    /// What is left of its time; `None` where it is over, or the machine was started anew in between: nobody
    /// who cannot reach it any more could have said so.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let left = self.deadline.checked_sub(since_boot()).filter(|left| *left > 0)?;
        (self.boot == boot()).then(|| Duration::from_nanos(left))
    }
}

impl Withdrawn {
    /// What is on disk, where something is.
    pub(super) fn read(state: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(state.join("withdrawn.json")).ok()?).ok()
    }

    /// Onto the disk.
    pub(super) fn write(&self, state: &Path) -> io::Result<()> {
        replace_file(&state.join("withdrawn.json"), &serde_json::to_vec_pretty(self)?)
    }

    /// Forgets it.
    pub(super) fn remove(state: &Path) -> io::Result<()> {
        remove(&state.join("withdrawn.json"))
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("unconfirmed.json")
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Nanoseconds since the machine was started, sleep included.
fn since_boot() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells one boot from another.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn its_time_runs_out_and_ends_with_the_boot() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Unconfirmed::read(state.path()), None);
        let change = Unconfirmed::new("5f".to_owned(), None, Duration::from_mins(5));
        change.write(state.path()).unwrap();
        let found = Unconfirmed::read(state.path()).unwrap();
        assert_eq!(found, change);
        let left = found.remaining().unwrap();
        assert!(left > Duration::from_secs(290) && left <= Duration::from_mins(5), "{left:?}");
        assert_eq!(Unconfirmed { deadline: since_boot(), ..found.clone() }.remaining(), None);
        assert_eq!(Unconfirmed { boot: "another".to_owned(), ..found }.remaining(), None);
        Unconfirmed::remove(state.path()).unwrap();
        assert_eq!(Unconfirmed::read(state.path()), None);
        Unconfirmed::remove(state.path()).unwrap();
    }
}
