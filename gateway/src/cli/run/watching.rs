//! What the service keeps for those who watch.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::duration;
use crate::telemetry::event_log::EventLogSettings;

/// Options for the log's file, and for who is new.
#[derive(Debug, Args)]
#[command(next_help_heading = "For those who watch")]
pub(super) struct Watching {
    /// File to which blocked flows are written, too: a line of JSON each. Opened anew on SIGHUP, and
    /// when it was moved away.
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// Mebibytes at which another file is begun.
    #[arg(long, value_name = "MIB", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    event_log_size: u64,
    /// Files that are kept, the current one included.
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    event_log_files: u32,
    /// For how long addresses that are seen for the first time are learned without being reported,
    /// counted from the first start.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = span)]
    learn_talkers: Duration,
}

impl Watching {
    /// The log's file, where one is wanted.
    pub(super) fn event_log(&self) -> anyhow::Result<Option<EventLogSettings>> {
        let Some(path) = &self.event_log else { return Ok(None) };
        let path = std::path::absolute(path).context("the current directory is gone")?;
        let file_bytes = self.event_log_size * 1024 * 1024;
        Ok(Some(EventLogSettings { path, file_bytes, files: self.event_log_files }))
    }

    /// For how long new addresses are learned.
    pub(super) fn learn_talkers(&self) -> Duration {
        self.learn_talkers
    }
}

fn span(text: &str) -> Result<Duration, String> {
    // Nothing is learned in silence then.
    if text == "0s" { Ok(Duration::ZERO) } else { duration::parse(text) }
}
