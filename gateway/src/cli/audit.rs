//! `clinigate audit`: who ordered what, and whether the log of it is whole.

use std::collections::VecDeque;
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::json;

use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::audit::{self, AuditError, Entry};

/// Read the audit log: orders, changes of policy, refused requests.
#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Verify(Verify),
    Show(Show),
}

/// Check that nothing in the log was changed, taken out, put in or cut off.
///
/// Exits with 1 where something was. The last entry's hash, kept on another machine, shows also a log that was written
/// anew as a whole: the service puts the hash of every entry into its own log.
#[derive(Debug, Args)]
struct Verify {
    /// Hash of an entry that the log must have, or the beginning of one.
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
    #[command(flatten)]
    instance: Instance,
}

/// Show the entries, the latest last; stops with an error at one that is not what it was.
#[derive(Debug, Args)]
struct Show {
    /// Show this many of the latest; all where it is left out.
    #[arg(long, value_name = "COUNT")]
    last: Option<usize>,
    #[command(flatten)]
    instance: Instance,
}

impl Audit {
    pub(super) fn run(self, format: Format) -> anyhow::Result<Outcome> {
        match self.what {
            What::Verify(Verify { head, instance }) => verify(&instance, head.as_deref(), format),
            What::Show(Show { last, instance }) => show(&instance, last, format),
        }
    }
}

fn verify(instance: &Instance, head: Option<&str>, format: Format) -> anyhow::Result<Outcome> {
    is_there(instance)?;
    let result = audit::verify(&instance.state_dir, head, |_| {});
    let (text, json, outcome) = match result {
        Ok(head) => (
            format!("the log is whole: {} entries, the last one's hash is {}\n", head.number, head.hash),
            json!({ "whole": true, "entries": head.number, "head": head.hash }),
            Outcome::Fine,
        ),
        Err(AuditError::Broken { line, what }) => (
            format!("THE LOG IS NOT WHOLE: line {line}: {what}\n"),
            json!({ "whole": false, "line": line, "what": what }),
            Outcome::Findings,
        ),
        Err(error) => return Err(error.into()),
    };
    match format {
        Format::Json => print_json(&json)?,
        Format::Text => print(text)?,
    }
    Ok(outcome)
}

/// A gateway at which nothing happened yet has no log, and another place was meant most likely.
fn is_there(instance: &Instance) -> anyhow::Result<()> {
    let state = &instance.state_dir;
    let found = audit::exists(state);
    let found = found.with_context(|| format!("cannot look into {}: run as root", state.display()))?;
    ensure!(
        found,
        "there is no audit log in {}: the service begins it; --state-dir names another place",
        state.display()
    );
    Ok(())
}

fn show(instance: &Instance, last: Option<usize>, format: Format) -> anyhow::Result<Outcome> {
    is_there(instance)?;
    let mut entries: VecDeque<Entry> = VecDeque::new();
    let result = audit::verify(&instance.state_dir, None, |entry| {
        entries.push_back(entry.clone());
        if last.is_some_and(|last| entries.len() > last) {
            entries.pop_front();
        }
    });
    let mut text = String::new();
    for entry in &entries {
        match format {
            Format::Json => writeln!(text, "{}", serde_json::to_string(entry)?)?,
            Format::Text => writeln!(text, "{}", line(entry))?,
        }
    }
    print(text)?;
    result?;
    Ok(Outcome::Fine)
}

fn line(entry: &Entry) -> String {
    let at = i64::try_from(entry.at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    let at = at.map_or_else(|| entry.at.to_string(), |at| at.to_string());
    let detail = entry.detail.as_object().into_iter().flatten();
    // What names the action again says nothing.
    let detail = detail.filter(|(key, value)| !value.is_null() && *key != "order");
    let detail: Vec<String> = detail.map(|(key, value)| format!("{key}={value}")).collect();
    format!(
        "{:>5}  {at}  {}  {} {}  {}",
        entry.number,
        entry.by,
        entry.action,
        entry.outcome,
        detail.join(" ")
    )
}
