//! The judgement on one frame, in the order that the documentation promises.

use aya_ebpf::programs::XdpContext;
use gateway_common::connection::Connection;
use gateway_common::place::{Place, SEGMENT_GATEWAY};
use gateway_common::reason::Reason;
use gateway_common::table::{Atom, NO_RULE};

use crate::classify::{self, ServiceKey};
use crate::conntrack::{self, Glance, Slot};
use crate::maps::ETHERTYPES;
use crate::packet::{Fragment, Link, Packet, ethertype, protocol};
use crate::work::{Judgement, Work};
use crate::{
    condition, config, fragments, frame, icmp, neighbour, parse, place, plain, revalidate, transport, verdict,
};

/// Judges a frame; leaves in `work` what could be read of it, and the judgement.
#[inline(always)]
pub(crate) fn judge(context: &XdpContext, ifindex: u32, now: u64, work: &mut Work) {
    work.judgement = Judgement::EMPTY;
    work.judgement.reason = match examine(context, ifindex, now, work) {
        Ok(reason) | Err(reason) => reason,
    };
}

/// The reason: `Ok` and `Err` tell only whether the way ended early.
#[inline(always)]
fn examine(context: &XdpContext, ifindex: u32, now: u64, work: &mut Work) -> Result<Reason, Reason> {
    let Work { link, packet, quoted, slot, judgement, new, .. } = work;
    // Noted in memory, so that the verifier need not follow each way to go wrong to its end.
    judgement.reason = Reason::Flow;
    if !plain::read(context, ifindex, link, packet) {
        *link = Link::EMPTY;
        *packet = Packet::EMPTY;
        frame::forget();
        parse::link(context, ifindex, link)?;
        frame::forget();
        let read = if link.is_ip() { read(context, link, packet, now) } else { Ok(()) };
        judgement.reason = read.err().unwrap_or(Reason::Flow);
    }
    frame::forget();
    let is_ip = link.is_ip();
    let readable = judgement.reason == Reason::Flow;

    let mut found = false;
    if is_ip && readable {
        conntrack::slot(packet, slot);
        frame::forget();
        let glance = conntrack::glance(slot, now);
        if let Glance::AtHome(entry) = glance {
            // SAFETY: entries lie in the map, which lives as long as the program runs.
            let connection = unsafe { &*entry };
            let initiator = conntrack::from_initiator(connection, slot);
            if conntrack::is_steady(connection, initiator, packet)
                && connection.generation == config::generation()
                && !condition::binds(connection)
                && place::is_known(connection, slot, &link.place)
            {
                conntrack::prolong(entry, now);
                return Ok(note(connection, initiator, judgement));
            }
        }
        found = !matches!(glance, Glance::Nowhere) && conntrack::find(slot, now);
        if found {
            let entry = conntrack::entry(slot).ok_or(Reason::Internal)?;
            // SAFETY: entries lie in the map, which lives as long as the program runs.
            let connection = unsafe { &*entry };
            if connection.generation == config::generation()
                && !condition::binds(connection)
                && place::is_known(connection, slot, &link.place)
                && conntrack::continues(connection, slot, packet)
            {
                return Ok(established(entry, packet, slot, judgement, now));
            }
        }
    }

    let place = place::of(context, link, judgement)?;
    condition::begin(now, &place);
    if !is_ip {
        return not_ip(context, link, &place, now);
    }
    // Looked up before anything is refused, if the addresses could be read: the mode of the
    // destination's segment counts too.
    let destination = classify::atom(packet.destination).ok_or(Reason::Internal)?;
    let is_stray = link.ethertype == ethertype::IPV6 && frame::is_mapped(packet.destination);
    if readable || (packet.is_addressed && !is_stray) {
        judgement.destination = destination.segment;
        condition::look(&destination);
    }
    if !readable {
        return Err(judgement.reason);
    }
    let source = place::guard(&place, packet, judgement)?;
    condition::look(&source);
    frame::forget();
    if found {
        let entry = conntrack::entry(slot).ok_or(Reason::Internal)?;
        // SAFETY: as above.
        let connection = unsafe { &mut *entry };
        if conntrack::continues(connection, slot, packet) {
            confine(&source, judgement)?;
            let mut is_own = true;
            if connection.generation != config::generation() || condition::binds(connection) {
                let arrives = config::ways() == 1 && conntrack::from_initiator(connection, slot);
                // Whoever else bears the address is not asked for the way of this connection.
                is_own = !(arrives && place::is_elsewhere(connection, &source));
                if is_own {
                    revalidate::revalidate(connection, judgement, arrives)?;
                }
            }
            if is_own && place::is_of_its_end(connection, slot, judgement.source) {
                place::settle(connection, slot, &link.place, judgement.source);
                return Ok(established(entry, packet, slot, judgement, now));
            }
            judgement.rule = NO_RULE;
        }
    }

    // What a router has passed on is none of this link.
    if judgement.source == place.segment && neighbour::is_link_control(packet, &destination, &place) {
        return neighbour::control(context, link, packet, &place, now);
    }
    confine(&source, judgement)?;
    if packet.fragment != Fragment::Later && transport::is_error(packet) {
        return icmp::related(context, packet, quoted, slot, judgement, now);
    }
    first(packet, link, &source, &destination, slot, judgement, new, now)
}

/// Whose address is good on its link only reaches no further than the gateway, also in a connection.
#[inline(always)]
fn confine(source: &Atom, judgement: &Judgement) -> Result<(), Reason> {
    if source.flags & (Atom::LINK_LOCAL | Atom::UNSPECIFIED) != 0 && judgement.destination != SEGMENT_GATEWAY
    {
        return Err(Reason::Martian);
    }
    Ok(())
}

/// Reads the headers above the link, and finds the ports of a later fragment.
#[inline(always)]
fn read(context: &XdpContext, link: &Link, packet: &mut Packet, now: u64) -> Result<(), Reason> {
    parse::network(context, link, packet)?;
    frame::forget();
    if packet.fragment == Fragment::Later && !fragments::resolve(packet, now) {
        return Err(Reason::UnknownFragment);
    }
    Ok(())
}

/// A packet that belongs to no connection.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined: these are names for parts of one struct")]
fn first(
    packet: &Packet,
    link: &Link,
    source: &Atom,
    destination: &Atom,
    slot: &mut Slot,
    judgement: &mut Judgement,
    new: &mut Connection,
    now: u64,
) -> Result<Reason, Reason> {
    let icmp = packet.protocol == protocol::ICMP || packet.protocol == protocol::ICMPV6;
    if packet.fragment == Fragment::Later {
        // Its first was of a connection that is gone. What it was, a SYN or an echo, only that one said.
        if packet.protocol == protocol::TCP {
            return Err(Reason::NotInConnection);
        }
        if icmp {
            return Err(Reason::UnknownFragment);
        }
    }
    let midstream = packet.protocol == protocol::TCP && !conntrack::is_opening(packet);
    if midstream && (config::midstream() == 0 || packet.tcp_flags & transport::flag::RST != 0) {
        return Err(Reason::NotInConnection);
    }
    let service = service_of(packet);
    let mut cell = classify::decide(source, destination, &service).ok_or(Reason::Internal)?;
    let mut by_initiator = true;
    let may_answer = destination.flags & Atom::NEVER_SOURCE == 0;
    if config::midstream() == 1 && midstream && may_answer && !cell.is_allow() {
        // Taken up in its middle, the first packet may be the listener's; but nobody listens to a group.
        let back = ServiceKey {
            source_port: service.destination_port,
            destination_port: service.source_port,
            ..service
        };
        // How the listener's initiator comes nobody knows.
        condition::arrive(0);
        let backwards = classify::decide(destination, source, &back).ok_or(Reason::Internal)?;
        if backwards.is_allow() {
            cell = backwards;
            by_initiator = false;
        }
    }
    judgement.rule = cell.rule();
    if !cell.is_allow() {
        return Err(verdict::refusal(cell));
    }
    if destination.flags & Atom::GROUP != 0 || (icmp && !transport::is_echo_request(packet)) {
        if packet.fragment == Fragment::First && !icmp {
            fragments::record(packet, now);
        }
        return Ok(Reason::Flow);
    }
    describe(packet, slot, judgement, new, now, midstream, by_initiator);
    place::note(new, by_initiator, &link.place);
    if !conntrack::insert(slot, new, now) {
        return Err(Reason::ConnectionTableFull);
    }
    if packet.fragment == Fragment::First {
        fragments::record(packet, now);
    }
    Ok(if midstream { Reason::MidStream } else { Reason::Flow })
}

/// The connection that an allowed packet begins.
#[inline(always)]
fn describe(
    packet: &Packet,
    slot: &Slot,
    judgement: &Judgement,
    new: &mut Connection,
    now: u64,
    midstream: bool,
    by_initiator: bool,
) {
    let state = conntrack::first_state(packet.protocol, midstream && !by_initiator) as u8;
    new.expires = now + config::timeout(state);
    new.generation = config::generation();
    new.rule = judgement.rule;
    new.ifindex = [0; 2];
    new.vlan = [0; 2];
    new.outer = [0; 2];
    new.segment = if by_initiator {
        [judgement.source, judgement.destination]
    } else {
        [judgement.destination, judgement.source]
    };
    new.state = state;
    new.flags = if midstream { Connection::MIDSTREAM } else { 0 } | condition::flag();
    if slot.source_is_high == by_initiator {
        new.flags |= Connection::HIGH_INITIATED;
    }
}

/// A packet of a connection that the generation in force has judged, at its known place.
#[inline(always)]
fn established(
    entry: *mut Connection,
    packet: &Packet,
    slot: &Slot,
    judgement: &mut Judgement,
    now: u64,
) -> Reason {
    // SAFETY: entries lie in the map, which lives as long as the program runs.
    let connection = unsafe { &*entry };
    let initiator = conntrack::from_initiator(connection, slot);
    conntrack::advance(entry, packet, initiator, now);
    if packet.fragment == Fragment::First {
        fragments::record(packet, now);
    }
    note(connection, initiator, judgement)
}

/// Notes what is known of a connection in the judgement on its packet.
#[inline(always)]
fn note(connection: &Connection, initiator: bool, judgement: &mut Judgement) -> Reason {
    judgement.rule = connection.rule;
    if initiator {
        judgement.source = connection.segment[0];
        judgement.destination = connection.segment[1];
    } else {
        judgement.source = connection.segment[1];
        judgement.destination = connection.segment[0];
    }
    Reason::Established
}

/// ARP, and the EtherTypes that the segment lists.
#[inline(always)]
fn not_ip(context: &XdpContext, link: &Link, place: &Place, now: u64) -> Result<Reason, Reason> {
    if link.ethertype == ethertype::ARP {
        return neighbour::arp(context, link, place, now);
    }
    let key = u32::from(place.segment) << 16 | u32::from(link.ethertype);
    // SAFETY: as for the places.
    match unsafe { ETHERTYPES.get(key) } {
        Some(_) => Ok(Reason::EtherType),
        None if place::is_of_bond(context, link, place) => Ok(Reason::EtherType),
        None => Err(Reason::UnlistedEtherType),
    }
}

#[inline(always)]
fn service_of(packet: &Packet) -> ServiceKey {
    ServiceKey {
        protocol: packet.protocol,
        icmp_type: packet.icmp_type,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
    }
}
