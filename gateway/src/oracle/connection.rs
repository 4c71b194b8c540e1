//! Connections, their states and their time.
//!
//! Decided here, and the same in the datapath:
//! - A packet moves a connection's end by the timeout of its state; where the state stays, only by
//!   steps of more than a second.
//! - A reset makes a connection short-lived and does not end it: only the ends know whether it was
//!   theirs (RFC 5961). A segment that follows brings it back. The initiator's own, before anybody has
//!   answered, changes nothing: else a segment after it would bring to life what nobody took up.
//! - A plain SYN on the ends of a connection that is closing or reset asks for a new one, which is
//!   judged like any; so does the responder's where it is established.
//! - A connection that is taken up in its middle waits for its other end as one that has just begun does.
//! - A connection lives in the tunnel that its initiator's last packet came through. What its initiator sends is judged
//!   by how it arrives: what comes by another way and is not allowed is refused, and changes nothing about it.
//! - An echo connection has the initiator's requests and the responder's replies. A request of the
//!   responder with the same identifier is no part of it.

use gateway_common::connection::State;

use crate::packet::Arrival;
use crate::policy::model::{RuleId, Settings};

use super::packet::{Flow, Packet, Payload, flag};
use super::source::Party;

/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its packets in the direction of the initiator.
    pub flow: Flow,
    /// The initiator, as rules saw it last.
    pub initiator: Party,
    /// Where the initiator's last packet arrived: interface, outer and inner VLAN identifier. `None` until one has, since
    /// another generation judged it if neither time nor way had a say.
    pub place: Option<(String, u16, u16)>,
    /// The responder, once the generation in force has heard it.
    pub responder: Option<Party>,
    /// Its state.
    pub state: State,
    /// Nanoseconds at which it ends unless a packet comes before.
    pub expires: u64,
    /// Generation that judged it last; 0 where none has.
    pub generation: u32,
    /// Rule that allows it; `None` for the gateway's own.
    pub rule: Option<RuleId>,
    /// The gateway opened it.
    pub of_gateway: bool,
    /// The time, or the way that its packets arrive, had a say when it was judged last: each of its packets has it
    /// judged again.
    pub bound: bool,
    /// It was taken up in its middle.
    pub midstream: bool,
    /// FIN seen from the initiator and from the responder.
    pub fin: [bool; 2],
}

/// The state in which its first packet, the initiator's or not, puts a connection.
pub(super) fn first_state(packet: &Packet, by_initiator: bool) -> State {
    match packet.payload {
        Payload::Tcp { .. } if by_initiator => State::SynSent,
        Payload::Tcp { .. } => State::SynReceived,
        Payload::Udp { .. } => State::UdpNew,
        Payload::Echo { .. } => State::Echo,
        _ => State::Other,
    }
}

/// Nanoseconds that a connection in `state` lives without a packet.
pub(super) fn lifetime(state: State, settings: &Settings) -> u64 {
    u64::from(settings.timeouts[state as usize]) * SECOND
}

impl Connection {
    /// Where the initiator's last packet arrived, as far as that is known.
    pub(super) fn seen(&self) -> Option<Arrival<'_>> {
        let (interface, outer, vlan) = self.place.as_ref()?;
        Some(Arrival { interface, outer: *outer, vlan: *vlan })
    }

    /// Whether `packet`, whose ends are the connection's, is part of it.
    pub(super) fn has(&self, packet: &Packet) -> bool {
        match packet.payload {
            Payload::Echo { request, .. } if !packet.is_later() => request == self.is_from_initiator(packet),
            _ => true,
        }
    }

    /// Whether the packet asks for a new connection in place of this one.
    pub(super) fn is_reopened_by(&self, packet: &Packet) -> bool {
        let is_closed = matches!(self.state, State::FinWait | State::Closing | State::Reset);
        let is_others = self.state == State::Established && !self.is_from_initiator(packet);
        packet.is_opening() && (is_closed || is_others)
    }

    /// Whether the packet comes from the initiator.
    pub(super) fn is_from_initiator(&self, packet: &Packet) -> bool {
        packet.flow().is_some_and(|flow| flow.source == self.flow.source)
    }

    /// Moves on by a packet that is part of the connection.
    pub(super) fn advance(&mut self, packet: &Packet, now: u64, settings: &Settings) {
        let from_initiator = self.is_from_initiator(packet);
        let state = match packet.payload {
            Payload::Tcp { flags, .. } if !packet.is_later() => self.after_segment(flags, from_initiator),
            Payload::Udp { .. } if !from_initiator => State::UdpStream,
            _ => self.state,
        };
        let expires = now + lifetime(state, settings);
        if state != self.state || expires > self.expires + SECOND {
            self.expires = expires;
        }
        self.state = state;
    }

    fn after_segment(&mut self, flags: u8, from_initiator: bool) -> State {
        let has = |flag: u8| flags & flag != 0;
        if has(flag::FIN) {
            self.fin[usize::from(!from_initiator)] = true;
        }
        if has(flag::RST) {
            let unanswered = self.state == State::SynSent && from_initiator;
            return if unanswered { State::SynSent } else { State::Reset };
        }
        match self.state {
            State::SynSent if has(flag::SYN) && !from_initiator => State::SynReceived,
            State::SynSent if self.midstream && !from_initiator => State::Established,
            State::SynSent => State::SynSent,
            State::SynReceived if has(flag::ACK) && !has(flag::SYN) && from_initiator => State::Established,
            State::SynReceived => State::SynReceived,
            _ => match self.fin {
                [true, true] => State::Closing,
                [false, false] => State::Established,
                _ => State::FinWait,
            },
        }
    }
}
