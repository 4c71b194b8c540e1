//! `clinigate apply`: a policy into force, by the running service.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::daemon::control::{Change, Client, ErrorKind, Permission, Reply, Request};
use crate::duration;
use crate::policy::render::Report;
use crate::policy::{self, Labels, Selection};

/// Compiling and loading take a second for a large policy; a machine may be busy, a repository far away.
const PATIENCE: Duration = Duration::from_mins(12);

/// Put a policy into force, by the running service.
///
/// The policy is checked first. All interfaces change over at once, without an instant in which
/// no policy is in force. Exits with 1 if the policy has mistakes; the one before then stays in
/// force.
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// Directory of the policy's YAML files; the service reads it. Without it, the service reads
    /// the directory of the policy in force again.
    directory: Option<PathBuf>,
    /// Where a repository is followed: what its newest commit may do, whatever its trailers say.
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',', conflicts_with = "directory")]
    allow: Vec<Permission>,
    /// Where a repository is followed: take its newest commit, also if it does not come after the last accepted one.
    #[arg(long, conflicts_with = "directory")]
    accept_rewritten: bool,
    /// Go back to the policy before by itself, unless `clinigate confirm` is called within this time.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    confirm_within: Option<Duration>,
    #[command(flatten)]
    instance: Instance,
}

impl Apply {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let mut client = Client::connect(&self.instance.socket)?;
        let confirm_within_s = self.confirm_within.map(|within| within.as_secs());
        let request = match &self.directory {
            Some(directory) => {
                if !is_sound(directory, &Selection::For(labels(&mut client)?))? {
                    return Ok(Outcome::Findings);
                }
                Request::Apply {
                    dir: std::path::absolute(directory).context("the current directory is gone")?,
                    confirm_within_s,
                }
            }
            None => Request::Reload {
                allow: self.allow.clone(),
                rewritten: self.accept_rewritten,
                confirm_within_s,
            },
        };
        match client.ask(&request, PATIENCE)? {
            Reply::Applied { change } => {
                match format {
                    Format::Json => print_json(&change)?,
                    Format::Text => print(text(&change))?,
                }
                Ok(Outcome::Fine)
            }
            Reply::Error { kind: ErrorKind::Policy | ErrorKind::Held, message } => {
                writeln!(io::stderr(), "{message}\nthe policy before stays in force")?;
                Ok(Outcome::Findings)
            }
            Reply::Error { message, .. } => bail!("{message}"),
            other => bail!("the service gave an answer to another question: {other:?}"),
        }
    }
}

/// Labels of the gateway: files for others are none of this one's.
fn labels(client: &mut Client) -> anyhow::Result<Labels> {
    match client.ask(&Request::Status {}, PATIENCE)? {
        Reply::Status { status } => Ok(status.service.map(|service| service.labels).unwrap_or_default()),
        Reply::Error { message, .. } => bail!("{message}"),
        other => bail!("the service gave an answer to another question: {other:?}"),
    }
}

/// Checks a policy here, so that its mistakes are shown in colour and at once.
fn is_sound(directory: &Path, selection: &Selection) -> anyhow::Result<bool> {
    let loaded = policy::load_for(directory, selection)?;
    let report = Report::new(&loaded.sources, io::stderr().is_terminal());
    let mut words = String::new();
    for diagnostic in &loaded.diagnostics {
        words += &report.render(diagnostic);
        words += "\n\n";
    }
    if loaded.policy.is_none() {
        words += "the policy has mistakes and was not applied\n";
    }
    io::stderr().write_all(words.as_bytes())?;
    Ok(loaded.policy.is_some())
}

pub(super) fn text(change: &Change) -> String {
    let hash = change.policy_hash.get(..12).unwrap_or(&change.policy_hash);
    if change.unchanged {
        return format!("generation {} is in force already (hash {hash})\n", change.generation);
    }
    let mut text =
        format!("generation {} is in force, after {} ms (hash {hash})\n", change.generation, change.took_ms);
    if let Some(within) = change.confirm_within_s {
        let within = duration::words(Duration::from_secs(within));
        writeln!(text, "it goes back in {within}, unless you call: clinigate confirm")
            .expect("writing to a String does not fail");
    }
    for (what, interfaces) in [("attached", &change.attached), ("detached", &change.detached)] {
        if !interfaces.is_empty() {
            writeln!(text, "{what}: {}", interfaces.join(", ")).expect("writing to a String does not fail");
        }
    }
    text
}
