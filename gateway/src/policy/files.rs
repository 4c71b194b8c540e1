//! Reading a policy's directory. The only part of this folder that touches the file system.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Place, sort};
use super::expectation::{Expectation, Inquiry, Words, resolve_inquiry, resolve_tests};
use super::model::Policy;
use super::resolve::{Resolved, resolve_for};
use super::selection::Selection;
use super::source::SourceFile;

/// Bytes of one file.
const FILE_LIMIT: u64 = 8 << 20;
/// Bytes of all files together.
const TOTAL_LIMIT: u64 = 64 << 20;
/// Files of a policy.
const COUNT_LIMIT: usize = 10_000;
/// Entries of all its directories, those that are not read included.
const ENTRY_LIMIT: usize = 100_000;
/// Directories within directories.
const DEPTH_LIMIT: usize = 16;
/// Directory of policy tests, which are not part of the policy.
const TESTS: &str = "tests";

/// A policy as it was found in a directory.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The policy, where it has no mistake.
    pub policy: Option<Policy>,
    /// Mistakes and doubts, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
    /// The files, for showing their lines.
    pub sources: Vec<SourceFile>,
    /// Names of those that count on this gateway, sorted; tests are not among them.
    pub files: Vec<Arc<str>>,
}

/// Why a policy's directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A directory or file cannot be read.
    #[error("cannot read {path}: {cause}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why; part of the message, because a message alone crosses the control socket.
        cause: io::Error,
    },
    /// It is a file, or something else.
    #[error("{path} is not a directory: a policy is a directory of YAML files", path = .0.display())]
    NotADirectory(PathBuf),
}

/// A file that does not come from a directory, but from a commit, for example.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Path relative to the policy's directory, with `/` between its parts.
    pub name: String,
    /// Contents; `None` where it is no regular file.
    pub bytes: Option<Vec<u8>>,
}

/// Reads and resolves the policy in `directory` on a gateway without labels: all `*.yaml` and `*.yml`
/// files in it and its subdirectories, but for hidden ones and `tests`.
pub fn load(directory: &Path) -> Result<Loaded, LoadError> {
    load_for(directory, &Selection::default())
}

/// As [`load`], on another gateway.
pub fn load_for(directory: &Path, selection: &Selection) -> Result<Loaded, LoadError> {
    let reader = Reader::policy(directory)?;
    let sources = reader.files.clone();
    Ok(loaded(resolve_for(reader.files, selection), reader.diagnostics, sources))
}

/// Reads the policy in `directory`, and what the files in its directory `tests` expect of it. The
/// expectations are empty where either has a mistake.
pub fn load_tests(directory: &Path, selection: &Selection) -> Result<(Loaded, Vec<Expectation>), LoadError> {
    let Reader { files, mut diagnostics, .. } = Reader::policy(directory)?;
    let mut reader = Reader::default();
    let path = directory.join(TESTS);
    if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
        reader.directory(&path, TESTS, 0)?;
    }
    if reader.files.is_empty() && reader.diagnostics.is_empty() {
        let place = Place::of_file(TESTS.into());
        let diagnostic = Diagnostic::error("empty-list", place, "this policy has no tests")
            .help("write expectations into tests/NAME.yaml, beside the policy");
        reader.diagnostics.push(diagnostic);
    }
    diagnostics.extend(reader.diagnostics);
    let sources = files.iter().chain(&reader.files).cloned().collect();
    let (resolved, expectations) = resolve_tests(files, &reader.files, selection);
    Ok((loaded(resolved, diagnostics, sources), expectations))
}

/// Reads the policy in `directory`, and looks up the words of an inquiry about it. Mistakes in them
/// are among the policy's, at the place `--from`, `--to` or `--service`.
pub fn load_inquiry(
    directory: &Path,
    words: &Words,
    selection: &Selection,
) -> Result<(Loaded, Inquiry), LoadError> {
    let reader = Reader::policy(directory)?;
    let sources = reader.files.clone();
    let (resolved, inquiry) = resolve_inquiry(reader.files, words, selection);
    Ok((loaded(resolved, reader.diagnostics, sources), inquiry))
}

/// Takes a policy and its tests, if it has any, from files that stand elsewhere than in a directory. What is read, and
/// what is refused, is as in [`load`] and [`load_tests`].
pub fn load_tree(blobs: Vec<Blob>, selection: &Selection) -> (Loaded, Vec<Expectation>) {
    let (mut policy, mut tests) = (Reader::default(), Reader::default());
    for blob in blobs {
        let mut parts = blob.name.split('/').rev();
        let is_hidden = blob.name.split('/').any(|part| part.starts_with('.'));
        let is_below_tests = parts.by_ref().skip(1).any(|part| part == TESTS);
        if is_hidden {
            continue;
        }
        match (is_below_tests, blob.name.starts_with("tests/")) {
            (true, true) => tests.blob(blob),
            (true, false) => {}
            (false, _) => policy.blob(blob),
        }
    }
    policy.is_not_empty();
    let mut unread = policy.diagnostics;
    unread.extend(tests.diagnostics);
    let sources = policy.files.iter().chain(&tests.files).cloned().collect();
    let (resolved, expectations) = resolve_tests(policy.files, &tests.files, selection);
    (loaded(resolved, unread, sources), expectations)
}

fn loaded(resolved: Resolved, unread: Vec<Diagnostic>, sources: Vec<SourceFile>) -> Loaded {
    let Resolved { policy, mut diagnostics, files } = resolved;
    let policy = policy.filter(|_| unread.is_empty());
    diagnostics.extend(unread);
    sort(&mut diagnostics);
    Loaded { policy, diagnostics, sources, files }
}

#[derive(Default)]
struct Reader {
    files: Vec<SourceFile>,
    diagnostics: Vec<Diagnostic>,
    bytes: u64,
    entries: usize,
}

impl Reader {
    /// Reads the files of the policy in `directory`.
    fn policy(directory: &Path) -> Result<Self, LoadError> {
        let mut reader = Self::default();
        let metadata = fs::metadata(directory).map_err(|source| unreadable(directory, source))?;
        if !metadata.is_dir() {
            return Err(LoadError::NotADirectory(directory.to_owned()));
        }
        reader.directory(directory, "", 0)?;
        reader.is_not_empty();
        Ok(reader)
    }

    fn is_not_empty(&mut self) {
        if self.files.is_empty() && self.diagnostics.is_empty() {
            let diagnostic = Diagnostic::error("empty-policy", Place::default(), "there is no policy here")
                .help("a policy is a directory of files whose names end in .yaml or .yml");
            self.diagnostics.push(diagnostic);
        }
    }

    /// Reads a file that was found elsewhere than in a directory.
    fn blob(&mut self, Blob { name, bytes }: Blob) {
        let extension = Path::new(&name).extension();
        let is_policy = extension.is_some_and(|extension| extension == "yaml" || extension == "yml");
        match bytes {
            // What else may be a link to a directory of files.
            None if is_policy || extension.is_none() => {
                self.refuse(
                    &name,
                    "symbolic links are not followed: they can lead out of the policy".to_owned(),
                );
            }
            None => {}
            Some(_) if !is_policy => {}
            Some(_) if name.split('/').count() > DEPTH_LIMIT + 1 => {
                self.refuse(&name, format!("directories are nested more than {DEPTH_LIMIT} deep"));
            }
            Some(_) if self.files.len() >= COUNT_LIMIT => {
                self.refuse(&name, format!("a policy has at most {COUNT_LIMIT} files"));
            }
            Some(bytes) => self.text(&name, bytes),
        }
    }

    /// Reads `path`, whose name below the policy's directory is `name`.
    fn directory(&mut self, path: &Path, name: &str, depth: usize) -> Result<(), LoadError> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(|source| unreadable(path, source))? {
            let entry = entry.map_err(|source| unreadable(path, source))?;
            self.entries += 1;
            if self.entries > ENTRY_LIMIT {
                self.refuse(name, format!("a policy's directories hold at most {ENTRY_LIMIT} entries"));
                return Ok(());
            }
            let kind = entry.file_type().map_err(|source| unreadable(&entry.path(), source))?;
            entries.push((entry.file_name(), kind));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (file_name, kind) in entries {
            let path = path.join(&file_name);
            let Some(part) = file_name.to_str() else {
                self.refuse(&file_name.to_string_lossy(), "the name of a file must be UTF-8".to_owned());
                continue;
            };
            if part.starts_with('.') {
                continue;
            }
            let name = if name.is_empty() { part.to_owned() } else { format!("{name}/{part}") };
            self.entry(&path, &name, kind, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &str, kind: FileType, depth: usize) -> Result<(), LoadError> {
        let is_policy = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if kind.is_dir() {
            if path.file_name().is_some_and(|part| part == TESTS) {
                return Ok(());
            }
            if depth >= DEPTH_LIMIT {
                self.refuse(name, format!("directories are nested more than {DEPTH_LIMIT} deep"));
                return Ok(());
            }
            return self.directory(path, name, depth + 1);
        }
        if kind.is_symlink() && (is_policy || fs::metadata(path).is_ok_and(|target| target.is_dir())) {
            self.refuse(name, "symbolic links are not followed: they can lead out of the policy".to_owned());
            return Ok(());
        }
        if !is_policy {
            return Ok(());
        }
        if !kind.is_file() {
            self.refuse(name, "this is not a regular file".to_owned());
            return Ok(());
        }
        if self.files.len() >= COUNT_LIMIT {
            self.refuse(name, format!("a policy has at most {COUNT_LIMIT} files"));
            return Ok(());
        }
        self.file(path, name)
    }

    fn file(&mut self, path: &Path, name: &str) -> Result<(), LoadError> {
        let unreadable = |source| unreadable(path, source);
        let file = open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            self.refuse(name, "this is not a regular file".to_owned());
            return Ok(());
        }
        let mut bytes = Vec::new();
        file.take(self.room() + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        self.text(name, bytes);
        Ok(())
    }

    /// Bytes that the next file may have.
    fn room(&self) -> u64 {
        FILE_LIMIT.min(TOTAL_LIMIT - self.bytes)
    }

    fn text(&mut self, name: &str, bytes: Vec<u8>) {
        let room = self.room();
        if bytes.len() as u64 > room {
            let message = if room < FILE_LIMIT {
                format!("the files of a policy have at most {} MiB together", TOTAL_LIMIT >> 20)
            } else {
                format!("a file of a policy has at most {} MiB", FILE_LIMIT >> 20)
            };
            self.refuse(name, message);
            return;
        }
        self.bytes += bytes.len() as u64;
        match String::from_utf8(bytes) {
            Ok(text) => self.files.push(SourceFile::new(name, text)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let before = &error.as_bytes()[..valid];
                let line = 1 + before.split(|byte| *byte == b'\n').skip(1).count();
                let message = format!("this file is not UTF-8 text: see line {line}");
                self.diagnostics.push(Diagnostic::error("encoding", Place::of_file(name.into()), message));
            }
        }
    }

    fn refuse(&mut self, name: &str, message: String) {
        self.diagnostics.push(Diagnostic::error("refused-file", Place::of_file(name.into()), message));
    }
}

/// Opens a file that may have become something else since it was listed: neither a link is
/// followed nor a pipe waited for.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
}

fn unreadable(path: &Path, cause: io::Error) -> LoadError {
    LoadError::Unreadable { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Messages about a directory of files of these sizes, named by their numbers, and how many are read.
    fn read(sizes: &[u64]) -> (Vec<String>, usize) {
        let directory = tempfile::tempdir().unwrap();
        for (number, size) in sizes.iter().enumerate() {
            let file = File::create(directory.path().join(format!("{number}.yaml"))).unwrap();
            file.set_len(*size).unwrap();
        }
        let reader = Reader::policy(directory.path()).unwrap();
        let message = |found: Diagnostic| format!("{}: {}", found.place.file, found.message);
        (reader.diagnostics.into_iter().map(message).collect(), reader.files.len())
    }

    #[test]
    fn files_have_at_most_their_size_alone_and_together() {
        assert_eq!(read(&[FILE_LIMIT]), (vec![], 1));
        let alone = "0.yaml: a file of a policy has at most 8 MiB".to_owned();
        assert_eq!(read(&[FILE_LIMIT + 1]), (vec![alone], 0));
        assert_eq!(read(&[FILE_LIMIT; 8]), (vec![], 8));
        let together = |number| format!("{number}.yaml: the files of a policy have at most 64 MiB together");
        let mut sizes = [FILE_LIMIT; 9];
        sizes[8] = 1;
        assert_eq!(read(&sizes), (vec![together(8)], 8));
        sizes[7] = FILE_LIMIT - 1;
        assert_eq!(read(&sizes), (vec![], 9));
        sizes[8] = 2;
        assert_eq!(read(&sizes), (vec![together(8)], 8));
    }

    /// A file may have become another since it was listed.
    #[test]
    fn opening_follows_no_link_and_waits_for_no_pipe() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink("elsewhere", path("link")).unwrap();
        fs::write(path("elsewhere"), "").unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(open(&path("link")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert!(open(&path("elsewhere")).is_ok() && open(&path("pipe")).is_ok());
    }
}
