//! Reports of single packets, gathered into blocked flows for the log.
//!
//! A worm that knocks on every port of a ward makes thousands of reports a second. The log gets
//! one line for each flow and interval, and memory stays bounded whatever arrives.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use gateway_common::event::Event;
use gateway_common::place::SEGMENT_UNKNOWN;
use gateway_common::reason::{Reason, Verdict};
use serde::Serialize;

use crate::compile::image::Manifest;

/// Flows that are told apart within one interval; later ones are only counted.
pub const FLOW_LIMIT: usize = 4096;
/// Generations whose names are kept: reports of the one before the last may still be under way.
const GENERATIONS_KEPT: usize = 4;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;

/// Gathers reports over an interval.
#[derive(Debug, Default)]
pub struct Aggregator {
    flows: HashMap<FlowKey, Sum>,
    unlisted: u64,
    manifests: VecDeque<(u32, Arc<Manifest>)>,
    interfaces: HashMap<u32, String>,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Nanoseconds since boot (`CLOCK_MONOTONIC`), as the kernel stamps its reports.
    pub monotonic: u64,
    /// Wall clock.
    pub wall: jiff::Timestamp,
}

/// Everything that went to the same place for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FlowKey {
    source: [u64; 2],
    destination: [u64; 2],
    /// Only where there is no address to tell senders apart.
    mac: Option<[u8; 6]>,
    generation: u32,
    rule: u32,
    ifindex: u32,
    source_segment: u16,
    destination_segment: u16,
    destination_port: u16,
    vlan: u16,
    ethertype: u16,
    protocol: u8,
    reason: u8,
    verdict: u8,
}

#[derive(Clone, Copy, Debug)]
struct Sum {
    packets: u64,
    bytes: u64,
    first: u64,
    last: u64,
    source_port: u16,
    mac: [u8; 6],
}

/// A line of the blocked-flow log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockedFlow {
    /// When its first packet was seen in this interval (RFC 3339).
    pub first: String,
    /// When its last was.
    pub last: String,
    /// `drop`, or `audit` for what passed but would have been dropped.
    pub verdict: &'static str,
    /// Why: a [`Reason`]'s name.
    pub reason: &'static str,
    /// Deciding rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// File and line of the deciding rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Segment of the source.
    pub source_segment: String,
    /// Source address; absent where the frame has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Ethernet source address of the first packet.
    pub source_mac: String,
    /// Source port of the first packet; 0 where it has none.
    pub source_port: u16,
    /// Segment of the destination.
    pub destination_segment: String,
    /// Destination address; absent where the frame has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// Protocol and port or type, as policy text writes it: `tcp/445`, `icmp/8`.
    pub service: String,
    /// Interface on which it arrived.
    pub interface: String,
    /// VLAN identifier, 0 for none.
    pub vlan: u16,
    /// Packets that were reported. The kernel limits reports, so there may have been more:
    /// `clinigate_events_suppressed_total` says whether.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// What an interval brought.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Flows, the busiest first.
    pub flows: Vec<BlockedFlow>,
    /// Reports of flows beyond [`FLOW_LIMIT`].
    pub unlisted: u64,
}

impl Aggregator {
    /// Takes note of what the numbers of a generation stand for.
    pub fn learn_generation(&mut self, generation: u32, manifest: Arc<Manifest>) {
        self.manifests.retain(|(known, _)| *known != generation);
        self.manifests.push_back((generation, manifest));
        while self.manifests.len() > GENERATIONS_KEPT {
            self.manifests.pop_front();
        }
    }

    /// Takes note of the names of interfaces, by index.
    pub fn learn_interfaces(&mut self, interfaces: HashMap<u32, String>) {
        self.interfaces = interfaces;
    }

    /// Adds a report.
    pub fn add(&mut self, event: &Event) {
        let key = FlowKey {
            source: event.source,
            destination: event.destination,
            mac: (event.source == [0, 0]).then_some(event.source_mac),
            generation: event.generation,
            rule: event.rule,
            ifindex: event.ifindex,
            source_segment: event.source_segment,
            destination_segment: event.destination_segment,
            destination_port: event.destination_port,
            vlan: event.vlan,
            ethertype: event.ethertype,
            protocol: event.protocol,
            reason: event.reason,
            verdict: event.verdict,
        };
        if self.flows.len() >= FLOW_LIMIT && !self.flows.contains_key(&key) {
            self.unlisted += 1;
            return;
        }
        let sum = self.flows.entry(key).or_insert(Sum {
            packets: 0,
            bytes: 0,
            first: event.time,
            last: event.time,
            source_port: event.source_port,
            mac: event.source_mac,
        });
        sum.packets += 1;
        sum.bytes += u64::from(event.length);
        // CPUs write to the ring in no particular order.
        sum.first = sum.first.min(event.time);
        sum.last = sum.last.max(event.time);
    }

    /// Ends the interval.
    pub fn finish(&mut self, now: Moment) -> Interval {
        // A new map, so that the memory of a storm is given back after it.
        let flows = std::mem::take(&mut self.flows);
        let unlisted = std::mem::take(&mut self.unlisted);
        let mut flows: Vec<_> = flows.iter().map(|(key, sum)| self.name(key, sum, now)).collect();
        flows.sort_by(|a, b| {
            b.packets.cmp(&a.packets).then_with(|| {
                (a.source, a.destination, &a.service).cmp(&(b.source, b.destination, &b.service))
            })
        });
        Interval { flows, unlisted }
    }

    fn name(&self, key: &FlowKey, sum: &Sum, now: Moment) -> BlockedFlow {
        let manifest = self.manifests.iter().find(|(generation, _)| *generation == key.generation);
        let manifest = manifest.map(|(_, manifest)| manifest.as_ref());
        let rule = manifest
            .zip(usize::try_from(key.rule).ok())
            .and_then(|(manifest, rule)| manifest.rules.get(rule));
        BlockedFlow {
            first: now.wall_of(sum.first),
            last: now.wall_of(sum.last),
            verdict: Verdict::ALL.get(usize::from(key.verdict)).map_or("unknown", |verdict| verdict.name()),
            reason: Reason::from_number(key.reason).map_or("unknown", Reason::name),
            rule: rule.map(|rule| rule.name.clone()),
            origin: rule.map(|rule| format!("{}:{}", rule.origin.file, rule.origin.line)),
            source_segment: segment_name(manifest, key.source_segment),
            source: address(key.source, key.ethertype),
            source_mac: mac_text(sum.mac),
            source_port: if has_ports(key.protocol) { u16::from_be(sum.source_port) } else { 0 },
            destination_segment: segment_name(manifest, key.destination_segment),
            destination: address(key.destination, key.ethertype),
            service: service(key),
            interface: self
                .interfaces
                .get(&key.ifindex)
                .cloned()
                .unwrap_or_else(|| format!("#{}", key.ifindex)),
            vlan: key.vlan,
            packets: sum.packets,
            bytes: sum.bytes,
        }
    }
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let monotonic = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .map_or(0, |time| u64::try_from(std::time::Duration::from(time).as_nanos()).unwrap_or(u64::MAX));
        Self { monotonic, wall: jiff::Timestamp::now() }
    }

    /// The wall clock's time when the monotonic clock stood at `monotonic` nanoseconds, to the
    /// millisecond.
    fn wall_of(self, monotonic: u64) -> String {
        let ago = i64::try_from(self.monotonic.saturating_sub(monotonic) / 1_000_000).unwrap_or(i64::MAX);
        let time = self.wall.checked_sub(jiff::SignedDuration::from_millis(ago)).unwrap_or(self.wall);
        format!("{time:.3}")
    }
}

fn segment_name(manifest: Option<&Manifest>, number: u16) -> String {
    let entry = manifest.and_then(|manifest| manifest.segments.get(usize::from(number)));
    match entry {
        _ if number == SEGMENT_UNKNOWN => "unknown".to_owned(),
        Some(entry) => entry.name.clone(),
        None => format!("#{number}"),
    }
}

fn address(words: [u64; 2], ethertype: u16) -> Option<IpAddr> {
    if words == [0, 0] && ethertype != ETHERTYPE_IPV6 {
        return None;
    }
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&words[0].to_ne_bytes());
    octets[8..].copy_from_slice(&words[1].to_ne_bytes());
    Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn has_ports(protocol: u8) -> bool {
    protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP
}

fn service(key: &FlowKey) -> String {
    let port = u16::from_be(key.destination_port);
    match (key.ethertype, key.protocol) {
        (ETHERTYPE_ARP, _) => "arp".to_owned(),
        (ETHERTYPE_IPV4, 0) => "ipv4".to_owned(),
        (ETHERTYPE_IPV6, 0) => "ipv6".to_owned(),
        (ETHERTYPE_IPV4 | ETHERTYPE_IPV6, PROTOCOL_TCP) => format!("tcp/{port}"),
        (ETHERTYPE_IPV4 | ETHERTYPE_IPV6, PROTOCOL_UDP) => format!("udp/{port}"),
        (ETHERTYPE_IPV4 | ETHERTYPE_IPV6, PROTOCOL_ICMP) => format!("icmp/{}", port >> 8),
        (ETHERTYPE_IPV4 | ETHERTYPE_IPV6, PROTOCOL_ICMPV6) => format!("icmpv6/{}", port >> 8),
        (ETHERTYPE_IPV4 | ETHERTYPE_IPV6, protocol) => format!("protocol/{protocol}"),
        (ethertype, _) => format!("ethertype/0x{ethertype:04x}"),
    }
}

#[cfg(test)]
mod tests;
