//! Packets as bytes on the wire. Checksums are zero: the datapath leaves them to the ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packets::Port;
use crate::oracle::LinkFrame;
use crate::oracle::packet::{Flow, Fragment, Packet, Payload};

/// What a frame can carry without meaning anything else: bits of the `dress` of [`dressed`].
pub mod dress {
    /// Priority bits in its tags; an untagged frame gets a priority tag.
    pub const PRIORITY: u8 = 1;
    /// IPv4 options; an IPv6 hop-by-hop header.
    pub const OPTIONS: u8 = 2;
    /// A second IPv4 option; an IPv6 header with destination options.
    pub const DESTINATION: u8 = 4;
    /// Zeros behind the packet. A later fragment is as near to the first as it may be.
    pub const PADDING: u8 = 8;
    /// TCP options.
    pub const TCP_OPTIONS: u8 = 16;
    /// An IPv6 authentication header.
    pub const AUTHENTICATION: u8 = 32;
    /// An IPv6 routing header that has nothing left to say.
    pub const ROUTING: u8 = 64;
}

/// The frame of a packet that arrives at `port` from `sender`, an Ethernet address.
pub fn frame(port: &Port, sender: [u8; 6], packet: &Packet) -> Vec<u8> {
    dressed(port, sender, packet, 0)
}

/// The same, with what else a frame can carry: see [`dress`].
pub fn dressed(port: &Port, sender: [u8; 6], packet: &Packet, dress: u8) -> Vec<u8> {
    let ethertype = if packet.source.is_ipv4() { 0x0800 } else { 0x86dd };
    let mut frame = header(port, sender, ethertype, dress & dress::PRIORITY != 0);
    let body = if packet.is_later() { vec![0; 32] } else { body(packet, dress & dress::TCP_OPTIONS != 0) };
    frame.extend(ip(packet, &body, dress));
    if dress & dress::PADDING != 0 {
        frame.extend([0; 9]);
    }
    frame
}

/// The frame of something that is not IP.
pub fn link(port: &Port, sender: [u8; 6], content: LinkFrame) -> Vec<u8> {
    let arp = |hardware: u16, request: bool, mac: [u8; 6], address: Ipv4Addr| {
        let mut bytes = Vec::new();
        push(&mut bytes, [hardware, 0x0800, 0x0604, if request { 1 } else { 2 }]);
        bytes.extend(mac);
        bytes.extend(address.octets());
        bytes.extend([0; 10]);
        bytes
    };
    let (ethertype, body) = match content {
        LinkFrame::Arp { request, sender: address, is_own } => {
            let mac = if is_own { sender } else { [2, 0, 0, 9, 9, 9] };
            (0x0806, arp(1, request, mac, address))
        }
        LinkFrame::MalformedArp => (0x0806, arp(6, true, sender, Ipv4Addr::UNSPECIFIED)),
        LinkFrame::Other(0) => (46, vec![0x42; 46]),
        LinkFrame::Other(ethertype) => (ethertype, vec![0; 46]),
    };
    let mut frame = header(port, sender, ethertype, false);
    frame.extend(body);
    frame
}

/// Ethernet header and tags.
fn header(port: &Port, sender: [u8; 6], ethertype: u16, priority: bool) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1];
    frame.extend(sender);
    let bits = if priority { 0xb000 } else { 0 };
    if port.outer != 0 {
        push(&mut frame, [0x88a8, port.outer | bits]);
    }
    if port.outer != 0 || port.vlan != 0 || priority {
        push(&mut frame, [0x8100, port.vlan | bits]);
    }
    push(&mut frame, [ethertype]);
    frame
}

fn push<const N: usize>(bytes: &mut Vec<u8>, words: [u16; N]) {
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

/// The packet's IP header (or headers), then `body`.
fn ip(packet: &Packet, body: &[u8], dress: u8) -> Vec<u8> {
    let has = |bit: u8| dress & bit != 0;
    // In units of 8 bytes; 3 is behind a TCP header's fixed part.
    let later = if has(dress::PADDING) { 3 } else { 100 };
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (identification, fragment) = match packet.fragment {
                Fragment::Whole => (0, 0),
                Fragment::First(identification) => (identification, 0x2000),
                Fragment::Later(identification) => (identification, later),
            };
            let mut options = Vec::new();
            if has(dress::DESTINATION) {
                // Record route, with room for one.
                options.extend([7, 7, 4, 0, 0, 0, 0, 1]);
            }
            if has(dress::OPTIONS) {
                options.extend([1, 1, 1, 0]);
            }
            ipv4(packet, (source, destination), (low(identification), fragment), &options, body)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut chain = Vec::new();
            if has(dress::OPTIONS) {
                chain.push((0, vec![0, 0, 1, 4, 0, 0, 0, 0]));
            }
            if has(dress::ROUTING) {
                chain.push((43, vec![0, 0, 2, 0, 0, 0, 0, 0]));
            }
            if let Fragment::First(identification) | Fragment::Later(identification) = packet.fragment {
                let mut header = vec![0, 0];
                push(&mut header, [if packet.is_later() { later << 3 } else { 1 }]);
                header.extend(identification.to_be_bytes());
                chain.push((44, header));
            }
            // Between a fragment header and the transport header nothing may stand.
            if has(dress::AUTHENTICATION) && packet.fragment == Fragment::Whole {
                chain.push((51, vec![0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9]));
            }
            if has(dress::DESTINATION) && packet.fragment == Fragment::Whole {
                chain.push((60, vec![0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
            }
            ipv6(packet, (source, destination), chain, body)
        }
        mixed => panic!("a packet has addresses of one family, not {mixed:?}"),
    }
}

/// `fragment`: identification, then flags and offset.
fn ipv4(
    packet: &Packet,
    (source, destination): (Ipv4Addr, Ipv4Addr),
    fragment: (u16, u16),
    options: &[u8],
    body: &[u8],
) -> Vec<u8> {
    let header = 20 + options.len();
    let words = u8::try_from(header / 4).expect("options are short");
    let mut bytes = vec![0x40 | words, 0];
    push(&mut bytes, [length(header + body.len()), fragment.0, fragment.1]);
    bytes.extend([packet.hop_limit, packet.protocol(), 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(options);
    bytes.extend(body);
    bytes
}

/// `chain`: extension headers with their numbers; the first byte of each is filled in.
fn ipv6(
    packet: &Packet,
    (source, destination): (Ipv6Addr, Ipv6Addr),
    chain: Vec<(u8, Vec<u8>)>,
    body: &[u8],
) -> Vec<u8> {
    let numbers: Vec<u8> = chain.iter().map(|header| header.0).chain([packet.protocol()]).collect();
    let mut rest = Vec::new();
    for ((_, mut header), next) in chain.into_iter().zip(&numbers[1..]) {
        header[0] = *next;
        rest.extend(header);
    }
    rest.extend(body);
    let mut bytes = vec![0x60, 0, 0, 0];
    push(&mut bytes, [length(rest.len())]);
    bytes.extend([numbers[0], packet.hop_limit]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(rest);
    bytes
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("test packets are short")
}

fn low(identification: u32) -> u16 {
    u16::try_from(identification).expect("IPv4 identifications have 16 bits")
}

/// Transport header and a little payload.
fn body(packet: &Packet, options: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    match packet.payload {
        Payload::Tcp { source, destination, flags } => {
            push(&mut bytes, [source, destination, 0, 1, 0, 1]);
            bytes.extend([if options { 0x80 } else { 0x50 }, flags, 0xff, 0xff, 0, 0, 0, 0]);
            if options {
                bytes.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1]);
            }
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
    ip(&quoted, &body(&quoted, false), 0)
}
