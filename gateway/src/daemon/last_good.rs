//! The last policy that came into force, kept so that a boot with a broken one has something to
//! fall back to.
//!
//! `<state>/last-good/policy/` holds the very text that was checked, `<state>/last-good/origin.json`
//! says where it came from. The directory is exchanged as a whole: there is always a complete one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::{Deserialize, Serialize};

use crate::policy::SourceFile;

/// Where a kept policy came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// SHA-256 of its text.
    pub(super) policy_hash: String,
    /// Directory.
    pub(super) source: PathBuf,
    /// Commit, where it was known.
    pub(super) commit: Option<String>,
}

/// Which text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// That of the last policy that came into force to stay.
    LastGood,
    /// That of one that waits for its confirmation.
    Unconfirmed,
}

impl Kept {
    fn directory(self) -> &'static str {
        match self {
            Self::LastGood => "last-good",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

const POLICY: &str = "policy";
const ORIGIN: &str = "origin.json";

/// Where the kept text stands.
pub(super) fn directory(state: &Path, kept: Kept) -> PathBuf {
    state.join(kept.directory()).join(POLICY)
}

/// Where the kept policy came from; `None` where none is kept.
pub(super) fn origin(state: &Path) -> Option<Origin> {
    let text = fs::read(state.join(Kept::LastGood.directory()).join(ORIGIN)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Keeps a policy in place of the one before. The text is on disk when this returns.
pub(super) fn keep(state: &Path, kept: Kept, files: &[SourceFile], origin: &Origin) -> io::Result<()> {
    let next = state.join(format!("{}.next", kept.directory()));
    remove_tree(&next)?;
    let policy = next.join(POLICY);
    fs::create_dir_all(&policy)?;
    for file in files {
        let name = relative(&file.name)?;
        if let Some(parent) = name.parent() {
            fs::create_dir_all(policy.join(parent))?;
        }
        write(&policy.join(name), file.text.as_bytes())?;
    }
    write(&next.join(ORIGIN), &serde_json::to_vec_pretty(origin)?)?;

    exchange(state, &next, &state.join(kept.directory()))
}

/// The policy that waited for its confirmation is the last good one from now on.
pub(super) fn promote(state: &Path) -> io::Result<()> {
    let [unconfirmed, last_good] =
        [Kept::Unconfirmed, Kept::LastGood].map(|kept| state.join(kept.directory()));
    exchange(state, &unconfirmed, &last_good)
}

/// Forgets a policy.
pub(super) fn remove(state: &Path, kept: Kept) -> io::Result<()> {
    remove_tree(&state.join(kept.directory()))
}

/// Puts a directory in another's place, and removes the other.
fn exchange(state: &Path, next: &Path, current: &Path) -> io::Result<()> {
    if current.exists() {
        renameat2(AT_FDCWD, next, AT_FDCWD, current, RenameFlags::RENAME_EXCHANGE)?;
    } else {
        fs::rename(next, current)?;
    }
    File::open(state)?.sync_all()?;
    remove_tree(next)
}

/// The name of a policy file, which must not lead out of its directory.
fn relative(name: &str) -> io::Result<&Path> {
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && !name.is_empty() { Ok(path) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Removes a directory with all that is in it, if it is there.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn policy(text: &str) -> (Vec<SourceFile>, Origin) {
        let files = vec![SourceFile::new("a.yaml", text), SourceFile::new("wards/b.yaml", "b")];
        let origin = Origin { policy_hash: text.to_owned(), source: "/etc/policy".into(), commit: None };
        (files, origin)
    }

    #[test]
    fn the_last_one_is_there_as_a_whole() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(origin(state.path()), None);
        for text in ["first", "second", "third"] {
            let (files, from) = policy(text);
            keep(state.path(), Kept::LastGood, &files, &from).unwrap();
            assert_eq!(origin(state.path()), Some(from));
            let kept = directory(state.path(), Kept::LastGood);
            assert_eq!(fs::read_to_string(kept.join("a.yaml")).unwrap(), text);
            assert_eq!(fs::read_to_string(kept.join("wards/b.yaml")).unwrap(), "b");
        }
        assert!(!state.path().join("last-good.next").exists(), "nothing is left behind");
    }

    #[test]
    fn a_half_written_one_does_not_count() {
        let state = tempfile::tempdir().unwrap();
        let (files, from) = policy("whole");
        keep(state.path(), Kept::LastGood, &files, &from).unwrap();
        fs::create_dir_all(state.path().join("last-good.next").join(POLICY)).unwrap();
        fs::write(state.path().join("last-good.next").join(POLICY).join("a.yaml"), "hal").unwrap();
        assert_eq!(origin(state.path()), Some(from));
        let (files, from) = policy("next");
        keep(state.path(), Kept::LastGood, &files, &from).unwrap();
        assert_eq!(origin(state.path()), Some(from));
    }

    #[test]
    fn names_do_not_lead_out_of_the_directory() {
        let state = tempfile::tempdir().unwrap();
        let (_, from) = policy("x");
        for name in ["../a.yaml", "/etc/a.yaml", "", "a/../../b"] {
            assert!(
                keep(state.path(), Kept::LastGood, &[SourceFile::new(name, "x")], &from).is_err(),
                "{name}"
            );
        }
        assert_eq!(origin(state.path()), None);
    }
}
