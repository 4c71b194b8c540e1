//! Frames in the plainest way: what stands in the bytes, as far as decisions look at it, or why it
//! cannot be read. Written from the standards and from what the documentation promises of the
//! programs, not from their code: to compare them with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clinigate::oracle::packet::{Flow, Fragment, Packet, Payload};
use gateway_common::reason::Reason;

/// Extension headers of IPv6 that are walked at most.
const EXTENSIONS: usize = 6;
/// Options of IPv4 that are walked at most, fillers included.
const OPTIONS: usize = 12;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Outer and inner VLAN identifier, 0 where there is no such tag. A priority tag around a tag has an
    /// outer one that no policy can name.
    pub tags: (u16, u16),
    /// What it carries.
    pub content: Content,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// It ends within the Ethernet header or a tag.
    Cut,
    /// IP that can be read. `broken_quote`: an ICMP error whose quoted packet cannot.
    Ip {
        /// The packet.
        packet: Packet,
        /// See above.
        broken_quote: bool,
    },
    /// IP that cannot be read, and its destination where that could.
    Broken(Reason, Option<IpAddr>),
    /// ARP, and its sender's address where it is whole: `None` for a probe, which has none yet.
    Arp(Result<Option<Ipv4Addr>, Reason>),
    /// Any other EtherType; 0 for 802.3 with a length.
    Other(u16),
}

/// Reads a frame.
pub fn read(frame: &[u8]) -> Frame {
    let mut tags = (0, 0);
    let mut at = 12;
    let mut kind = be16(frame, at);
    for depth in 0..2 {
        let Some(0x8100 | 0x88a8) = kind else { break };
        let tag = be16(frame, at + 2).unwrap_or_default() & 0xfff;
        tags = if depth == 0 { (0, tag) } else { (if tags.1 == 0 { 0xfff } else { tags.1 }, tag) };
        at += 4;
        kind = be16(frame, at);
    }
    let content = match (kind, frame.get(at + 2..)) {
        (Some(0x0800), Some(packet)) => ip(packet, v4),
        (Some(0x86dd), Some(packet)) => ip(packet, v6),
        (Some(0x0806), Some(packet)) => Content::Arp(arp(packet, &frame[6..12])),
        (Some(length), Some(_)) if length < 0x0600 => Content::Other(0),
        (Some(kind), Some(_)) => Content::Other(kind),
        _ => Content::Cut,
    };
    Frame { tags, content }
}

/// Ethernet and IPv4 (RFC 826), from the sender of the frame.
fn arp(packet: &[u8], sender: &[u8]) -> Result<Option<Ipv4Addr>, Reason> {
    let packet = packet.get(..28).ok_or(Reason::Truncated)?;
    let is_request = packet[7] == 1;
    if packet[..6] != [0, 1, 8, 0, 6, 4] || packet[6] != 0 || !(is_request || packet[7] == 2) {
        return Err(Reason::MalformedArp);
    }
    if &packet[8..14] != sender {
        return Err(Reason::SpoofedNeighbour);
    }
    let address = Ipv4Addr::new(packet[14], packet[15], packet[16], packet[17]);
    Ok((!(address.is_unspecified() && is_request)).then_some(address))
}

/// The network layer of a packet.
struct Network<'p> {
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    protocol: u8,
    fragment: Fragment,
    /// From the transport header to the end of the packet.
    payload: &'p [u8],
    /// From the transport header to the end of the frame, padding included.
    rest: &'p [u8],
}

/// A reader of a network header; `whole`: not one that an error quotes, which is cut.
type Reader = fn(&[u8], bool) -> (Option<IpAddr>, Result<Network<'_>, Reason>);

fn ip(packet: &[u8], reader: Reader) -> Content {
    let (destination, network) = reader(packet, true);
    let read = network.and_then(|network| {
        let payload = transport(&network)?;
        let quote = match payload {
            Payload::Error { .. } if !matches!(network.fragment, Fragment::Later(_)) => {
                quoted(network.rest, reader)
            }
            _ => Ok(None),
        };
        let payload = match payload {
            Payload::Error { kind, .. } => Payload::Error { kind, quotes: quote.ok().flatten() },
            payload => payload,
        };
        let Network { source, destination, hop_limit, fragment, .. } = network;
        // Of a neighbour's message that is not code 0 the packet says that it came from afar: both are
        // as bad.
        let is_coded = matches!(payload, Payload::Neighbour { .. }) && network.payload.get(1) != Some(&0);
        let hop_limit = if is_coded { 0 } else { hop_limit };
        let packet = Packet { source, destination, hop_limit, fragment, payload };
        Ok(Content::Ip { packet, broken_quote: quote.is_err() })
    });
    read.unwrap_or_else(|reason| Content::Broken(reason, destination))
}

fn v4(packet: &[u8], whole: bool) -> (Option<IpAddr>, Result<Network<'_>, Reason>) {
    let Some(header) = packet.get(..20) else { return (None, Err(Reason::Truncated)) };
    let length = usize::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return (None, Err(Reason::MalformedIpv4));
    }
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let destination = address(16).into();
    let read = || {
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if whole {
            if total < length {
                return Err(Reason::MalformedIpv4);
            }
            if total > packet.len() {
                return Err(Reason::Truncated);
            }
            options(&packet[20..], length - 20)?;
        }
        let identification = u32::from(u16::from_be_bytes([header[4], header[5]]));
        let (more, offset) = (header[6] & 0x20 != 0, u16::from_be_bytes([header[6] & 0x1f, header[7]]));
        let fragment = fragment(whole && header[9] == 6, offset, more, identification)?;
        Ok(Network {
            source: address(12).into(),
            destination,
            hop_limit: header[8],
            protocol: header[9],
            fragment,
            payload: if whole { &packet[length..total] } else { &[] },
            rest: packet.get(length..).unwrap_or_default(),
        })
    };
    (Some(destination), read())
}

/// Options of so many bytes; they may be read beyond, where they say that they are longer.
fn options(packet: &[u8], length: usize) -> Result<(), Reason> {
    let mut at = 0;
    for _ in 0..OPTIONS {
        if at >= length {
            break;
        }
        match packet.get(at).ok_or(Reason::Truncated)? {
            0 => return Ok(()),
            1 => at += 1,
            131 | 137 => return Err(Reason::SourceRoute),
            _ => match *packet.get(at + 1).ok_or(Reason::Truncated)? {
                0 | 1 => return Err(Reason::MalformedIpv4),
                length => at += usize::from(length),
            },
        }
    }
    if at == length { Ok(()) } else { Err(Reason::MalformedIpv4) }
}

/// Offset in units of eight bytes. A second fragment that begins within a TCP header could rewrite it
/// (RFC 1858): `guarded` where it could be of TCP.
fn fragment(guarded: bool, offset: u16, more: bool, identification: u32) -> Result<Fragment, Reason> {
    match (offset, more) {
        (1 | 2, _) if guarded => Err(Reason::InvalidFragment),
        (0, false) => Ok(Fragment::Whole),
        (0, true) => Ok(Fragment::First(identification)),
        _ => Ok(Fragment::Later(identification)),
    }
}

fn v6(packet: &[u8], whole: bool) -> (Option<IpAddr>, Result<Network<'_>, Reason>) {
    let Some(header) = packet.get(..40) else { return (None, Err(Reason::Truncated)) };
    if header[0] >> 4 != 6 {
        return (None, Err(Reason::MalformedIpv6));
    }
    let address = |at: usize| {
        let octets: [u8; 16] = header[at..at + 16].try_into().expect("16 of 40 bytes");
        Ipv6Addr::from_octets(octets)
    };
    let (source, destination) = (address(8), address(24));
    let is_mapped = |address: Ipv6Addr| address.to_ipv4_mapped().is_some();
    let read = || {
        if is_mapped(source) || is_mapped(destination) {
            return Err(Reason::Martian);
        }
        let end = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if whole && end > packet.len() {
            return Err(Reason::Truncated);
        }
        let (protocol, at, fragment) = extensions(packet, header[6])?;
        if whole && at > end {
            return Err(Reason::MalformedIpv6);
        }
        Ok(Network {
            source: source.into(),
            destination: destination.into(),
            hop_limit: header[7],
            protocol,
            fragment,
            payload: if whole { &packet[at..end] } else { &[] },
            rest: packet.get(at..).unwrap_or_default(),
        })
    };
    // An IPv4-mapped address never stands there: it names nobody.
    ((!is_mapped(destination)).then_some(destination.into()), read())
}

/// Protocol and offset of the transport header.
fn extensions(packet: &[u8], mut next: u8) -> Result<(u8, usize, Fragment), Reason> {
    let mut at = 40;
    let mut part = Fragment::Whole;
    for position in 0..=EXTENSIONS {
        let byte = |offset: usize| packet.get(at + offset).copied().ok_or(Reason::Truncated);
        let length = match next {
            0 if position > 0 => return Err(Reason::MalformedIpv6),
            0 | 43 | 60 => {
                let length = (usize::from(byte(1)?) + 1) * 8;
                // A type 0 (RFC 5095), or segments left: the packet goes on to somewhere else.
                if next == 43 && (byte(3).and(byte(2))? == 0 || byte(3)? != 0) {
                    return Err(Reason::SourceRoute);
                }
                length
            }
            51 => (usize::from(byte(1)?) + 2) * 4,
            44 => {
                let header = packet.get(at..at + 8).ok_or(Reason::Truncated)?;
                if part != Fragment::Whole {
                    return Err(Reason::MalformedIpv6);
                }
                let identification = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
                let (offset, more) = (u16::from_be_bytes([header[2], header[3]]) >> 3, header[3] & 1 != 0);
                // Whatever it says it carries: reassembly goes by the first fragment's word.
                part = fragment(true, offset, more, identification)?;
                if offset != 0 {
                    return Ok((header[0], at + 8, part));
                }
                // Behind further headers a second fragment could rewrite the transport header.
                if more && matches!(header[0], 0 | 43 | 51 | 60) {
                    return Err(Reason::InvalidFragment);
                }
                8
            }
            protocol => return Ok((protocol, at, part)),
        };
        next = byte(0)?;
        at += length;
    }
    Err(Reason::ExtensionHeaders)
}

fn transport(network: &Network<'_>) -> Result<Payload, Reason> {
    let Network { protocol, payload, fragment, .. } = *network;
    let is_v4 = network.source.is_ipv4();
    if matches!(fragment, Fragment::Later(_)) {
        return Ok(match (protocol, is_v4) {
            (6, _) => Payload::Tcp { source: 0, destination: 0, flags: 0 },
            (17, _) => Payload::Udp { source: 0, destination: 0 },
            (1, true) | (58, false) => Payload::Icmp(0),
            _ => Payload::Other(protocol),
        });
    }
    let short = match fragment {
        Fragment::First(_) => Reason::InvalidFragment,
        _ => Reason::MalformedTransport,
    };
    let header = |length: usize| payload.get(..length).ok_or(short);
    let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    match (protocol, is_v4) {
        (6, _) => {
            let header = header(20)?;
            let length = usize::from(header[12] >> 4) * 4;
            if length < 20 || length > payload.len() {
                return Err(short);
            }
            if !is_sane(header[13]) {
                return Err(Reason::TcpFlags);
            }
            Ok(Payload::Tcp { source: port(0), destination: port(2), flags: header[13] })
        }
        (17, _) => {
            header(8)?;
            let length = usize::from(port(4));
            if length < 8 || (fragment == Fragment::Whole && length > payload.len()) {
                return Err(Reason::MalformedTransport);
            }
            Ok(Payload::Udp { source: port(0), destination: port(2) })
        }
        (1, true) => match header(8)?[0] {
            kind @ (0 | 8) => Ok(Payload::Echo { request: kind == 8, identifier: port(4) }),
            kind @ (3 | 11 | 12) => Ok(Payload::Error { kind, quotes: None }),
            kind => Ok(Payload::Icmp(kind)),
        },
        (58, false) => match header(4)?[0] {
            kind @ (128 | 129) => {
                header(8)?;
                Ok(Payload::Echo { request: kind == 128, identifier: port(4) })
            }
            kind @ 1..=4 => Ok(Payload::Error { kind, quotes: None }),
            kind @ 133..=137 => Ok(Payload::Neighbour { kind, target: target(payload) }),
            kind => Ok(Payload::Icmp(kind)),
        },
        // ICMP of the other version means nothing.
        (1 | 58, _) => Err(Reason::MalformedTransport),
        _ => Ok(Payload::Other(protocol)),
    }
}

/// Flags that a TCP sends together, PSH, ECE and CWR aside.
fn is_sane(flags: u8) -> bool {
    const SANE: [&[&str]; 9] = [
        &["SYN"],
        &["SYN", "URG"],
        &["SYN", "ACK"],
        &["RST"],
        &["RST", "ACK"],
        &["FIN", "ACK"],
        &["FIN", "ACK", "URG"],
        &["ACK"],
        &["ACK", "URG"],
    ];
    let names = [("FIN", 0x01), ("SYN", 0x02), ("RST", 0x04), ("ACK", 0x10), ("URG", 0x20)];
    SANE.iter().any(|set| names.iter().all(|(name, bit)| set.contains(name) == (flags & bit != 0)))
}

/// Target of a neighbour solicitation or advertisement (RFC 4861, 4.3).
fn target(payload: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 16] = payload.get(8..24)?.try_into().expect("16 bytes");
    Some(Ipv6Addr::from_octets(octets).into())
}

/// The connection that an error's quoted packet could be of; an error where the quote cannot be read.
fn quoted(error: &[u8], reader: Reader) -> Result<Option<Flow>, Reason> {
    let (_, network) = reader(error.get(8..).unwrap_or_default(), false);
    let Network { source, destination, protocol, fragment, rest, .. } = network?;
    if matches!(fragment, Fragment::Later(_)) {
        return Ok(None);
    }
    let word = |at: usize| {
        let bytes = rest.get(at..at + 2).ok_or(Reason::Truncated)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let ports = match protocol {
        6 | 17 => word(2).and(word(0)).and_then(|from| Ok((from, word(2)?)))?,
        1 | 58 => {
            let kind = *rest.first().ok_or(Reason::Truncated)?;
            if !matches!((protocol, kind), (1, 0 | 8) | (58, 128 | 129)) {
                return Ok(None);
            }
            (word(4)?, word(4)?)
        }
        _ => (0, 0),
    };
    Ok(Some(Flow { source: (source, ports.0), destination: (destination, ports.1), protocol }))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}
