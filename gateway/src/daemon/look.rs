//! One look at the dataplane, told as a status or as a reading for Prometheus.

use std::collections::{BTreeMap, HashMap};
use std::time::UNIX_EPOCH;

use gateway_common::connection::State;
use gateway_common::place::SEGMENT_UNKNOWN;
use gateway_common::reason::{Mode, Verdict};

use super::service::milliseconds;
use super::status::{
    ConnectionStatus, EventStatus, InterfaceStatus, PolicyStatus, ReasonCount, Status, TrafficStatus,
};
use crate::compile::image::Manifest;
use crate::dataplane::{self, Active, ConnectionSummary, Counters, Dataplane, DataplaneError};
use crate::policy::model::RuleKind;
use crate::telemetry::metrics::kind_name;
use crate::telemetry::reading::{InterfaceReading, PairTotal, PolicyReading, Reading, RuleTotal};

/// What the dataplane showed at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// What is in force.
    pub active: Option<Active>,
    /// Interfaces that it names.
    pub interfaces: Vec<dataplane::InterfaceStatus>,
    /// What was counted.
    pub counters: Counters,
    /// The connection table.
    pub connections: ConnectionSummary,
}

impl Look {
    /// Looks.
    pub fn at(dataplane: &Dataplane) -> Result<Self, DataplaneError> {
        Ok(Self {
            active: dataplane.active().cloned(),
            interfaces: dataplane.interfaces(),
            counters: dataplane.counters()?,
            connections: dataplane.connections()?,
        })
    }

    /// For Prometheus.
    pub fn reading(&self) -> Reading {
        let manifest = self.active.as_ref().map(|active| &active.manifest);
        let kinds: HashMap<&str, RuleKind> = manifest
            .into_iter()
            .flat_map(|manifest| &manifest.rules)
            .map(|rule| (rule.name.as_str(), rule.kind))
            .collect();
        let pairs = self.counters.pairs.iter().map(|(key, counter)| PairTotal {
            source: key.source.clone(),
            destination: key.destination.clone(),
            verdict: key.verdict,
            reason: key.reason,
            counter: *counter,
        });
        let rules = self.counters.rules.iter().filter_map(|(rule, counter)| {
            let kind = *kinds.get(rule.as_str())?;
            Some(RuleTotal { rule: rule.clone(), kind, counter: *counter })
        });
        Reading {
            policy: self.active.as_ref().map(policy_reading),
            pairs: pairs.collect(),
            rules: rules.collect(),
            health: self.counters.health,
            no_policy: self.counters.no_policy,
            connections: self.states().collect(),
            connections_capacity: self.connections.capacity.into(),
            interfaces: self.interfaces.iter().map(interface_reading).collect(),
        }
    }

    /// For people; what the service itself knows is left for it to fill in.
    pub fn status(&self) -> Status {
        let manifest = self.active.as_ref().map(|active| &active.manifest);
        Status {
            service: None,
            policy: self.active.as_ref().map(policy_status),
            interfaces: self
                .interfaces
                .iter()
                .map(|interface| interface_status(interface, manifest))
                .collect(),
            connections: ConnectionStatus {
                live: self.connections.live.into(),
                capacity: self.connections.capacity.into(),
                by_state: self
                    .states()
                    .filter(|(_, count)| *count > 0)
                    .map(|(state, count)| (state.name().to_owned(), count))
                    .collect(),
                refused: self.counters.health.connections_refused,
            },
            traffic: self.traffic(),
            events: EventStatus {
                lost: self.counters.health.events_lost,
                suppressed: self.counters.health.events_suppressed,
                ..EventStatus::default()
            },
            last_apply: None,
            repository: None,
            unconfirmed: None,
            withdrawn: None,
            trouble: Vec::new(),
            orders: Vec::new(),
        }
    }

    /// Every state that a live connection can have, also where none is in it: a gauge that is
    /// absent is not zero.
    fn states(&self) -> impl Iterator<Item = (State, u64)> + '_ {
        let count = |state: &State| self.connections.by_state.get(state).copied().unwrap_or_default();
        State::ALL
            .iter()
            .filter(|state| **state != State::Free)
            .map(move |state| (*state, count(state).into()))
    }

    fn traffic(&self) -> TrafficStatus {
        let mut verdicts: BTreeMap<String, u64> = BTreeMap::new();
        let mut reasons: BTreeMap<(Verdict, &str), u64> = BTreeMap::new();
        let pairs =
            self.counters.pairs.iter().map(|(key, counter)| (key.verdict, key.reason, counter.packets));
        let no_policy =
            (Verdict::Drop, gateway_common::reason::Reason::NoPolicy, self.counters.no_policy.packets);
        for (verdict, reason, packets) in pairs.chain([no_policy]) {
            *verdicts.entry(verdict.name().to_owned()).or_default() += packets;
            if verdict != Verdict::Pass && packets > 0 {
                *reasons.entry((verdict, reason.name())).or_default() += packets;
            }
        }
        let mut reasons: Vec<ReasonCount> = reasons
            .into_iter()
            .map(|((verdict, reason), packets)| ReasonCount {
                verdict: verdict.name().to_owned(),
                reason: reason.to_owned(),
                packets,
            })
            .collect();
        reasons.sort_by_key(|count| std::cmp::Reverse(count.packets));
        TrafficStatus { verdicts, reasons }
    }
}

/// An interface, for the metrics.
pub(super) fn interface_reading(interface: &dataplane::InterfaceStatus) -> InterfaceReading {
    InterfaceReading {
        name: interface.name.clone(),
        ifindex: interface.ifindex,
        mode: interface.mode.map(dataplane::AttachedMode::name),
        exit: interface.exit.map(dataplane::Exit::name),
    }
}

/// The policy in force, for Prometheus.
pub(super) fn policy_reading(active: &Active) -> PolicyReading {
    let segments = active.manifest.segments.iter();
    PolicyReading {
        hash: active.record.policy_hash.clone(),
        commit: active.record.commit.clone(),
        generation: active.generation,
        applied_at: active.record.applied_at,
        segments: segments.map(|segment| (segment.name.clone(), mode(segment.mode))).collect(),
        rules: active.manifest.rules.iter().map(|rule| (rule.name.clone(), rule.kind)).collect(),
    }
}

fn policy_status(active: &Active) -> PolicyStatus {
    let Active { generation, manifest, record, .. } = active;
    let mut segments: BTreeMap<String, usize> = BTreeMap::new();
    for (number, segment) in manifest.segments.iter().enumerate() {
        if number != usize::from(SEGMENT_UNKNOWN) {
            *segments.entry(mode(segment.mode).name().to_owned()).or_default() += 1;
        }
    }
    let mut rules: BTreeMap<String, usize> = BTreeMap::new();
    for rule in &manifest.rules {
        *rules.entry(kind_name(rule.kind).to_owned()).or_default() += 1;
    }
    PolicyStatus {
        generation: *generation,
        hash: record.policy_hash.clone(),
        commit: record.commit.clone(),
        source: record.source.clone(),
        files: record.files.clone(),
        applied_at: record.applied_at,
        took_ms: record.duration_us / 1000,
        segments,
        rules,
        tables: record.tables.clone(),
        table_bytes: manifest.table_bytes,
    }
}

fn interface_status(interface: &dataplane::InterfaceStatus, manifest: Option<&Manifest>) -> InterfaceStatus {
    let entry =
        manifest.and_then(|manifest| manifest.interfaces.iter().find(|entry| entry.name == interface.name));
    let segment = |number: u16| {
        let entry = manifest.and_then(|manifest| manifest.segments.get(usize::from(number)));
        entry.map_or_else(|| format!("#{number}"), |entry| entry.name.clone())
    };
    InterfaceStatus {
        name: interface.name.clone(),
        ifindex: interface.ifindex,
        mode: interface.mode.map(|mode| mode.name().to_owned()),
        exit: interface.exit.map(|exit| exit.name().to_owned()),
        driver: interface.driver.clone(),
        since: interface.since.and_then(|since| Some(milliseconds(since.duration_since(UNIX_EPOCH).ok()?))),
        trunk: entry.is_some_and(|entry| entry.trunk),
        segments: entry
            .map_or_else(Vec::new, |entry| entry.segments.iter().map(|id| segment(id.0)).collect()),
    }
}

fn mode(number: u8) -> Mode {
    match number {
        0 => Mode::Observe,
        1 => Mode::Audit,
        _ => Mode::Enforce,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use gateway_common::counter::Counter;
    use gateway_common::reason::Reason;

    use super::*;
    use crate::compile::image::{InterfaceEntry, RuleEntry, SegmentEntry};
    use crate::dataplane::{PairKey, Record};
    use crate::policy::model::{Origin, SegmentId};

    fn look() -> Look {
        let segments = [("wan", 2), ("gateway", 2), ("multicast", 2), ("unknown", 0), ("pumps", 1)];
        let manifest = Manifest {
            hash: "5f".to_owned(),
            segments: segments.map(|(name, mode)| SegmentEntry { name: name.to_owned(), mode }).to_vec(),
            rules: vec![RuleEntry {
                name: "store".to_owned(),
                kind: RuleKind::Flow,
                origin: Origin { file: "a.yaml".into(), line: 1, column: 1 },
                purpose: None,
                owner: None,
            }],
            interfaces: vec![InterfaceEntry {
                name: "pumps0".to_owned(),
                trunk: false,
                segments: vec![SegmentId(4)],
                tunnel: false,
            }],
            table_bytes: 10,
            forwarding: false,
        };
        let mut counters = Counters::default();
        for (verdict, reason, packets) in [
            (Verdict::Pass, Reason::Flow, 7),
            (Verdict::Drop, Reason::NoFlow, 2),
            (Verdict::Audit, Reason::Denied, 5),
        ] {
            let key = PairKey { source: "pumps".to_owned(), destination: "wan".to_owned(), verdict, reason };
            counters.pairs.insert(key, Counter { packets, bytes: 60 * packets });
        }
        counters.rules.insert("store".to_owned(), Counter { packets: 7, bytes: 420 });
        counters.rules.insert("gone".to_owned(), Counter { packets: 1, bytes: 60 });
        counters.no_policy = Counter { packets: 1, bytes: 60 };
        let record = Record { policy_hash: "5f".to_owned(), duration_us: 31_000, ..Record::default() };
        Look {
            active: Some(Active { generation: 3, manifest, record, anonymous: false }),
            interfaces: vec![dataplane::InterfaceStatus {
                name: "pumps0".to_owned(),
                ifindex: Some(4),
                links: Vec::new(),
                mode: Some(dataplane::AttachedMode::Native),
                exit: Some(dataplane::Exit::Clsact),
                driver: None,
                since: None,
            }],
            counters,
            connections: ConnectionSummary::default(),
        }
    }

    #[test]
    fn a_status_sums_what_was_counted() {
        let status = look().status();
        let verdicts = &status.traffic.verdicts;
        assert_eq!((verdicts["pass"], verdicts["drop"], verdicts["audit"]), (7, 3, 5));
        let reasons: Vec<_> =
            status.traffic.reasons.iter().map(|it| (it.reason.as_str(), it.packets)).collect();
        assert_eq!(reasons, [("denied", 5), ("no-flow", 2), ("no-policy", 1)]);
        let policy = status.policy.unwrap();
        assert_eq!((policy.segments["enforce"], policy.segments["audit"], policy.took_ms), (3, 1, 31));
        assert_eq!(status.interfaces[0].segments, ["pumps"]);
    }

    #[test]
    fn a_reading_has_only_rules_of_the_policy_and_every_state() {
        let reading = look().reading();
        assert_eq!(reading.rules.len(), 1);
        assert_eq!(reading.pairs.len(), 3);
        assert_eq!(reading.connections.len(), State::COUNT - 1);
        assert_eq!(reading.policy.unwrap().generation, 3);
    }
}
