//! `clinigate status`: what is in force.

mod text;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use clap::Args;

use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::daemon::Look;
use crate::daemon::control::{Client, ClientError, Reply, Request};
use crate::daemon::status::Status as Report;
use crate::dataplane::Dataplane;

/// The service may be compiling a large policy just now.
const PATIENCE: Duration = Duration::from_secs(30);

/// Show what is in force, since when, and from which files and commit.
///
/// Works without the service, too: the programs enforce on their own. Exits with 1 if something
/// needs attention.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    instance: Instance,
}

impl Status {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let status = match Client::connect(&self.instance.socket) {
            Ok(mut client) => match client.ask(&Request::Status {}, PATIENCE)? {
                Reply::Status { status } => *status,
                Reply::Error { message, .. } => bail!("{message}"),
                other => bail!("the service gave an answer to another question: {other:?}"),
            },
            Err(ClientError::NotRunning(_)) => self.without_service()?,
            Err(error) => return Err(error.into()),
        };
        match format {
            Format::Json => print_json(&status)?,
            Format::Text => print(text::render(&status, now()))?,
        }
        Ok(if status.findings().is_empty() { Outcome::Fine } else { Outcome::Findings })
    }

    /// What is pinned.
    fn without_service(&self) -> anyhow::Result<Report> {
        if !self.instance.pin_root.exists() {
            return Ok(Report::default());
        }
        let dataplane = Dataplane::open(self.instance.options())?;
        Ok(Look::at(&dataplane)?.status())
    }
}

/// Unix time in milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
