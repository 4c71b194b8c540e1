//! `clinigate audit`: who ordered what, and whether the log of it is whole.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Format, Outcome, print, print_json};
use crate::audit::{self, AuditError, Entry};
use crate::dataplane::Options;

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
    place: Place,
}

/// Show the entries; stops with an error at one that is not what it was.
#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// Directory of what must outlive a reboot.
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().state_dir)]
    state_dir: PathBuf,
}

impl Audit {
    pub(super) fn run(self, format: Format) -> anyhow::Result<Outcome> {
        match self.what {
            What::Verify(Verify { head, place }) => verify(&place, head.as_deref(), format),
            What::Show(Show { place }) => show(&place, format),
        }
    }
}

fn verify(place: &Place, head: Option<&str>, format: Format) -> anyhow::Result<Outcome> {
    let result = audit::verify(&place.state_dir, head, |_| {});
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

fn show(place: &Place, format: Format) -> anyhow::Result<Outcome> {
    let mut entries: Vec<Entry> = Vec::new();
    let result = audit::verify(&place.state_dir, None, |entry| entries.push(entry.clone()));
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
    format!("{:>5}  {at}  {}  {} {}  {}", entry.number, entry.by, entry.action, entry.outcome, entry.detail)
}
