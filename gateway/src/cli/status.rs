//! `clinigate status`: what is in force.

mod text;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::daemon::control::{Client, ClientError, Reply, Request};
use crate::daemon::status::Status as Report;
use crate::daemon::{Look, standing_orders};
use crate::dataplane::{Dataplane, DataplaneError};

/// The service may be compiling a large policy just now.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the service is asked, and how long is waited in between.
const ATTEMPTS: u32 = 3;
/// How often pins are asked for that somebody else owns just now.
const OWNED_ATTEMPTS: u32 = 50;
/// See [`ATTEMPTS`].
const PAUSE: Duration = Duration::from_millis(100);

/// Show what is in force, since when, and from which files and commit.
///
/// Works without the service, too: the programs enforce on their own. Exits with 1 if something
/// needs attention.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    instance: Instance,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    status: &'a Report,
    /// What somebody should look at, one sentence each.
    findings: Vec<String>,
}

impl Status {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let status = self.ask()?;
        match format {
            Format::Json => print_json(&Answer { findings: status.findings(), status: &status })?,
            Format::Text => print(text::render(&status, now()))?,
        }
        Ok(if status.findings().is_empty() { Outcome::Fine } else { Outcome::Findings })
    }

    /// From the service, where it runs; else from what is pinned.
    fn ask(&self) -> anyhow::Result<Report> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let reply = Client::connect(&self.instance.socket)
                .and_then(|mut client| client.ask(&Request::Status {}, PATIENCE));
            match reply {
                Ok(Reply::Status { status }) => return Ok(*status),
                Ok(Reply::Error { message, .. }) => bail!("{message}"),
                Ok(other) => bail!("the service gave an answer to another question: {other:?}"),
                Err(ClientError::NotRunning(_)) => return self.without_service(),
                // It may have been killed while we asked.
                Err(ClientError::Io { .. }) if attempts < ATTEMPTS => std::thread::sleep(PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What is pinned.
    fn without_service(&self) -> anyhow::Result<Report> {
        if !self.instance.is_present()? {
            return Ok(Report::default());
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Dataplane::open(self.instance.options()) {
                // Somebody takes an unconfirmed change back, or looks, too.
                Err(DataplaneError::Owned { .. }) if attempts < OWNED_ATTEMPTS => std::thread::sleep(PAUSE),
                other => {
                    let mut status = Look::at(&other?)?.status();
                    status.orders = standing_orders(&self.instance.state_dir).unwrap_or_default();
                    return Ok(status);
                }
            }
        }
    }
}

/// Unix time in milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
