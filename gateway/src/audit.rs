//! The audit log: who ordered what, and what became of it. Append-only, each entry with the hash of the one before.
//!
//! A line is one entry as JSON. Its hash is SHA-256 over the line without its newline, and stands in the next entry and,
//! for the last, in a file beside the log. A changed byte breaks the chain at the next entry or at the head; a log that
//! was cut short no longer ends where the head says. Who can rewrite both can rewrite history: the head is therefore
//! also written to the service's log, which is usually kept elsewhere, and `clinigate audit verify --head` asks for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Name of the log, below the state directory.
pub const LOG: &str = "audit.jsonl";
/// Name of the head's file, likewise.
pub const HEAD: &str = "audit.head";
/// Bytes of an entry, at most.
const ENTRY_LIMIT: u64 = 1 << 20;

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Hash of the entry before; of the first one, 64 zeros.
    pub previous: String,
    /// Number, from 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    /// Who: `root`, `uid 4711`, `clinigate` for what the service did by itself.
    pub by: String,
    /// What was ordered.
    pub action: String,
    /// `asked`, `done`, `refused`, `failed`, `ended`.
    pub outcome: String,
    /// Further facts.
    pub detail: Value,
}

/// The last entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number; 0 where there is none.
    pub number: u64,
    /// Its hash.
    pub hash: String,
    /// Bytes of the log up to its end.
    pub length: u64,
}

impl Default for Head {
    fn default() -> Self {
        Self { number: 0, hash: "0".repeat(64), length: 0 }
    }
}

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It cannot be read or written.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// An entry is not what it was.
    #[error("line {line}: {what}")]
    Broken {
        /// Line, from 1.
        line: u64,
        /// What is wrong there.
        what: String,
    },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuditError {
    let path = path.to_owned();
    move |source| AuditError::Io { what, path, source }
}

/// A log that is written to.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    file: File,
    head: Head,
    is_doubtful: bool,
}

impl Log {
    /// Opens the log of a state directory, or begins one. What a crash left of a last entry is taken off; any other
    /// fault stays as it is for [`verify`] to find, and the chain goes on from the last line.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub fn open(directory: &Path) -> Result<Self, AuditError> {
        let path = directory.join(LOG);
        fs::create_dir_all(directory).map_err(failed("cannot create", directory))?;
        let opened = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = opened.map_err(failed("cannot open", &path))?;
        let end = last_whole_line(&mut file).map_err(failed("cannot read", &path))?;
        let length = file.metadata().map_err(failed("cannot read", &path))?.len();
        if end.length < length {
            file.set_len(end.length).map_err(failed("cannot mend", &path))?;
            file.sync_all().map_err(failed("cannot write", &path))?;
        }
        let mut log = Self { directory: directory.to_owned(), file, head: end, is_doubtful: false };
        let known = read_head(directory)?;
        if known.as_ref().is_none_or(|known| known.number <= log.head.number) {
            log.keep_head()?;
        } else if let Some(known) = known {
            // Entries are missing. The head goes on saying so: numbers go on from it.
            log.head.number = known.number;
            log.head.hash = known.hash;
        }
        Ok(log)
    }

    /// Adds an entry; it is on disk when this returns.
    ///
    /// # Errors
    /// Where it cannot be written: nothing was added then, unless it [could not be taken off again](Self::is_doubtful) either.
    pub fn add(
        &mut self,
        at: u64,
        by: &str,
        action: &str,
        outcome: &str,
        detail: Value,
    ) -> Result<&Head, AuditError> {
        let path = self.directory.join(LOG);
        let entry = Entry {
            previous: self.head.hash.clone(),
            number: self.head.number + 1,
            at,
            by: by.to_owned(),
            action: action.to_owned(),
            outcome: outcome.to_owned(),
            detail,
        };
        let mut line =
            serde_json::to_vec(&entry).map_err(io::Error::other).map_err(failed("cannot write", &path))?;
        let hash = hash_of(&line);
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half an entry must not stand in the way of the next one.
            self.is_doubtful = self.file.set_len(self.head.length).is_err();
            return Err(failed("cannot write", &path)(error));
        }
        let length = self.head.length + line.len() as u64;
        let before = std::mem::replace(&mut self.head, Head { number: entry.number, hash, length });
        if let Err(error) = self.keep_head() {
            if self.file.set_len(before.length).is_ok() {
                let _ = self.file.sync_data();
                self.head = before;
                // The file may be there already, and only the directory could not be written.
                let _ = self.keep_head();
            } else {
                self.is_doubtful = true;
            }
            return Err(error);
        }
        Ok(&self.head)
    }

    /// An entry could neither be added nor taken off again: what stands is to be read anew before the next one.
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// The last entry.
    pub fn head(&self) -> &Head {
        &self.head
    }

    fn keep_head(&self) -> Result<(), AuditError> {
        let (path, next) = (self.directory.join(HEAD), self.directory.join(format!("{HEAD}.next")));
        let write = || {
            let mut file = File::create(&next)?;
            serde_json::to_writer(&mut file, &self.head)?;
            file.sync_all()?;
            fs::rename(&next, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(failed("cannot write", &path))
    }
}

fn hash_of(line: &[u8]) -> String {
    format!("{:x}", Sha256::digest(line))
}

fn read_head(directory: &Path) -> Result<Option<Head>, AuditError> {
    let path = directory.join(HEAD);
    match fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("cannot read", &path)(error)),
    }
}

/// The head that the last line with an end stands for.
fn last_whole_line(file: &mut File) -> io::Result<Head> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(file);
    let mut head = Head::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 || line.last() != Some(&b'\n') {
            return Ok(head);
        }
        head.length += line.len() as u64;
        line.pop();
        head.hash = hash_of(&line);
        head.number = serde_json::from_slice::<Entry>(&line).map_or(head.number + 1, |entry| entry.number);
    }
}

/// Whether a state directory has a log, or what is left of one.
///
/// # Errors
/// Where it cannot be looked into.
pub fn exists(directory: &Path) -> io::Result<bool> {
    Ok(directory.join(LOG).try_exists()? || directory.join(HEAD).try_exists()?)
}

/// Reads a log to its end and hands every entry to `visit`, until one is not what it was.
///
/// # Errors
/// The first fault, with its line: an entry that is none, that does not follow the one before, or an end that is not
/// the head's.
pub fn verify(
    directory: &Path,
    expected: Option<&str>,
    mut visit: impl FnMut(&Entry),
) -> Result<Head, AuditError> {
    let path = directory.join(LOG);
    let file = File::open(&path).map_err(failed("cannot open", &path))?;
    let mut reader = BufReader::new(file);
    let mut head = Head::default();
    let kept = read_head(directory)?;
    let mut kept_seen = kept.as_ref().is_none_or(|kept| kept.number == 0);
    let mut expected_seen = expected.is_none();
    loop {
        let mut line = Vec::new();
        let number = head.number + 1;
        let broken = |what: String| AuditError::Broken { line: number, what };
        let read = (&mut reader).take(ENTRY_LIMIT).read_until(b'\n', &mut line);
        if read.map_err(failed("cannot read", &path))? == 0 {
            break;
        }
        if line.pop() != Some(b'\n') {
            return Err(broken("it has no end".to_owned()));
        }
        head.length += line.len() as u64 + 1;
        let entry: Entry =
            serde_json::from_slice(&line).map_err(|error| broken(format!("it is no entry: {error}")))?;
        if entry.previous != head.hash {
            return Err(broken("it does not follow the entry before, or that one was changed".to_owned()));
        }
        if entry.number != number {
            return Err(broken(format!("it says that it is number {}", entry.number)));
        }
        head.number = number;
        head.hash = hash_of(&line);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.number == number) {
            if kept.hash != head.hash {
                return Err(broken(
                    "it is not the last entry that the head names: it was changed".to_owned(),
                ));
            }
            kept_seen = true;
        }
        expected_seen |= expected.is_some_and(|expected| head.hash.starts_with(expected));
        visit(&entry);
    }
    let line = head.number;
    if !kept_seen {
        let last = kept.map_or(0, |kept| kept.number);
        let what =
            format!("the log ends here, and its head says that it has {last} entries: it was cut short");
        return Err(AuditError::Broken { line, what });
    }
    if !expected_seen {
        let what = "no entry has the hash that was asked for: the log was rewritten or cut short".to_owned();
        return Err(AuditError::Broken { line, what });
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn written(entries: u64) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(directory.path()).unwrap();
        for number in 1..=entries {
            let detail = serde_json::json!({ "target": format!("ct-{number}") });
            let head = log.add(1000 + number, "root", "quarantine-add", "done", detail).unwrap();
            assert_eq!(head.number, number);
        }
        directory
    }

    #[test]
    fn every_changed_byte_is_found() {
        let directory = written(3);
        let path = directory.path().join(LOG);
        let text = fs::read(&path).unwrap();
        let mut seen = 0;
        assert_eq!(verify(directory.path(), None, |_| seen += 1).unwrap().number, 3);
        assert_eq!(seen, 3);
        for index in 0..text.len() {
            let mut changed = text.clone();
            changed[index] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(verify(directory.path(), None, |_| {}).is_err(), "byte {index}");
        }
        fs::write(&path, &text).unwrap();
        assert!(verify(directory.path(), None, |_| {}).is_ok());
    }

    #[test]
    fn an_entry_whose_head_cannot_be_kept_was_not_added() {
        let directory = written(2);
        let mut log = Log::open(directory.path()).unwrap();
        let in_the_way = directory.path().join(format!("{HEAD}.next"));
        fs::create_dir(&in_the_way).unwrap();
        let mut add = || log.add(2000, "root", "grant-open", "asked", Value::Null).map(|head| head.number);
        add().unwrap_err();
        assert_eq!(verify(directory.path(), None, |_| {}).unwrap().number, 2);
        fs::remove_dir(&in_the_way).unwrap();
        assert_eq!(add().unwrap(), 3);
        assert_eq!(verify(directory.path(), None, |_| {}).unwrap().number, 3);
    }

    #[test]
    fn lines_that_go_come_or_change_places_are_found() {
        let directory = written(4);
        let path = directory.path().join(LOG);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let cases: [(&str, Vec<&str>); 6] = [
            ("the last is gone", lines[..3].to_vec()),
            ("all are gone", Vec::new()),
            ("the first is gone", lines[1..].to_vec()),
            ("one in the middle is gone", vec![lines[0], lines[2], lines[3]]),
            ("two changed places", vec![lines[0], lines[2], lines[1], lines[3]]),
            ("one came twice", vec![lines[0], lines[1], lines[1], lines[2], lines[3]]),
        ];
        for (what, lines) in cases {
            let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
            fs::write(&path, text).unwrap();
            assert!(verify(directory.path(), None, |_| {}).is_err(), "{what}");
        }
    }

    #[test]
    fn a_head_that_is_kept_elsewhere_shows_a_log_that_was_rewritten() {
        let directory = written(3);
        let head = verify(directory.path(), None, |_| {}).unwrap();
        assert!(verify(directory.path(), Some(&head.hash), |_| {}).is_ok());
        let rewritten = written(3);
        fs::remove_file(rewritten.path().join(LOG)).unwrap();
        fs::remove_file(rewritten.path().join(HEAD)).unwrap();
        Log::open(rewritten.path()).unwrap().add(1, "mallory", "nothing", "done", Value::Null).unwrap();
        assert!(verify(rewritten.path(), None, |_| {}).is_ok());
        assert!(verify(rewritten.path(), Some(&head.hash), |_| {}).is_err());
    }

    #[test]
    fn what_a_crash_leaves_is_mended_and_the_chain_goes_on() {
        let directory = written(2);
        let path = directory.path().join(LOG);
        // Half of an entry.
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"previous\":\"12");
        fs::write(&path, &text).unwrap();
        assert!(verify(directory.path(), None, |_| {}).is_err());
        Log::open(directory.path()).unwrap().add(3, "root", "apply", "done", Value::Null).unwrap();
        // An entry whose head was not written any more.
        let head = fs::read(directory.path().join(HEAD)).unwrap();
        Log::open(directory.path()).unwrap().add(4, "root", "apply", "done", Value::Null).unwrap();
        fs::write(directory.path().join(HEAD), head).unwrap();
        assert_eq!(verify(directory.path(), None, |_| {}).unwrap().number, 4);
        Log::open(directory.path()).unwrap().add(5, "root", "apply", "done", Value::Null).unwrap();
        assert_eq!(verify(directory.path(), None, |_| {}).unwrap().number, 5);
    }

    #[test]
    fn opening_a_log_that_was_cut_short_does_not_hide_it() {
        let directory = written(3);
        let path = directory.path().join(LOG);
        let text = fs::read_to_string(&path).unwrap();
        let first: String = text.lines().take(1).flat_map(|line| [line, "\n"]).collect();
        fs::write(&path, first).unwrap();
        Log::open(directory.path()).unwrap().add(9, "root", "apply", "done", Value::Null).unwrap();
        assert!(verify(directory.path(), None, |_| {}).is_err());
    }
}
