//! The generations that were in force: where each came from, what it changed, what became of it.
//!
//! `<state>/history/<generation>/record.json` is the record, `policy/` beside it the text, as links to the
//! copy that was kept for the next boot: it takes no room of its own as long as that is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::last_good;
use super::repository::Commit;
use super::review::Plan;
use crate::dataplane::replace_file;

/// Records that are kept.
const RECORDS: usize = 500;
/// Texts that are kept: as far as one can go back.
const TEXTS: usize = 50;

/// A generation's record. Times are milliseconds since 1970 (Unix time).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub generation: u32,
    /// In force since.
    pub applied_at: u64,
    /// Milliseconds from reading the text to being in force.
    pub took_ms: u64,
    /// Why it was made.
    pub cause: Cause,
    /// Directory or repository that the text came from.
    pub source: String,
    /// Commit, where it is known.
    pub commit: Option<String>,
    /// What that commit says about itself, where it came from a repository.
    pub about: Option<Commit>,
    /// SHA-256 of the text.
    pub policy_hash: String,
    /// What it changed, as far as that was looked at.
    pub plan: Option<Plan>,
    /// The generation whose text it brought back.
    pub restores: Option<u32>,
    /// Whether it had to be confirmed, and what became of that.
    pub confirmation: Option<Confirmation>,
}

/// Why a generation was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Somebody asked for it.
    #[default]
    Apply,
    /// A commit of the repository.
    Commit,
    /// The last good policy, at a start of the service.
    Start,
    /// The same text, for new addresses of the gateway.
    Addresses,
    /// The same text, with other orders or windows laid over it.
    Orders,
    /// Somebody asked for an earlier one.
    Rollback,
    /// The one before was not confirmed in time.
    NotConfirmed,
}

impl Cause {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Commit => "commit",
            Self::Start => "start",
            Self::Addresses => "addresses",
            Self::Orders => "orders",
            Self::Rollback => "rollback",
            Self::NotConfirmed => "not-confirmed",
        }
    }
}

/// What became of a confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Seconds within which it had to come.
    pub within_s: u64,
    /// What became of it.
    pub result: Confirmed,
    /// When that was; absent while it is waited for.
    pub at: Option<u64>,
}

/// See [`Confirmation::result`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmed {
    /// It is waited for.
    Waiting,
    /// It came.
    Confirmed,
    /// The policy before was put back.
    WentBack,
}

/// All records, the oldest first. What cannot be read is left out.
pub fn generations(state: &Path) -> Vec<Generation> {
    numbers(state).into_iter().filter_map(|number| read(state, number)).collect()
}

/// Directory of a generation's text.
pub(super) fn text(state: &Path, generation: u32) -> PathBuf {
    directory(state, generation).join("policy")
}

/// Keeps a record, and the text in `from`, whose files they are.
pub(super) fn keep(
    state: &Path,
    generation: &Generation,
    from: &Path,
    files: &[crate::policy::SourceFile],
) -> io::Result<()> {
    let text = text(state, generation.generation);
    for file in files {
        let (source, target) = (from.join(&*file.name), text.join(&*file.name));
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::hard_link(source, target)?;
    }
    write(state, generation)?;
    prune(state)
}

/// Removes what is too old. The last generation of a text counts apart from those before it: addresses and orders that make
/// many do not take away the texts before.
fn prune(state: &Path) -> io::Result<()> {
    let (mut texts, mut others) = (0, 0);
    let mut after: Option<String> = None;
    for number in numbers(state).into_iter().rev() {
        let hash = read(state, number).map(|record| record.policy_hash);
        let is_last = hash.is_some() && hash != after;
        let count = if is_last { &mut texts } else { &mut others };
        *count += 1;
        if *count > RECORDS {
            last_good::remove_tree(&directory(state, number))?;
        } else if *count > TEXTS {
            last_good::remove_tree(&text(state, number))?;
        }
        after = hash.or(after);
    }
    Ok(())
}

/// When the text with this hash was left for another one, the last time up to generation `current`: in milliseconds since 1970,
/// before anything of the other one was done. `None` where it is in force, and where that is not known.
pub(super) fn left(state: &Path, current: u32, hash: &str) -> Option<u64> {
    let past = generations(state);
    let past = &past[..past.partition_point(|it| it.generation <= current)];
    let at = past.iter().rposition(|it| it.policy_hash == hash)?;
    past.get(at + 1).map(|other| other.applied_at.saturating_sub(other.took_ms))
}

/// Changes the record of a generation, if there is one.
pub(super) fn amend(state: &Path, number: u32, change: impl FnOnce(&mut Generation)) -> io::Result<()> {
    let Ok(text) = fs::read(record(state, number)) else { return Ok(()) };
    let mut generation: Generation = serde_json::from_slice(&text)?;
    change(&mut generation);
    write(state, &generation)
}

/// The generation that was in force `back` changes before `current`. Changes to the same text do not count, and
/// whoever went back stands where he went.
pub(super) fn back(generations: &[Generation], current: u32, back: usize) -> Option<&Generation> {
    let find = |number: u32| generations.iter().position(|it| it.generation == number);
    let mut at = find(current)?;
    // Each restores an earlier one.
    while let Some(earlier) = generations[at].restores.and_then(find).filter(|earlier| *earlier < at) {
        at = earlier;
    }
    for _ in 0..back {
        let hash = &generations[at].policy_hash;
        at = generations[..at].iter().rposition(|it| it.policy_hash != *hash)?;
        while let Some(earlier) = generations[at].restores.and_then(find).filter(|earlier| *earlier < at) {
            at = earlier;
        }
    }
    Some(&generations[at])
}

fn read(state: &Path, number: u32) -> Option<Generation> {
    serde_json::from_slice(&fs::read(record(state, number)).ok()?).ok()
}

fn write(state: &Path, generation: &Generation) -> io::Result<()> {
    replace_file(&record(state, generation.generation), &serde_json::to_vec_pretty(generation)?)
}

fn directory(state: &Path, generation: u32) -> PathBuf {
    state.join("history").join(generation.to_string())
}

fn record(state: &Path, generation: u32) -> PathBuf {
    directory(state, generation).join("record.json")
}

/// Numbers of the generations that have a directory, sorted.
fn numbers(state: &Path) -> Vec<u32> {
    let entries = fs::read_dir(state.join("history")).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::policy::SourceFile;

    fn generation(number: u32, hash: &str, restores: Option<u32>) -> Generation {
        Generation { generation: number, policy_hash: hash.to_owned(), restores, ..Generation::default() }
    }

    #[test]
    fn records_and_texts_are_kept_and_the_oldest_go() {
        let state = tempfile::tempdir().unwrap();
        let from = state.path().join("from");
        fs::create_dir_all(from.join("wards")).unwrap();
        let files = [SourceFile::new("a.yaml", "a"), SourceFile::new("wards/b.yaml", "b")];
        for file in &files {
            fs::write(from.join(&*file.name), &file.text).unwrap();
        }
        for number in 1..=60 {
            keep(state.path(), &generation(number, "x", None), &from, &files).unwrap();
        }
        let kept = generations(state.path());
        assert_eq!((kept.len(), kept[0].generation, kept[59].generation), (60, 1, 60));
        assert!(!text(state.path(), 9).exists());
        assert_eq!(fs::read_to_string(text(state.path(), 10).join("wards/b.yaml")).unwrap(), "b");
        amend(state.path(), 60, |it| it.took_ms = 7).unwrap();
        assert_eq!(generations(state.path())[59].took_ms, 7);
        fs::write(record(state.path(), 59), "cut off").unwrap();
        assert_eq!(generations(state.path()).len(), 59, "what cannot be read is left out");
    }

    #[test]
    fn many_generations_of_one_text_leave_the_texts_before() {
        let state = tempfile::tempdir().unwrap();
        let from = state.path().join("from");
        fs::create_dir_all(&from).unwrap();
        let files = [SourceFile::new("a.yaml", "a")];
        fs::write(from.join("a.yaml"), "a").unwrap();
        let kept = |number, hash: &str| {
            let applied_at = 1000 * u64::from(number);
            let generation = Generation { applied_at, took_ms: 5, ..generation(number, hash, None) };
            keep(state.path(), &generation, &from, &files).unwrap();
        };
        kept(1, "first");
        kept(2, "second");
        for number in 3..=1200 {
            kept(number, "third");
        }
        let past = generations(state.path());
        assert_eq!(past.len(), 2 + 1 + RECORDS);
        let before = back(&past, 1200, 1).unwrap().generation;
        assert_eq!(before, 2);
        assert!(text(state.path(), before).is_dir() && text(state.path(), 1).is_dir());
        let left = |current, hash| left(state.path(), current, hash);
        assert_eq!(left(1200, "second"), Some(past[2].applied_at - 5));
        assert_eq!(left(1200, "first"), Some(1995), "with all that came since");
        assert_eq!((left(1200, "third"), left(1, "first"), left(1200, "other")), (None, None, None));
        assert_eq!(left(9999, "second"), Some(past[2].applied_at - 5), "the latest has no record");
    }

    #[test]
    fn going_back_counts_changes_of_the_text() {
        let past = [
            generation(1, "a", None),
            generation(2, "b", None),
            generation(3, "b", None),
            generation(4, "c", None),
            generation(5, "b", Some(3)),
        ];
        let went = |current, steps| back(&past, current, steps).map(|it| it.generation);
        assert_eq!((went(4, 1), went(4, 2), went(4, 3)), (Some(3), Some(1), None));
        assert_eq!(went(5, 1), Some(1), "not the one that was left");
        assert_eq!(went(9, 1), None);
    }
}
