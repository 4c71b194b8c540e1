//! The address spaces, cut into pieces of one atom each.
//!
//! A sweep from the lowest address to the highest keeps the sets of addresses that it is in;
//! between two boundaries nothing changes. Segments and flags are asked of their definitions at
//! each of their boundaries.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_common::table::Atom;

use crate::policy::model::{Policy, Ranges, SegmentId};

use super::class::Side;
use super::number;
use super::stride::Piece;

/// Both address spaces, partitioned.
#[derive(Debug)]
pub(super) struct Space<'p> {
    /// IPv4, sorted.
    pub(super) v4: Vec<Piece>,
    /// IPv6, sorted.
    pub(super) v6: Vec<Piece>,
    /// What the pieces' atoms are.
    pub(super) atoms: Vec<Atom>,
    /// By segment: atom of a host without an address of it.
    pub(super) link: Vec<u32>,
    /// Classes of sources.
    pub(super) sources: Side<'p>,
    /// Classes of destinations.
    pub(super) destinations: Side<'p>,
}

pub(super) fn partition(policy: &Policy) -> Space<'_> {
    let mut sweep = Sweep {
        sources: Side::new(policy, |rule| &rule.from),
        destinations: Side::new(policy, |rule| &rule.to),
        atoms: Vec::new(),
        numbers: HashMap::new(),
    };
    let v4 = sweep.pieces(policy, Family::V4);
    let v6 = sweep.pieces(policy, Family::V6);
    let link = (0..policy.segments.len()).map(|index| sweep.link_atom(index)).collect();
    let Sweep { sources, destinations, atoms, .. } = sweep;
    Space { v4, v6, atoms, link, sources, destinations }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn address(self, bits: u128) -> IpAddr {
        match self {
            Self::V4 => {
                Ipv4Addr::from_bits(u32::try_from(bits).expect("boundaries come from 32 bits")).into()
            }
            Self::V6 => Ipv6Addr::from_bits(bits).into(),
        }
    }

    /// Inclusive ranges of this family.
    fn ranges(self, ranges: &Ranges) -> Vec<(u128, u128)> {
        match self {
            Self::V4 => ranges.v4.iter().map(|&(first, last)| (first.into(), last.into())).collect(),
            Self::V6 => ranges.v6.clone(),
        }
    }

    /// The address after `last`, where there is one.
    fn after(self, last: u128) -> Option<u128> {
        let highest = match self {
            Self::V4 => u128::from(u32::MAX),
            Self::V6 => u128::MAX,
        };
        (last < highest).then(|| last + 1)
    }

    /// Ranges at whose edges segments by scope or flags change.
    fn special(self) -> Vec<(u128, u128)> {
        match self {
            Self::V4 => [
                (Ipv4Addr::UNSPECIFIED, 32),
                (Ipv4Addr::UNSPECIFIED, 8),
                (Ipv4Addr::new(127, 0, 0, 0), 8),
                (Ipv4Addr::new(169, 254, 0, 0), 16),
                (Ipv4Addr::new(224, 0, 0, 0), 24),
                (Ipv4Addr::new(224, 0, 0, 0), 4),
                (Ipv4Addr::new(240, 0, 0, 0), 4),
                (Ipv4Addr::BROADCAST, 32),
            ]
            .map(|(first, length)| prefix(first.to_bits().into(), 32 - length))
            .to_vec(),
            Self::V6 => {
                let mut ranges = vec![
                    prefix(0, 0),
                    prefix(1, 0),
                    prefix(0xffff << 32, 32),
                    prefix(0xfe80 << 112, 118),
                    prefix(0xff00 << 112, 120),
                ];
                // Flags are the third hexadecimal digit, scope is the fourth (RFC 4291, 2.7).
                for flags in 0..16u128 {
                    ranges.push(prefix((0xff01 | flags << 4) << 112, 112));
                    ranges.push(prefix((0xff02 | flags << 4) << 112, 112));
                }
                ranges
            }
        }
    }
}

fn prefix(first: u128, host_bits: u32) -> (u128, u128) {
    (first, first | ((1 << host_bits) - 1))
}

/// Part of an address space with one segment and one set of flags.
struct Zone {
    start: u128,
    segment: SegmentId,
    flags: u16,
}

fn zones(policy: &Policy, family: Family) -> Vec<Zone> {
    let mut starts = vec![0];
    let of_segments = policy.segments.iter().flat_map(|segment| family.ranges(&segment.ranges));
    for (first, last) in of_segments.chain(family.special()) {
        starts.push(first);
        starts.extend(family.after(last));
    }
    starts.sort_unstable();
    starts.dedup();
    let zone = |start| {
        let address = family.address(start);
        Zone { start, segment: policy.segment_of(address), flags: flags(address) }
    };
    starts.into_iter().map(zone).collect()
}

fn flags(address: IpAddr) -> u16 {
    let (link_local, never_source) = match address {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            let never = (first == 0 && !v4.is_unspecified()) || first == 127 || first >= 224;
            (v4.is_link_local(), never)
        }
        IpAddr::V6(v6) => {
            let never = v6.is_loopback() || v6.is_multicast() || v6.to_ipv4_mapped().is_some();
            (v6.is_unicast_link_local(), never)
        }
    };
    let group = address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let mut flags = 0;
    for (holds, flag) in [
        (link_local, Atom::LINK_LOCAL),
        (address.is_unspecified(), Atom::UNSPECIFIED),
        (never_source, Atom::NEVER_SOURCE),
        (group, Atom::GROUP),
    ] {
        flags |= if holds { flag } else { 0 };
    }
    flags
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Source,
    Destination,
}

/// An edge of a range of a set. At one address, sets are left before others are entered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    at: u128,
    enters: bool,
    end: End,
    set: u32,
}

struct Sweep<'p> {
    sources: Side<'p>,
    destinations: Side<'p>,
    atoms: Vec<Atom>,
    numbers: HashMap<Atom, u32>,
}

impl Sweep<'_> {
    fn pieces(&mut self, policy: &Policy, family: Family) -> Vec<Piece> {
        let zones = zones(policy, family);
        let edges = self.edges(family);
        let mut starts: Vec<u128> =
            zones.iter().map(|zone| zone.start).chain(edges.iter().map(|e| e.at)).collect();
        starts.sort_unstable();
        starts.dedup();

        let mut pieces: Vec<Piece> = Vec::new();
        let mut edges = edges.into_iter().peekable();
        let mut zones = zones.into_iter().peekable();
        let mut zone = zones.next().expect("the first zone begins at address 0");
        let mut within = (Vec::new(), Vec::new());
        for start in starts {
            while let Some(edge) = edges.next_if(|edge| edge.at == start) {
                cross(if edge.end == End::Source { &mut within.0 } else { &mut within.1 }, edge);
            }
            if let Some(next) = zones.next_if(|next| next.start == start) {
                zone = next;
            }
            let atom = Atom {
                segment: zone.segment.0,
                flags: zone.flags,
                source: self.sources.class(zone.segment, &within.0),
                destination: self.destinations.class(zone.segment, &within.1),
            };
            let atom = self.intern(atom);
            if pieces.last().is_none_or(|last| last.atom != atom) {
                pieces.push(Piece { start, atom });
            }
        }
        pieces
    }

    fn edges(&self, family: Family) -> Vec<Edge> {
        let mut edges = Vec::new();
        let sources = self.sources.ranges().map(|(set, ranges)| (End::Source, set, ranges));
        let destinations = self.destinations.ranges().map(|(set, ranges)| (End::Destination, set, ranges));
        for (end, set, ranges) in sources.chain(destinations) {
            for (first, last) in family.ranges(ranges) {
                edges.push(Edge { at: first, enters: true, end, set });
                edges.extend(family.after(last).map(|at| Edge { at, enters: false, end, set }));
            }
        }
        edges.sort_unstable();
        edges
    }

    /// A host of a segment without an address of it is named by rules that name the whole segment.
    fn link_atom(&mut self, index: usize) -> u32 {
        let segment = SegmentId(u16::try_from(index).expect("segments are limited to SEGMENT_LIMIT"));
        let source = self.sources.class(segment, &[]);
        let destination = self.destinations.class(segment, &[]);
        self.intern(Atom { segment: segment.0, flags: 0, source, destination })
    }

    fn intern(&mut self, atom: Atom) -> u32 {
        *self.numbers.entry(atom).or_insert_with(|| {
            self.atoms.push(atom);
            number(self.atoms.len() - 1)
        })
    }
}

/// Keeps the sorted list of sets that the sweep is in.
fn cross(within: &mut Vec<u32>, edge: Edge) {
    match (within.binary_search(&edge.set), edge.enters) {
        (Err(place), true) => within.insert(place, edge.set),
        (Ok(place), false) => drop(within.remove(place)),
        (Ok(_), true) | (Err(_), false) => {}
    }
}
