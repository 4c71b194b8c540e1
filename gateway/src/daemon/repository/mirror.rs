//! The copy of the repository on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::git::{Bounds, Git, GitError};
use super::signature::{self, Unverified};
use super::trailer::{ALLOW, CONFIRM, Trailers};
use super::{Commit, Settings, plain};
use crate::policy::Blob;

/// What a fetch may take: a hundred megabytes over a slow line.
const FETCH: Bounds = Bounds { time: Duration::from_mins(10), output: 1 << 20 };
/// What tidying up may take.
const TIDY: Bounds = Bounds { time: Duration::from_mins(5), output: 1 << 20 };
/// The last commit of the branch that was fetched.
const HEAD: &str = "refs/clinigate/head";
/// The last commit that was put into force: later ones must descend from it. Kept from being tidied away.
const ACCEPTED: &str = "refs/clinigate/accepted";
/// Commits whose trailers are read.
const COMMITS_READ: usize = 100;
/// Bytes of all files of a policy together, its tests included.
const FILES_LIMIT: u64 = 128 << 20;

/// A bare repository of our own that has what was fetched.
#[derive(Debug)]
pub(in crate::daemon) struct Mirror {
    root: PathBuf,
    settings: Settings,
    git: Git,
}

/// What is known of a commit's descent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Descent {
    /// It is the last accepted commit, or comes after it; or none has been accepted yet.
    After,
    /// It comes from elsewhere: history was rewritten, or an old commit was put back.
    Elsewhere,
}

/// The last accepted commit, and where it was found.
#[derive(Debug, Serialize, Deserialize)]
struct Accepted {
    source: PathBuf,
    commit: String,
}

impl Mirror {
    /// The mirror below the state directory; made where there is none.
    pub(in crate::daemon) fn open(settings: &Settings, state: &Path) -> Result<Self, GitError> {
        let root = state.join("repository");
        let git = Git::new(&root, &settings.location, &settings.access)?;
        let mirror = Self { root, settings: settings.clone(), git };
        mirror.prepare()?;
        Ok(mirror)
    }

    fn prepare(&self) -> Result<(), GitError> {
        let directory = self.git.directory();
        if directory.join("HEAD").is_file() && self.git.ask(&["rev-parse", "--git-dir"]).is_ok() {
            remove_locks(directory);
            return Ok(());
        }
        self.make_anew()
    }

    /// Begins with an empty one. What was accepted is known all the same.
    fn make_anew(&self) -> Result<(), GitError> {
        let path = self.git.directory().to_owned();
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(GitError::Directory { path, source });
            }
            _ => {}
        }
        self.git.ask(&["init", "--bare", "--quiet"]).map(drop)
    }

    /// Brings the branch here. The first time without its history; from then on with all that follows.
    pub(in crate::daemon) fn fetch(&self) -> Result<(), GitError> {
        let fetched = self.try_fetch();
        if fetched.is_err() && !self.is_whole() {
            warn!("the copy of the repository is damaged: it is made anew");
            self.make_anew()?;
            return self.try_fetch();
        }
        fetched
    }

    fn try_fetch(&self) -> Result<(), GitError> {
        let (known, accepted) = (self.head(), self.accepted());
        let refspec = format!("+{}:{HEAD}", self.settings.reference.full());
        let mut arguments = vec![
            "fetch",
            "--quiet",
            "--force",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
        ];
        // Whether it descends from the one accepted must show.
        if known.is_none() && accepted.is_none() {
            arguments.push("--depth=1");
        }
        arguments.extend(["--", self.settings.location.text(), &refspec]);
        self.git.run(&arguments, Vec::new(), FETCH)?;
        if self.head() != known
            && let Err(error) = self.git.run(&["gc", "--auto", "--quiet"], Vec::new(), TIDY)
        {
            warn!(%error, "the copy of the repository cannot be tidied up");
        }
        Ok(())
    }

    /// Whether what it says it has is there.
    fn is_whole(&self) -> bool {
        let Some(head) = self.head() else { return self.git.directory().join("HEAD").is_file() };
        self.git.ask(&["cat-file", "-e", &format!("{head}^{{tree}}")]).is_ok()
    }

    /// The last commit of the branch, as far as fetched.
    pub(in crate::daemon) fn head(&self) -> Option<String> {
        let name = format!("{HEAD}^{{commit}}");
        let id = self.git.ask_text(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).ok()?;
        is_id(&id).then_some(id)
    }

    /// The last commit that was put into force from this branch, whichever came after it.
    pub(in crate::daemon) fn accepted(&self) -> Option<String> {
        let text = fs::read(self.root.join("accepted.json")).ok()?;
        let accepted: Accepted = serde_json::from_slice(&text).ok()?;
        (accepted.source == self.settings.name() && is_id(&accepted.commit)).then_some(accepted.commit)
    }

    /// Remembers that a commit was put into force.
    pub(in crate::daemon) fn accept(&self, commit: &str) -> Result<(), GitError> {
        let path = self.root.join("accepted.json");
        let accepted = Accepted { source: self.settings.name(), commit: commit.to_owned() };
        let text = serde_json::to_vec_pretty(&accepted).map_err(std::io::Error::from);
        text.and_then(|text| crate::dataplane::replace_file(&path, &text))
            .map_err(|source| GitError::Directory { path, source })?;
        self.git.ask(&["update-ref", ACCEPTED, commit]).map(drop)
    }

    /// Whether `commit` comes after the last one that was accepted.
    pub(in crate::daemon) fn descent(&self, commit: &str) -> Result<Descent, GitError> {
        let Some(accepted) = self.accepted().filter(|accepted| accepted != commit) else {
            return Ok(Descent::After);
        };
        match self.git.ask(&["merge-base", "--is-ancestor", &accepted, commit]) {
            Ok(_) => Ok(Descent::After),
            // Also where the accepted one is not there at all: then nothing comes after it.
            Err(GitError::Failed { .. }) => Ok(Descent::Elsewhere),
            Err(error) => Err(error),
        }
    }

    /// Who signed it, with a key that is known.
    pub(in crate::daemon) fn verify(&self, commit: &str) -> Result<String, Unverified> {
        signature::verify(&self.git, &self.settings.access, commit)
    }

    /// What it says about itself.
    pub(in crate::daemon) fn about(&self, commit: &str) -> Result<Commit, GitError> {
        let format = "--format=%H%x00%an <%ae>%x00%ct%x00%s";
        let answer = self.git.ask_text(&["log", "-1", "--no-show-signature", format, commit])?;
        let mut fields = answer.splitn(4, '\0');
        let mut next = || fields.next().ok_or_else(|| GitError::Answer { what: "log".to_owned() });
        Ok(Commit {
            id: plain(next()?, 64),
            author: plain(next()?, 200),
            committed_at: next()?.trim().parse::<u64>().unwrap_or_default().saturating_mul(1000),
            subject: plain(next()?, 200),
            signer: None,
        })
    }

    /// What it and those between the last accepted one and it say to the gateway. Where signatures are
    /// required, those without one say nothing.
    pub(in crate::daemon) fn trailers(&self, commit: &str) -> Result<Trailers, GitError> {
        let most = format!("--max-count={COMMITS_READ}");
        let mut arguments = vec!["rev-list", most.as_str(), commit];
        let exclude = self.accepted().filter(|it| it != commit).map(|accepted| format!("^{accepted}"));
        match &exclude {
            Some(exclude) => arguments.push(exclude),
            None => arguments[1] = "--max-count=1",
        }
        let mut trailers = Trailers::default();
        for id in self.git.ask_text(&arguments)?.lines().filter(|id| is_id(id)) {
            if id != commit && self.settings.require_signature && self.verify(id).is_err() {
                continue;
            }
            let value = |key: &str| {
                let format = format!("--format=%(trailers:key={key},valueonly,unfold)");
                self.git.ask_text(&["log", "-1", "--no-show-signature", &format, id])
            };
            trailers.add(&value(ALLOW)?, &value(CONFIRM)?);
        }
        Ok(trailers)
    }

    /// The files of the policy's directory in a commit.
    pub(in crate::daemon) fn read(&self, commit: &str) -> Result<Vec<Blob>, GitError> {
        let tree = format!("{commit}:{}", self.settings.path.as_str());
        let listing = self.git.ask(&["ls-tree", "-r", "-z", "-l", "--full-tree", &tree])?;
        let odd = || GitError::Answer { what: "ls-tree".to_owned() };
        let (mut blobs, mut objects, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
        for entry in listing.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
            let entry = String::from_utf8_lossy(entry);
            let (about, name) = entry.split_once('\t').ok_or_else(odd)?;
            let fields: Vec<&str> = about.split_ascii_whitespace().collect();
            let &[mode, kind, object, size] = fields.as_slice() else { return Err(odd()) };
            let is_policy = [".yaml", ".yml"].iter().any(|end| name.ends_with(end));
            let is_file = kind == "blob" && mode.starts_with("100");
            if is_file && !is_policy {
                continue;
            }
            if is_file {
                if !is_id(object) {
                    return Err(odd());
                }
                bytes = bytes.saturating_add(size.parse().map_err(|_| odd())?);
                objects.push((blobs.len(), object.to_owned()));
            }
            // A directory of another repository (a submodule) is no part of the policy.
            if kind == "blob" {
                blobs.push(Blob { name: name.to_owned(), bytes: None });
            }
        }
        if bytes > FILES_LIMIT {
            return Err(GitError::TooMuch { what: "ls-tree".to_owned() });
        }
        let input: String = objects.iter().flat_map(|(_, object)| [object.as_str(), "\n"]).collect();
        let bounds = Bounds { output: bytes + 256 * (objects.len() as u64 + 1), ..Bounds::LOCAL };
        let contents = self.git.run(&["cat-file", "--batch"], input.into_bytes(), bounds)?;
        let mut rest = contents.as_slice();
        for (index, object) in objects {
            let (content, after) =
                batched(rest, &object).ok_or_else(|| GitError::Answer { what: "cat-file".to_owned() })?;
            blobs[index].bytes = Some(content.to_vec());
            rest = after;
        }
        Ok(blobs)
    }
}

/// One object of `cat-file --batch`, `ID blob SIZE LF CONTENT LF`, and what follows it.
fn batched<'a>(bytes: &'a [u8], object: &str) -> Option<(&'a [u8], &'a [u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let size: usize = head.strip_prefix(object)?.strip_prefix(" blob ")?.parse().ok()?;
    let rest = &bytes[end + 1..];
    (rest.get(size) == Some(&b'\n')).then(|| (&rest[..size], &rest[size + 1..]))
}

/// Whether it is the hash of an object.
fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Removes locks that a git left that was killed: this is the only process that uses the mirror, and it
/// has started none yet.
fn remove_locks(directory: &Path) {
    let folders = [directory.to_owned(), directory.join("refs/clinigate")];
    for entry in folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "lock") {
            warn!(path = %path.display(), "removed a lock that git left behind");
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests;
