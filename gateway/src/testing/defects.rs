//! Packets that cannot be parsed: one defect each, and the reason that it must be dropped for.

use std::net::IpAddr;

use gateway_common::reason::Reason;
use serde::{Deserialize, Serialize};

use super::frames;
use super::packets::Port;
use crate::oracle::packet::{Fragment, Packet, Payload};

/// A defect of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Defect {
    /// The frame ends within the IP header.
    CutHeader,
    /// The frame ends before the packet does.
    CutEnd,
    /// The version in the header is another one.
    Version,
    /// IPv4: shorter than its own header.
    TotalLength,
    /// IPv4 loose source route; IPv6 routing header of type 0.
    SourceRoute,
    /// IPv6: a routing header with a segment left.
    SegmentsLeft,
    /// IPv6: more extension headers than are walked.
    ManyExtensions,
    /// IPv6: hop-by-hop options behind another header.
    LateHopByHop,
    /// SYN and FIN.
    TcpFlags,
    /// A TCP header shorter than it can be.
    TcpHeader,
    /// A UDP datagram shorter than its header.
    UdpLength,
    /// ICMPv6 in IPv4, or the reverse.
    WrongIcmp,
    /// A first fragment too short for its transport header.
    ShortFirst,
    /// A later fragment that would rewrite a TCP header; over IPv6 whatever it says it carries.
    Overlap,
    /// IPv6: a first fragment with an extension header behind the fragment header.
    ExtensionInFirst,
}

impl Defect {
    /// Every defect.
    pub const ALL: [Self; 15] = [
        Self::CutHeader,
        Self::CutEnd,
        Self::Version,
        Self::TotalLength,
        Self::SourceRoute,
        Self::SegmentsLeft,
        Self::ManyExtensions,
        Self::LateHopByHop,
        Self::TcpFlags,
        Self::TcpHeader,
        Self::UdpLength,
        Self::WrongIcmp,
        Self::ShortFirst,
        Self::Overlap,
        Self::ExtensionInFirst,
    ];

    /// The reason for which `packet` with this defect is dropped, and its destination where that can
    /// still be read. `None` where such a packet cannot have this defect.
    pub fn reason(self, packet: &Packet) -> Option<(Reason, Option<IpAddr>)> {
        let is_v4 = packet.source.is_ipv4();
        let is_mapped = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        let malformed = if is_v4 { Reason::MalformedIpv4 } else { Reason::MalformedIpv6 };
        let is_first = matches!(packet.fragment, Fragment::First(_));
        let is_whole = packet.fragment == Fragment::Whole;
        let reason = match (self, &packet.payload) {
            (Self::CutHeader, _) => return Some((Reason::Truncated, None)),
            (Self::Version, _) => return Some((malformed, None)),
            (Self::CutEnd, _) => Reason::Truncated,
            (Self::TotalLength, _) if is_v4 => malformed,
            (Self::SourceRoute, _) => Reason::SourceRoute,
            (Self::SegmentsLeft, _) if !is_v4 => Reason::SourceRoute,
            (Self::ManyExtensions, _) if !is_v4 => Reason::ExtensionHeaders,
            (Self::LateHopByHop, _) if !is_v4 => malformed,
            (Self::TcpFlags, Payload::Tcp { .. }) if !packet.is_later() => Reason::TcpFlags,
            (Self::TcpHeader, Payload::Tcp { .. }) if is_whole => Reason::MalformedTransport,
            (Self::TcpHeader, Payload::Tcp { .. }) if is_first => Reason::InvalidFragment,
            (Self::UdpLength, Payload::Udp { .. }) | (Self::WrongIcmp, _) if !packet.is_later() => {
                Reason::MalformedTransport
            }
            (Self::ShortFirst, Payload::Tcp { .. } | Payload::Udp { .. }) if is_first => {
                Reason::InvalidFragment
            }
            (Self::Overlap, Payload::Tcp { .. }) if packet.is_later() => Reason::InvalidFragment,
            (Self::Overlap, _) if packet.is_later() && !is_v4 => Reason::InvalidFragment,
            (Self::ExtensionInFirst, _) if is_first && !is_v4 => Reason::InvalidFragment,
            _ => return None,
        };
        let reason =
            if is_mapped(packet.source) || is_mapped(packet.destination) { Reason::Martian } else { reason };
        Some((reason, Some(packet.destination)))
    }

    /// The frame of `packet` with this defect, which it can have.
    pub fn frame(self, port: &Port, sender: [u8; 6], packet: &Packet) -> Vec<u8> {
        let is_v4 = packet.source.is_ipv4();
        let mut packet = packet.clone();
        match (self, &mut packet.payload) {
            (Self::WrongIcmp, payload) => *payload = Payload::Other(if is_v4 { 58 } else { 1 }),
            (Self::TcpFlags, Payload::Tcp { flags, .. }) => *flags |= 0x03,
            _ => {}
        }
        let whole = frames::frame(port, sender, &packet);
        let tags = usize::from(port.outer != 0) + usize::from(port.outer != 0 || port.vlan != 0);
        let (link, network) = whole.split_at(14 + 4 * tags);
        let mut network = network.to_vec();
        let header = if is_v4 { 20 } else { 40 };
        let fragmented = usize::from(packet.fragment != Fragment::Whole && !is_v4);
        let transport = header + 8 * fragmented;
        match self {
            Self::CutHeader => network.truncate(header - 1),
            Self::CutEnd => network.truncate(network.len() - 1),
            Self::Version => network[0] ^= 0x10,
            Self::TotalLength => network[2..4].copy_from_slice(&19u16.to_be_bytes()),
            Self::SourceRoute if is_v4 => insert_options(&mut network, [131, 3, 4, 0]),
            Self::SourceRoute => insert_extension(&mut network, 43, [0, 0, 0, 0, 0, 0, 0, 0]),
            Self::SegmentsLeft => insert_extension(&mut network, 43, [0, 0, 4, 1, 0, 0, 0, 0]),
            Self::ManyExtensions => {
                for _ in 0..7 {
                    insert_extension(&mut network, 60, [0, 0, 1, 4, 0, 0, 0, 0]);
                }
            }
            Self::LateHopByHop => {
                insert_extension(&mut network, 0, [0, 0, 1, 4, 0, 0, 0, 0]);
                insert_extension(&mut network, 60, [0, 0, 1, 4, 0, 0, 0, 0]);
            }
            Self::TcpHeader => network[transport + 12] = 0x40,
            Self::UdpLength => network[transport + 4..transport + 6].copy_from_slice(&7u16.to_be_bytes()),
            Self::ShortFirst => {
                network.truncate(transport + 4);
                set_length(&mut network, is_v4);
            }
            Self::Overlap if is_v4 => network[7] = 1,
            Self::Overlap => network[header + 2..header + 4].copy_from_slice(&(2u16 << 3).to_be_bytes()),
            Self::ExtensionInFirst => {
                let next = std::mem::replace(&mut network[header], 60);
                network.splice(transport..transport, [next, 0, 1, 4, 0, 0, 0, 0]);
                set_length(&mut network, false);
            }
            Self::TcpFlags | Self::WrongIcmp => {}
        }
        [link, &network].concat()
    }
}

fn insert_options(network: &mut Vec<u8>, options: [u8; 4]) {
    network[0] += 1;
    network.splice(20..20, options);
    set_length(network, true);
}

/// Puts an extension header behind the IPv6 header.
fn insert_extension(network: &mut Vec<u8>, number: u8, mut header: [u8; 8]) {
    header[0] = network[6];
    network[6] = number;
    network.splice(40..40, header);
    set_length(network, false);
}

fn set_length(network: &mut [u8], is_v4: bool) {
    let (at, length) = if is_v4 { (2, network.len()) } else { (4, network.len() - 40) };
    let length = u16::try_from(length).expect("test packets are short");
    network[at..at + 2].copy_from_slice(&length.to_be_bytes());
}
