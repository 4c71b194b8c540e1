//! A connection meets another generation.

use gateway_common::connection::{Connection, State};
use gateway_common::place::SEGMENT_GATEWAY;
use gateway_common::reason::Reason;
use gateway_common::table::Atom;

use crate::classify::{self, ServiceKey};
use crate::packet::protocol;
use crate::work::Judgement;
use crate::{condition, config, conntrack, health, place, transport, verdict};

/// Judges a connection by the generation in force, or by time and way if those decide about it: it stays, or it
/// ends here. `arrives`: its packet comes from the initiator's side. One that comes by another way than the connection
/// lives in, and is not allowed to, is refused, and changes nothing: else whoever forges a packet would end the
/// connection of a tunnel.
#[inline(never)]
pub(crate) fn revalidate(
    connection: &mut Connection,
    judgement: &mut Judgement,
    arrives: bool,
) -> Result<(), Reason> {
    let high_initiated = connection.flags & Connection::HIGH_INITIATED != 0;
    let key = &connection.key;
    let (from, to, source_port, destination_port) = if high_initiated {
        (key.high, key.low, key.high_port, key.low_port)
    } else {
        (key.low, key.high, key.low_port, key.high_port)
    };
    let mut source = classify::atom(from).ok_or(Reason::Internal)?;
    let destination = classify::atom(to).ok_or(Reason::Internal)?;
    // Whose address is good in every segment is known by its place alone.
    let is_new = connection.generation != config::generation();
    let mut forgets = false;
    let is_of_gateway = connection.flags & Connection::GATEWAY != 0;
    // An address that the gateway has lost may be anybody's by now. One that it has just got may not have
    // come into force yet.
    if is_of_gateway && connection.generation != 0 && source.segment != SEGMENT_GATEWAY {
        return Err(revoke(connection));
    }
    if !is_of_gateway && source.flags & (Atom::LINK_LOCAL | Atom::UNSPECIFIED) != 0 {
        // It reaches no further than the gateway, which may have lost the address that it opened this to.
        let place =
            if destination.segment == SEGMENT_GATEWAY { place::of_initiator(connection) } else { None };
        let Some(place) = place else { return Err(revoke(connection)) };
        source = classify::atom_by_number(place.link_atom).ok_or(Reason::Internal)?;
        if is_new {
            connection.ifindex[1] = 0;
        }
    } else if is_new {
        // Both sides show their place anew before they are believed.
        if config::ways() == 1 {
            connection.ifindex[1] = 0;
            forgets = true;
        } else {
            connection.ifindex = [0; 2];
        }
    }
    if !is_of_gateway {
        let (way, own) = (condition::way(), own_way(connection));
        if config::ways() == 1 && !arrives {
            condition::arrive(own);
        }
        let is_icmp = connection.state == State::Echo as u8;
        let icmp_type = if !is_icmp {
            0
        } else if key.protocol == protocol::ICMP {
            transport::icmp::ECHO
        } else {
            transport::icmpv6::ECHO
        };
        let service = ServiceKey { protocol: key.protocol, icmp_type, source_port, destination_port };
        let cell = classify::decide(&source, &destination, &service).ok_or(Reason::Internal)?;
        judgement.rule = cell.rule();
        if !cell.is_allow() {
            if config::ways() == 1 && arrives && own != 0 && own != way {
                return Err(verdict::refusal(cell));
            }
            return Err(revoke(connection));
        }
        connection.rule = cell.rule();
        condition::bind(connection);
        condition::arrive(way);
        // One that is bound is judged, and its sender too, at each packet: its place says where it lives.
        if config::ways() == 1 && forgets && !condition::binds(connection) {
            connection.ifindex[0] = 0;
        }
    }
    // Within a generation no end moves; and the segment of one that bears a link-local address was learnt from
    // where it sends.
    if !is_new {
        return Ok(());
    }
    connection.segment = [source.segment, destination.segment];
    connection.generation = config::generation();
    health::bump(|health| &raw mut health.connections_revalidated);
    Ok(())
}

/// The way of the place where the initiator's last packet arrived; 0 where it is not known.
#[inline(always)]
fn own_way(connection: &Connection) -> u32 {
    if config::ways() == 0 {
        return 0;
    }
    place::of_initiator(connection).map_or(0, |place| u32::from(place.way()))
}

#[inline(always)]
fn revoke(connection: &mut Connection) -> Reason {
    conntrack::remove(connection);
    health::bump(|health| &raw mut health.connections_revoked);
    Reason::Revoked
}
