//! Packets as bytes on the wire. Checksums are zero: the datapath leaves them to the ends.

use std::net::IpAddr;

use super::packets::Port;
use crate::oracle::packet::{Flow, Fragment, Packet, Payload};

/// The frame of a packet that arrives at `port` from `sender`, an Ethernet address.
pub fn frame(port: &Port, sender: [u8; 6], packet: &Packet) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1];
    frame.extend(sender);
    if port.outer != 0 {
        push(&mut frame, [0x88a8, port.outer]);
    }
    if port.outer != 0 || port.vlan != 0 {
        push(&mut frame, [0x8100, port.vlan]);
    }
    push(&mut frame, [if packet.source.is_ipv4() { 0x0800 } else { 0x86dd }]);
    let body = if packet.is_later() { vec![0; 32] } else { body(packet) };
    frame.extend(ip(packet, &body));
    frame
}

fn push<const N: usize>(bytes: &mut Vec<u8>, words: [u16; N]) {
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

/// The packet's IP header (or headers), then `body`.
fn ip(packet: &Packet, body: &[u8]) -> Vec<u8> {
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (identification, fragment) = match packet.fragment {
                Fragment::Whole => (0, 0),
                Fragment::First(identification) => (identification, 0x2000),
                Fragment::Later(identification) => (identification, 100),
            };
            let mut bytes = vec![0x45, 0];
            push(&mut bytes, [length(20 + body.len()), low(identification), fragment]);
            bytes.extend([packet.hop_limit, packet.protocol(), 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend(body);
            bytes
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut rest = Vec::new();
            let mut next = packet.protocol();
            if let Fragment::First(identification) | Fragment::Later(identification) = packet.fragment {
                rest.extend([next, 0]);
                push(&mut rest, [if packet.is_later() { 100 << 3 } else { 1 }]);
                rest.extend(identification.to_be_bytes());
                next = 44;
            }
            rest.extend(body);
            let mut bytes = vec![0x60, 0, 0, 0];
            push(&mut bytes, [length(rest.len())]);
            bytes.extend([next, packet.hop_limit]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend(rest);
            bytes
        }
        mixed => panic!("a packet has addresses of one family, not {mixed:?}"),
    }
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("test packets are short")
}

fn low(identification: u32) -> u16 {
    u16::try_from(identification).expect("IPv4 identifications have 16 bits")
}

/// Transport header and a little payload.
fn body(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    match packet.payload {
        Payload::Tcp { source, destination, flags } => {
            push(&mut bytes, [source, destination, 0, 1, 0, 1]);
            bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Payload::Udp { source, destination } => push(&mut bytes, [source, destination, 8, 0]),
        Payload::Echo { identifier, .. } => {
            bytes.extend([icmp_type(packet), 0, 0, 0]);
            push(&mut bytes, [identifier, 1]);
        }
        Payload::Error { kind, quotes } => {
            bytes.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend(quote(packet, quotes));
        }
        Payload::Neighbour { kind, target } => {
            bytes.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
            if let Some(IpAddr::V6(target)) = target {
                bytes.extend(target.octets());
            }
        }
        Payload::Icmp(kind) => bytes.extend([kind, 0, 0, 0, 0xab, 0xcd, 0, 0]),
        Payload::Other(_) => bytes.extend([0; 8]),
    }
    bytes
}

fn icmp_type(packet: &Packet) -> u8 {
    match packet.view().transport {
        crate::packet::Transport::Icmp(kind) | crate::packet::Transport::Icmpv6(kind) => kind,
        other => panic!("echo is ICMP, not {other:?}"),
    }
}

/// The packet that an error quotes; one that is no part of any connection where `quotes` is `None`.
fn quote(error: &Packet, quotes: Option<Flow>) -> Vec<u8> {
    let (source, destination, payload) = match quotes {
        None => (error.destination, error.source, Payload::Icmp(13)),
        Some(flow) => {
            let (source, destination) = (flow.source.1, flow.destination.1);
            let payload = match flow.protocol {
                6 => Payload::Tcp { source, destination, flags: 0x10 },
                17 => Payload::Udp { source, destination },
                1 | 58 => Payload::Echo { request: true, identifier: source },
                other => Payload::Other(other),
            };
            (flow.source.0, flow.destination.0, payload)
        }
    };
    let quoted = Packet { source, destination, hop_limit: 60, fragment: Fragment::Whole, payload };
    ip(&quoted, &body(&quoted))
}
