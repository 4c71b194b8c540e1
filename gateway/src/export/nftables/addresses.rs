//! The address space, cut into what belongs to whom: each address is of one segment.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::policy::model::{AddressSet, Policy, Ranges, SegmentId};
use crate::policy::ranges::normalise;

/// Which addresses are whose.
#[derive(Debug)]
pub(super) struct Addresses {
    /// By segment. The gateway's are those that the text names and those that end at it wherever it
    /// stands; what its interfaces have, the kernel knows.
    of: Vec<Ranges>,
    /// Good for a sender of any segment, as far as the gateway: unspecified and link-local.
    pub(super) nameless: Ranges,
    /// Nobody's: no packet may come from there.
    pub(super) never: Ranges,
}

impl Addresses {
    pub(super) fn of(policy: &Policy) -> Self {
        let mut gateway = ends_at_gateway();
        let mut of = vec![Ranges::default(); policy.segments.len()];
        for (segment, ranges) in policy.segments.iter().zip(&mut of) {
            *ranges = segment.ranges.clone();
        }
        gateway = gateway.union(&of[usize::from(SegmentId::GATEWAY.0)]);
        of[usize::from(SegmentId::GATEWAY.0)] = Ranges::default();
        // The first segment that has an address owns it; those of the text do not overlap.
        let mut taken = gateway.clone();
        for ranges in &mut of {
            let own = ranges.difference(&taken);
            taken = taken.union(&own);
            *ranges = own;
        }
        let multicast = groups().difference(&taken);
        taken = taken.union(&multicast);
        of[usize::from(SegmentId::MULTICAST.0)] = multicast;
        of[usize::from(SegmentId::WAN.0)] = Ranges::all().difference(&taken);
        of[usize::from(SegmentId::GATEWAY.0)] = gateway;
        Self { of, nameless: nameless(), never: never_sources() }
    }

    /// What is known of a segment's addresses.
    pub(super) fn of_segment(&self, id: SegmentId) -> &Ranges {
        &self.of[usize::from(id.0)]
    }

    /// Whom a rule means as initiators, those without an address of their segment aside.
    pub(super) fn initiators(&self, set: &AddressSet) -> Ranges {
        self.members(set).intersection(&self.senders())
    }

    /// Everything that can stand as a source behind the source guard, the nameless aside.
    pub(super) fn senders(&self) -> Ranges {
        let gateway = self.of_segment(SegmentId::GATEWAY);
        Ranges::all().difference(gateway).difference(&self.nameless).difference(&self.never)
    }

    /// What a host of a segment may say to be its own address, by neighbour discovery.
    pub(super) fn targets(&self, id: SegmentId) -> Ranges {
        let unspecified = Ranges { v4: Vec::new(), v6: vec![(0, 0)] };
        let own = self.of_segment(id).difference(&self.never);
        own.union(&self.nameless).difference(&unspecified)
    }

    /// Whom a rule means as listeners, the gateway aside.
    pub(super) fn listeners(&self, set: &AddressSet) -> Ranges {
        self.members(set)
    }

    /// Everything that is not known to be the gateway.
    pub(super) fn others(&self) -> Ranges {
        Ranges::all().difference(self.of_segment(SegmentId::GATEWAY)).difference(&mapped())
    }

    /// The gateway aside: what a rule says of it, it says by name.
    fn members(&self, set: &AddressSet) -> Ranges {
        let named = set.segments.iter().filter(|id| **id != SegmentId::GATEWAY);
        let whole = named.fold(Ranges::default(), |sum, id| sum.union(self.of_segment(*id)));
        whole.union(&set.ranges.difference(self.of_segment(SegmentId::GATEWAY)))
    }
}

/// IPv4-mapped addresses (RFC 4291, 2.5.5.2: never on the wire).
pub(super) fn mapped() -> Ranges {
    v6(&["::ffff:0:0/96"])
}

/// Limited broadcast, unspecified, loopback, link-local unicast, and groups of one link (RFC 5771; RFC 4291,
/// 2.7, whatever the flags).
fn ends_at_gateway() -> Ranges {
    let fixed = v4(&["0.0.0.0/32", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/24", "255.255.255.255/32"])
        .union(&v6(&["::/127", "fe80::/10"]));
    let of_one_link = (0..16u128).map(|flags| {
        let first = 0xff01 | flags << 4;
        // Scopes 1 and 2 are neighbours.
        (first << 112, ((first + 2) << 112) - 1)
    });
    fixed.union(&Ranges { v4: Vec::new(), v6: normalise(of_one_link.collect()) })
}

fn groups() -> Ranges {
    v4(&["224.0.0.0/4"]).union(&v6(&["ff00::/8"]))
}

fn nameless() -> Ranges {
    v4(&["0.0.0.0/32", "169.254.0.0/16"]).union(&v6(&["::/128", "fe80::/10"]))
}

/// RFC 6890: "this network" but for the unspecified address, loopback, groups, class E and broadcast;
/// IPv6 loopback, IPv4-mapped addresses and groups.
fn never_sources() -> Ranges {
    let unspecified = v4(&["0.0.0.0/32"]);
    v4(&["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"])
        .difference(&unspecified)
        .union(&v6(&["::1/128", "ff00::/8"]))
        .union(&mapped())
}

fn v4(prefixes: &[&str]) -> Ranges {
    let range = |text: &&str| {
        let (address, length) = split(text);
        let first = address.parse::<Ipv4Addr>().expect("a prefix of this file").to_bits();
        (first, first | u32::MAX.checked_shr(length).unwrap_or(0))
    };
    Ranges { v4: normalise(prefixes.iter().map(range).collect()), v6: Vec::new() }
}

fn v6(prefixes: &[&str]) -> Ranges {
    let range = |text: &&str| {
        let (address, length) = split(text);
        let first = address.parse::<Ipv6Addr>().expect("a prefix of this file").to_bits();
        (first, first | u128::MAX.checked_shr(length).unwrap_or(0))
    };
    Ranges { v4: Vec::new(), v6: normalise(prefixes.iter().map(range).collect()) }
}

fn split(prefix: &str) -> (&str, u32) {
    let (address, length) = prefix.split_once('/').expect("a prefix of this file");
    (address, length.parse().expect("a prefix of this file"))
}
