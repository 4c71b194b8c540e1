//! Random packets, as bytes that carry a serial number.

use std::net::IpAddr;

use clinigate::oracle::packet::{Fragment, Packet, Payload, flag};
use clinigate::packet::{PacketView, Transport};
use clinigate::policy::model::{Policy, Ranges, SegmentId};
use clinigate::testing::frames;
use clinigate::testing::packets::{self, Edges, Port};
use proptest::prelude::*;

/// Hardware address of everybody who sends.
pub(crate) const SENDER: [u8; 6] = [0x02, 0, 0, 0, 0, 2];

/// Random choices that become a packet.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    packet: packets::Draw,
    kind: Kind,
    flags: u8,
    hop_limit: u8,
    target: u8,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// For rules.
    Any,
    /// ICMP error of this type.
    Error(u8),
    /// Neighbour discovery or group membership, of this ICMPv6 type. On its link or not.
    Link(u8, bool),
}

pub(crate) fn draw() -> impl Strategy<Value = Draw> {
    let flags = prop::sample::select(vec![
        flag::SYN,
        flag::SYN,
        flag::SYN,
        flag::ACK,
        flag::SYN | flag::ACK,
        flag::FIN | flag::ACK,
        flag::RST,
    ]);
    let of_link = prop::sample::select(vec![130u8, 132, 133, 134, 135, 136, 136, 137, 143]);
    let kind = prop_oneof![
        16 => Just(Kind::Any),
        1 => prop::sample::select(vec![1u8, 2, 3, 4, 5, 11, 12]).prop_map(Kind::Error),
        3 => (of_link, any::<bool>()).prop_map(|(kind, on_link)| Kind::Link(kind, on_link)),
    ];
    let hop_limit = prop::sample::select(vec![1u8, 64, 255, 255]);
    (packets::draw(), kind, flags, hop_limit, 0..4u8)
        .prop_map(|(packet, kind, flags, hop_limit, target)| Draw { packet, kind, flags, hop_limit, target })
}

/// The place and the packet that `draw` means.
pub(crate) fn packet(edges: &Edges<'_>, draw: &Draw) -> (Port, Packet) {
    let (port, view) = edges.packet(&draw.packet);
    let target = match draw.target {
        0 => Some(view.source),
        1 => Some(view.destination),
        2 => Some("fe80::5".parse().unwrap()),
        _ => None,
    };
    let destination = match draw.kind {
        Kind::Link(_, true) if view.source.is_ipv6() => "ff02::1".parse().unwrap(),
        Kind::Link(_, true) => "224.0.0.22".parse().unwrap(),
        _ => view.destination,
    };
    let payload = match draw.kind {
        Kind::Link(kind, _) if view.source.is_ipv6() => icmp(&view, kind, target),
        // Group membership has no type that anybody looks at.
        Kind::Link(..) => Payload::Other(2),
        Kind::Error(kind) => icmp(&view, kind, target),
        Kind::Any => payload(&view, draw.flags, target),
    };
    let packet = Packet {
        source: view.source,
        destination,
        hop_limit: draw.hop_limit,
        fragment: Fragment::Whole,
        payload,
    };
    (port.clone(), packet)
}

fn payload(view: &PacketView, flags: u8, target: Option<IpAddr>) -> Payload {
    match view.transport {
        Transport::Tcp { source, destination } => Payload::Tcp { source, destination, flags },
        Transport::Udp { source, destination } => Payload::Udp { source, destination },
        Transport::Icmp(kind) | Transport::Icmpv6(kind) => icmp(view, kind, target),
        // Numbers of IPv6 extension headers are no protocols there.
        Transport::Other(0 | 51) if view.source.is_ipv6() => Payload::Other(47),
        Transport::Other(protocol) => Payload::Other(protocol),
    }
}

fn icmp(view: &PacketView, kind: u8, target: Option<IpAddr>) -> Payload {
    match (view.source.is_ipv4(), kind) {
        (true, 0 | 8) | (false, 128 | 129) => {
            Payload::Echo { request: matches!(kind, 8 | 128), identifier: 7 }
        }
        (true, 3 | 11 | 12) | (false, 1..=4) => Payload::Error { kind, quotes: None },
        (false, 133..=137) => {
            let target = target.filter(|target| target.is_ipv6() && matches!(kind, 135 | 136));
            Payload::Neighbour { kind, target }
        }
        _ => Payload::Icmp(kind),
    }
}

/// Name of the device on which the kernel sees what arrives at a place.
pub(crate) fn device(port: &Port) -> String {
    let Port { interface, outer, vlan } = port;
    match (outer, vlan) {
        (0, 0) => interface.clone(),
        (0, tag) | (tag, 0) => format!("{interface}.{tag}"),
        (outer, vlan) => format!("{interface}.{outer}.{vlan}"),
    }
}

/// The frame of a packet behind its tags, with `serial` in the identification of IPv4 or the flow label
/// of IPv6, which nobody judges.
pub(crate) fn frame(packet: &Packet, serial: u16) -> Vec<u8> {
    let untagged = Port { interface: String::new(), outer: 0, vlan: 0 };
    let mut frame = frames::frame(&untagged, SENDER, packet);
    let header = &mut frame[14..];
    if packet.source.is_ipv4() {
        header[4..6].copy_from_slice(&serial.to_be_bytes());
        let sum: u32 =
            header[..20].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        header[10..12].copy_from_slice(&(!u16::try_from(folded).unwrap()).to_be_bytes());
    } else {
        header[2..4].copy_from_slice(&serial.to_be_bytes());
    }
    frame
}

/// Gives the gateway single addresses of those that it has, and returns them: what an interface may
/// bear.
pub(crate) fn make_local(policy: &mut Policy) -> Vec<IpAddr> {
    let ranges = &mut policy.segments[usize::from(SegmentId::GATEWAY.0)].ranges;
    let may_bear = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..) && !v4.is_link_local(),
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            !(v6.to_bits() < 1 << 64 || first >= 0xfe80)
        }
    };
    let local: Vec<IpAddr> = ranges.firsts().filter(may_bear).collect();
    *ranges = Ranges::default();
    for address in &local {
        match address {
            IpAddr::V4(v4) => ranges.v4.push((v4.to_bits(), v4.to_bits())),
            IpAddr::V6(v6) => ranges.v6.push((v6.to_bits(), v6.to_bits())),
        }
    }
    local
}
