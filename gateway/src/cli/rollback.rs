//! `clinigate rollback`: an earlier policy, at once.

use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::instance::Instance;
use super::{Format, Outcome, apply, print, print_json};
use crate::daemon::control::{Client, Reply, Request};

/// Compiling and loading take a second for a large policy; a machine may be busy.
const PATIENCE: Duration = Duration::from_mins(2);

/// Put an earlier policy into force, at once: the one before, or the one of a generation.
///
/// A change that waits for its confirmation is taken back. What was in force does not come back by itself: neither
/// by a restart nor from the repository, until somebody asks for it with `clinigate apply`, or it is changed. See
/// `clinigate generations`.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// How many changes back.
    #[arg(value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    back: u32,
    /// To the policy of this generation.
    #[arg(long, value_name = "GENERATION", conflicts_with = "back")]
    to: Option<u32>,
    #[command(flatten)]
    instance: Instance,
}

impl Rollback {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let request = Request::Rollback { back: self.back, generation: self.to };
        match Client::connect(&self.instance.socket)?.ask(&request, PATIENCE)? {
            Reply::Applied { change } => match format {
                Format::Json => print_json(&change)?,
                Format::Text => print(apply::text(&change))?,
            },
            Reply::Error { message, .. } => bail!("{message}"),
            other => bail!("the service gave an answer to another question: {other:?}"),
        }
        Ok(Outcome::Fine)
    }
}
