//! Where the service's words go: to the journal when systemd connects standard error to it,
//! else to standard error.
//!
//! Events of target [`BLOCKED`] carry one line of JSON as their message. In the journal that is
//! the `MESSAGE`; on standard error the line stands bare, so that `grep '^{'` finds all of them.

use std::fmt;
use std::io;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

/// Target of the blocked-flow log.
pub const BLOCKED: &str = "clinigate::blocked";

/// Filter for when the eBPF programs trace: their crate's name is the target of what they say.
const TRACES: &str = "info,clinigate_ebpf=debug";

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// The journal when standard error leads there, else text.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal's own protocol.
    Journald,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The journal does not answer.
    #[error("cannot reach the journal: {0}")]
    Journal(#[source] io::Error),
    /// Somebody else in this process was first.
    #[error("logging is already set up: {0}")]
    AlreadySet(#[from] TryInitError),
}

/// Sets up the log of this process. `RUST_LOG` chooses what is written; by default everything
/// from `info` on, and what the programs trace where they do.
pub fn init(format: LogFormat, traces: bool) -> Result<(), LoggingError> {
    let default = if traces { TRACES } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let words_only = filter_fn(|metadata| metadata.target() != BLOCKED);
    // Errors of writing are not reported: a standard error that has gone away is no reason to stop.
    let lines = || tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let resolved = resolve(format);
    let words = match resolved {
        LogFormat::Journald => {
            let journal = tracing_journald::layer().map_err(LoggingError::Journal)?;
            journal.with_syslog_identifier("clinigate".to_owned()).boxed()
        }
        LogFormat::Json => lines().json().flatten_event(true).with_filter(words_only).boxed(),
        LogFormat::Auto | LogFormat::Text => {
            lines().with_ansi(false).with_target(false).with_filter(words_only).boxed()
        }
    };
    let blocked = (resolved != LogFormat::Journald).then(|| {
        let blocked_only = filter_fn(|metadata| metadata.target() == BLOCKED);
        tracing_subscriber::fmt::layer()
            .event_format(BareMessage)
            .with_writer(io::stderr)
            .log_internal_errors(false)
            .with_filter(blocked_only)
    });
    tracing_subscriber::registry().with(filter).with(words).with(blocked).try_init()?;
    Ok(())
}

/// Whether to speak the journal's protocol: systemd.exec(5) names the device and inode of the
/// stream in `JOURNAL_STREAM`; standard error may have been sent elsewhere since.
fn resolve(format: LogFormat) -> LogFormat {
    if format != LogFormat::Auto {
        return format;
    }
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let stderr = nix::sys::stat::fstat(io::stderr()).ok().map(|stat| (stat.st_dev, stat.st_ino));
    if stream.as_deref().and_then(device_and_inode).is_some_and(|stream| stderr == Some(stream)) {
        LogFormat::Journald
    } else {
        LogFormat::Text
    }
}

fn device_and_inode(stream: &str) -> Option<(u64, u64)> {
    let (device, inode) = stream.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// Writes an event's message and nothing else.
struct BareMessage;

impl<S, N> FormatEvent<S, N> for BareMessage
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        writeln!(writer, "{}", message.0)
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_and_an_inode_name_a_stream() {
        assert_eq!(device_and_inode("9:12345"), Some((9, 12345)));
        for wrong in ["", "9", "9:", ":1", "a:b", "-1:2"] {
            assert_eq!(device_and_inode(wrong), None, "{wrong}");
        }
    }
}
