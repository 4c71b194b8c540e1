//! What a frame says of itself, for people to read and to place it by. It never decides: that is the
//! program's, and where the two read a broken frame differently the program's reason stands.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// EtherTypes (IEEE 802 numbers).
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const ARP: u16 = 0x0806;
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const SERVICE_VLAN: u16 = 0x88a8;
    pub(super) const IPV6: u16 = 0x86dd;
}

/// IP protocol numbers (IANA).
mod protocol {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ICMP: u8 = 1;
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const ICMPV6: u8 = 58;
    pub(super) const DESTINATION: u8 = 60;
}

/// Extension headers that are walked.
const EXTENSIONS_MAX: usize = 8;
/// Bytes behind an ICMP header in which the packet that an error quotes has its headers.
const QUOTED: usize = 8 + 60 + 20;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Outer and inner VLAN identifier, where it has tags; outer is 0 for a single tag.
    pub tag: Option<(u16, u16)>,
    /// Ethernet source address.
    pub sender: [u8; 6],
    /// Source address; of ARP, the sender's.
    pub source: Option<IpAddr>,
    /// Destination address; of ARP, the target's.
    pub destination: Option<IpAddr>,
    /// Source and destination port of TCP and UDP.
    pub ports: Option<(u16, u16)>,
    /// What it carries.
    pub service: Service,
    /// Bytes that must have been captured for the judgement to be that of the whole frame.
    pub headers: usize,
}

/// What a packet carries, written as policy text writes it: `tcp/445`, `icmp/8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Not even an EtherType.
    #[default]
    Nothing,
    /// ARP.
    Arp,
    /// An EtherType of no further interest; below 0x0600 a length (LLC).
    EtherType(u16),
    /// IP without readable headers behind it.
    Ip,
    /// TCP by port.
    Tcp(u16),
    /// UDP by port.
    Udp(u16),
    /// ICMP by type.
    Icmp(u8),
    /// ICMPv6 by type.
    Icmpv6(u8),
    /// Any other protocol, by number.
    Protocol(u8),
    /// A later fragment of protocol by number.
    Fragment(u8),
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Arp => f.write_str("arp"),
            Self::EtherType(kind) => write!(f, "ethertype/0x{kind:04x}"),
            Self::Ip => f.write_str("ip"),
            Self::Tcp(port) => write!(f, "tcp/{port}"),
            Self::Udp(port) => write!(f, "udp/{port}"),
            Self::Icmp(kind) => write!(f, "icmp/{kind}"),
            Self::Icmpv6(kind) => write!(f, "icmpv6/{kind}"),
            Self::Protocol(number) => write!(f, "protocol/{number}"),
            Self::Fragment(number) => write!(f, "fragment/{number}"),
        }
    }
}

impl View {
    /// Reads a frame as far as it goes.
    pub fn of(frame: &[u8]) -> Self {
        let mut view = Self { headers: 14, ..Self::default() };
        view.sender = bytes(frame, 6).unwrap_or_default();
        let Some(mut kind) = be16(frame, 12) else { return view };
        for _ in 0..2 {
            if kind != ethertype::VLAN && kind != ethertype::SERVICE_VLAN {
                break;
            }
            let Some((tag, next)) = be16(frame, view.headers).zip(be16(frame, view.headers + 2)) else {
                view.headers += 4;
                return view;
            };
            let outer = view.tag.map_or(0, |(_, first)| first);
            view.tag = Some((outer, tag & 0xfff));
            view.headers += 4;
            kind = next;
        }
        let network = view.headers;
        match kind {
            ethertype::IPV4 => view.ipv4(frame, network),
            ethertype::IPV6 => view.ipv6(frame, network),
            ethertype::ARP => {
                view.service = Service::Arp;
                view.headers = network + 28;
                view.source = bytes(frame, network + 14).map(|octets| Ipv4Addr::from_octets(octets).into());
                view.destination =
                    bytes(frame, network + 24).map(|octets| Ipv4Addr::from_octets(octets).into());
            }
            other => view.service = Service::EtherType(other),
        }
        view
    }

    fn ipv4(&mut self, frame: &[u8], at: usize) {
        self.service = Service::Ip;
        self.headers = at + 20;
        self.source = bytes(frame, at + 12).map(|octets| Ipv4Addr::from_octets(octets).into());
        self.destination = bytes(frame, at + 16).map(|octets| Ipv4Addr::from_octets(octets).into());
        let (Some(&first), Some(offset), Some(&number)) =
            (frame.get(at), be16(frame, at + 6), frame.get(at + 9))
        else {
            return;
        };
        let length = usize::from(first & 0xf) * 4;
        self.headers = at + length.max(20);
        self.transport(frame, number, offset & 0x1fff != 0);
    }

    fn ipv6(&mut self, frame: &[u8], at: usize) {
        self.service = Service::Ip;
        self.headers = at + 40;
        self.source = bytes(frame, at + 8).map(|octets| Ipv6Addr::from_octets(octets).into());
        self.destination = bytes(frame, at + 24).map(|octets| Ipv6Addr::from_octets(octets).into());
        let chain = Chain::of(frame, at);
        self.headers = chain.end;
        if let Some((next, later)) = chain.then {
            self.transport(frame, next, later);
        }
    }

    /// The transport header begins where the headers so far end.
    fn transport(&mut self, frame: &[u8], number: u8, later: bool) {
        let at = self.headers;
        if later {
            self.service = Service::Fragment(number);
            return;
        }
        self.headers += match number {
            protocol::TCP => 20,
            protocol::UDP | protocol::ICMP | protocol::ICMPV6 => 8,
            _ => 0,
        };
        let ports = be16(frame, at).zip(be16(frame, at + 2));
        match (number, ports) {
            (protocol::TCP, Some((_, port))) => {
                self.service = Service::Tcp(port);
                self.ports = ports;
            }
            (protocol::UDP, Some((_, port))) => {
                self.service = Service::Udp(port);
                self.ports = ports;
            }
            (protocol::ICMP, _) if self.source.is_some_and(|source| source.is_ipv4()) => {
                self.icmp(frame.get(at).copied(), Service::Icmp, |kind| matches!(kind, 3..=5 | 11 | 12));
            }
            (protocol::ICMPV6, _) if self.source.is_some_and(|source| source.is_ipv6()) => {
                let kind = frame.get(at).copied();
                // Neighbour discovery has a target, an error quotes.
                self.icmp(kind, Service::Icmpv6, |kind| (133..=137).contains(&kind));
                if kind.is_some_and(|kind| kind < 128) {
                    self.headers = Chain::of(frame, at + 8).end + 20;
                }
            }
            (protocol::TCP | protocol::UDP, None) => {}
            _ => self.service = Service::Protocol(number),
        }
    }

    fn icmp(&mut self, kind: Option<u8>, service: fn(u8) -> Service, is_long: impl Fn(u8) -> bool) {
        let Some(kind) = kind else { return };
        self.service = service(kind);
        if is_long(kind) {
            self.headers += QUOTED;
        }
    }
}

/// An IPv6 header and its extension headers.
struct Chain {
    /// Where they end; where the frame ends within them, behind that.
    end: usize,
    /// The protocol behind them, and whether it is that of a later fragment.
    then: Option<(u8, bool)>,
}

impl Chain {
    /// The chain whose IPv6 header stands at `at`.
    fn of(frame: &[u8], at: usize) -> Self {
        let mut end = at + 40;
        let Some(&(mut next)) = frame.get(at + 6) else { return Self { end, then: None } };
        for _ in 0..EXTENSIONS_MAX {
            if !is_extension(next) {
                break;
            }
            let Some([following, length, offset @ ..]) = bytes::<4>(frame, end) else {
                return Self { end: end + 8, then: None };
            };
            end += match next {
                protocol::FRAGMENT => 8,
                protocol::AUTHENTICATION => (usize::from(length) + 2) * 4,
                _ => (usize::from(length) + 1) * 8,
            };
            if next == protocol::FRAGMENT && u16::from_be_bytes(offset) & 0xfff8 != 0 {
                return Self { end, then: Some((following, true)) };
            }
            next = following;
        }
        Self { end, then: Some((next, false)) }
    }
}

fn is_extension(next: u8) -> bool {
    use protocol::{AUTHENTICATION, DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING};
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

fn bytes<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..)?.first_chunk().copied()
}

fn be16(frame: &[u8], at: usize) -> Option<u16> {
    bytes(frame, at).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests;
