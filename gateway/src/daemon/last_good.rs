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

const DIRECTORY: &str = "last-good";
const NEXT: &str = "last-good.next";
const POLICY: &str = "policy";
const ORIGIN: &str = "origin.json";

/// Where the kept text stands.
pub(super) fn directory(state: &Path) -> PathBuf {
    state.join(DIRECTORY).join(POLICY)
}

/// Where the kept policy came from; `None` where none is kept.
pub(super) fn origin(state: &Path) -> Option<Origin> {
    let text = fs::read(state.join(DIRECTORY).join(ORIGIN)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Keeps a policy in place of the one before. The text is on disk when this returns.
pub(super) fn keep(state: &Path, files: &[SourceFile], origin: &Origin) -> io::Result<()> {
    let next = state.join(NEXT);
    remove(&next)?;
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

    let current = state.join(DIRECTORY);
    if current.exists() {
        renameat2(AT_FDCWD, &next, AT_FDCWD, &current, RenameFlags::RENAME_EXCHANGE)?;
    } else {
        fs::rename(&next, &current)?;
    }
    File::open(state)?.sync_all()?;
    remove(&next)
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

fn remove(path: &Path) -> io::Result<()> {
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
            keep(state.path(), &files, &from).unwrap();
            assert_eq!(origin(state.path()), Some(from));
            let kept = directory(state.path());
            assert_eq!(fs::read_to_string(kept.join("a.yaml")).unwrap(), text);
            assert_eq!(fs::read_to_string(kept.join("wards/b.yaml")).unwrap(), "b");
        }
        assert!(!state.path().join(NEXT).exists(), "nothing is left behind");
    }

    #[test]
    fn a_half_written_one_does_not_count() {
        let state = tempfile::tempdir().unwrap();
        let (files, from) = policy("whole");
        keep(state.path(), &files, &from).unwrap();
        fs::create_dir_all(state.path().join(NEXT).join(POLICY)).unwrap();
        fs::write(state.path().join(NEXT).join(POLICY).join("a.yaml"), "hal").unwrap();
        assert_eq!(origin(state.path()), Some(from));
        let (files, from) = policy("next");
        keep(state.path(), &files, &from).unwrap();
        assert_eq!(origin(state.path()), Some(from));
    }

    #[test]
    fn names_do_not_lead_out_of_the_directory() {
        let state = tempfile::tempdir().unwrap();
        let (_, from) = policy("x");
        for name in ["../a.yaml", "/etc/a.yaml", "", "a/../../b"] {
            assert!(keep(state.path(), &[SourceFile::new(name, "x")], &from).is_err(), "{name}");
        }
        assert_eq!(origin(state.path()), None);
    }
}
