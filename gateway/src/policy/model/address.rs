//! Sets of addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::SegmentId;

/// Inclusive address ranges, each list sorted, disjoint and merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ranges {
    /// IPv4, as numbers (10.0.0.1 is `0x0a00_0001`).
    pub v4: Vec<(u32, u32)>,
    /// IPv6, as numbers.
    pub v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// Whether `address` lies in one of the ranges.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => within(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => within(&self.v6, v6.to_bits()),
        }
    }

    /// Whether there is no range at all.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The first address of every range, for messages.
    pub fn firsts(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.v4.iter().map(|r| IpAddr::V4(Ipv4Addr::from_bits(r.0)));
        let v6 = self.v6.iter().map(|r| IpAddr::V6(Ipv6Addr::from_bits(r.0)));
        v4.chain(v6)
    }
}

fn within<T: PartialOrd + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|range| range.0 <= value);
    after > 0 && ranges[after - 1].1 >= value
}

/// A set of addresses as a rule names it.
///
/// An address belongs to it when its segment is in `segments`, or when `ranges` has it; the
/// gateway's own addresses belong only through [`SegmentId::GATEWAY`] in `segments`, so that a
/// prefix written for a segment does not open the gateway that stands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddressSet {
    /// Whole segments.
    pub segments: BTreeSet<SegmentId>,
    /// Devices, prefixes, ranges.
    pub ranges: Ranges,
}

impl AddressSet {
    /// Whether `address`, which belongs to `segment`, is in the set.
    pub fn contains(&self, address: IpAddr, segment: SegmentId) -> bool {
        self.segments.contains(&segment) || (segment != SegmentId::GATEWAY && self.ranges.contains(address))
    }
}

/// Whether packets to `address` end at the gateway whatever its own addresses are: limited
/// broadcast, loopback, link-local and unspecified addresses, groups of one link (RFC 5771: 224.0.0.0/24;
/// RFC 4291: `ff01::/16`, `ff02::/16`).
pub fn ends_at_gateway(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_broadcast()
                || v4.is_loopback()
                || v4.is_unspecified()
                || v4.is_link_local()
                || v4.octets()[..3] == [224, 0, 0]
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || first & 0xff0f == 0xff01
                || first & 0xff0f == 0xff02
        }
    }
}
