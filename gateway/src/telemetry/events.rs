//! Reports of single packets, gathered into blocked flows for the log.
//!
//! A worm that knocks on every port of a ward makes thousands of reports a second. The log gets
//! one line for each flow and interval, and memory stays bounded whatever arrives.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use gateway_common::event::Event;
use gateway_common::reason::{Reason, Verdict};

use super::flow::Flow;
use super::names::{Asked, Names, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::policy::catalogue::class_name;

/// Flows that are told apart within one interval; later ones are only counted.
pub const FLOW_LIMIT: usize = 4096;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Gathers reports over an interval.
#[derive(Debug, Default)]
pub struct Aggregator {
    flows: HashMap<FlowKey, Sum>,
    unlisted: u64,
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
pub(super) struct FlowKey {
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

/// What the reports of a flow come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    packets: u64,
    bytes: u64,
    first: u64,
    pub(super) last: u64,
    source_port: u16,
    mac: [u8; 6],
}

/// What an interval brought.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Flows, the busiest first.
    pub flows: Vec<Flow>,
    /// Reports of flows beyond [`FLOW_LIMIT`].
    pub unlisted: u64,
}

impl Aggregator {
    /// Adds a report.
    pub fn add(&mut self, event: &Event) {
        let key = FlowKey::of(event);
        if self.flows.len() >= FLOW_LIMIT && !self.flows.contains_key(&key) {
            self.unlisted += 1;
            return;
        }
        self.flows.entry(key).and_modify(|sum| sum.add(event)).or_insert_with(|| Sum::of(event));
    }

    /// Ends the interval.
    pub fn finish(&mut self, names: &Names, now: Moment) -> Interval {
        // A new map, so that the memory of a storm is given back after it.
        let flows = std::mem::take(&mut self.flows);
        let unlisted = std::mem::take(&mut self.unlisted);
        let mut flows: Vec<_> = flows.iter().map(|(key, sum)| key.name(sum, names, now)).collect();
        flows.sort_by(|a, b| {
            b.packets.cmp(&a.packets).then_with(|| {
                (a.source, a.destination, &a.service).cmp(&(b.source, b.destination, &b.service))
            })
        });
        Interval { flows, unlisted }
    }
}

/// The flow that a single report is of, at no particular time.
pub fn flow_of(event: &Event, names: &Names) -> Flow {
    let now = Moment { monotonic: event.time, wall: jiff::Timestamp::UNIX_EPOCH };
    FlowKey::of(event).name(&Sum::of(event), names, now)
}

impl Sum {
    pub(super) fn of(event: &Event) -> Self {
        let mut sum = Self {
            packets: 0,
            bytes: 0,
            first: event.time,
            last: event.time,
            source_port: event.source_port,
            mac: event.source_mac,
        };
        sum.add(event);
        sum
    }

    pub(super) fn add(&mut self, event: &Event) {
        // The kernel holds back what is like the last report, and says for how many the next one stands.
        let packets = event.packets.max(1);
        self.packets = self.packets.saturating_add(packets);
        self.bytes = self.bytes.saturating_add(u64::from(event.length).saturating_mul(packets));
        // CPUs write to the ring in no particular order.
        self.first = self.first.min(event.time);
        self.last = self.last.max(event.time);
    }
}

impl FlowKey {
    pub(super) fn of(event: &Event) -> Self {
        Self {
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
        }
    }

    /// The flow with its names.
    pub(super) fn name(&self, sum: &Sum, names: &Names, now: Moment) -> Flow {
        let rule = names.rule(self.generation, self.rule);
        let asked = self.asked();
        let service = asked.and_then(|asked| names.service(asked, rule.map(|rule| rule.name.as_str())));
        let (source, destination) =
            (address(self.source, self.ethertype), address(self.destination, self.ethertype));
        let device = |address: Option<IpAddr>| names.device(address?).map(str::to_owned);
        Flow {
            first: Some(now.wall_of(sum.first)),
            last: Some(now.wall_of(sum.last)),
            verdict: self.verdict().to_owned(),
            reason: self.reason().to_owned(),
            rule: rule.map(|rule| rule.name.clone()),
            origin: rule.map(|rule| format!("{}:{}", rule.origin.file, rule.origin.line)),
            source_segment: names.segment(self.generation, self.source_segment),
            source_device: device(source),
            source,
            source_mac: Some(mac_text(sum.mac)),
            source_port: has_ports(self.protocol).then(|| u16::from_be(sum.source_port)),
            destination_segment: names.segment(self.generation, self.destination_segment),
            destination_device: device(destination),
            destination,
            service: self.service(),
            service_name: service.map(|service| service.name.to_owned()),
            service_class: service.map(|service| class_name(service.class).to_owned()),
            interface: Some(names.interface(self.ifindex)),
            vlan: Some(self.vlan),
            packets: Some(sum.packets),
            bytes: Some(sum.bytes),
            ..Flow::default()
        }
    }

    fn verdict(&self) -> &'static str {
        Verdict::ALL.get(usize::from(self.verdict)).map_or("unknown", |verdict| verdict.name())
    }

    fn reason(&self) -> &'static str {
        Reason::from_number(self.reason).map_or("unknown", Reason::name)
    }

    /// What the packet asks for; `None` where it has no transport.
    fn asked(&self) -> Option<Asked> {
        let is_ip = matches!(self.ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) && self.protocol != 0;
        let port = u16::from_be(self.destination_port);
        let port = match self.protocol {
            PROTOCOL_TCP | PROTOCOL_UDP => port,
            PROTOCOL_ICMP | PROTOCOL_ICMPV6 => port >> 8,
            _ => 0,
        };
        is_ip.then_some(Asked { protocol: self.protocol, port })
    }

    fn service(&self) -> String {
        match (self.asked(), self.ethertype) {
            (Some(asked), _) => asked.to_string(),
            (None, ETHERTYPE_ARP) => "arp".to_owned(),
            (None, ETHERTYPE_IPV4) => "ipv4".to_owned(),
            (None, ETHERTYPE_IPV6) => "ipv6".to_owned(),
            (None, ethertype) => format!("ethertype/0x{ethertype:04x}"),
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
    pub(crate) fn wall_of(self, monotonic: u64) -> String {
        let ago = i64::try_from(self.monotonic.saturating_sub(monotonic) / 1_000_000).unwrap_or(i64::MAX);
        let time = self.wall.checked_sub(jiff::SignedDuration::from_millis(ago)).unwrap_or(self.wall);
        format!("{time:.3}")
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

#[cfg(test)]
mod tests;
