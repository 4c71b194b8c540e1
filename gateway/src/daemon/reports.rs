//! Reports of single packets, from the kernel to the log of blocked flows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::event_log::Writer;
use super::watching::Watching;
use crate::compile::image::Manifest;
use crate::dataplane::EventStream;
use crate::policy::model::Policy;
use crate::telemetry::events::{Aggregator, Moment};
use crate::telemetry::logging::BLOCKED;
use crate::telemetry::metrics::Metrics;

/// How often blocked flows are written.
const INTERVAL: Duration = Duration::from_secs(10);

/// What the numbers in reports stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Generation in force, and its names.
    pub(super) generation: Option<(u32, Arc<Manifest>)>,
    /// Interfaces by index.
    pub(super) interfaces: HashMap<u32, String>,
    /// The policy in force, on this gateway; absent where its text is not at hand.
    pub(super) policy: Option<Arc<Policy>>,
}

/// Reads reports until `stop` rings or is dropped, then writes what is left. `reopen` rings when the log's file is to
/// be opened anew.
pub(super) async fn gather(
    mut events: EventStream,
    mut names: watch::Receiver<Names>,
    metrics: Arc<Metrics>,
    watching: Arc<Watching>,
    file: Option<Writer>,
    reopen: Arc<Notify>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut aggregator = Aggregator::default();
    watching.learn(&names.borrow_and_update(), &metrics);
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Ok(event) => {
                    metrics.events_read(1);
                    aggregator.add(&event);
                    watching.add(&event, &metrics);
                }
                Err(error) => {
                    error!(%error, "cannot read reports of packets; the log of blocked flows pauses");
                    tokio::time::sleep(INTERVAL).await;
                }
            },
            _ = ticks.tick() => {
                watching.forget_old();
                write(&mut aggregator, &watching, &metrics, file.as_ref());
            }
            Ok(()) = names.changed() => watching.learn(&names.borrow_and_update(), &metrics),
            () = reopen.notified() => file.iter().for_each(Writer::reopen),
            _ = &mut stop => break,
        }
    }
    write(&mut aggregator, &watching, &metrics, file.as_ref());
}

/// Ends an interval: one line of JSON a flow.
fn write(aggregator: &mut Aggregator, watching: &Watching, metrics: &Metrics, file: Option<&Writer>) {
    let interval = watching.with_names(|names| aggregator.finish(names, Moment::now()));
    let mut lines = Vec::new();
    for flow in &interval.flows {
        match serde_json::to_string(flow) {
            Ok(line) => lines.push(line),
            Err(error) => warn!(%error, "cannot write a blocked flow"),
        }
    }
    for line in &lines {
        info!(target: BLOCKED, "{line}");
    }
    if let Some(file) = file {
        file.write(lines);
    }
    if interval.unlisted > 0 {
        metrics.events_unlisted(interval.unlisted);
        warn!(reports = interval.unlisted, "more flows were blocked than the log lists");
    }
}
