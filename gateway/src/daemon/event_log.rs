//! Writes the event log's file, on a thread of its own: a disk that hangs holds nothing else up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use tracing::{error, info};

use crate::telemetry::event_log::{EventLog, EventLogSettings};
use crate::telemetry::metrics::Metrics;

/// Intervals that wait for a slow disk, at most.
const WAITING: usize = 16;
/// For how long the last lines may take when the service ends.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to the thread that writes; it ends when this is dropped.
pub(super) struct Writer {
    work: Option<SyncSender<Work>>,
    ended: Receiver<()>,
    metrics: Arc<Metrics>,
}

enum Work {
    Lines(Vec<String>),
    Reopen,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(settings: EventLogSettings, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (work, orders) = mpsc::sync_channel(WAITING);
        let (end, ended) = mpsc::sync_channel(1);
        let counted = Arc::clone(&metrics);
        thread::Builder::new().name("event-log".to_owned()).spawn(move || {
            carry_out(&orders, settings, &counted);
            // Nobody waits any more where this fails.
            let _ = end.send(());
        })?;
        Ok(Self { work: Some(work), ended, metrics })
    }

    /// Has lines written, or counts them as lost where the disk does not keep up.
    pub(super) fn write(&self, lines: Vec<String>) {
        let count = lines.len() as u64;
        if count > 0 && !self.send(Work::Lines(lines)) {
            self.metrics.watching.event_log(0, count);
        }
    }

    /// Has the path opened anew.
    pub(super) fn reopen(&self) {
        self.send(Work::Reopen);
    }

    fn send(&self, work: Work) -> bool {
        self.work.as_ref().is_some_and(|sender| sender.try_send(work).is_ok())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.work = None;
        // A disk that hangs does not keep the service from ending.
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

fn carry_out(orders: &Receiver<Work>, settings: EventLogSettings, metrics: &Metrics) {
    let path = settings.path.clone();
    let mut log = EventLog::new(settings);
    let mut trouble = Trouble { path, said: false };
    trouble.tell(log.reopen().err().as_ref());
    for work in orders {
        match work {
            Work::Reopen => trouble.tell(log.reopen().err().as_ref()),
            Work::Lines(lines) => {
                let (written, error) = log.write(lines.iter().map(String::as_str));
                metrics.watching.event_log(written.lines, written.lost);
                trouble.tell(error.as_ref());
            }
        }
    }
}

/// Says once that something is wrong, and once that it is not any more.
struct Trouble {
    path: PathBuf,
    said: bool,
}

impl Trouble {
    fn tell(&mut self, trouble: Option<&std::io::Error>) {
        let path = self.path.display();
        match trouble {
            Some(trouble) if !self.said => {
                error!("cannot write the event log {path}: {trouble}; lines are lost");
            }
            None if self.said => info!("the event log {path} is written again"),
            _ => {}
        }
        self.said = trouble.is_some();
    }
}
