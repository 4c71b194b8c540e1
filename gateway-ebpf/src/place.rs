//! Where a frame comes from, and whether its sender belongs there.

use aya_ebpf::programs::XdpContext;
use gateway_common::connection::Connection;
use gateway_common::place::{Place, PlaceKey, SEGMENT_GATEWAY};
use gateway_common::reason::Reason;
use gateway_common::table::Atom;

use crate::conntrack::Slot;
use crate::maps::PLACES;
use crate::packet::{Link, Packet, ethertype, protocol};
use crate::work::Judgement;
use crate::{classify, conntrack, frame};

/// Ports of DHCP (RFC 2131), network byte order: the only IPv4 that a host without an address sends.
const DHCP_CLIENT: u16 = 68u16.to_be();
const DHCP_SERVER: u16 = 67u16.to_be();

/// Where the slow protocols are sent: no bridge passes it on (IEEE 802.3, annex 57A).
const SLOW_PROTOCOLS: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x02];

/// The place that a frame comes from.
#[inline(always)]
pub(crate) fn of(context: &XdpContext, link: &Link, judgement: &mut Judgement) -> Result<Place, Reason> {
    if let Some(place) = lookup(&link.place) {
        judgement.source = place.segment;
        return Ok(place);
    }
    match lookup(&PlaceKey::interface(link.place.ifindex)) {
        Some(whole) if is_of_bond(context, link, &whole) => Err(Reason::EtherType),
        Some(_) => Err(Reason::UnknownVlan),
        None => Err(Reason::UnknownInterface),
    }
}

/// Whether a frame is one by which the ends of a bond's link agree on it, and so for the bond alone.
#[inline(always)]
pub(crate) fn is_of_bond(context: &XdpContext, link: &Link, place: &Place) -> bool {
    place.flags & Place::LINK != 0
        && link.ethertype == ethertype::SLOW_PROTOCOLS
        && link.place.vlan == 0
        && frame::read::<[u8; 6]>(context, 0) == Ok(SLOW_PROTOCOLS)
}

#[inline(always)]
pub(crate) fn lookup(key: &PlaceKey) -> Option<Place> {
    // SAFETY: an entry that the controller replaces or removes is freed after a grace period of RCU, and a
    // program ends before that.
    unsafe { PLACES.get(key) }.copied()
}

/// Source guard: the atom of the sender, as which it is then judged. Notes its segment.
#[inline(always)]
pub(crate) fn guard(place: &Place, packet: &Packet, judgement: &mut Judgement) -> Result<Atom, Reason> {
    let atom = classify::atom(packet.source).ok_or(Reason::Internal)?;
    if atom.flags & (Atom::LINK_LOCAL | Atom::UNSPECIFIED) != 0 {
        let unspecified_v4 = atom.flags & Atom::UNSPECIFIED != 0 && frame::is_mapped(packet.source);
        if unspecified_v4
            && (packet.protocol != protocol::UDP
                || packet.source_port != DHCP_CLIENT
                || packet.destination_port != DHCP_SERVER)
        {
            return Err(Reason::Martian);
        }
        let mut own = classify::atom_by_number(place.link_atom).ok_or(Reason::Internal)?;
        own.flags = atom.flags;
        return Ok(own);
    }
    if atom.flags & Atom::NEVER_SOURCE != 0 {
        return Err(Reason::Martian);
    }
    if atom.segment == place.segment {
        return Ok(atom);
    }
    // Behind a router a sender is of its address's segment; the gateway's own do not come back.
    if place.flags & Place::ROUTED != 0 && atom.segment != SEGMENT_GATEWAY {
        judgement.source = atom.segment;
        return Ok(atom);
    }
    Err(Reason::Spoofed)
}

/// Whether one side's packet comes from the place that is known for it.
#[inline(always)]
pub(crate) fn is_known(connection: &Connection, slot: &Slot, place: &PlaceKey) -> bool {
    let (ifindex, vlan, outer) = if conntrack::from_initiator(connection, slot) {
        (connection.ifindex[0], connection.vlan[0], connection.outer[0])
    } else {
        (connection.ifindex[1], connection.vlan[1], connection.outer[1])
    };
    ifindex == place.ifindex && vlan == place.vlan && outer == place.outer
}

/// Whether a sender of `segment` can be the end of the connection that its address names. A link-local
/// address is good in every segment, and a host of another segment may bear the same; and what the gateway
/// itself sends never arrives.
#[inline(always)]
pub(crate) fn is_of_its_end(connection: &Connection, slot: &Slot, segment: u16) -> bool {
    if conntrack::from_initiator(connection, slot) {
        connection.flags & Connection::GATEWAY == 0 && connection.segment[0] == segment
    } else {
        connection.ifindex[1] == 0 || connection.segment[1] == segment
    }
}

/// Whether the initiator's address is good in every segment, and it was seen in another one than this `source`.
#[inline(always)]
pub(crate) fn is_elsewhere(connection: &Connection, source: &Atom) -> bool {
    source.flags & (Atom::LINK_LOCAL | Atom::UNSPECIFIED) != 0
        && of_initiator(connection).is_some_and(|place| place.segment != source.segment)
}

/// The place where the initiator's last packet arrived, as far as it is known.
#[inline(always)]
pub(crate) fn of_initiator(connection: &Connection) -> Option<Place> {
    lookup(&PlaceKey { ifindex: connection.ifindex[0], outer: connection.outer[0], vlan: connection.vlan[0] })
}

/// Notes the place of one side, and its segment, whose source address was found to belong there.
#[inline(always)]
pub(crate) fn settle(connection: &mut Connection, slot: &Slot, key: &PlaceKey, segment: u16) {
    let initiator = conntrack::from_initiator(connection, slot);
    note(connection, initiator, key);
    if initiator {
        connection.segment[0] = segment;
    } else {
        connection.segment[1] = segment;
    }
}

#[inline(always)]
pub(crate) fn note(connection: &mut Connection, initiator: bool, key: &PlaceKey) {
    if initiator {
        connection.ifindex[0] = key.ifindex;
        connection.vlan[0] = key.vlan;
        connection.outer[0] = key.outer;
    } else {
        connection.ifindex[1] = key.ifindex;
        connection.vlan[1] = key.vlan;
        connection.outer[1] = key.outer;
    }
}
