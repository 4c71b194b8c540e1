//! Every address of a compiled image, class by class.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_common::place::{Place, PlaceKey};
use gateway_common::table::{Atom, NODE, RUN, node_slot};

use crate::compile::image::{Image, NamedPlace};
use crate::compile::read::Run;
use crate::policy::model::{AddressSet, SegmentId};
use crate::policy::ranges;

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Addresses of one family that are decided alike, at one end of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// IP version.
    pub family: Family,
    /// Segment that they belong to; for a sender also the one that it arrives from.
    pub segment: SegmentId,
    /// Class, as a source or as a destination.
    pub class: u32,
    /// A sender without an address of its segment: its source is link-local or unspecified, and it
    /// reaches the gateway alone.
    pub nameless: bool,
    /// The addresses, as inclusive ranges of numbers; sorted, disjoint and merged. Never empty.
    pub ranges: Vec<(u128, u128)>,
}

/// The addresses of an image.
#[derive(Debug)]
pub struct Space<'i> {
    image: &'i Image,
    stretches: Vec<Stretch>,
}

/// Consecutive addresses of one atom.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    family: Family,
    first: u128,
    last: u128,
    atom: u32,
}

/// First and last IPv4-mapped address: never in a header (RFC 4291, 2.5.5.2).
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

impl<'i> Space<'i> {
    /// Lists the addresses of `image`, which [`crate::compile::compile`] made.
    pub fn new(image: &'i Image) -> Self {
        let mut stretches = Vec::new();
        for (family, table, bits) in [(Family::V4, &image.v4, 32), (Family::V6, &image.v6, 128)] {
            for (root, &entry) in (0u128..).zip(table.iter().take(1 << 16)) {
                walk(table, entry, family, root << (bits - 16), bits - 16, &mut stretches);
            }
        }
        Self { image, stretches }
    }

    /// The image.
    pub fn image(&self) -> &'i Image {
        self.image
    }

    /// Senders of `set` whose packets pass the source guard, in the order of their addresses, IPv4
    /// first; those without an address come last.
    pub fn sources(&self, set: &AddressSet) -> Vec<Party> {
        const REFUSED: u16 = Atom::NEVER_SOURCE | Atom::UNSPECIFIED | Atom::LINK_LOCAL;
        let mut parties = self.parties(set, |atom| {
            let arrives = self.place_of(SegmentId(atom.segment)).is_some();
            (arrives && atom.flags & REFUSED == 0).then_some(atom.source)
        });
        for &segment in &set.segments {
            let Some(named) = self.place_of(segment) else { continue };
            let class = self.image.atoms[named.place.link_atom as usize].source;
            let nameless = |family, first, last| Party {
                family,
                segment,
                class,
                nameless: true,
                ranges: vec![(first, last)],
            };
            parties.push(nameless(Family::V4, 0xa9fe_0000, 0xa9fe_ffff));
            parties.push(nameless(Family::V6, 0xfe80 << 112, (0xfec0 << 112) - 1));
        }
        parties
    }

    /// Destinations of `set`, in the same order.
    pub fn destinations(&self, set: &AddressSet) -> Vec<Party> {
        self.parties(set, |atom| Some(atom.destination))
    }

    /// The first place where packets of a segment arrive: its own, or one behind which a router forwards them.
    pub fn place_of(&self, segment: SegmentId) -> Option<&'i NamedPlace> {
        let PlaceKey { outer, vlan, .. } = PlaceKey::interface(0);
        let of_frames =
            || self.image.places.iter().filter(|named| (named.outer, named.vlan) != (outer, vlan));
        let own = of_frames().find(|named| named.place.segment == segment.0);
        own.or_else(|| {
            of_frames().find(|named| segment.has_hosts() && named.place.flags & Place::ROUTED != 0)
        })
    }

    fn parties(&self, set: &AddressSet, class: impl Fn(&Atom) -> Option<u32>) -> Vec<Party> {
        let mut found: BTreeMap<(Family, SegmentId, u32), Vec<(u128, u128)>> = BTreeMap::new();
        let v4: Vec<(u128, u128)> = set.ranges.v4.iter().map(|&(a, b)| (a.into(), b.into())).collect();
        for stretch in &self.stretches {
            let atom = &self.image.atoms[stretch.atom as usize];
            let segment = SegmentId(atom.segment);
            let Some(class) = class(atom) else { continue };
            let whole = [(stretch.first, stretch.last)];
            let part = if set.segments.contains(&segment) {
                whole.to_vec()
            } else if segment == SegmentId::GATEWAY {
                continue;
            } else {
                ranges::intersection(&whole, if stretch.family == Family::V4 { &v4 } else { &set.ranges.v6 })
            };
            if !part.is_empty() {
                found.entry((stretch.family, segment, class)).or_default().extend(part);
            }
        }
        let party = |((family, segment, class), found)| Party {
            family,
            segment,
            class,
            nameless: false,
            ranges: ranges::normalise(found),
        };
        let mut parties: Vec<Party> = found.into_iter().map(party).collect();
        parties.sort_by_key(|party| (party.family, party.ranges[0]));
        parties
    }
}

impl Party {
    /// One of the addresses, one that a host could well have: no network's first.
    pub fn host(&self) -> IpAddr {
        address(self.family, likely(&self.ranges))
    }
}

/// An address of some ranges, the first of which is looked at: no network's first, if it may be.
pub(super) fn likely(ranges: &[(u128, u128)]) -> u128 {
    let (first, last) = ranges[0];
    let second = first.saturating_add(1).min(last);
    if first.trailing_zeros() >= 8 { second } else { first }
}

/// An address of a family from its number.
///
/// # Panics
/// Where the number is none of the family's.
pub fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(u32::try_from(number).expect("an IPv4 address has 32 bits")).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

/// Adds the addresses below an entry: they begin with `first` and leave `bits` bits open.
fn walk(table: &[u32], entry: u32, family: Family, first: u128, bits: u32, found: &mut Vec<Stretch>) {
    if entry & NODE != 0 && entry & RUN != 0 {
        let run = Run::at(table, entry).expect("the compiler's entries lead to nodes");
        let equal = run.bytes().iter().fold(0, |bits, &byte| bits << 8 | u128::from(byte));
        let rest = bits - 8 * u32::try_from(run.bytes().len()).expect("no more than eight");
        let low = first | equal << rest;
        let high = low | ((1 << rest) - 1);
        let last = first | ((1 << bits) - 1);
        if first < low {
            add(found, Stretch { family, first, last: low - 1, atom: run.other });
        }
        walk(table, run.then, family, low, rest, found);
        if high < last {
            add(found, Stretch { family, first: high + 1, last, atom: run.other });
        }
        return;
    }
    if entry & NODE != 0 {
        for byte in 0..=u8::MAX {
            let below = table[node_slot(entry, byte) as usize];
            walk(table, below, family, first | u128::from(byte) << (bits - 8), bits - 8, found);
        }
        return;
    }
    add(found, Stretch { family, first, last: first | ((1 << bits) - 1), atom: entry });
}

/// Adds a stretch, but for the IPv4-mapped addresses in it, which never stand in a header.
fn add(found: &mut Vec<Stretch>, stretch: Stretch) {
    match stretch.family {
        // Asked for each entry of the table: the question alone costs little.
        Family::V6 if stretch.first <= MAPPED.1 && MAPPED.0 <= stretch.last => {
            for (first, last) in ranges::difference(&[(stretch.first, stretch.last)], &[MAPPED]) {
                append(found, Stretch { first, last, ..stretch });
            }
        }
        Family::V4 | Family::V6 => append(found, stretch),
    }
}

fn append(found: &mut Vec<Stretch>, next: Stretch) {
    match found.last_mut() {
        Some(before)
            if before.family == next.family
                && before.atom == next.atom
                && before.last.checked_add(1) == Some(next.first) =>
        {
            before.last = next.last;
        }
        _ => found.push(next),
    }
}
