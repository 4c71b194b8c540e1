//! What a list of services matches, as a set that can be compared and cut.

use crate::policy::model::{ANY_PORT, Service, ServiceMatch};
use crate::policy::ranges;

use super::extent::Family;

type Range = (u16, u16);

/// Matches with source ports of their own that one rule may have and still be compared: beyond
/// this the comparison could cost more than it is worth.
const SOURCE_PORT_LIMIT: usize = 256;

/// A set of first packets, told apart by protocol and ports or type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceSet {
    tcp: Ports,
    udp: Ports,
    icmp: Vec<(u8, u8)>,
    icmpv6: Vec<(u8, u8)>,
    protocols: Vec<(u8, u8)>,
}

/// One such packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Probe {
    Tcp { source: u16, destination: u16 },
    Udp { source: u16, destination: u16 },
    Icmp(u8),
    Icmpv6(u8),
    Protocol(u8),
}

impl ServiceSet {
    /// `None` where the set is too intricate to be compared.
    pub(super) fn new<'a>(services: impl Iterator<Item = &'a Service>) -> Option<Self> {
        let mut set = Self::default();
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for found in services.flat_map(|service| &service.matches) {
            match *found {
                ServiceMatch::Tcp { source, destination } => tcp.push((destination, source)),
                ServiceMatch::Udp { source, destination } => udp.push((destination, source)),
                ServiceMatch::Icmp(types) => set.icmp.push(types),
                ServiceMatch::Icmpv6(types) => set.icmpv6.push(types),
                ServiceMatch::Protocol(number) => set.protocols.push((number, number)),
            }
        }
        let with_source = tcp.iter().chain(&udp).filter(|found| found.1 != ANY_PORT).count();
        if with_source > SOURCE_PORT_LIMIT {
            return None;
        }
        set.tcp = Ports::new(&tcp);
        set.udp = Ports::new(&udp);
        set.icmp = ranges::normalise(set.icmp);
        set.icmpv6 = ranges::normalise(set.icmpv6);
        set.protocols = ranges::normalise(set.protocols);
        Some(set)
    }

    /// Whether TCP is all of it.
    pub(super) fn is_only_tcp(&self) -> bool {
        let rest = [&self.icmp, &self.icmpv6, &self.protocols];
        !self.tcp.0.is_empty() && self.udp.0.is_empty() && rest.iter().all(|ranges| ranges.is_empty())
    }

    /// Some packet of it that `family` can have.
    pub(super) fn first(&self, family: Family) -> Option<Probe> {
        let tcp = self.tcp.first().map(|(source, destination)| Probe::Tcp { source, destination });
        tcp.or_else(|| self.udp.first().map(|(source, destination)| Probe::Udp { source, destination }))
            .or_else(|| match family {
                Family::V4 => self.icmp.first().map(|range| Probe::Icmp(range.0)),
                Family::V6 => self.icmpv6.first().map(|range| Probe::Icmpv6(range.0)),
            })
            .or_else(|| self.protocols.first().map(|range| Probe::Protocol(range.0)))
    }

    pub(super) fn contains(&self, probe: Probe) -> bool {
        match probe {
            Probe::Tcp { source, destination } => self.tcp.contains(source, destination),
            Probe::Udp { source, destination } => self.udp.contains(source, destination),
            Probe::Icmp(number) => ranges::contains(&self.icmp, number),
            Probe::Icmpv6(number) => ranges::contains(&self.icmpv6, number),
            Probe::Protocol(number) => ranges::contains(&self.protocols, number),
        }
    }

    /// Whether `other` has all of it that packets of `family` can have.
    pub(super) fn is_subset(&self, other: &Self, family: Family) -> bool {
        let icmp = match family {
            Family::V4 => ranges::is_subset(&self.icmp, &other.icmp),
            Family::V6 => ranges::is_subset(&self.icmpv6, &other.icmpv6),
        };
        icmp && ranges::is_subset(&self.protocols, &other.protocols)
            && self.tcp.difference(&other.tcp).0.is_empty()
            && self.udp.difference(&other.udp).0.is_empty()
    }

    pub(super) fn difference(&self, other: &Self) -> Self {
        Self {
            tcp: self.tcp.difference(&other.tcp),
            udp: self.udp.difference(&other.udp),
            icmp: ranges::difference(&self.icmp, &other.icmp),
            icmpv6: ranges::difference(&self.icmpv6, &other.icmpv6),
            protocols: ranges::difference(&self.protocols, &other.protocols),
        }
    }
}

/// Pairs of ports: slabs of destination ports that share their source ports, sorted and disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ports(Vec<Slab>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slab {
    destinations: Range,
    sources: Vec<Range>,
}

impl Ports {
    /// From pairs of destination and source ports.
    fn new(pairs: &[(Range, Range)]) -> Self {
        let plain = pairs.iter().filter(|pair| pair.1 == ANY_PORT).map(|pair| pair.0).collect();
        let slab = |destinations| Slab { destinations, sources: vec![ANY_PORT] };
        let plain = Self(ranges::normalise(plain).into_iter().map(slab).collect());
        let special: Vec<(Range, Range)> = pairs.iter().filter(|pair| pair.1 != ANY_PORT).copied().collect();
        // The special ones are few: together first, then with the many.
        plain.combine(&Self::of_special(&special), ranges::union)
    }

    fn of_special(pairs: &[(Range, Range)]) -> Self {
        match *pairs {
            [] => Self::default(),
            [(destinations, source)] => Self(vec![Slab { destinations, sources: vec![source] }]),
            _ => {
                let (left, right) = pairs.split_at(pairs.len() / 2);
                Self::of_special(left).combine(&Self::of_special(right), ranges::union)
            }
        }
    }

    fn first(&self) -> Option<(u16, u16)> {
        self.0.first().and_then(|slab| Some((slab.sources.first()?.0, slab.destinations.0)))
    }

    fn contains(&self, source: u16, destination: u16) -> bool {
        let at = self.0.partition_point(|slab| slab.destinations.1 < destination);
        let slab = self.0.get(at).filter(|slab| slab.destinations.0 <= destination);
        slab.is_some_and(|slab| ranges::contains(&slab.sources, source))
    }

    fn difference(&self, other: &Self) -> Self {
        self.combine(other, ranges::difference)
    }

    /// Applies `operation` to the source ports at each destination port.
    fn combine(&self, other: &Self, operation: fn(&[Range], &[Range]) -> Vec<Range>) -> Self {
        let slabs = || self.0.iter().chain(&other.0);
        // As u32, so that there is an end after the last port.
        let starts = slabs().map(|slab| u32::from(slab.destinations.0));
        let ends = slabs().map(|slab| u32::from(slab.destinations.1) + 1);
        let mut edges: Vec<u32> = starts.chain(ends).collect();
        edges.sort_unstable();
        edges.dedup();

        let mut result: Vec<Slab> = Vec::new();
        let (mut left, mut right) = (self.0.as_slice(), other.0.as_slice());
        for pair in edges.windows(2) {
            let destinations = (port(pair[0]), port(pair[1] - 1));
            let sources =
                operation(sources_at(&mut left, destinations.0), sources_at(&mut right, destinations.0));
            if sources.is_empty() {
                continue;
            }
            match result.last_mut() {
                Some(last) if u32::from(last.destinations.1) + 1 == pair[0] && last.sources == sources => {
                    last.destinations.1 = destinations.1;
                }
                _ => result.push(Slab { destinations, sources }),
            }
        }
        Self(result)
    }
}

/// Source ports of the slab that has `destination`; skips the slabs before it.
fn sources_at<'a>(slabs: &mut &'a [Slab], destination: u16) -> &'a [Range] {
    let all: &'a [Slab] = slabs;
    let passed = all.iter().take_while(|slab| slab.destinations.1 < destination).count();
    *slabs = &all[passed..];
    match all.get(passed) {
        Some(slab) if slab.destinations.0 <= destination => &slab.sources,
        _ => &[],
    }
}

fn port(number: u32) -> u16 {
    u16::try_from(number).expect("edges lie between 0 and the end of a range of ports")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few values, so that ranges meet; the ends of the port space among them.
    fn range() -> impl Strategy<Value = Range> {
        let port = prop_oneof![0..6u16, Just(u16::MAX - 1), Just(u16::MAX)];
        (port.clone(), port).prop_map(|(a, b)| (a.min(b), a.max(b)))
    }

    fn pairs() -> impl Strategy<Value = Vec<(Range, Range)>> {
        prop::collection::vec((range(), range()), 0..5)
    }

    fn has(pairs: &[(Range, Range)], source: u16, destination: u16) -> bool {
        let within = |range: Range, port| range.0 <= port && port <= range.1;
        pairs.iter().any(|pair| within(pair.0, destination) && within(pair.1, source))
    }

    /// What a rule costs to compare depends on how many there are.
    #[test]
    fn slabs_beside_each_other_with_the_same_source_ports_are_one() {
        let ports = |pairs: &[(Range, Range)]| Ports::new(pairs).0.len();
        assert_eq!(ports(&[((1, 2), (5, 5)), ((3, 4), (5, 5))]), 1);
        assert_eq!(ports(&[((1, 2), (5, 5)), ((3, 4), (5, 6))]), 2);
        assert_eq!(ports(&[((1, 2), (5, 5)), ((4, 4), (5, 5))]), 2);
        assert_eq!(ports(&[((0, 9), (5, 9)), ((2, 3), (6, 7)), ((3, 9), (7, 8))]), 1);
    }

    proptest! {
        #[test]
        fn ports_agree_with_membership(a in pairs(), b in pairs()) {
            let (left, right) = (Ports::new(&a), Ports::new(&b));
            let rest = left.difference(&right);
            let ports = [0, 1, 2, 3, 4, 5, 6, 1000, u16::MAX - 2, u16::MAX - 1, u16::MAX];
            let mut is_empty = true;
            for source in ports {
                for destination in ports {
                    let expected = has(&a, source, destination) && !has(&b, source, destination);
                    is_empty &= !expected;
                    prop_assert_eq!(left.contains(source, destination), has(&a, source, destination));
                    prop_assert_eq!(rest.contains(source, destination), expected);
                }
            }
            prop_assert_eq!(rest.0.is_empty(), is_empty);
            if let Some((source, destination)) = rest.first() {
                prop_assert!(rest.contains(source, destination));
            }
        }
    }
}
