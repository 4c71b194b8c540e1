//! The states of connections: TCP (RFC 9293), UDP, echo, and what goes on with which.

use gateway_common::connection::{Connection, State};

use super::Slot;
use crate::packet::{Fragment, Packet, protocol};
use crate::transport::flag;
use crate::{config, transport};

/// Whether `packet` comes from the end that opened the connection.
#[inline(always)]
pub(crate) fn from_initiator(connection: &Connection, slot: &Slot) -> bool {
    (connection.flags & Connection::HIGH_INITIATED != 0) == slot.source_is_high
}

/// The state in which a first packet puts a connection. `answers`: it is the responder's, of one that is
/// taken up in its middle.
#[inline(always)]
pub(crate) fn first_state(protocol: u8, answers: bool) -> State {
    match protocol {
        protocol::TCP if answers => State::SynReceived,
        protocol::TCP => State::SynSent,
        protocol::UDP => State::UdpNew,
        protocol::ICMP | protocol::ICMPV6 => State::Echo,
        _ => State::Other,
    }
}

/// A SYN that may open a connection.
#[inline(always)]
pub(crate) fn is_opening(packet: &Packet) -> bool {
    packet.tcp_flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN
}

/// Whether a packet goes on with the connection that its addresses name: not where it asks for a new
/// one on the ends of one that has closed, or as the other end of one that is established; nor where
/// an echo goes the way of replies, or is none at all (an ICMP message without an identifier has the
/// key of the echo with identifier 0).
#[inline(always)]
pub(crate) fn continues(connection: &Connection, slot: &Slot, packet: &Packet) -> bool {
    if packet.fragment == Fragment::Later {
        return true;
    }
    if packet.protocol == protocol::TCP {
        let established = connection.state == State::Established as u8;
        if established && is_opening(packet) && !from_initiator(connection, slot) {
            return false;
        }
        let closed = connection.state == State::FinWait as u8
            || connection.state == State::Closing as u8
            || connection.state == State::Reset as u8;
        return !(closed && is_opening(packet));
    }
    if connection.state == State::Echo as u8 {
        return transport::is_echo(packet)
            && transport::is_echo_request(packet) == from_initiator(connection, slot);
    }
    true
}

/// Whether a packet changes nothing about its connection but its end.
#[inline(always)]
pub(crate) fn is_steady(connection: &Connection, from_initiator: bool, packet: &Packet) -> bool {
    if packet.protocol == protocol::TCP {
        // One that was closed by an end before its handshake was over is about to leave the state.
        connection.state == State::Established as u8
            && connection.flags & (Connection::FIN_INITIATOR | Connection::FIN_RESPONDER) == 0
            && packet.tcp_flags & (flag::SYN | flag::FIN | flag::RST) == 0
            && packet.fragment == Fragment::Whole
    } else {
        packet.protocol == protocol::UDP
            && packet.fragment == Fragment::Whole
            && (connection.state == State::UdpStream as u8
                || (connection.state == State::UdpNew as u8 && from_initiator))
    }
}

/// Moves a connection on by a packet, and its end into the future.
#[inline(always)]
pub(crate) fn advance(entry: *mut Connection, packet: &Packet, from_initiator: bool, now: u64) {
    // SAFETY: an entry that `find` returned. Two CPUs may write the same entry at once, each a whole
    // field: the later one stands, and the next packet mends what was lost.
    unsafe {
        let old = (*entry).state;
        let mut state = old;
        if packet.protocol == protocol::TCP {
            if packet.fragment != Fragment::Later {
                let flags = (*entry).flags;
                let closing = flags | fin(packet, from_initiator);
                if closing != flags {
                    (*entry).flags = closing;
                }
                state = tcp(old, packet.tcp_flags, closing, from_initiator);
            }
        } else if old == State::UdpNew as u8 && !from_initiator {
            state = State::UdpStream as u8;
        }
        if state != old {
            (*entry).state = state;
            (*entry).expires = now + config::timeout(state);
        }
    }
    prolong(entry, now);
}

/// Moves the end of a connection into the future.
#[inline(always)]
pub(crate) fn prolong(entry: *mut Connection, now: u64) {
    // SAFETY: as above.
    unsafe {
        let expires = now + config::timeout((*entry).state);
        // Seconds are precise enough: a store that both directions' CPUs fight over costs more than
        // the decision.
        if expires > (*entry).expires + 1_000_000_000 {
            (*entry).expires = expires;
        }
    }
}

#[inline(always)]
const fn fin(packet: &Packet, from_initiator: bool) -> u8 {
    if packet.tcp_flags & flag::FIN == 0 {
        0
    } else if from_initiator {
        Connection::FIN_INITIATOR
    } else {
        Connection::FIN_RESPONDER
    }
}

/// The state after a TCP segment with `flags`; `closing` has the connection's flags with the FIN bits of this
/// segment. One that was taken up in its middle had its handshake before: it waits for its other end only.
///
/// A reset shortens the connection's life to seconds and does not end it: the ends know best whether
/// the reset was theirs (RFC 5961), and a segment that follows shows that it was not.
#[inline(always)]
fn tcp(state: u8, flags: u8, closing: u8, from_initiator: bool) -> u8 {
    const BOTH: u8 = Connection::FIN_INITIATOR | Connection::FIN_RESPONDER;
    if flags & flag::RST != 0 {
        // An initiator that nobody has answered cannot reset its way to a connection that lives for a day.
        let unanswered = state == State::SynSent as u8 && from_initiator;
        return if unanswered { state } else { State::Reset as u8 };
    }
    if state == State::SynSent as u8 {
        if flags & flag::SYN != 0 && !from_initiator {
            return State::SynReceived as u8;
        }
        if closing & Connection::MIDSTREAM != 0 && !from_initiator {
            return State::Established as u8;
        }
        return state;
    }
    if state == State::SynReceived as u8 {
        if flags & (flag::SYN | flag::ACK) != flag::ACK || !from_initiator {
            return state;
        }
        return State::Established as u8;
    }
    if closing & BOTH == BOTH {
        State::Closing as u8
    } else if closing & BOTH != 0 {
        State::FinWait as u8
    } else {
        State::Established as u8
    }
}
