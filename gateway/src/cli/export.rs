//! `clinigate export`: a policy in other firewalls' words.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::labels::Labels;
use super::{Format, Outcome, print, print_json};
use crate::export::nftables::{self, Limit, State};
use crate::policy;
use crate::policy::render::Report;

/// Write a policy in another firewall's words.
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    Nftables(Nftables),
}

/// Write a policy as an nftables ruleset: a fallback for routers without XDP.
///
/// The ruleset goes to standard output or to FILE; load it with `nft -f`. What of the policy it does
/// not do is listed on standard error and in the ruleset's heading; that is no failure. Exits with 2
/// if the policy cannot be read or has mistakes.
#[derive(Debug, Args)]
struct Nftables {
    /// Directory of the policy's YAML files.
    directory: PathBuf,
    #[command(flatten)]
    labels: Labels,
    /// Write the ruleset to this file.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Judge every packet as if it opened a connection: no connection tracking.
    #[arg(long)]
    stateless: bool,
}

impl Export {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let Kind::Nftables(command) = &self.kind;
        command.run(format)
    }
}

impl Nftables {
    fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let state = if self.stateless { State::None } else { State::Tracked };
        let loaded = policy::load_for(&self.directory, &self.labels.selection()?)?;
        let Some(policy) = &loaded.policy else {
            let report = Report::new(&loaded.sources, io::stderr().is_terminal());
            let mistakes = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
            let words: Vec<String> = mistakes.map(|mistake| report.render(mistake) + "\n\n").collect();
            io::stderr().write_all(words.concat().as_bytes())?;
            bail!("{} has mistakes and cannot be exported", self.directory.display());
        };
        let export = nftables::export(policy, state);
        let words: Vec<String> =
            export.limits.iter().map(|limit| format!("note: {}\n", limit.line())).collect();
        io::stderr().write_all(words.concat().as_bytes())?;
        if let Some(file) = &self.output {
            fs::write(file, &export.ruleset).with_context(|| format!("cannot write {}", file.display()))?;
        }
        let ruleset = self.output.is_none().then_some(export.ruleset.as_str());
        match (format, ruleset) {
            (Format::Json, ruleset) => print_json(&Answer { ruleset, limits: &export.limits })?,
            (Format::Text, Some(ruleset)) => print(ruleset)?,
            (Format::Text, None) => {}
        }
        Ok(Outcome::Fine)
    }
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    /// Absent where it went to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    ruleset: Option<&'a str>,
    limits: &'a [Limit],
}
