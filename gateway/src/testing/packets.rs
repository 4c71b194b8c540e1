//! Random packets for a given policy: addresses and ports at the edges of what its rules name.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::sample::Index;
use serde::{Deserialize, Serialize};

use super::policies;
use crate::oracle::{Oracle, Party};
use crate::packet::{Arrival, PacketView, Transport};
use crate::policy::model::{AddressSet, InterfaceKind, Policy, Ranges, Rule, SegmentId, ServiceMatch};

/// Random choices that become a packet once there is a policy to choose from. Apart from the
/// policy, so that both shrink by themselves.
#[derive(Clone, Debug)]
pub struct Draw {
    is_v4: bool,
    aim: Aim,
    at_home: bool,
    kind: Kind,
    indices: [Index; 6],
    v4: [u32; 2],
    v6: [u128; 2],
    ports: [u16; 2],
    icmp_type: u8,
    protocol: u8,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Udp,
    Icmp,
    Other,
}

/// What a packet is chosen to hit.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// One rule.
    Rule,
    /// The edges of anything that the policy names.
    Edge,
    /// Whatever comes.
    Anything,
}

impl Draw {
    fn transport(&self, source: u16, destination: u16) -> Transport {
        match self.kind {
            Kind::Tcp => Transport::Tcp { source, destination },
            Kind::Udp => Transport::Udp { source, destination },
            Kind::Icmp if self.is_v4 => Transport::Icmp(self.icmp_type),
            Kind::Icmp => Transport::Icmpv6(self.icmp_type),
            Kind::Other => Transport::Other(self.protocol),
        }
    }
}

/// A random packet.
pub fn draw() -> impl Strategy<Value = Draw> {
    let kind =
        prop::sample::select(vec![Kind::Tcp, Kind::Tcp, Kind::Udp, Kind::Udp, Kind::Icmp, Kind::Other]);
    let addresses = ([policies::v4(), policies::v4()], [policies::v6(), policies::v6()]);
    let numbers = ([policies::port(), policies::port()], policies::icmp_type(), policies::protocol());
    let aim = prop::sample::select(vec![
        Aim::Rule,
        Aim::Rule,
        Aim::Rule,
        Aim::Rule,
        Aim::Edge,
        Aim::Edge,
        Aim::Anything,
    ]);
    let manner = (any::<bool>(), aim, prop::bool::weighted(0.9));
    let parts = (manner, kind, any::<[Index; 6]>(), addresses, numbers);
    parts.prop_map(|((is_v4, aim, at_home), kind, indices, (v4, v6), (ports, icmp_type, protocol))| Draw {
        is_v4,
        aim,
        at_home,
        kind,
        indices,
        v4,
        v6,
        ports,
        icmp_type,
        protocol,
    })
}

/// A frame's place: interface, outer and inner VLAN identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Interface.
    pub interface: String,
    /// Outer VLAN identifier, or 0.
    pub outer: u16,
    /// VLAN identifier, or 0.
    pub vlan: u16,
}

impl Port {
    /// The same as the readings of a policy see it.
    pub fn arrival(&self) -> Arrival<'_> {
        Arrival { interface: &self.interface, outer: self.outer, vlan: self.vlan }
    }
}

/// The edges of what a policy names: worked out once, drawn from often.
#[derive(Clone, Debug)]
pub struct Edges<'p> {
    policy: &'p Policy,
    all: Addresses,
    ports: Vec<(u16, u16)>,
    /// Of each rule: initiators, listeners, services.
    rules: Vec<(Addresses, Addresses, Vec<ServiceMatch>)>,
    places: Vec<(Option<SegmentId>, Port)>,
}

impl<'p> Edges<'p> {
    /// The edges of a policy.
    pub fn of(policy: &'p Policy) -> Self {
        let places = places(policy);
        let mut homes = Homes { policy, places: &places, known: HashMap::new() };
        let rules = policy.rules.iter().flat_map(|rule| [&rule.from.ranges, &rule.to.ranges]);
        let segments = policy.segments.iter().map(|segment| &segment.ranges);
        let mut all = Addresses::around(segments.chain(rules));
        all.add_fixed();
        homes.sort(&mut all);
        let mut of_set = |set: &AddressSet| {
            let segments = set.segments.iter().map(|&id| &policy.segment(id).ranges);
            let mut named = Addresses::around(segments.chain([&set.ranges]));
            if set.segments.contains(&SegmentId::GATEWAY) || set.segments.contains(&SegmentId::MULTICAST) {
                named.add_fixed();
            }
            homes.sort(&mut named);
            named.world = set.segments.contains(&SegmentId::WAN);
            named
        };
        let rules = policy
            .rules
            .iter()
            .map(|rule: &Rule| {
                let matches =
                    rule.services.iter().flat_map(|&service| policy.services[service].matches.clone());
                (of_set(&rule.from), of_set(&rule.to), matches.collect())
            })
            .collect();
        let mut ports = vec![(68, 67)];
        for matches in policy.services.iter().flat_map(|service| &service.matches) {
            if let ServiceMatch::Tcp { source, destination } | ServiceMatch::Udp { source, destination } =
                matches
            {
                ports.extend([(source.0, destination.0), (source.1, destination.1)]);
                ports.push((source.0.wrapping_sub(1), destination.0.wrapping_sub(1)));
                ports.push((source.1.wrapping_add(1), destination.1.wrapping_add(1)));
            }
        }
        Self { policy, all, ports, rules, places }
    }

    /// The place and the packet that `draw` means under this policy.
    pub fn packet(&self, draw: &Draw) -> (&Port, PacketView) {
        let [from, to, source_port, destination_port, place, rule] = draw.indices;
        let packet = match draw.aim {
            Aim::Rule if !self.rules.is_empty() => {
                let (sources, destinations, services) = rule.get(&self.rules);
                let matches = destination_port.get(services);
                let both = |is_v4| sources.has(is_v4) && destinations.has(is_v4);
                let is_v4 = if both(draw.is_v4) { draw.is_v4 } else { both(true) };
                PacketView {
                    source: sources.pick(is_v4, true, from, &self.all),
                    destination: destinations.pick(is_v4, draw.at_home, to, &self.all),
                    transport: transport_of(*matches, source_port.index(2) == 0),
                }
            }
            Aim::Rule | Aim::Edge => {
                let (source, destination) =
                    (source_port.get(&self.ports).0, destination_port.get(&self.ports).1);
                PacketView {
                    source: self.all.pick(draw.is_v4, draw.at_home, from, &self.all),
                    destination: self.all.pick(draw.is_v4, false, to, &self.all),
                    transport: draw.transport(source, destination),
                }
            }
            Aim::Anything => {
                let address = |side: usize| if draw.is_v4 { v4(draw.v4[side]) } else { v6(draw.v6[side]) };
                let transport = draw.transport(draw.ports[0], draw.ports[1]);
                PacketView { source: address(0), destination: address(1), transport }
            }
        };
        (self.place(draw.at_home.then_some(packet.source), place), packet)
    }

    /// A place where a packet from `source` arrives: mostly where it belongs.
    pub fn place_of(&self, draw: &Draw, source: IpAddr) -> &Port {
        self.place(draw.at_home.then_some(source), draw.indices[4])
    }

    /// A packet from a link-local address to the gateway at a known place, as some flow allows it where there is
    /// one; the addresses stand for their family.
    pub(super) fn nearby(&self, draw: &Draw) -> Option<(&Port, PacketView)> {
        let flows: Vec<(SegmentId, ServiceMatch)> = self
            .policy
            .rules
            .iter()
            .filter(|rule| rule.is_active() && rule.to.segments.contains(&SegmentId::GATEWAY))
            .flat_map(|rule| rule.from.segments.iter().map(move |&from| (from, rule)))
            .filter(|(from, _)| self.places.iter().any(|place| place.0 == Some(*from)))
            .flat_map(|(from, rule)| rule.services.iter().map(move |&service| (from, service)))
            .flat_map(|(from, service)| {
                self.policy.services[service].matches.iter().map(move |&matches| (from, matches))
            })
            .collect();
        let [from, low, ..] = draw.indices;
        let (segment, transport) = match flows.as_slice() {
            [] => {
                (self.places.iter().find_map(|place| place.0)?, draw.transport(draw.ports[0], draw.ports[1]))
            }
            flows => {
                let (segment, matches) = *from.get(flows);
                (segment, transport_of(matches, low.index(2) == 0))
            }
        };
        let is_v4 = match transport {
            Transport::Icmp(_) => true,
            Transport::Icmpv6(_) => false,
            _ => draw.is_v4,
        };
        let address = if is_v4 { v4(0) } else { v6(0) };
        let places: Vec<&Port> =
            self.places.iter().filter(|place| place.0 == Some(segment)).map(|place| &place.1).collect();
        let port = draw.indices[4].get(&places);
        Some((port, PacketView { source: address, destination: address, transport }))
    }

    /// One of the places that the policy names, or of all where it names none.
    pub(super) fn known_place(&self, number: usize) -> &Port {
        let known: Vec<&Port> =
            self.places.iter().filter(|place| place.0.is_some()).map(|place| &place.1).collect();
        known.get(number % known.len().max(1)).unwrap_or(&&self.places[0].1)
    }

    /// A place: where `source` belongs, if it is given and there is such a one.
    fn place(&self, source: Option<IpAddr>, index: Index) -> &Port {
        let Some(source) = source else {
            return &index.get(&self.places).1;
        };
        let home = Some(self.policy.segment_of(source));
        let homes: Vec<&Port> =
            self.places.iter().filter(|place| place.0 == home).map(|place| &place.1).collect();
        let known: Vec<&Port> =
            self.places.iter().filter(|place| place.0.is_some()).map(|place| &place.1).collect();
        let choice = [homes, known].into_iter().find(|choice| !choice.is_empty());
        choice.map_or(&self.places[0].1, |choice| choice[index.index(choice.len())])
    }
}

/// First and last addresses of ranges, and their neighbours.
#[derive(Clone, Debug, Default)]
struct Addresses {
    v4: Vec<u32>,
    v6: Vec<u128>,
    /// Those of them that have a place where they pass the source guard.
    at_home: (Vec<u32>, Vec<u128>),
    /// Whatever the policy names besides is of them too.
    world: bool,
}

impl Addresses {
    fn around<'r>(ranges: impl Iterator<Item = &'r Ranges>) -> Self {
        let mut edges = Self::default();
        for ranges in ranges {
            for &(first, last) in &ranges.v4 {
                edges.v4.extend([
                    first,
                    last,
                    first / 2 + last / 2,
                    first.wrapping_sub(1),
                    last.wrapping_add(1),
                ]);
            }
            for &(first, last) in &ranges.v6 {
                edges.v6.extend([
                    first,
                    last,
                    first / 2 + last / 2,
                    first.wrapping_sub(1),
                    last.wrapping_add(1),
                ]);
            }
        }
        edges
    }

    /// Adds addresses that have a meaning under every policy: link-local ones, groups, broadcast.
    fn add_fixed(&mut self) {
        self.v4.extend([0, 0xa9fe_0105, 0xe000_0001, 0xe000_0016, 0xefff_fffa, u32::MAX]);
        let link_local = 0xfe80 << 112;
        let groups = [(0xff02 << 112) | 1, (0xff02 << 112) | 0x16, (0xff05 << 112) | 2, (0xff0e << 112) | 9];
        self.v6.extend([0, link_local | 5, link_local | (1 << 64)]);
        self.v6.extend(groups);
    }

    fn has(&self, is_v4: bool) -> bool {
        self.world || if is_v4 { !self.v4.is_empty() } else { !self.v6.is_empty() }
    }

    /// One of them, where possible one that is at home if it is to be.
    fn pick(&self, is_v4: bool, at_home: bool, index: Index, all: &Self) -> IpAddr {
        if is_v4 {
            let [named, all] = [self, all].map(|them| {
                if at_home && !them.at_home.0.is_empty() { &them.at_home.0[..] } else { &them.v4[..] }
            });
            v4(one_of(self.world, index, named, all).unwrap_or(u32::MAX))
        } else {
            let [named, all] = [self, all].map(|them| {
                if at_home && !them.at_home.1.is_empty() { &them.at_home.1[..] } else { &them.v6[..] }
            });
            v6(one_of(self.world, index, named, all).unwrap_or(u128::MAX))
        }
    }
}

fn one_of<T: Copy>(world: bool, index: Index, named: &[T], all: &[T]) -> Option<T> {
    let count = named.len() + if world { all.len() } else { 0 };
    if count == 0 {
        return None;
    }
    let index = index.index(count);
    named.get(index).or_else(|| all.get(index - named.len())).copied()
}

/// Which addresses have a place where they pass the source guard.
struct Homes<'h> {
    policy: &'h Policy,
    places: &'h [(Option<SegmentId>, Port)],
    known: HashMap<IpAddr, bool>,
}

impl Homes<'_> {
    /// Fills in those that are at home.
    fn sort(&mut self, addresses: &mut Addresses) {
        addresses.at_home.0 = addresses.v4.iter().copied().filter(|&bits| self.has(v4(bits))).collect();
        addresses.at_home.1 = addresses.v6.iter().copied().filter(|&bits| self.has(v6(bits))).collect();
    }

    fn has(&mut self, source: IpAddr) -> bool {
        let Self { policy, places, known } = self;
        *known.entry(source).or_insert_with(|| {
            let home = policy.segment_of(source);
            let view = PacketView { source, destination: source, transport: Transport::Other(0) };
            let is_host = matches!(Oracle::new(policy).admit(home, false, &view), Ok(Party::Host(..)));
            is_host && places.iter().any(|(segment, _)| *segment == Some(home))
        })
    }
}

/// A packet at the low or the high end of a service.
fn transport_of(matches: ServiceMatch, low: bool) -> Transport {
    let end = |range: (u16, u16)| if low { range.0 } else { range.1 };
    let kind = |range: (u8, u8)| if low { range.0 } else { range.1 };
    match matches {
        ServiceMatch::Tcp { source, destination } => {
            Transport::Tcp { source: end(source), destination: end(destination) }
        }
        ServiceMatch::Udp { source, destination } => {
            Transport::Udp { source: end(source), destination: end(destination) }
        }
        ServiceMatch::Icmp(types) => Transport::Icmp(kind(types)),
        ServiceMatch::Icmpv6(types) => Transport::Icmpv6(kind(types)),
        ServiceMatch::Protocol(protocol) => Transport::Other(protocol),
    }
}

fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

fn v6(bits: u128) -> IpAddr {
    Ipv6Addr::from_bits(bits).into()
}

/// Every place that a policy names, with its segment, and some that it does not.
fn places(policy: &Policy) -> Vec<(Option<SegmentId>, Port)> {
    let mut places = vec![(None, Port { interface: "nowhere0".to_owned(), outer: 0, vlan: 0 })];
    for interface in &policy.interfaces {
        let mut add = |segment, outer, vlan| {
            places.push((segment, Port { interface: interface.name.clone(), outer, vlan }));
        };
        match &interface.kind {
            InterfaceKind::Access(segment) => add(Some(*segment), 0, 0),
            InterfaceKind::Wan => add(Some(SegmentId::WAN), 0, 0),
            InterfaceKind::Trunk { outer, vlans } => {
                for (&vlan, &segment) in vlans {
                    add(Some(segment), *outer, vlan);
                    add(None, outer ^ 1, vlan);
                }
            }
        }
        add(None, 0, 4000);
    }
    places
}
