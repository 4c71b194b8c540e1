//! Notices addresses that are seen for the first time, in the connection table and in reports.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::run::blocking;
use super::service::unix_now;
use super::watching::Watching;
use crate::dataplane::Onlooker;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::talkers::{REMEMBERED, Talkers};

/// How often is looked. A connection stays in the table for longer after its last packet.
const PERIOD: Duration = Duration::from_secs(10);
/// How often the list is written where nothing but times changed.
const WRITE_PERIOD: Duration = Duration::from_hours(1);
/// New addresses that are named in the log at once; more are summed up.
const NAMED: usize = 50;

/// What is known, and where it is kept.
struct List {
    talkers: Talkers,
    path: PathBuf,
    /// For how long new addresses are learned without being reported.
    learning: Duration,
    written: Instant,
    unwritten: bool,
    trouble: bool,
}

/// Looks, for ever.
pub(super) async fn notice(
    watching: Arc<Watching>,
    metrics: Arc<Metrics>,
    state_dir: PathBuf,
    learning: Duration,
) {
    let mut list = blocking(move || List::open(state_dir.join("talkers"), learning)).await;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (watching, metrics) = (Arc::clone(&watching), Arc::clone(&metrics));
        list = blocking(move || {
            list.look(&watching, &metrics);
            list
        })
        .await;
    }
}

impl List {
    fn open(path: PathBuf, learning: Duration) -> Self {
        let talkers = Talkers::read(&path).unwrap_or_else(|error| {
            warn!("cannot read {}: {error}; learning begins anew", path.display());
            None
        });
        let talkers = talkers.unwrap_or_else(|| Talkers::new(unix_now() / 1000));
        Self { talkers, path, learning, written: Instant::now(), unwritten: true, trouble: false }
    }

    fn look(&mut self, watching: &Watching, metrics: &Metrics) {
        let now = unix_now() / 1000;
        let is_learning = self.talkers.age(now) < self.learning.as_secs();
        let mut news = Vec::new();
        for address in seen(watching) {
            watching.with_names(|names| {
                let Some(segment) = names.own_segment_of(address) else { return };
                if self.talkers.note(address, segment, now) {
                    self.unwritten = true;
                    if !is_learning {
                        metrics.watching.new_talker(segment);
                        let device = names.device(address).map(str::to_owned);
                        news.push((address, segment.to_owned(), device));
                    }
                }
            });
        }
        for (address, segment, device) in news.iter().take(NAMED) {
            info!(%address, segment, device, "seen for the first time");
        }
        if news.len() > NAMED {
            info!(more = news.len() - NAMED, "more addresses were seen for the first time");
        }
        metrics.watching.talkers(&self.talkers.by_segment(), is_learning);
        if self.unwritten || self.written.elapsed() > WRITE_PERIOD {
            self.write();
        }
    }

    fn write(&mut self) {
        let result = self.talkers.write(&self.path);
        if let Err(error) = &result
            && !self.trouble
        {
            warn!("cannot keep who has been seen in {}: {error}", self.path.display());
        }
        self.trouble = result.is_err();
        self.unwritten = result.is_err();
        self.written = Instant::now();
    }
}

/// Addresses that have been seen since the last look.
fn seen(watching: &Watching) -> HashSet<IpAddr> {
    let mut addresses = watching.take_senders();
    let add = |live: crate::dataplane::LiveConnection| {
        if addresses.len() < REMEMBERED {
            addresses.extend([live.initiator().0, live.responder().0]);
        }
    };
    let result = Onlooker::open(watching.options()).and_then(|onlooker| match onlooker {
        Some(onlooker) => onlooker.each_connection(add),
        None => Ok(()),
    });
    if let Err(error) = result {
        warn!(%error, "cannot look for new addresses");
    }
    addresses
}
