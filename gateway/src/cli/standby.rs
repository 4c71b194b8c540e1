//! `clinigate stand-by`: not for people; started by the service with a change that must be confirmed.

use clap::Args;

use super::Outcome;
use super::instance::Instance;
use super::run::Mode;
use crate::daemon;
use crate::dataplane::Options;
use crate::telemetry::logging::{self, LogFormat};

/// Wait for the end of an unconfirmed change's time, and take it back where no service does.
#[derive(Debug, Args)]
pub(super) struct StandBy {
    /// How programs are attached.
    #[arg(long, value_enum, default_value_t = Mode::Native)]
    xdp_mode: Mode,
    #[command(flatten)]
    instance: Instance,
}

impl StandBy {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        logging::init(LogFormat::Auto, false)?;
        daemon::stand_by(&Options { xdp_mode: self.xdp_mode.into(), ..self.instance.options() })?;
        Ok(Outcome::Fine)
    }
}
