//! Protocols and ports, by the service class that an image gives them.

use std::collections::BTreeMap;
use std::fmt;

use crate::compile::image::Image;
use crate::packet::Transport;
use crate::policy::model::{ANY_PORT, Service, ServiceMatch};
use crate::policy::ranges;

use super::space::Family;

type Range = (u16, u16);

/// What packets of one service class carry, as far as a question is about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// TCP.
    pub tcp: Ports,
    /// UDP.
    pub udp: Ports,
    /// ICMP types; in IPv4 alone. Sorted, disjoint and merged, as all ranges here.
    pub icmp: Vec<(u8, u8)>,
    /// `ICMPv6` types; in IPv6 alone.
    pub icmpv6: Vec<(u8, u8)>,
    /// Other protocols.
    pub protocols: Vec<(u8, u8)>,
}

/// Pairs of ports: source ports by ranges of destination ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(pub Vec<(Range, Vec<Range>)>);

/// The packets of some services (`None`: all packets there are), by service class.
pub fn classes<'s>(
    image: &Image,
    services: Option<impl IntoIterator<Item = &'s Service>>,
) -> BTreeMap<u16, Packets> {
    let mut found = Found { image, packets: BTreeMap::new(), tcp: BTreeMap::new(), udp: BTreeMap::new() };
    if let Some(services) = services {
        services.into_iter().flat_map(|service| &service.matches).for_each(|matches| found.add(*matches));
    } else {
        found.add(ServiceMatch::Tcp { source: ANY_PORT, destination: ANY_PORT });
        found.add(ServiceMatch::Udp { source: ANY_PORT, destination: ANY_PORT });
        found.add(ServiceMatch::Icmp((0, u8::MAX)));
        found.add(ServiceMatch::Icmpv6((0, u8::MAX)));
        (0..=u8::MAX)
            .filter(|number| ![1, 6, 17, 58].contains(number))
            .for_each(|number| found.add(ServiceMatch::Protocol(number)));
    }
    found.finish()
}

/// Runs of destination ports with their source ports, by class.
type Runs = BTreeMap<u16, Vec<(Range, Vec<Range>)>>;

struct Found<'i> {
    image: &'i Image,
    packets: BTreeMap<u16, Packets>,
    tcp: Runs,
    udp: Runs,
}

impl Found<'_> {
    fn class(&self, transport: Transport) -> u16 {
        self.image.service_class(transport).expect("tables that compile made have no holes")
    }

    fn add(&mut self, matches: ServiceMatch) {
        match matches {
            ServiceMatch::Tcp { source, destination } => {
                let transport = |source, destination| Transport::Tcp { source, destination };
                for (class, ports, sources) in self.runs(source, destination, transport) {
                    self.tcp.entry(class).or_default().push((ports, sources));
                }
            }
            ServiceMatch::Udp { source, destination } => {
                let transport = |source, destination| Transport::Udp { source, destination };
                for (class, ports, sources) in self.runs(source, destination, transport) {
                    self.udp.entry(class).or_default().push((ports, sources));
                }
            }
            ServiceMatch::Icmp((first, last)) => {
                for kind in first..=last {
                    let class = self.class(Transport::Icmp(kind));
                    self.packets.entry(class).or_default().icmp.push((kind, kind));
                }
            }
            ServiceMatch::Icmpv6((first, last)) => {
                for kind in first..=last {
                    let class = self.class(Transport::Icmpv6(kind));
                    self.packets.entry(class).or_default().icmpv6.push((kind, kind));
                }
            }
            ServiceMatch::Protocol(number) => {
                let class = self.class(Transport::Other(number));
                self.packets.entry(class).or_default().protocols.push((number, number));
            }
        }
    }

    /// Each class, destination ports that have it and the source ports that lead there.
    fn runs(
        &self,
        source: Range,
        destination: Range,
        transport: impl Fn(u16, u16) -> Transport,
    ) -> Vec<(u16, Range, Vec<Range>)> {
        let mut found: Vec<(u16, Range, Vec<Range>)> = Vec::new();
        for group in self.source_groups(source, &transport) {
            let begun = found.len();
            for port in destination.0..=destination.1 {
                let class = self.class(transport(group[0].0, port));
                match found[begun..].last_mut() {
                    Some((before, ports, _)) if *before == class => ports.1 = port,
                    _ => found.push((class, (port, port), group.clone())),
                }
            }
        }
        found
    }

    /// Source ports that the image tells apart, those that it does not together.
    fn source_groups(&self, source: Range, transport: &impl Fn(u16, u16) -> Transport) -> Vec<Vec<Range>> {
        if self.image.config.source_ports == 0 {
            return vec![vec![source]];
        }
        let offset = match transport(0, 0) {
            Transport::Udp { .. } => self.image.source_ports.len() / 2,
            _ => 0,
        };
        let mut groups: BTreeMap<u16, Vec<Range>> = BTreeMap::new();
        for port in source.0..=source.1 {
            let class = self.image.source_ports[offset + usize::from(port)];
            groups.entry(class).or_default().push((port, port));
        }
        groups.into_values().map(ranges::normalise).collect()
    }

    fn finish(mut self) -> BTreeMap<u16, Packets> {
        for (class, runs) in self.tcp {
            self.packets.entry(class).or_default().tcp = Ports::of(runs);
        }
        for (class, runs) in self.udp {
            self.packets.entry(class).or_default().udp = Ports::of(runs);
        }
        for packets in self.packets.values_mut() {
            for list in [&mut packets.icmp, &mut packets.icmpv6, &mut packets.protocols] {
                *list = ranges::normalise(std::mem::take(list));
            }
        }
        self.packets
    }
}

impl Packets {
    /// What one packet of a family carries: TCP where it can, and the lowest port or type.
    pub fn sample(&self, family: Family) -> Option<Transport> {
        let tcp = self.tcp.first().map(|(source, destination)| Transport::Tcp { source, destination });
        let udp = || self.udp.first().map(|(source, destination)| Transport::Udp { source, destination });
        tcp.or_else(udp)
            .or_else(|| match family {
                Family::V4 => self.icmp.first().map(|types| Transport::Icmp(types.0)),
                Family::V6 => self.icmpv6.first().map(|types| Transport::Icmpv6(types.0)),
            })
            .or_else(|| self.protocols.first().map(|numbers| Transport::Other(numbers.0)))
    }

    /// Adds those of another class.
    pub fn extend(&mut self, other: &Self) {
        self.tcp.extend(&other.tcp);
        self.udp.extend(&other.udp);
        self.icmp = ranges::union(&self.icmp, &other.icmp);
        self.icmpv6 = ranges::union(&self.icmpv6, &other.icmpv6);
        self.protocols = ranges::union(&self.protocols, &other.protocols);
    }
}

impl Ports {
    /// From runs that may overlap.
    fn of(runs: Vec<(Range, Vec<Range>)>) -> Self {
        let Some((_, sources)) = runs.first().cloned() else { return Self::default() };
        if runs.iter().all(|run| run.1 == sources) {
            let ports = ranges::normalise(runs.into_iter().map(|run| run.0).collect());
            return Self(ports.into_iter().map(|ports| (ports, sources.clone())).collect());
        }
        // As u32, so that there is an end after the last port.
        let ends = |run: &(Range, Vec<Range>)| [u32::from(run.0.0), u32::from(run.0.1) + 1];
        let mut edges: Vec<u32> = runs.iter().flat_map(ends).collect();
        edges.sort_unstable();
        edges.dedup();
        let mut found: Vec<(Range, Vec<Range>)> = Vec::new();
        for pair in edges.windows(2) {
            let port = |edge: u32| u16::try_from(edge).expect("edges lie between port 0 and the last");
            let ports = (port(pair[0]), port(pair[1] - 1));
            let here = runs.iter().filter(|run| run.0.0 <= ports.0 && ports.1 <= run.0.1);
            let sources = ranges::normalise(here.flat_map(|run| run.1.iter().copied()).collect());
            match found.last_mut() {
                _ if sources.is_empty() => {}
                Some((before, same)) if before.1.checked_add(1) == Some(ports.0) && *same == sources => {
                    before.1 = ports.1;
                }
                _ => found.push((ports, sources)),
            }
        }
        Self(found)
    }

    /// Source and destination port of one packet: as hosts choose them, if it may be.
    fn first(&self) -> Option<(u16, u16)> {
        /// First of the dynamic ports (RFC 6335, 6).
        const DYNAMIC: u16 = 49152;
        let (ports, sources) = self.0.first()?;
        let source = if ranges::contains(sources, DYNAMIC) { DYNAMIC } else { sources.first()?.0 };
        Some((source, ports.0.max(1).min(ports.1)))
    }

    fn extend(&mut self, other: &Self) {
        *self = Self::of(self.0.iter().chain(&other.0).cloned().collect());
    }
}

impl fmt::Display for Packets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        for (name, ports) in [("tcp", &self.tcp), ("udp", &self.udp)] {
            for (destinations, sources) in &ports.0 {
                let mut word = numbered(name, *destinations, ANY_PORT);
                if *sources != [ANY_PORT] {
                    let sources: Vec<String> = sources.iter().map(|range| span(*range)).collect();
                    word = format!("{word} (from port {})", sources.join(", "));
                }
                words.push(word);
            }
        }
        for (name, list) in [("icmp", &self.icmp), ("icmpv6", &self.icmpv6), ("proto", &self.protocols)] {
            words.extend(list.iter().map(|range| numbered(name, *range, (0, u8::MAX))));
        }
        formatter.write_str(&words.join(", "))
    }
}

fn numbered<T: Copy + PartialEq + fmt::Display>(name: &str, range: (T, T), all: (T, T)) -> String {
    if range == all { name.to_owned() } else { format!("{name}/{}", span(range)) }
}

fn span<T: Copy + PartialEq + fmt::Display>((first, last): (T, T)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}
