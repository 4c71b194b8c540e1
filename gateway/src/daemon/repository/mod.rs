//! A policy that comes from a repository of git: fetched, verified, read.
//!
//! git itself does the work. What it is told, and what it may take, is bounded in [`git`]; a commit is
//! nothing but data until it is verified.

mod git;
mod location;
mod mirror;
mod signature;
mod trailer;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use git::GitError;
pub use location::{Location, Reference, Subdirectory};
pub(super) use mirror::{Descent, Mirror};
pub use signature::Unverified;
pub use trailer::{Allowed, Trailers};

/// Which repository is followed, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub location: Location,
    /// The branch that is followed.
    pub reference: Reference,
    /// Directory of the policy in it.
    pub path: Subdirectory,
    /// How often it is asked.
    pub interval: Duration,
    /// Only commits with a signature of a known key count.
    pub require_signature: bool,
    /// What git needs to reach it and to check signatures.
    pub access: Access,
    /// Every commit that comes into force must be confirmed within this time.
    pub confirm_within: Option<Duration>,
    /// Where the status is written after every change of it.
    pub status_file: Option<PathBuf>,
    /// Command that is told of every outcome.
    pub hook: Option<PathBuf>,
}

impl Settings {
    /// What the policy's directory is called: `URL#BRANCH:PATH`.
    pub fn name(&self) -> PathBuf {
        PathBuf::from(format!("{}#{}:{}", self.location, self.reference, self.path.as_str()))
    }
}

/// Files that git is given; absolute.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Keys for ssh signatures (`allowed_signers` of ssh-keygen(1)).
    pub allowed_signers: Option<PathBuf>,
    /// Home directory of gpg: every key in its keyring may sign.
    pub keyring: Option<PathBuf>,
    /// Private key for ssh.
    pub ssh_key: Option<PathBuf>,
    /// Hosts that ssh may talk to.
    pub known_hosts: Option<PathBuf>,
    /// User names and passwords for https (git-credential-store(1)).
    pub credentials: Option<PathBuf>,
}

/// What a commit says about itself. Text of others: without control characters, and of bounded length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its hash, in hexadecimal.
    pub id: String,
    /// Name and mail address.
    pub author: String,
    /// Milliseconds since 1970, as the committer's clock had it.
    pub committed_at: u64,
    /// First line of its message.
    pub subject: String,
    /// Who signed it, where that was verified.
    pub signer: Option<String>,
}

/// Text of several lines, of at most `most` characters, without what moves the cursor of a terminal.
pub(super) fn lines(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').take(most).collect()
}

/// Text of others in one line of at most `most` characters.
pub(super) fn plain(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}
