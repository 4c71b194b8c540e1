//! Rule sets of `ClassBench`, as they are written, and the plainest search through them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use crate::packet::{PacketView, Transport};

/// The interface of [`policy`]: its way to the world.
pub const INTERFACE: &str = "wan0";

/// A filter of a set. Ranges are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Addresses of senders.
    pub source: (u32, u32),
    /// Addresses of receivers.
    pub destination: (u32, u32),
    /// Where the protocol has ports.
    pub source_ports: (u16, u16),
    /// Likewise.
    pub destination_ports: (u16, u16),
    /// IP protocol; `None` for any.
    pub protocol: Option<u8>,
}

/// Reads a compressed set: lines of `@SOURCE/LENGTH DESTINATION/LENGTH LOW : HIGH LOW : HIGH
/// PROTOCOL/MASK FLAGS/MASK`, of which the flags of TCP are left out: a policy is about connections.
#[expect(clippy::missing_panics_doc, reason = "for tests and measurements, which end there")]
pub fn read(path: &Path) -> Vec<Filter> {
    let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip runs");
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("sets are ASCII");
    text.lines().map(|line| filter(line).unwrap_or_else(|| panic!("{}: {line}", path.display()))).collect()
}

fn filter(line: &str) -> Option<Filter> {
    let words: Vec<&str> = line.strip_prefix('@')?.split_whitespace().collect();
    let [source, destination, from_low, ":", from_high, to_low, ":", to_high, protocol, _flags] = words[..]
    else {
        return None;
    };
    let (protocol, mask) = protocol.split_once('/')?;
    let number = |text: &str| u8::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let protocol = match number(mask)? {
        0xff => Some(number(protocol)?),
        0 => None,
        _ => return None,
    };
    Some(Filter {
        source: prefix(source)?,
        destination: prefix(destination)?,
        source_ports: (from_low.parse().ok()?, from_high.parse().ok()?),
        destination_ports: (to_low.parse().ok()?, to_high.parse().ok()?),
        protocol,
    })
}

fn prefix(text: &str) -> Option<(u32, u32)> {
    let (address, length) = text.split_once('/')?;
    let hosts = u32::MAX.checked_shr(length.parse().ok()?).unwrap_or(0);
    let first = address.parse::<Ipv4Addr>().ok()?.to_bits() & !hosts;
    Some((first, first | hosts))
}

impl Filter {
    /// Whether it allows TCP from one address and port to another.
    pub fn allows_tcp(&self, from: (u32, u16), to: (u32, u16)) -> bool {
        self.matches(from.0, to.0, Transport::Tcp { source: from.1, destination: to.1 })
    }

    fn matches(&self, source: u32, destination: u32, transport: Transport) -> bool {
        let within = |range: (u32, u32), address: u32| range.0 <= address && address <= range.1;
        let port = |range: (u16, u16), port: u16| range.0 <= port && port <= range.1;
        let (protocol, ports) = match transport {
            Transport::Tcp { source, destination } => (6, Some((source, destination))),
            Transport::Udp { source, destination } => (17, Some((source, destination))),
            Transport::Icmp(_) => (1, None),
            Transport::Icmpv6(_) => (58, None),
            Transport::Other(protocol) => (protocol, None),
        };
        within(self.source, source)
            && within(self.destination, destination)
            && self.protocol.is_none_or(|named| named == protocol)
            && ports
                .is_none_or(|(from, to)| port(self.source_ports, from) && port(self.destination_ports, to))
    }
}

/// The first filter that matches: one after the other.
pub fn search(filters: &[Filter], packet: &PacketView) -> Option<usize> {
    let (source, destination) = addresses(packet);
    filters.iter().position(|filter| filter.matches(source, destination, packet.transport))
}

/// Both addresses as numbers; the sets are of IPv4.
#[expect(clippy::missing_panics_doc, reason = "for tests, which end there")]
pub fn addresses(packet: &PacketView) -> (u32, u32) {
    match (packet.source, packet.destination) {
        (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
            (source.to_bits(), destination.to_bits())
        }
        other => panic!("no packet of IPv4: {other:?}"),
    }
}

/// The set as a policy: every address belongs to the world, and every filter is a flow.
pub fn policy(filters: &[Filter]) -> String {
    let mut services: Vec<String> = Vec::new();
    let mut flows = String::new();
    for (number, filter) in filters.iter().enumerate() {
        let service = service(filter);
        let service = match service.as_str() {
            word if !word.starts_with('{') => service,
            _ => {
                let known = services.iter().position(|known| *known == service);
                let index = known.unwrap_or_else(|| {
                    services.push(service);
                    services.len() - 1
                });
                format!("ports-{index}")
            }
        };
        let range = |(first, last)| format!("{}-{}", Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last));
        let (from, to) = (range(filter.source), range(filter.destination));
        writeln!(flows, "  - {{ name: filter-{number}, from: {from}, to: {to}, services: {service} }}")
            .expect("writing to a String does not fail");
    }
    let mut text = format!("interfaces:\n  {INTERFACE}: {{ wan: true }}\n");
    if !services.is_empty() {
        text.push_str("services:\n");
        for (index, service) in services.iter().enumerate() {
            writeln!(text, "  ports-{index}: {service}").expect("writing to a String does not fail");
        }
    }
    text + "flows:\n" + &flows
}

/// The service of a filter: in place where it can be written so, else as the text of its definition.
fn service(filter: &Filter) -> String {
    let ports = |(first, last): (u16, u16)| format!("{first}-{last}");
    let (from, to) = (ports(filter.source_ports), ports(filter.destination_ports));
    let name = match filter.protocol {
        Some(6) => "tcp",
        Some(17) => "udp",
        other => {
            let any = (0, u16::MAX);
            assert_eq!((filter.source_ports, filter.destination_ports), (any, any), "no ports: {filter:?}");
            return match other {
                None => "any".to_owned(),
                Some(1) => "icmp".to_owned(),
                Some(number) => format!("proto/{number}"),
            };
        }
    };
    format!("{{ {name}: {{ ports: {to}, source: {from} }} }}")
}
