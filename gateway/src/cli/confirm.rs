//! `clinigate confirm`: a change stays.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::daemon::control::{Client, Reply, Request};

/// The service may be compiling a large policy just now.
const PATIENCE: Duration = Duration::from_mins(2);

/// Confirm a change that was made with `--confirm-within`: it stays.
///
/// Exits with 2 if no change waits for a confirmation.
#[derive(Debug, Args)]
pub(super) struct Confirm {
    #[command(flatten)]
    instance: Instance,
}

impl Confirm {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        match Client::connect(&self.instance.socket)?.ask(&Request::Confirm {}, PATIENCE)? {
            Reply::Confirmed { generation } => match format {
                Format::Json => print_json(&json!({ "generation": generation }))?,
                Format::Text => print(format!("generation {generation} stays\n"))?,
            },
            Reply::Error { message, .. } => bail!("{message}"),
            other => bail!("the service gave an answer to another question: {other:?}"),
        }
        Ok(Outcome::Fine)
    }
}
