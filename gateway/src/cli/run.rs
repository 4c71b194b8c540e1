//! `clinigate run`: the service.

mod repository;
mod watching;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use nix::unistd::{Gid, Group};

use repository::Repository;

use self::watching::Watching;
use super::Outcome;
use super::instance::Instance;
use super::labels::Labels;
use crate::daemon::control::Groups;
use crate::daemon::{self, Settings, Source};
use crate::dataplane::{Options, XdpMode};
use crate::telemetry::logging::{self, LogFormat};

/// Run the service: put a policy into force and keep it there.
///
/// The policy stays in force when the service stops, is killed or is upgraded; only `clinigate
/// detach` takes it off. SIGHUP reads the policy again. A policy that cannot be put into force
/// leaves the one before in force.
#[derive(Debug, Args)]
#[command(
    override_usage = "clinigate run --policy <DIR> [OPTIONS]\n       clinigate run --repo <URL> [OPTIONS]"
)]
pub(super) struct Run {
    /// Directory of the policy's YAML files.
    #[arg(long, value_name = "DIR", required_unless_present = "repo", conflicts_with = "repo")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    labels: Labels,
    /// How programs are attached. `generic` works with any driver, slowly.
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Mode::Native)]
    xdp_mode: Mode,
    /// Where /metrics and /healthz are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9469")]
    metrics: SocketAddr,
    /// Group of viewers: its members may look at what is in force and what passes.
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,
    /// Group of operators: its members may also order quarantine, grants and break-glass.
    #[arg(long, value_name = "GROUP")]
    operator_group: Option<String>,
    /// How the log is written.
    #[arg(long, value_enum, value_name = "FORM", default_value_t = LogFormat::Auto)]
    log_format: LogFormat,
    /// Trace single packets into the log. For debugging: it is slow.
    #[arg(long)]
    trace: bool,
    // These have headings of their own, which cover all that follows: they stand last.
    #[command(flatten)]
    repository: Repository,
    #[command(flatten)]
    watching: Watching,
    #[command(flatten)]
    instance: Instance,
}

/// See [`XdpMode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// By the driver.
    Native,
    /// By the stack.
    Generic,
}

impl From<Mode> for XdpMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Native => Self::Native,
            Mode::Generic => Self::Generic,
        }
    }
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        let groups = Groups {
            viewers: self.socket_group.as_deref().map(group).transpose()?,
            operators: self.operator_group.as_deref().map(group).transpose()?,
        };
        let source = match (self.policy, self.repository.settings()?) {
            (_, Some(repository)) => Source::Repository(Box::new(repository)),
            (Some(policy), None) => {
                Source::Directory(std::path::absolute(policy).context("the current directory is gone")?)
            }
            (None, None) => bail!("say where the policy is: --policy DIR, or --repo URL"),
        };
        let selection = self.labels.selection()?;
        let event_log = self.watching.event_log()?;
        logging::init(self.log_format, self.trace)?;
        daemon::run(Settings {
            source,
            selection,
            dataplane: Options {
                xdp_mode: self.xdp_mode.into(),
                trace: self.trace,
                ..self.instance.options()
            },
            socket: self.instance.socket,
            groups,
            metrics: self.metrics,
            event_log,
            learn_talkers: self.watching.learn_talkers(),
        })?;
        Ok(Outcome::Fine)
    }
}

fn group(name: &str) -> anyhow::Result<Gid> {
    match Group::from_name(name).with_context(|| format!("cannot look up the group {name}"))? {
        Some(group) => Ok(group.gid),
        None => bail!("there is no group {name}"),
    }
}
