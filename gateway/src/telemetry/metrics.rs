//! The page that Prometheus scrapes.
//!
//! Labels are bounded by the policy: names of segments, rules and interfaces, and words of
//! ours. No address is ever a label. Segments and rules that left the policy leave the page.

mod rollout;
pub mod watching;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use gateway_common::counter::Counter;
use gateway_common::place::SEGMENT_UNKNOWN;
use gateway_common::reason::{Mode, Reason, Verdict};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use rollout::Rollout;

use self::watching::Watching;
use super::orders::OrderMetrics;
use super::reading::{InterfaceReading, PairTotal, PolicyReading, Reading};
use crate::policy::model::RuleKind;

/// Rules that the page shows by name; the traffic of all later ones stands under
/// [`OTHER_RULES`]. Which rules these are depends on the policy alone, so no series comes and goes.
pub const RULES_SHOWN: usize = 5000;
/// Name that stands for all rules beyond [`RULES_SHOWN`].
pub const OTHER_RULES: &str = "(other)";

/// Reasons whose series exist from the start, so that an alert on their rate sees the first packet.
const REASONS_FROM_THE_START: [Reason; 7] = [
    Reason::Flow,
    Reason::Established,
    Reason::NoFlow,
    Reason::Denied,
    Reason::Spoofed,
    Reason::SpoofedNeighbour,
    Reason::Internal,
];
/// What the world and the unknown are called on labels.
const UNKNOWN: &str = "unknown";

/// What the service counts about itself, and the page as a whole.
pub struct Metrics {
    registry: Registry,
    apply_seconds: HistogramVec,
    apply_failures: IntCounter,
    last_apply_success: IntGauge,
    events: IntCounter,
    events_unlisted: IntCounter,
    reading_failures: IntCounter,
    /// Where policies come from.
    pub rollout: Rollout,
    /// Who talks to whom, and who may not.
    pub watching: Watching,
    /// What was ordered at the gateway.
    pub orders: OrderMetrics,
}

impl Metrics {
    /// Metrics of a service that has done nothing yet.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let apply_seconds = HistogramVec::new(
            HistogramOpts::new(
                "clinigate_policy_apply_seconds",
                "Time from reading a policy's text to having it in force, or to refusing it.",
            )
            .buckets(vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            &["result"],
        )?;
        for result in ["applied", "refused"] {
            apply_seconds.with_label_values(&[result]);
        }
        let metrics = Self {
            rollout: Rollout::new(&registry)?,
            watching: Watching::new(&registry)?,
            apply_seconds,
            apply_failures: IntCounter::new(
                "clinigate_policy_apply_failures_total",
                "Policies that were refused; the one before stayed in force.",
            )?,
            last_apply_success: IntGauge::new(
                "clinigate_policy_last_apply_success",
                "1 if the last policy that was asked for is in force, 0 if it was refused.",
            )?,
            events: IntCounter::new(
                "clinigate_events_total",
                "Reports of single packets that the service has read from the kernel.",
            )?,
            events_unlisted: IntCounter::new(
                "clinigate_events_unlisted_total",
                "Reports that the blocked-flow log counts but does not list, because too many flows were blocked at once.",
            )?,
            reading_failures: IntCounter::new(
                "clinigate_reading_failures_total",
                "Scrapes that could not read the kernel's counters, which are then missing from the page.",
            )?,
            orders: OrderMetrics::new(&registry)?,
            registry,
        };
        let build = IntGaugeVec::new(
            Opts::new("clinigate_build_info", "Version of the controller; always 1."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.registry.register(Box::new(build))?;
        metrics.registry.register(Box::new(ProcessCollector::for_self()))?;
        metrics.registry.register(Box::new(metrics.apply_seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.apply_failures.clone()))?;
        metrics.registry.register(Box::new(metrics.last_apply_success.clone()))?;
        metrics.registry.register(Box::new(metrics.events.clone()))?;
        metrics.registry.register(Box::new(metrics.events_unlisted.clone()))?;
        metrics.registry.register(Box::new(metrics.reading_failures.clone()))?;
        Ok(metrics)
    }

    /// Counts a policy that came into force.
    pub fn applied(&self, took: Duration) {
        self.apply_seconds.with_label_values(&["applied"]).observe(took.as_secs_f64());
        self.last_apply_success.set(1);
    }

    /// Counts a policy that was refused.
    pub fn refused(&self, took: Duration) {
        self.apply_seconds.with_label_values(&["refused"]).observe(took.as_secs_f64());
        self.apply_failures.inc();
        self.last_apply_success.set(0);
    }

    /// Notes that the policy asked for was found in force already.
    pub fn adopted(&self) {
        self.last_apply_success.set(1);
    }

    /// Counts events read from the kernel.
    pub fn events_read(&self, count: u64) {
        self.events.inc_by(count);
    }

    /// Counts events that the blocked-flow log had no room to list.
    pub fn events_unlisted(&self, count: u64) {
        self.events_unlisted.inc_by(count);
    }

    /// Events read from the kernel so far, and those of them that were not listed.
    pub fn events_so_far(&self) -> (u64, u64) {
        (self.events.get(), self.events_unlisted.get())
    }

    /// The page, in Prometheus' text format.
    pub fn page(&self, reading: &Reading) -> Result<Vec<u8>, prometheus::Error> {
        self.text(kernel_families(reading)?)
    }

    /// The page where the kernel's counters cannot be read: what the service knows by itself, with the policy in force and its interfaces.
    pub fn page_without_counters(
        &self,
        policy: Option<&PolicyReading>,
        interfaces: &[InterfaceReading],
    ) -> Result<Vec<u8>, prometheus::Error> {
        self.reading_failures.inc();
        let page = Registry::new();
        in_force(&page, policy)?;
        attachments(&page, interfaces)?;
        self.text(page.gather())
    }

    fn text(&self, mut families: Vec<MetricFamily>) -> Result<Vec<u8>, prometheus::Error> {
        families.extend(self.registry.gather());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut page = Vec::new();
        TextEncoder::new().encode(&families, &mut page)?;
        Ok(page)
    }
}

/// The kernel keeps the sums, so each page is made of vectors that live as long as it does.
fn kernel_families(reading: &Reading) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let page = Registry::new();
    traffic(&page, reading)?;
    if let Some(policy) = &reading.policy {
        rules(&page, reading, policy)?;
    }
    in_force(&page, reading.policy.as_ref())?;
    connections(&page, reading)?;
    health(&page, reading)?;
    attachments(&page, &reading.interfaces)?;
    Ok(page.gather())
}

fn attachments(page: &Registry, interfaces: &[InterfaceReading]) -> Result<(), prometheus::Error> {
    let modes = gauge(
        page,
        "clinigate_interface_info",
        "Interfaces that the policy names: mode native, generic (slow) or none (nothing attached); always 1.",
        &["interface", "mode"],
    )?;
    for interface in interfaces {
        modes.with_label_values(&[interface.name.as_str(), interface.mode.unwrap_or("none")]).set(1);
    }
    let exits = gauge(
        page,
        "clinigate_interface_exit_info",
        "How the program at the exit of an interface is attached: tcx, clsact (Linux before 6.6) or none; always 1.",
        &["interface", "exit"],
    )?;
    for interface in interfaces {
        exits.with_label_values(&[interface.name.as_str(), interface.exit.unwrap_or("none")]).set(1);
    }
    Ok(())
}

fn in_force(page: &Registry, policy: Option<&PolicyReading>) -> Result<(), prometheus::Error> {
    let Some(policy) = policy else { return Ok(()) };
    let info = gauge(
        page,
        "clinigate_policy_info",
        "The policy in force; always 1.",
        &["commit", "hash", "generation"],
    )?;
    let generation = policy.generation.to_string();
    info.with_label_values(&[policy.commit.as_deref().unwrap_or(""), &policy.hash, &generation]).set(1);
    let applied = Gauge::new(
        "clinigate_policy_applied_timestamp_seconds",
        "When the policy in force came into force, in Unix time.",
    )?;
    #[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
    applied.set(policy.applied_at as f64 / 1000.0);
    page.register(Box::new(applied))?;
    Ok(())
}

fn traffic(page: &Registry, reading: &Reading) -> Result<(), prometheus::Error> {
    let labels = ["segment", "direction", "verdict", "reason"];
    let packets = counter(
        page,
        "clinigate_packets_total",
        "Packets by segment: direction out where it is the source's, in where it is the destination's.",
        &labels,
    )?;
    let bytes = counter(
        page,
        "clinigate_bytes_total",
        "Bytes of frames, counted like clinigate_packets_total.",
        &labels,
    )?;
    let pairs = counter(
        page,
        "clinigate_segment_pair_packets_total",
        "Packets by segment of source and destination.",
        &["source", "destination", "verdict"],
    )?;
    let bump = |segment: &str, direction: &str, verdict: Verdict, reason: Reason, by: Counter| {
        let values = [segment, direction, verdict.name(), reason.name()];
        packets.with_label_values(&values).inc_by(by.packets);
        bytes.with_label_values(&values).inc_by(by.bytes);
    };

    let modes: BTreeSet<Mode> = named_segments(reading).map(|(_, mode)| mode).collect();
    for (name, mode) in named_segments(reading) {
        // The other end is of any mode that the policy has, or nobody knows it.
        let refused: BTreeSet<Verdict> =
            modes.iter().chain([&Mode::Observe]).map(|other| Verdict::of_modes(mode, *other)).collect();
        for reason in REASONS_FROM_THE_START {
            let passed = BTreeSet::from([Verdict::Pass]);
            for verdict in if reason.passes() { &passed } else { &refused } {
                bump(name, "out", *verdict, reason, Counter::default());
                bump(name, "in", *verdict, reason, Counter::default());
            }
        }
    }
    // A hole may show before anybody knows where a packet comes from.
    bump(UNKNOWN, "out", Verdict::Drop, Reason::Internal, Counter::default());
    for PairTotal { source, destination, verdict, reason, counter } in &reading.pairs {
        if *counter == Counter::default() {
            continue;
        }
        bump(source, "out", *verdict, *reason, *counter);
        bump(destination, "in", *verdict, *reason, *counter);
        pairs
            .with_label_values(&[source.as_str(), destination.as_str(), verdict.name()])
            .inc_by(counter.packets);
    }
    bump(UNKNOWN, "out", Verdict::Drop, Reason::NoPolicy, reading.no_policy);
    Ok(())
}

/// Segments that have addresses of their own: the one that stands for none is left out.
fn named_segments(reading: &Reading) -> impl Iterator<Item = (&str, Mode)> {
    let segments = reading.policy.iter().flat_map(|policy| policy.segments.iter().enumerate());
    segments
        .filter(|(number, _)| *number != usize::from(SEGMENT_UNKNOWN))
        .map(|(_, (name, mode))| (name.as_str(), *mode))
}

fn rules(page: &Registry, reading: &Reading, policy: &PolicyReading) -> Result<(), prometheus::Error> {
    let packets = counter(
        page,
        "clinigate_rule_packets_total",
        "Packets that a rule decided: those of the connections that it allowed, or those that it denied.",
        &["rule", "kind"],
    )?;
    let bytes = counter(
        page,
        "clinigate_rule_bytes_total",
        "Bytes of frames, counted like clinigate_rule_packets_total.",
        &["rule", "kind"],
    )?;
    let shown: HashSet<&str> = policy.rules.iter().take(RULES_SHOWN).map(|(name, _)| name.as_str()).collect();
    for (name, kind) in policy.rules.iter().take(RULES_SHOWN) {
        packets.with_label_values(&[name.as_str(), kind_name(*kind)]);
        bytes.with_label_values(&[name.as_str(), kind_name(*kind)]);
    }
    let later: HashMap<&str, RuleKind> =
        policy.rules.iter().skip(RULES_SHOWN).map(|(name, kind)| (name.as_str(), *kind)).collect();
    for total in &reading.rules {
        let name = if shown.contains(total.rule.as_str()) {
            total.rule.as_str()
        } else if later.contains_key(total.rule.as_str()) {
            OTHER_RULES
        } else {
            continue;
        };
        packets.with_label_values(&[name, kind_name(total.kind)]).inc_by(total.counter.packets);
        bytes.with_label_values(&[name, kind_name(total.kind)]).inc_by(total.counter.bytes);
    }
    Ok(())
}

/// A rule's kind as a label.
pub fn kind_name(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Flow => "flow",
        RuleKind::Vendor => "vendor",
        RuleKind::Deny => "deny",
        RuleKind::Kept => "kept",
        RuleKind::Quarantine => "quarantine",
    }
}

fn connections(page: &Registry, reading: &Reading) -> Result<(), prometheus::Error> {
    let live = gauge(page, "clinigate_connections", "Live connections by state.", &["state"])?;
    for (state, count) in &reading.connections {
        live.with_label_values(&[state.name()]).set(signed(*count));
    }
    let capacity =
        IntGauge::new("clinigate_connections_capacity", "Connections that the table holds at most.")?;
    capacity.set(signed(reading.connections_capacity));
    page.register(Box::new(capacity))?;
    Ok(())
}

fn health(page: &Registry, reading: &Reading) -> Result<(), prometheus::Error> {
    let health = &reading.health;
    let connections = counter(
        page,
        "clinigate_connection_changes_total",
        "Connections by what happened to them: inserted, refused (table full), kept or revoked by a new policy.",
        &["change"],
    )?;
    let changes = BTreeMap::from([
        ("inserted", health.connections_inserted),
        ("refused", health.connections_refused),
        ("kept", health.connections_revalidated),
        ("revoked", health.connections_revoked),
    ]);
    for (change, count) in changes {
        connections.with_label_values(&[change]).inc_by(count);
    }
    let fragments = counter(
        page,
        "clinigate_first_fragments_total",
        "First fragments of datagrams: recorded, or refused for want of room.",
        &["result"],
    )?;
    fragments.with_label_values(&["recorded"]).inc_by(health.fragments_recorded);
    fragments.with_label_values(&["refused"]).inc_by(health.fragments_refused);
    let routed = counter(
        page,
        "clinigate_forwarded_packets_total",
        "Allowed packets while XDP forwards, by who sent them on: XDP, or the kernel's stack (all that is for the \
         gateway, too).",
        &["by"],
    )?;
    routed.with_label_values(&["xdp"]).inc_by(health.forwarded);
    routed.with_label_values(&["kernel"]).inc_by(health.handed_over);
    for (name, help, count) in [
        (
            "clinigate_untagged_frames_total",
            "Frames of the gateway that were dropped on their way out of a trunk, because nobody knows their tag.",
            health.untagged,
        ),
        (
            "clinigate_events_lost_total",
            "Reports of single packets that found the ring buffer full.",
            health.events_lost,
        ),
        (
            "clinigate_events_suppressed_total",
            "Reports of single packets that the limit on their rate held back.",
            health.events_suppressed,
        ),
    ] {
        let lost = IntCounter::new(name, help)?;
        lost.inc_by(count);
        page.register(Box::new(lost))?;
    }
    Ok(())
}

fn counter(
    page: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let vector = IntCounterVec::new(Opts::new(name, help), labels)?;
    page.register(Box::new(vector.clone()))?;
    Ok(vector)
}

fn gauge(page: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    let vector = IntGaugeVec::new(Opts::new(name, help), labels)?;
    page.register(Box::new(vector.clone()))?;
    Ok(vector)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
