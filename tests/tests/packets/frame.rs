//! Frames byte by byte. Written out rather than built by a library, because half of them are wrong
//! on purpose. Checksums are zero: the programs leave them to the receiver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Hardware address of every sender here.
pub(crate) const SENDER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0a];
const RECEIVER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const VLAN: u16 = 0x8100;
pub(crate) const SERVICE_VLAN: u16 = 0x88a8;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// An Ethernet frame.
pub(crate) fn ethernet(ethertype: u16, body: &[u8]) -> Vec<u8> {
    [&RECEIVER[..], &SENDER, &ethertype.to_be_bytes(), body].concat()
}

/// `frame` with a tag of `kind` put in front of whatever stands behind the addresses.
pub(crate) fn tagged(kind: u16, vlan: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &kind.to_be_bytes(), &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// A frame with a TCP segment; addresses decide the family.
pub(crate) fn tcp(from: &str, to: &str, ports: (u16, u16), flags: u8) -> Vec<u8> {
    packet(from, to, TCP, &tcp_header(ports, flags))
}

/// A frame with a UDP datagram of four bytes.
pub(crate) fn udp(from: &str, to: &str, ports: (u16, u16)) -> Vec<u8> {
    packet(from, to, UDP, &udp_header(ports, 4))
}

/// A frame with an ICMP or ICMPv6 echo message; `kind` is its type.
pub(crate) fn echo(from: &str, to: &str, kind: u8, identifier: u16) -> Vec<u8> {
    let protocol = if from.contains(':') { ICMPV6 } else { ICMP };
    packet(from, to, protocol, &icmp_header(kind, 0, [identifier, 1]))
}

/// A frame with a packet of any protocol.
pub(crate) fn packet(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let network = network(from, to, protocol, payload);
    ethernet(if from.contains(':') { IPV6 } else { IPV4 }, &network)
}

/// An IPv4 or IPv6 packet.
pub(crate) fn network(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from.parse().unwrap(), to.parse().unwrap()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, protocol, 0, payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6(from, to, protocol, 64, payload),
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// An IPv4 packet; `fragment` is the word of flags and offset.
pub(crate) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend(0x1234_u16.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// `packet` (IPv4, without options) with `options` (a multiple of four bytes).
pub(crate) fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut longer = [&packet[..20], options, &packet[20..]].concat();
    longer[0] = 0x40 | u8::try_from(5 + options.len() / 4).unwrap();
    let total = u16::try_from(longer.len()).unwrap();
    longer[2..4].copy_from_slice(&total.to_be_bytes());
    longer
}

/// An IPv6 packet.
pub(crate) fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

pub(crate) fn tcp_header((from, to): (u16, u16), flags: u8) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(from.to_be_bytes());
    header.extend(to.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

pub(crate) fn udp_header((from, to): (u16, u16), payload: usize) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(from.to_be_bytes());
    header.extend(to.to_be_bytes());
    header.extend(u16::try_from(8 + payload).unwrap().to_be_bytes());
    header.extend([0, 0]);
    header.resize(8 + payload, 0x5a);
    header
}

pub(crate) fn icmp_header(kind: u8, code: u8, rest: [u16; 2]) -> Vec<u8> {
    let mut header = vec![kind, code, 0, 0];
    header.extend(rest[0].to_be_bytes());
    header.extend(rest[1].to_be_bytes());
    header
}

/// An ARP packet; `operation` 1 asks, 2 answers.
pub(crate) fn arp(operation: u16, sender_mac: [u8; 6], sender: &str, target: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 0x08, 0x00, 6, 4];
    body.extend(operation.to_be_bytes());
    body.extend(sender_mac);
    body.extend(sender.parse::<Ipv4Addr>().unwrap().octets());
    body.extend([0; 6]);
    body.extend(target.parse::<Ipv4Addr>().unwrap().octets());
    ethernet(ARP, &body)
}
