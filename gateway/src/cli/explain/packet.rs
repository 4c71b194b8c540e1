//! A packet as `check` and `test` show it, read back.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context as _, bail};

use crate::packet::{Arrival, PacketView, Transport};

/// A packet and where it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    interface: String,
    outer: u16,
    vlan: u16,
    pub(crate) view: PacketView,
}

const SHAPE: &str = "expected such as \"tcp 10.0.0.1:49152 -> 10.0.1.1:104 arriving on eth1 with VLAN 40\"";

/// Reads `PROTOCOL SOURCE -> DESTINATION arriving on INTERFACE [with VLAN TAG]`.
pub(crate) fn parse(text: &str) -> anyhow::Result<Packet> {
    let (what, place) = text.split_once(" arriving on ").context(SHAPE)?;
    let (protocol, ends) = what.trim().split_once(' ').context(SHAPE)?;
    let (source, destination) = ends.split_once("->").context(SHAPE)?;
    let (source, destination) = (source.trim(), destination.trim());
    let (name, number) = protocol.split_once('/').unwrap_or((protocol, ""));
    let view = match name {
        "tcp" | "udp" => {
            let (from, to): (SocketAddr, SocketAddr) = (word(source)?, word(destination)?);
            let (source, destination) = (from.port(), to.port());
            let transport = if name == "tcp" {
                Transport::Tcp { source, destination }
            } else {
                Transport::Udp { source, destination }
            };
            PacketView { source: from.ip(), destination: to.ip(), transport }
        }
        "icmp" | "icmpv6" | "proto" => {
            let number: u8 = word(number)?;
            let transport = match (name, number) {
                ("icmp", kind) => Transport::Icmp(kind),
                ("icmpv6", kind) => Transport::Icmpv6(kind),
                (_, 6 | 17) => bail!("write tcp or udp, and ports"),
                (_, 1 | 58) => bail!("write icmp/TYPE or icmpv6/TYPE"),
                (_, number) => Transport::Other(number),
            };
            PacketView { source: word(source)?, destination: word(destination)?, transport }
        }
        _ => bail!("{name} is not a protocol; {SHAPE}"),
    };
    if view.source.is_ipv4() != view.destination.is_ipv4() {
        bail!("{} and {} are of two IP versions", view.source, view.destination);
    }
    match view.transport {
        Transport::Icmp(_) if view.source.is_ipv6() => bail!("ICMP is of IPv4; write icmpv6/TYPE"),
        Transport::Icmpv6(_) if view.source.is_ipv4() => bail!("ICMPv6 is of IPv6; write icmp/TYPE"),
        _ => {}
    }
    let (interface, outer, vlan) = place_of(place.trim())?;
    Ok(Packet { interface: interface.to_owned(), outer, vlan, view })
}

fn place_of(text: &str) -> anyhow::Result<(&str, u16, u16)> {
    if let Some((interface, tags)) = text.split_once(" with VLANs ") {
        let (outer, vlan) = tags.split_once(" and ").context(SHAPE)?;
        return Ok((interface, word(outer)?, word(vlan)?));
    }
    match text.split_once(" with VLAN ") {
        Some((interface, vlan)) => Ok((interface, 0, word(vlan)?)),
        None => Ok((text, 0, 0)),
    }
}

fn word<T: FromStr>(text: &str) -> anyhow::Result<T> {
    text.trim().parse().ok().with_context(|| format!("cannot read `{text}`; {SHAPE}"))
}

impl Packet {
    pub(crate) fn arrival(&self) -> Arrival<'_> {
        Arrival { interface: &self.interface, outer: self.outer, vlan: self.vlan }
    }

    /// The service that has it, in place.
    pub(super) fn service(&self) -> String {
        match self.view.transport {
            Transport::Tcp { destination, .. } => format!("tcp/{destination}"),
            Transport::Udp { destination, .. } => format!("udp/{destination}"),
            Transport::Icmp(kind) => format!("icmp/{kind}"),
            Transport::Icmpv6(kind) => format!("icmpv6/{kind}"),
            Transport::Other(number) => format!("proto/{number}"),
        }
    }
}

/// Whether an address needs quotes in YAML: where it has colons.
pub(super) fn quoted(word: &str) -> String {
    if word.contains(':') || word.parse::<IpAddr>().is_ok_and(|it| it.is_ipv6()) {
        format!("\"{word}\"")
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn packets_are_read_as_they_are_shown() {
        let packet =
            parse("udp [fd00::1]:68 -> [fd00::2]:67 arriving on trunk0 with VLANs 7 and 41").unwrap();
        assert_eq!(packet.arrival(), Arrival { interface: "trunk0", outer: 7, vlan: 41 });
        assert_eq!(packet.view.transport, Transport::Udp { source: 68, destination: 67 });
        let packet = parse("icmp/8 10.0.0.1 -> 10.0.1.1 arriving on eth1").unwrap();
        assert_eq!((packet.vlan, packet.service().as_str()), (0, "icmp/8"));
    }

    #[test]
    fn what_cannot_be_a_packet_is_refused() {
        for text in [
            "",
            "tcp 10.0.0.1 -> 10.0.1.1:1 arriving on eth1",
            "tcp 10.0.0.1:1 -> [fd00::1]:1 arriving on eth1",
            "icmpv6/128 10.0.0.1 -> 10.0.1.1 arriving on eth1",
            "proto/6 10.0.0.1 -> 10.0.1.1 arriving on eth1",
            "tcp 10.0.0.1:1 -> 10.0.1.1:99999 arriving on eth1",
            "tcp 10.0.0.1:1 -> 10.0.1.1:1 arriving on eth1 with VLAN x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
