//! What an address set of a rule stands for, once segments are resolved to addresses.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::policy::model::{AddressSet, Policy, Ranges, SegmentId};
use crate::policy::ranges;

/// The addresses that one end of a packet can have and that a rule means there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) ranges: Ranges,
    /// As a source, a segment stands for its hosts that have no address of it yet (link-local or
    /// unspecified source); as a destination, [`SegmentId::GATEWAY`] stands for the gateway.
    pub(crate) atoms: BTreeSet<SegmentId>,
}

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Point {
    Atom(SegmentId),
    V4(u32),
    V6(u128),
}

/// IP version. Packets have one at both ends, so rules are compared for each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

impl Extent {
    /// Some point of it that packets of `family` can have.
    pub(crate) fn first(&self, family: Family) -> Option<Point> {
        let address = match family {
            Family::V4 => self.ranges.v4.first().map(|range| Point::V4(range.0)),
            Family::V6 => self.ranges.v6.first().map(|range| Point::V6(range.0)),
        };
        address.or_else(|| self.atoms.first().copied().map(Point::Atom))
    }

    pub(crate) fn contains(&self, point: Point) -> bool {
        match point {
            Point::Atom(segment) => self.atoms.contains(&segment),
            Point::V4(v4) => ranges::contains(&self.ranges.v4, v4),
            Point::V6(v6) => ranges::contains(&self.ranges.v6, v6),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.atoms.is_empty()
    }

    /// Whether `other` has all of it that packets of `family` can have.
    pub(crate) fn is_subset(&self, other: &Self, family: Family) -> bool {
        let addresses = match family {
            Family::V4 => ranges::is_subset(&self.ranges.v4, &other.ranges.v4),
            Family::V6 => ranges::is_subset(&self.ranges.v6, &other.ranges.v6),
        };
        addresses && self.atoms.is_subset(&other.atoms)
    }

    /// Whether anything is in both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        !self.ranges.is_disjoint(&other.ranges) || !self.atoms.is_disjoint(&other.atoms)
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        Self {
            ranges: self.ranges.intersection(&other.ranges),
            atoms: self.atoms.intersection(&other.atoms).copied().collect(),
        }
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        Self {
            ranges: self.ranges.difference(&other.ranges),
            atoms: self.atoms.difference(&other.atoms).copied().collect(),
        }
    }
}

/// Where every address belongs.
pub(crate) struct World {
    /// By segment number.
    segments: Vec<Ranges>,
    /// Addresses that belong to the gateway.
    gateway: Ranges,
    /// What can arrive as a source.
    sources: Extent,
    /// How many places (interfaces and tags) each segment has, by its number.
    places: Vec<usize>,
}

impl World {
    pub(crate) fn new(policy: &Policy) -> Self {
        let gateway = policy.segment(SegmentId::GATEWAY).ranges.union(&ends_at_gateway());
        let mut segments: Vec<Ranges> =
            policy.segments.iter().map(|segment| segment.ranges.difference(&gateway)).collect();
        let named = segments.iter().fold(gateway.clone(), |all, ranges| all.union(ranges));
        segments[usize::from(SegmentId::GATEWAY.0)] = Ranges::default();
        segments[usize::from(SegmentId::MULTICAST.0)] = groups().difference(&named);
        segments[usize::from(SegmentId::WAN.0)] = Ranges::all().difference(&named).difference(&groups());

        let places = places(policy);
        let mut sources = Extent::default();
        for (number, ranges) in (0u16..).zip(&segments) {
            if places[usize::from(number)] > 0 {
                sources.ranges = sources.ranges.union(ranges);
                sources.atoms.insert(SegmentId(number));
            }
        }
        sources.ranges = sources.ranges.difference(&never_sources());
        Self { segments, gateway, sources, places }
    }

    /// What `set` stands for as the source of packets that can arrive.
    pub(crate) fn source(&self, set: &AddressSet) -> Extent {
        let atoms = set.segments.clone();
        Extent { ranges: self.addresses(set), atoms }.intersection(&self.sources)
    }

    /// What `set` stands for as a destination.
    pub(crate) fn destination(&self, set: &AddressSet) -> Extent {
        let atoms = set.segments.iter().copied().filter(|&id| id == SegmentId::GATEWAY).collect();
        Extent { ranges: self.addresses(set), atoms }
    }

    /// Addresses of one segment, without the gateway's.
    pub(crate) fn segment(&self, id: SegmentId) -> &Ranges {
        &self.segments[usize::from(id.0)]
    }

    /// How many places a segment has.
    pub(crate) fn places(&self, id: SegmentId) -> usize {
        self.places[usize::from(id.0)]
    }

    fn addresses(&self, set: &AddressSet) -> Ranges {
        let mut all = set.ranges.difference(&self.gateway);
        for id in &set.segments {
            let segment = self.segment(*id);
            all.v4.extend(&segment.v4);
            all.v6.extend(&segment.v6);
        }
        Ranges { v4: ranges::normalise(all.v4), v6: ranges::normalise(all.v6) }
    }
}

fn places(policy: &Policy) -> Vec<usize> {
    let mut places = vec![0; policy.segments.len()];
    for interface in &policy.interfaces {
        for (_, _, segment) in interface.places() {
            places[usize::from(segment.0)] += 1;
        }
        if interface.routed {
            // Senders of every segment arrive there.
            for (place, index) in places.iter_mut().zip(0..) {
                *place += usize::from(SegmentId(index).has_hosts());
            }
        }
    }
    places
}

/// [`crate::policy::model::ends_at_gateway`] as ranges.
fn ends_at_gateway() -> Ranges {
    // The unspecified address and loopback are neighbours.
    let mut v6 = vec![v6_prefix(0, 127), v6_prefix(0xfe80 << 112, 10)];
    // Flags are the third hexadecimal digit, scope is the fourth (RFC 4291, 2.7).
    for flags in 0..16 {
        v6.extend([0xff01, 0xff02].map(|scope| v6_prefix((scope | flags << 4) << 112, 16)));
    }
    let v4 = vec![
        v4_prefix(Ipv4Addr::UNSPECIFIED, 32),
        v4_prefix(Ipv4Addr::new(127, 0, 0, 0), 8),
        v4_prefix(Ipv4Addr::new(169, 254, 0, 0), 16),
        v4_prefix(Ipv4Addr::new(224, 0, 0, 0), 24),
        v4_prefix(Ipv4Addr::BROADCAST, 32),
    ];
    Ranges { v4: ranges::normalise(v4), v6: ranges::normalise(v6) }
}

/// Multicast groups (RFC 5771; RFC 4291, 2.7).
pub(crate) fn groups() -> Ranges {
    Ranges { v4: vec![v4_prefix(Ipv4Addr::new(224, 0, 0, 0), 4)], v6: vec![v6_prefix(0xff00 << 112, 8)] }
}

/// Sources that nobody may use (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3, 2.5.5.2 and 2.7).
pub(crate) fn never_sources() -> Ranges {
    let v4 = vec![
        v4_prefix(Ipv4Addr::UNSPECIFIED, 8),
        v4_prefix(Ipv4Addr::new(127, 0, 0, 0), 8),
        v4_prefix(Ipv4Addr::new(224, 0, 0, 0), 3),
    ];
    let v6 = vec![
        v6_prefix(Ipv6Addr::LOCALHOST.to_bits(), 128),
        v6_prefix(0xffff << 32, 96),
        v6_prefix(0xff00 << 112, 8),
    ];
    Ranges { v4: ranges::normalise(v4), v6: ranges::normalise(v6) }
}

fn v4_prefix(first: Ipv4Addr, length: u32) -> (u32, u32) {
    let host = u32::MAX.checked_shr(length).unwrap_or(0);
    (first.to_bits(), first.to_bits() | host)
}

fn v6_prefix(first: u128, length: u32) -> (u128, u128) {
    (first, first | u128::MAX.checked_shr(length).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::model;

    proptest! {
        #[test]
        fn gateway_ranges_are_the_models(v4 in any::<u32>(), edge in 0..64u32, v6 in any::<u128>(), top in any::<u16>()) {
            let near = [0, 0x7f00_0000, 0xa9fe_0000, 0xe000_0000, 0xe000_0100, u32::MAX - 63][edge as usize % 6].saturating_add(edge);
            for v4 in [v4, near] {
                let address = IpAddr::V4(Ipv4Addr::from_bits(v4));
                prop_assert_eq!(ends_at_gateway().contains(address), model::ends_at_gateway(address));
            }
            let low = v6 >> 16;
            for v6 in [v6, u128::from(top) << 112 | low, u128::from(top | 0xff00) << 112 | low, u128::from(edge)] {
                let address = IpAddr::V6(Ipv6Addr::from_bits(v6));
                prop_assert_eq!(ends_at_gateway().contains(address), model::ends_at_gateway(address));
            }
        }
    }
}
