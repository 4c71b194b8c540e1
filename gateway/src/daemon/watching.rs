//! What passes and what is blocked, for `clinigate flows` and `clinigate top`.
//!
//! Blocked flows come from the reports of packets, passing ones from the connection table, which is read
//! without holding anything up: neither packets nor a change of policy.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_common::connection::{Connection, State};
use gateway_common::event::Event;
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::NO_RULE;
use serde::{Deserialize, Serialize};

use super::look::Look;
use super::reports;
use super::service::{ChangeError, Service};
use crate::dataplane::{self, DataplaneError, LiveConnection, Onlooker};
use crate::policy::catalogue::class_name;
use crate::telemetry::events::{Moment, flow_of};
use crate::telemetry::flow::{Flow, FlowFilter, FlowList};
use crate::telemetry::metrics::{Metrics, kind_name};
use crate::telemetry::names::{Asked, Names};
use crate::telemetry::recent::Recent;

/// Flows that one answer lists, at most.
const LISTED: usize = 5000;
/// Passing flows that are told apart while the connection table is read; the connections of later ones are
/// counted, not listed.
const TOLD_APART: usize = 65_536;

/// Senders that are remembered until somebody looks, at most.
const SENDERS: usize = 4096;
/// Reasons for which a source address is not believed.
const LIES: [Reason; 3] = [Reason::Spoofed, Reason::SpoofedNeighbour, Reason::Martian];

/// What is remembered of reports, and what their numbers stand for.
pub(super) struct Watching {
    options: dataplane::Options,
    seen: Mutex<Seen>,
}

/// See [`Watching`].
#[derive(Default)]
struct Seen {
    names: Names,
    recent: Recent,
    /// Senders of reported packets whose addresses are their own; taken by whoever looks for new ones.
    senders: HashSet<IpAddr>,
}

/// Everything that was counted, at one moment: two of these make rates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// When (RFC 3339, UTC).
    pub at: String,
    /// Milliseconds since boot, for rates: a wall clock may jump.
    pub uptime_ms: u64,
    /// By pair of segments, verdict and reason.
    pub pairs: Vec<PairTraffic>,
    /// By deciding rule of the policy in force.
    pub rules: Vec<RuleTraffic>,
    /// Live connections.
    pub connections: u64,
    /// Connections that the table holds at most.
    pub connections_capacity: u64,
    /// Reports of packets that were lost to a full ring.
    pub events_lost: u64,
}

/// Packets from one segment to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairTraffic {
    /// Segment of the source.
    pub source: String,
    /// Segment of the destination.
    pub destination: String,
    /// What became of them.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// Packets that a rule decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTraffic {
    /// Name.
    pub rule: String,
    /// `flow`, `vendor`, `deny`; of orders `kept` (what a device keeps in quarantine) or `quarantine`.
    pub kind: String,
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

impl Watching {
    /// Nothing has been seen yet.
    pub(super) fn new(options: dataplane::Options) -> Self {
        Self { options, seen: Mutex::default() }
    }

    /// Takes note of what numbers stand for from now on.
    pub(super) fn learn(&self, names: &reports::Names, metrics: &Metrics) {
        let mut seen = self.lock();
        if let Some((generation, manifest)) = &names.generation {
            seen.names.learn_generation(*generation, std::sync::Arc::clone(manifest));
        }
        seen.names.learn_interfaces(names.interfaces.clone());
        if let Some(policy) = &names.policy {
            seen.names.learn_policy(policy);
            metrics.watching.segments(&seen.names.segments());
        }
    }

    /// Takes note of a report.
    pub(super) fn add(&self, event: &Event, metrics: &Metrics) {
        let mut seen = self.lock();
        seen.recent.add(event);
        let flow = flow_of(event, &seen.names);
        // Named by the segment that it arrived from: anybody can write any source into a packet.
        if let Some(source) = flow.source
            && seen.senders.len() < SENDERS
            && seen.names.own_segment_of(source) == Some(flow.source_segment.as_str())
            && !LIES.iter().any(|lie| lie.name() == flow.reason)
        {
            seen.senders.insert(source);
        }
        drop(seen);
        metrics.watching.blocked(&flow);
    }

    /// Senders since the last call.
    pub(super) fn take_senders(&self) -> HashSet<IpAddr> {
        std::mem::take(&mut self.lock().senders)
    }

    /// Where the connection table is found.
    pub(super) fn options(&self) -> &dataplane::Options {
        &self.options
    }

    /// Forgets what is old.
    pub(super) fn forget_old(&self) {
        self.lock().recent.forget_old(Moment::now());
    }

    /// Works with the names.
    pub(super) fn with_names<T>(&self, work: impl FnOnce(&Names) -> T) -> T {
        work(&self.lock().names)
    }

    /// To a request for flows.
    pub(super) fn asked_for_flows(
        &self,
        service: &Service,
        filter: &FlowFilter,
        window: Duration,
    ) -> Result<FlowList, ChangeError> {
        let counters = service.with_dataplane(|dataplane| dataplane.counters())??;
        let counted = counters.rules.into_iter().map(|(rule, counter)| (rule, counter.packets)).collect();
        let list = self.flows(filter, window, &counted)?;
        match self.with_names(|names| names.unknown(filter)) {
            // What is gone from the policy may still be on the list.
            Some(unknown) if list.flows.is_empty() => Err(ChangeError::Order(unknown)),
            _ => Ok(list),
        }
    }

    /// Flows that `filter` takes: live connections, and what was blocked within the last `window`. `counted`:
    /// packets by rule.
    fn flows(
        &self,
        filter: &FlowFilter,
        window: Duration,
        counted: &BTreeMap<String, u64>,
    ) -> Result<FlowList, DataplaneError> {
        let now = Moment::now();
        let blocked = [Verdict::Audit, Verdict::Drop].iter().any(|it| filter.takes_verdict(it.name()));
        let (mut flows, mut more) = (Vec::new(), 0);
        if blocked {
            let seen = self.lock();
            flows = seen.recent.list(&seen.names, filter, window, now);
        }
        if filter.takes_verdict(Verdict::Pass.name())
            && let Some(onlooker) = Onlooker::open(&self.options)?
        {
            let timeouts = self.with_names(Names::timeouts);
            let mut passing = Passing::new(onlooker.generation(), timeouts);
            onlooker.each_connection(|live| passing.add(&live))?;
            more = passing.beyond;
            let seen = self.lock();
            flows.extend(passing.list(&seen.names, filter, counted, now));
        }
        more += keep_latest(&mut flows);
        Ok(FlowList { at: now.wall_of(now.monotonic), flows, more })
    }

    /// A thread that panicked ends the process (panic = "abort"), so no lock is ever poisoned.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the latest flows, in their order, and returns how many are left out.
fn keep_latest(flows: &mut Vec<Flow>) -> u64 {
    flows.sort_by_cached_key(Flow::order);
    let more = flows.len().saturating_sub(LISTED) as u64;
    flows.truncate(LISTED);
    more
}

/// What tells live connections apart that belong to different flows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct PassingKey {
    source: IpAddr,
    destination: IpAddr,
    asked: (u8, u16),
    generation: u32,
    rule: u32,
    segment: [u16; 2],
    of_gateway: bool,
}

/// Live connections, gathered into flows.
struct Passing {
    generation: u32,
    /// Seconds by state, where the policy is known.
    timeouts: Option<[u32; State::COUNT]>,
    flows: HashMap<PassingKey, Sum>,
    beyond: u64,
}

#[derive(Default)]
struct Sum {
    states: BTreeMap<&'static str, u64>,
    /// Nanoseconds since the last packet of any of them, where that is known.
    idle: Option<u64>,
}

impl Passing {
    fn new(generation: u32, timeouts: Option<[u32; State::COUNT]>) -> Self {
        Self { generation, timeouts, flows: HashMap::new(), beyond: 0 }
    }

    fn add(&mut self, live: &LiveConnection) {
        let LiveConnection { entry, state, remaining } = live;
        let ((source, _), (destination, port)) = (live.initiator(), live.responder());
        // The port of an echo is its identifier: every request of a host would be a flow of its own.
        let protocol = entry.key.protocol;
        let port = match (protocol, destination) {
            (1, _) => 8,
            (58, _) => 128,
            _ => port,
        };
        let key = PassingKey {
            source,
            destination,
            asked: (protocol, port),
            generation: entry.generation,
            rule: entry.rule,
            segment: entry.segment,
            of_gateway: entry.flags & Connection::GATEWAY != 0,
        };
        let room = self.flows.len() < TOLD_APART;
        let sum = match self.flows.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) if room => place.insert(Sum::default()),
            Entry::Vacant(_) => {
                self.beyond += 1;
                return;
            }
        };
        *sum.states.entry(state.name()).or_default() += 1;
        // What an earlier generation saw last, it gave its own time to live.
        if let Some(timeouts) = self.timeouts.filter(|_| entry.generation == self.generation) {
            let whole = u64::from(timeouts[*state as usize]) * 1_000_000_000;
            let idle = whole.saturating_sub(*remaining);
            sum.idle = Some(sum.idle.map_or(idle, |known| known.min(idle)));
        }
    }

    fn list(
        self,
        names: &Names,
        filter: &FlowFilter,
        counted: &BTreeMap<String, u64>,
        now: Moment,
    ) -> Vec<Flow> {
        let named = self.flows.iter().map(|(key, sum)| key.name(sum, names, counted, now));
        let mut listed = HashMap::new();
        for flow in named.filter(|flow| filter.takes(flow)) {
            match listed.entry(flow.identity()) {
                Entry::Vacant(place) => {
                    place.insert(flow);
                }
                Entry::Occupied(mut known) => known.get_mut().merge(flow),
            }
        }
        listed.into_values().collect()
    }
}

impl PassingKey {
    fn name(&self, sum: &Sum, names: &Names, counted: &BTreeMap<String, u64>, now: Moment) -> Flow {
        let rule = (self.rule != NO_RULE).then(|| names.rule(self.generation, self.rule)).flatten();
        let asked = Asked { protocol: self.asked.0, port: self.asked.1 };
        let service = names.service(asked, rule.map(|rule| rule.name.as_str()));
        let segment = |number: u16, address| match names.segment_of(address) {
            // The generation that admitted it is none that is remembered: it is judged again at its next packet.
            Some(name) if !names.knows(self.generation) => name.to_owned(),
            _ => names.segment(self.generation, number),
        };
        let device = |address| names.device(address).map(str::to_owned);
        // Nothing but a flow opens a connection, unless the gateway does it itself.
        let reason = if self.of_gateway { Reason::Established } else { Reason::Flow };
        Flow {
            last: sum.idle.map(|idle| now.wall_of(now.monotonic.saturating_sub(idle))),
            verdict: Verdict::Pass.name().to_owned(),
            reason: reason.name().to_owned(),
            rule: rule.map(|rule| rule.name.clone()),
            origin: rule.map(|rule| format!("{}:{}", rule.origin.file, rule.origin.line)),
            source_segment: segment(self.segment[0], self.source),
            source_device: device(self.source),
            source: Some(self.source),
            destination_segment: segment(self.segment[1], self.destination),
            destination_device: device(self.destination),
            destination: Some(self.destination),
            service: asked.to_string(),
            service_name: service.map(|service| service.name.to_owned()),
            service_class: service.map(|service| class_name(service.class).to_owned()),
            connections: Some(sum.states.values().sum()),
            states: sum.states.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect(),
            rule_packets: rule.and_then(|rule| counted.get(&rule.name).copied()),
            ..Flow::default()
        }
    }
}

impl Traffic {
    /// What a look shows.
    pub(super) fn of(look: &Look) -> Self {
        let now = Moment::now();
        let reading = look.reading();
        let pairs = reading.pairs.into_iter().map(|pair| PairTraffic {
            source: pair.source,
            destination: pair.destination,
            verdict: pair.verdict.name().to_owned(),
            reason: pair.reason.name().to_owned(),
            packets: pair.counter.packets,
            bytes: pair.counter.bytes,
        });
        let rules = reading.rules.into_iter().map(|rule| RuleTraffic {
            rule: rule.rule,
            kind: kind_name(rule.kind).to_owned(),
            packets: rule.counter.packets,
            bytes: rule.counter.bytes,
        });
        Self {
            at: now.wall_of(now.monotonic),
            uptime_ms: now.monotonic / 1_000_000,
            pairs: pairs.collect(),
            rules: rules.collect(),
            connections: look.connections.live.into(),
            connections_capacity: look.connections.capacity.into(),
            events_lost: look.counters.health.events_lost,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use gateway_common::connection::ConnectionKey;

    use super::*;

    /// A connection from one of many hosts to a server.
    fn from_host(host: u32) -> LiveConnection {
        let address =
            |v4: u32| [0, u64::from_ne_bytes(*b"\0\0\xff\xff\0\0\0\0") | u64::from(v4.to_be()) << 32];
        let key = ConnectionKey {
            low: address(0x0a00_0000 + host),
            high: address(0x0b00_0001),
            low_port: 1_u16.to_be(),
            high_port: 104_u16.to_be(),
            protocol: 6,
            reserved: [0; 3],
        };
        let entry = Connection {
            key,
            expires: 2,
            generation: 1,
            rule: NO_RULE,
            ifindex: [0; 2],
            vlan: [0; 2],
            outer: [0; 2],
            segment: [0; 2],
            state: State::Established as u8,
            flags: 0,
            sequence: 0,
        };
        LiveConnection { entry, state: State::Established, remaining: 1 }
    }

    #[test]
    fn connections_beyond_the_flows_that_are_told_apart_are_counted() {
        let mut passing = Passing::new(1, None);
        let most = u32::try_from(TOLD_APART).unwrap();
        (0..most + 3).for_each(|host| passing.add(&from_host(host)));
        passing.add(&from_host(0));
        assert_eq!((passing.flows.len(), passing.beyond), (TOLD_APART, 3));
        assert_eq!(
            passing.flows.values().flat_map(|sum| sum.states.values()).sum::<u64>(),
            u64::from(most) + 1
        );
    }

    #[test]
    fn the_latest_flows_are_listed_and_the_others_counted() {
        let flow = |second: usize| Flow { last: Some(format!("{second:05}")), ..Flow::default() };
        let mut flows: Vec<Flow> = (0..LISTED + 7).map(flow).collect();
        assert_eq!(keep_latest(&mut flows), 7);
        assert_eq!((flows.first(), flows.last()), (Some(&flow(LISTED + 6)), Some(&flow(7))));
        assert_eq!((keep_latest(&mut flows), flows.len()), (0, LISTED));
    }
}
