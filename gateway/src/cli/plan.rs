//! `clinigate plan`: what a change of policy opens and closes.

mod connections;
mod render;
mod revision;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use connections::{Connections, Listed};

use super::in_force::Place;
use super::instance::Instance;
use super::labels::Labels;
use super::{FormatArgument, Outcome, print, print_json};
use crate::assure::difference::compare;
use crate::daemon;
use crate::policy::model::Policy;
use crate::policy::render::Report;
use crate::policy::{self, Selection};

/// Show what a change of policy opens and closes: exactly, as sets, by the rule that causes it.
///
/// Compares what both policies allow, not their text: renaming, sorting or splitting rules changes
/// nothing. Orders at a gateway (quarantine, grants, break-glass) are left out: they hold over any policy. Where OLD is in force on this machine, the running connections that the change would cut are
/// shown, too. Exits with 0 if nothing changes in what passes, 10 if some packets do not pass any more
/// (narrowing), 11 if some pass that did not (widening), 12 if both, and 2 if the policies cannot be
/// read or have mistakes.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// The policy before and the one after: directories, or `running` for the policy that came into
    /// force last (the service keeps its text). With --git only the one after.
    #[arg(value_name = "OLD NEW", required = true, num_args = 1..=2)]
    policies: Vec<PathBuf>,
    /// Take the policy before from this revision of git, from the same directory.
    #[arg(long, value_name = "REVISION")]
    git: Option<String>,
    /// List this many of the running connections that would be cut, for each rule that admitted them:
    /// a number, or `all`. Text and JSON list 5; Markdown lists none, for a merge request is seen by
    /// many.
    #[arg(long, value_name = "COUNT")]
    connections: Option<Listed>,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    instance: Instance,
}

impl Plan {
    pub(super) fn run(&self, format: FormatArgument) -> anyhow::Result<Outcome> {
        let (old, new) = match (self.policies.as_slice(), &self.git) {
            ([old, new], None) => (self.read(old)?, self.read(new)?),
            ([new], Some(revision)) => {
                let kept = revision::checked_out(new, revision)?;
                let place = format!("{} at {revision}", new.display());
                (read(kept.path(), &place, &self.labels.selection()?)?, self.read(new)?)
            }
            ([_], None) => bail!("plan needs two policies: OLD and NEW, or --git REVISION and NEW"),
            _ => bail!("--git says what the policy before is: give only the one after"),
        };
        let difference = compare(&old, &new)?;
        let unasked = if format == FormatArgument::Markdown { Listed::NONE } else { Listed::SOME };
        let listed = self.connections.unwrap_or(unasked);
        let connections = Connections::ask(&self.instance, &old, &new, listed);
        let answer = render::Answer::new(&old, &new, &difference, connections);
        match format {
            FormatArgument::Json => print_json(&answer)?,
            FormatArgument::Text => print(answer.text())?,
            FormatArgument::Markdown => print(answer.markdown())?,
            FormatArgument::Junit => bail!("--format junit is for `clinigate test`"),
        }
        Ok(Outcome::Changes(difference.effect()))
    }

    fn read(&self, directory: &Path) -> anyhow::Result<Policy> {
        let place = Place::of(directory, &self.labels, &self.instance)?;
        let name = if place.is_in_force() {
            self.tell_orders()?;
            "the policy in force".to_owned()
        } else {
            directory.display().to_string()
        };
        read(&place.directory, &name, &place.selection)
    }

    /// What is ordered at the gateway holds over any policy: it is no part of the difference.
    fn tell_orders(&self) -> anyhow::Result<()> {
        let orders = daemon::standing_orders(&self.instance.state_dir).unwrap_or_default();
        if orders.iter().any(|order| order.open) {
            let words = "note: policies are compared without what is ordered at the gateway (see `clinigate status`), \
                         which stays in force over both";
            writeln!(io::stderr(), "{words}")?;
        }
        Ok(())
    }
}

fn read(directory: &Path, name: &str, selection: &Selection) -> anyhow::Result<Policy> {
    let loaded = policy::load_for(directory, selection).with_context(|| name.to_owned())?;
    if let Some(policy) = loaded.policy {
        return Ok(policy);
    }
    let report = Report::new(&loaded.sources, io::stderr().is_terminal());
    let mut words = String::new();
    for diagnostic in loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
        words += &report.render(diagnostic);
        words += "\n\n";
    }
    io::stderr().write_all(words.as_bytes())?;
    bail!("{name} has mistakes and cannot be compared")
}
