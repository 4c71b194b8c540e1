//! A whole packet, as far as decisions with state look at it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::packet::{PacketView, Transport};

/// A packet that could be parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address; of the same family.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Which part of a datagram it is.
    pub fragment: Fragment,
    /// What the datagram carries. Of a later fragment only its protocol number counts.
    pub payload: Payload,
}

/// Which part of a datagram a packet is, with the datagram's identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first of several.
    First(u32),
    /// One of the others.
    Later(u32),
}

/// What a datagram carries. Ports and identifiers in host byte order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// TCP, with a sane combination of flags.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Flags byte of the header.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP or ICMPv6 echo, by the family.
    Echo {
        /// A request, not a reply.
        request: bool,
        /// Identifier.
        identifier: u16,
    },
    /// ICMP or ICMPv6 error.
    Error {
        /// Type: 3, 11, 12; over IPv6 1 to 4.
        kind: u8,
        /// The packet that it quotes; `None` where that cannot belong to a connection: a later
        /// fragment, or ICMP that is not echo.
        quotes: Option<Flow>,
    },
    /// Neighbour discovery (ICMPv6 133 to 137, code 0).
    Neighbour {
        /// Type.
        kind: u8,
        /// Target of a solicitation or an advertisement.
        target: Option<IpAddr>,
    },
    /// Any other ICMP or ICMPv6.
    Icmp(u8),
    /// Any other protocol, by number.
    Other(u8),
}

/// Both ends of a packet and its protocol. Ports are the identifier for echo, and 0 for protocols
/// without ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// Source address and port.
    pub source: (IpAddr, u16),
    /// Destination address and port.
    pub destination: (IpAddr, u16),
    /// IP protocol number.
    pub protocol: u8,
}

/// TCP flags (RFC 9293, 3.1).
pub mod flag {
    /// No more from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Acknowledgement.
    pub const ACK: u8 = 0x10;
}

impl Packet {
    /// IP protocol number.
    pub fn protocol(&self) -> u8 {
        match self.payload {
            Payload::Tcp { .. } => 6,
            Payload::Udp { .. } => 17,
            Payload::Other(protocol) => protocol,
            Payload::Echo { .. } | Payload::Error { .. } | Payload::Neighbour { .. } | Payload::Icmp(_) => {
                if self.source.is_ipv4() {
                    1
                } else {
                    58
                }
            }
        }
    }

    /// What the packet would be to a rule.
    pub fn view(&self) -> PacketView {
        let icmp = |kind| if self.source.is_ipv4() { Transport::Icmp(kind) } else { Transport::Icmpv6(kind) };
        let transport = match self.payload {
            Payload::Tcp { source, destination, .. } => Transport::Tcp { source, destination },
            Payload::Udp { source, destination } => Transport::Udp { source, destination },
            Payload::Echo { request, .. } => icmp(echo_type(self.source.is_ipv4(), request)),
            Payload::Error { kind, .. } | Payload::Neighbour { kind, .. } | Payload::Icmp(kind) => icmp(kind),
            Payload::Other(protocol) => Transport::Other(protocol),
        };
        PacketView { source: self.source, destination: self.destination, transport }
    }

    /// The connection that the packet could belong to: none for ICMP other than echo.
    pub fn flow(&self) -> Option<Flow> {
        let (source, destination) = match self.payload {
            Payload::Tcp { source, destination, .. } | Payload::Udp { source, destination } => {
                (source, destination)
            }
            Payload::Echo { identifier, .. } => (identifier, identifier),
            Payload::Other(_) => (0, 0),
            Payload::Error { .. } | Payload::Neighbour { .. } | Payload::Icmp(_) => return None,
        };
        let protocol = self.protocol();
        Some(Flow { source: (self.source, source), destination: (self.destination, destination), protocol })
    }

    /// A plain SYN, which may open a connection.
    pub fn is_opening(&self) -> bool {
        let mask = flag::SYN | flag::ACK | flag::RST | flag::FIN;
        !self.is_later() && matches!(self.payload, Payload::Tcp { flags, .. } if flags & mask == flag::SYN)
    }

    /// Whether it is a fragment other than the first.
    pub fn is_later(&self) -> bool {
        matches!(self.fragment, Fragment::Later(_))
    }
}

/// Type of an echo request or reply.
pub(super) fn echo_type(is_v4: bool, request: bool) -> u8 {
    match (is_v4, request) {
        (true, true) => 8,
        (true, false) => 0,
        (false, true) => 128,
        (false, false) => 129,
    }
}
