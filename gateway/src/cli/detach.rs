//! `clinigate detach`: the only way off.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::daemon::control::{Client, ClientError, Reply, Request};
use crate::dataplane;

/// A change that has begun is finished first.
const PATIENCE: Duration = Duration::from_mins(2);

/// Take the policy off all interfaces: everything passes from then on.
///
/// Asks first, where somebody is there to answer. Refuses while the service runs, unless it is to
/// be stopped, too. Totals of the counters and the copy of the last good policy are kept.
#[derive(Debug, Args)]
pub(super) struct Detach {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Stop the service, too. One that systemd always restarts (not that of the package) puts its policy into force again:
    /// stop its unit instead.
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    instance: Instance,
}

/// What was taken off.
#[derive(Debug, Serialize)]
struct Removed {
    /// Interfaces that were enforced.
    interfaces: Vec<String>,
    /// Generations whose tables were removed.
    generations: Vec<u32>,
    /// The service was running, and ends.
    service_stopped: bool,
}

impl Detach {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let service = match Client::connect(&self.instance.socket) {
            Ok(client) => Some(client),
            Err(ClientError::NotRunning(_)) => None,
            Err(error) => return Err(error.into()),
        };
        if service.is_some() && !self.stop {
            bail!(
                "the service is running on {}; stop it first (the policy stays in force meanwhile), or add --stop",
                self.instance.socket.display()
            );
        }
        if !self.yes && !confirmed()? {
            bail!("nothing was taken off");
        }
        let removed = service.map_or_else(|| self.here(), through_service)?;
        match format {
            Format::Json => print_json(&removed)?,
            Format::Text => print(text(&removed))?,
        }
        Ok(Outcome::Fine)
    }
}

impl Detach {
    /// Nobody owns the pins but us.
    fn here(&self) -> anyhow::Result<Removed> {
        self.instance.is_present()?;
        let detached = dataplane::detach(&self.instance.options())?;
        Ok(Removed {
            interfaces: detached.interfaces,
            generations: detached.generations,
            service_stopped: false,
        })
    }
}

fn confirmed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("nobody is there to confirm it; add --yes");
    }
    let mut stderr = io::stderr();
    write!(stderr, "Everything will pass unfiltered between all segments. Take the policy off? Type yes: ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn through_service(mut client: Client) -> anyhow::Result<Removed> {
    match client.ask(&Request::Detach {}, PATIENCE)? {
        Reply::Detached { interfaces, generations } => {
            Ok(Removed { interfaces, generations, service_stopped: true })
        }
        Reply::Error { message, .. } => bail!("{message}"),
        other => bail!("the service gave an answer to another question: {other:?}"),
    }
}

fn text(removed: &Removed) -> String {
    let mut text = if removed.interfaces.is_empty() {
        "no interface was enforced\n".to_owned()
    } else {
        format!("no longer enforced: {}\n", removed.interfaces.join(", "))
    };
    if !removed.generations.is_empty() {
        let numbers: Vec<String> = removed.generations.iter().map(u32::to_string).collect();
        writeln!(text, "removed the tables of generation {}", numbers.join(", "))
            .expect("writing to a String does not fail");
    }
    if removed.service_stopped {
        text += "the service ends\n";
    }
    text
}
