//! What was blocked by service, who talks, and how the log fares.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::telemetry::flow::Flow;

/// Series of blocked packets, at most; what is blocked beyond them stands under [`OTHER`].
pub const BLOCKED_SHOWN: usize = 4000;
/// Stands for a service without a name, and for everything beyond [`BLOCKED_SHOWN`].
pub const OTHER: &str = "(other)";

const BLOCKED_LABELS: [&str; 6] = ["source", "destination", "service", "class", "verdict", "reason"];

/// What is counted about who talks to whom.
pub struct Watching {
    blocked: IntCounterVec,
    /// Label values of `blocked` that have series of their own.
    shown: Mutex<HashSet<[String; 6]>>,
    segments: IntGaugeVec,
    talkers: IntGaugeVec,
    new_talkers: IntCounterVec,
    /// Segments that have a series there.
    talking: Mutex<HashSet<String>>,
    learning: IntGauge,
    lines: IntCounter,
    lines_lost: IntCounter,
}

/// A segment of the policy in force, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownSegment {
    /// Name.
    pub name: String,
    /// Zone; empty where it has none.
    pub zone: String,
    /// Mode.
    pub mode: &'static str,
    /// It is one of the policy's text, none of the built-in ones.
    pub own: bool,
}

impl Watching {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let watching = Self {
            blocked: IntCounterVec::new(
                Opts::new(
                    "clinigate_blocked_packets_total",
                    "Packets that did not pass, or would not have, by service: those that reports stand for.",
                ),
                &BLOCKED_LABELS,
            )?,
            shown: Mutex::default(),
            talking: Mutex::default(),
            segments: IntGaugeVec::new(
                Opts::new("clinigate_segment_info", "Segments of the policy in force; always 1."),
                &["segment", "zone", "mode"],
            )?,
            talkers: IntGaugeVec::new(
                Opts::new("clinigate_talkers", "Addresses that have been seen in a segment."),
                &["segment"],
            )?,
            new_talkers: IntCounterVec::new(
                Opts::new(
                    "clinigate_new_talkers_total",
                    "Addresses that were seen in a segment for the first time, after the time of learning.",
                ),
                &["segment"],
            )?,
            learning: IntGauge::new(
                "clinigate_talkers_learning",
                "1 while new addresses are learned without being reported.",
            )?,
            lines: IntCounter::new(
                "clinigate_event_log_lines_total",
                "Blocked flows that were written to the event log's file.",
            )?,
            lines_lost: IntCounter::new(
                "clinigate_event_log_lost_total",
                "Blocked flows that could not be written to the event log's file.",
            )?,
        };
        registry.register(Box::new(watching.blocked.clone()))?;
        registry.register(Box::new(watching.segments.clone()))?;
        registry.register(Box::new(watching.talkers.clone()))?;
        registry.register(Box::new(watching.new_talkers.clone()))?;
        registry.register(Box::new(watching.learning.clone()))?;
        registry.register(Box::new(watching.lines.clone()))?;
        registry.register(Box::new(watching.lines_lost.clone()))?;
        Ok(watching)
    }

    /// Counts packets of a flow that did not pass, or would not have.
    pub fn blocked(&self, flow: &Flow) {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| OTHER.to_owned());
        let labels = [
            flow.source_segment.clone(),
            flow.destination_segment.clone(),
            name(&flow.service_name),
            flow.service_class.clone().unwrap_or_else(|| "unknown".to_owned()),
            flow.verdict.clone(),
            flow.reason.clone(),
        ];
        let packets = flow.packets.unwrap_or_default();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.contains(&labels) || shown.len() < BLOCKED_SHOWN {
            self.blocked.with_label_values(&labels).inc_by(packets);
            shown.insert(labels);
        } else {
            let [.., verdict, reason] = &labels;
            self.blocked
                .with_label_values(&[OTHER, OTHER, OTHER, "unknown", verdict, reason])
                .inc_by(packets);
        }
    }

    /// Shows the segments of another policy; counters of those that left it go.
    pub fn segments(&self, segments: &[ShownSegment]) {
        self.segments.reset();
        let mut talking = self.talking.lock().unwrap_or_else(PoisonError::into_inner);
        talking.retain(|known| {
            let stays = segments.iter().any(|segment| segment.name == *known);
            if !stays {
                // It was shown, so it is there.
                let _ = self.new_talkers.remove_label_values(&[known]);
            }
            stays
        });
        for ShownSegment { name, zone, mode, own } in segments {
            self.segments.with_label_values(&[name.as_str(), zone.as_str(), mode]).set(1);
            if *own {
                // A series that begins at 0, so that an alert sees the first one.
                self.new_talkers.with_label_values(&[name]);
                talking.insert(name.clone());
            }
        }
        let names: HashSet<&str> =
            segments.iter().map(|segment| segment.name.as_str()).chain(["unknown", OTHER]).collect();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|labels| {
            let stays = labels[..2].iter().all(|segment| names.contains(segment.as_str()));
            if !stays {
                // It was shown, so it is there.
                let _ = self.blocked.remove_label_values(labels);
            }
            stays
        });
    }

    /// How many addresses have been seen, by segment.
    pub fn talkers(&self, by_segment: &BTreeMap<&str, u64>, learning: bool) {
        self.talkers.reset();
        for (segment, count) in by_segment {
            self.talkers.with_label_values(&[segment]).set(super::signed(*count));
        }
        self.learning.set(learning.into());
    }

    /// An address was seen for the first time.
    pub fn new_talker(&self, segment: &str) {
        self.new_talkers.with_label_values(&[segment]).inc();
        self.talking.lock().unwrap_or_else(PoisonError::into_inner).insert(segment.to_owned());
    }

    /// Lines were written to the event log, and could not be.
    pub fn event_log(&self, written: u64, lost: u64) {
        self.lines.inc_by(written);
        self.lines_lost.inc_by(lost);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use prometheus::{Encoder as _, TextEncoder};

    use super::*;

    fn smb(source: &str, destination: &str) -> Flow {
        Flow {
            source_segment: source.to_owned(),
            destination_segment: destination.to_owned(),
            service_name: Some("smb".to_owned()),
            verdict: "drop".to_owned(),
            reason: "denied".to_owned(),
            packets: Some(2),
            ..Flow::default()
        }
    }

    fn page(registry: &Registry) -> String {
        let mut page = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut page).unwrap();
        String::from_utf8(page).unwrap()
    }

    #[test]
    fn what_is_blocked_has_a_bounded_number_of_series() {
        let registry = Registry::new();
        let watching = Watching::new(&registry).unwrap();
        for number in 0..2 * BLOCKED_SHOWN {
            watching.blocked(&smb("pumps", &format!("s{number}")));
        }
        watching.blocked(&smb("pumps", "s0"));
        let page = page(&registry);
        let series = |line: &&str| line.starts_with("clinigate_blocked_packets_total{");
        assert_eq!(page.lines().filter(series).count(), BLOCKED_SHOWN + 1);
        let sample = |source: &str, destination: &str, service: &str| {
            format!(
                "clinigate_blocked_packets_total{{class=\"unknown\",destination=\"{destination}\",reason=\"denied\",\
                 service=\"{service}\",source=\"{source}\",verdict=\"drop\"}}"
            )
        };
        assert!(page.contains(&format!("{} 4\n", sample("pumps", "s0", "smb"))), "{page}");
        assert!(page.contains(&format!("{} {}\n", sample(OTHER, OTHER, OTHER), 2 * BLOCKED_SHOWN)));
    }

    #[test]
    fn segments_that_leave_the_policy_leave_the_page() {
        let registry = Registry::new();
        let watching = Watching::new(&registry).unwrap();
        watching.blocked(&smb("pumps", "pacs"));
        watching.blocked(&smb("pumps", "gone"));
        let segment = |name: &str| ShownSegment {
            name: name.to_owned(),
            zone: String::new(),
            mode: "enforce",
            own: true,
        };
        watching.segments(&[segment("pumps"), segment("gone")]);
        watching.segments(&[segment("pumps"), segment("pacs")]);
        let page = page(&registry);
        assert!(!page.contains("gone"), "{page}");
        assert!(
            page.contains("clinigate_segment_info{mode=\"enforce\",segment=\"pacs\",zone=\"\"} 1"),
            "{page}"
        );
    }
}
