//! Options about the repository that a service follows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::daemon::repository::{Access, Location, Reference, Settings, Subdirectory};
use crate::duration;

/// A policy that comes from a repository of git.
#[derive(Debug, Args)]
#[command(next_help_heading = "Policy from a repository")]
pub(super) struct Repository {
    /// Follow a repository of git: a directory, ssh://, user@host:path, https://, file://.
    #[arg(long, value_name = "URL")]
    repo: Option<Location>,
    /// Branch that is followed.
    #[arg(long = "ref", value_name = "BRANCH", default_value = "main", requires = "repo")]
    reference: Reference,
    /// Directory of the policy in the repository.
    #[arg(long, value_name = "PATH", default_value = ".", requires = "repo")]
    path: Subdirectory,
    /// How often the repository is asked.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "30s", requires = "repo")]
    interval: Duration,
    /// Put only commits into force that are signed by a known key.
    #[arg(long, requires = "repo")]
    require_signature: bool,
    /// Keys whose ssh signatures count, in the form of ssh-keygen's file of allowed signers.
    #[arg(long, value_name = "FILE", requires = "require_signature")]
    allowed_signers: Option<PathBuf>,
    /// Home directory of gpg: signatures of every key in its keyring count.
    #[arg(long, value_name = "DIR", requires = "require_signature")]
    keyring: Option<PathBuf>,
    /// Private key for ssh, without a passphrase.
    #[arg(long, value_name = "FILE", requires = "repo")]
    ssh_key: Option<PathBuf>,
    /// Keys of hosts that ssh may talk to; without it, those of root.
    #[arg(long, value_name = "FILE", requires = "repo")]
    known_hosts: Option<PathBuf>,
    /// User names and passwords for https, one URL a line, as git-credential-store keeps them.
    #[arg(long, value_name = "FILE", requires = "repo")]
    credentials: Option<PathBuf>,
    /// Have every commit go back by itself, unless `clinigate confirm` is called within this time. A trailer of
    /// the commit, Clinigate-Confirm-Within, says the same for one.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, requires = "repo")]
    confirm_within: Option<Duration>,
    /// Write what the newest commit is found to be into this file, as JSON.
    #[arg(long, value_name = "FILE", requires = "repo")]
    status_file: Option<PathBuf>,
    /// Run this command whenever that changes: it gets the same JSON on its standard input.
    #[arg(long, value_name = "COMMAND", requires = "repo")]
    hook: Option<PathBuf>,
}

impl Repository {
    /// What to follow, where a repository is given.
    pub(super) fn settings(self) -> anyhow::Result<Option<Settings>> {
        let Some(location) = self.repo else { return Ok(None) };
        ensure!(
            !self.require_signature || self.allowed_signers.is_some() || self.keyring.is_some(),
            "--require-signature needs --allowed-signers or --keyring: whose signatures count?"
        );
        Ok(Some(Settings {
            location,
            reference: self.reference,
            path: self.path,
            interval: self.interval,
            require_signature: self.require_signature,
            access: Access {
                allowed_signers: existing(self.allowed_signers)?,
                keyring: existing(self.keyring)?,
                ssh_key: existing(self.ssh_key)?,
                known_hosts: existing(self.known_hosts)?,
                credentials: existing(self.credentials)?,
            },
            confirm_within: self.confirm_within,
            status_file: self.status_file.as_deref().map(absolute).transpose()?,
            hook: existing(self.hook)?,
        }))
    }
}

/// A file that a mistyped option does not name.
fn existing(path: Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = path else { return Ok(None) };
    ensure!(path.exists(), "{} does not exist", path.display());
    absolute(&path).map(Some)
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).context("the current directory is gone")
}
