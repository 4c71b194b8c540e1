//! `clinigate generations`: what was in force, and where it came from.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::Args;

use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::daemon::history::{self, Confirmed, Generation};

/// Show the generations that were in force: when, from which commit, by whom, and what each changed.
///
/// The latest comes last. Read from the state directory; the service need not run.
#[derive(Debug, Args)]
pub(super) struct Generations {
    /// Show this many of the latest.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    last: usize,
    #[command(flatten)]
    instance: Instance,
}

impl Generations {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let state = &self.instance.state_dir;
        if let Err(error) = state.read_dir()
            && error.kind() == io::ErrorKind::PermissionDenied
        {
            return Err(error).with_context(|| format!("cannot look into {}: run as root", state.display()));
        }
        let all = history::generations(state);
        let shown = &all[all.len().saturating_sub(self.last)..];
        match format {
            Format::Json => print_json(&shown)?,
            Format::Text if shown.is_empty() => {
                let place = state.display();
                writeln!(
                    io::stderr(),
                    "no generation yet: {place} has none; --state-dir names another place"
                )?;
            }
            Format::Text => print(shown.iter().map(text).collect::<String>())?,
        }
        Ok(Outcome::Fine)
    }
}

fn text(generation: &Generation) -> String {
    let at =
        i64::try_from(generation.applied_at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    let at = at.map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
    let mut text = format!("{:<5} {at}  {:<13}", generation.generation, generation.cause.name());
    let mut add = |words: std::fmt::Arguments<'_>| {
        text.write_fmt(words).expect("writing to a String does not fail");
    };
    match (&generation.about, &generation.commit) {
        (Some(about), _) => {
            let signer =
                about.signer.as_ref().map_or_else(String::new, |signer| format!(", signed by {signer}"));
            add(format_args!("  commit {} of {}{signer}: {}", short(&about.id), about.author, about.subject));
        }
        (None, Some(commit)) => add(format_args!("  commit {} in {}", short(commit), generation.source)),
        (None, None) => add(format_args!("  {}", generation.source)),
    }
    if let Some(restores) = generation.restores {
        add(format_args!("; as generation {restores}"));
    }
    if let Some(plan) = &generation.plan {
        let effect = if plan.effect == "nothing" { "changes nothing in what passes" } else { &plan.effect };
        add(format_args!("; {effect}"));
        if let Some(cut) = plan.cut.filter(|cut| *cut > 0) {
            add(format_args!(", cut {cut} connections"));
        }
    }
    let confirmation = generation.confirmation.as_ref().map(|confirmation| confirmation.result);
    match confirmation {
        Some(Confirmed::Waiting) => add(format_args!("; not confirmed yet")),
        Some(Confirmed::Confirmed) => add(format_args!("; confirmed")),
        Some(Confirmed::WentBack) => add(format_args!("; WENT BACK")),
        None => {}
    }
    text + "\n"
}
