//! Interfaces and VLAN tags to places, and what each segment lets by besides IP.

use gateway_common::place::{Place, PlaceKey};

use crate::policy::model::{Interface, Policy, Segment, SegmentId};

use super::condition;
use super::image::NamedPlace;

/// Every place that the policy names, and for each interface the one that tells an unknown tag from
/// an unknown interface ([`PlaceKey::interface`]). `link` is the link atom of each segment.
pub(super) fn places(policy: &Policy, link: &[u32]) -> Vec<NamedPlace> {
    let asks = policy.asks_for_ways();
    let place = |segment: SegmentId, interface: &Interface| Place {
        segment: segment.0,
        flags: (if policy.segment(segment).routers { Place::ROUTERS } else { 0 })
            | (if interface.routed { Place::ROUTED } else { 0 })
            | (if asks { Place::arriving(condition::way(interface.way())) } else { 0 }),
        link_atom: link[usize::from(segment.0)],
    };
    let mut places = Vec::new();
    for interface in &policy.interfaces {
        let mut add = |outer, vlan, segment| {
            places.push(NamedPlace {
                interface: interface.name.clone(),
                outer,
                vlan,
                place: place(segment, interface),
            });
        };
        let PlaceKey { outer, vlan, .. } = PlaceKey::interface(0);
        add(outer, vlan, SegmentId::UNKNOWN);
        for (outer, vlan, segment) in interface.places() {
            add(outer, vlan, segment);
        }
    }
    places
}

/// Segments that arrive on an interface, without repetition.
pub(super) fn segments_of(interface: &Interface) -> Vec<SegmentId> {
    let mut segments: Vec<SegmentId> = interface.places().map(|(_, _, segment)| segment).collect();
    segments.sort_unstable();
    segments.dedup();
    segments
}

/// Keys of the EtherType table.
pub(super) fn ethertypes(policy: &Policy) -> Vec<u32> {
    let of_segment = |(segment, index): (&Segment, u32)| {
        segment.ethertypes.iter().map(|&ethertype| index << 16 | u32::from(ethertype)).collect::<Vec<_>>()
    };
    policy.segments.iter().zip(0..).flat_map(of_segment).collect()
}
