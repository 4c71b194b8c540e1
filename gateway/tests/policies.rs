//! The policies that come with the project: they check, and the reference hospital allows the
//! flows of its matrix and nothing else.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use clinigate::oracle::Oracle;
use clinigate::packet::{Arrival, PacketView, Transport};
use clinigate::policy::model::{InterfaceKind, Policy, Ranges, SegmentId};
use clinigate::policy::{self, lints};
use gateway_common::reason::Reason;

/// Names of probes; the IP version decides between ICMP and `ICMPv6`.
const PROBES: &[(&str, Kind)] = &[
    ("tcp 21", Kind::Tcp(21)),
    ("tcp 22", Kind::Tcp(22)),
    ("tcp 23", Kind::Tcp(23)),
    ("tcp 53", Kind::Tcp(53)),
    ("tcp 80", Kind::Tcp(80)),
    ("tcp 104", Kind::Tcp(104)),
    ("tcp 443", Kind::Tcp(443)),
    ("tcp 445", Kind::Tcp(445)),
    ("tcp 1433", Kind::Tcp(1433)),
    ("tcp 2575", Kind::Tcp(2575)),
    ("tcp 2762", Kind::Tcp(2762)),
    ("tcp 3389", Kind::Tcp(3389)),
    ("tcp 3613", Kind::Tcp(3613)),
    ("tcp 4999", Kind::Tcp(4999)),
    ("tcp 5000", Kind::Tcp(5000)),
    ("tcp 5010", Kind::Tcp(5010)),
    ("tcp 5011", Kind::Tcp(5011)),
    ("tcp 5550", Kind::Tcp(5550)),
    ("tcp 5900", Kind::Tcp(5900)),
    ("tcp 6514", Kind::Tcp(6514)),
    ("tcp 11112", Kind::Tcp(11112)),
    ("udp 53", Kind::Udp(53)),
    ("udp 67", Kind::Udp(67)),
    ("udp 123", Kind::Udp(123)),
    ("udp 161", Kind::Udp(161)),
    ("udp 500", Kind::Udp(500)),
    ("udp 547", Kind::Udp(547)),
    ("udp 3389", Kind::Udp(3389)),
    ("udp 4500", Kind::Udp(4500)),
    ("udp 24005", Kind::Udp(24005)),
    ("udp 24105", Kind::Udp(24105)),
    ("ping", Kind::Ping),
    ("esp", Kind::Protocol(50)),
    ("gre", Kind::Protocol(47)),
];

#[derive(Clone, Copy)]
enum Kind {
    Tcp(u16),
    Udp(u16),
    Ping,
    Protocol(u8),
}

const CLINICAL: &[&str] = &[
    "his",
    "integration",
    "pacs",
    "vna",
    "ris",
    "modalities-a",
    "modalities-b",
    "viewers",
    "lis",
    "analysers",
    "point-of-care",
    "pumps",
    "pump-server",
    "monitors",
    "monitor-gateway",
];
const SERVERS: &[&str] =
    &["his", "integration", "pacs", "vna", "ris", "lis", "pump-server", "monitor-gateway"];
const MODALITIES: &[&str] = &["modalities-a", "modalities-b"];
const BASICS: &[&str] = &["udp 53", "tcp 53", "udp 67", "udp 547", "udp 123"];
const DHCP: &[&str] = &["udp 67", "udp 547"];

/// One line of the matrix: initiators, listeners, services.
type Line = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// What ordinary hosts may do; devices and vendors have tests of their own.
const MATRIX: &[Line] = &[
    (MODALITIES, &["pacs"], &["tcp 104", "tcp 11112", "tcp 2762"]),
    (MODALITIES, &["ris"], &["tcp 104", "tcp 11112"]),
    (&["pacs"], &["viewers"], &["tcp 11112"]),
    (&["viewers"], &["pacs"], &["tcp 443", "tcp 11112"]),
    (&["pacs"], &["vna"], &["tcp 11112"]),
    (&["his"], &["integration"], &["tcp 2575"]),
    (&["integration"], &["his", "ris", "lis"], &["tcp 2575"]),
    (&["lis", "monitor-gateway"], &["integration"], &["tcp 2575"]),
    (&["viewers"], &["his"], &["tcp 443"]),
    (&["analysers"], &["lis"], &["tcp 5000", "tcp 5010"]),
    (&["point-of-care"], &["lis"], &["tcp 5550"]),
    (&["pumps"], &["pump-server"], &["tcp 3613"]),
    (&["monitor-gateway"], &["monitors"], &["udp 24105"]),
    (&["monitors"], &["monitor-gateway"], &["udp 24005"]),
    (CLINICAL, &["infrastructure"], BASICS),
    (&["building"], &["infrastructure"], BASICS),
    (SERVERS, &["infrastructure"], &["tcp 6514"]),
    (&["quarantine"], &["infrastructure"], DHCP),
    (CLINICAL, &["gateway"], DHCP),
    (&["building", "quarantine"], &["gateway"], DHCP),
    (CLINICAL, &["gateway"], &["ping"]),
    (&["infrastructure"], &["gateway"], &["ping"]),
];

fn load(name: &str) -> Policy {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies").join(name);
    let loaded = policy::load(&directory).unwrap();
    assert!(loaded.diagnostics.is_empty(), "{:#?}", loaded.diagnostics);
    let mut policy = loaded.policy.unwrap();
    policy.segments[usize::from(SegmentId::GATEWAY.0)].ranges = Ranges {
        v4: vec![(Ipv4Addr::new(192, 0, 2, 2).to_bits(), Ipv4Addr::new(192, 0, 2, 2).to_bits())],
        v6: vec![(GATEWAY_V6.to_bits(), GATEWAY_V6.to_bits())],
    };
    policy
}

const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 2);

/// An interface that carries a segment untagged.
fn port(policy: &Policy, segment: SegmentId) -> Option<&str> {
    let carries = |kind: &InterfaceKind| match kind {
        InterfaceKind::Access(id) => *id == segment,
        InterfaceKind::Wan => segment == SegmentId::WAN,
        InterfaceKind::Trunk { .. } => false,
    };
    policy
        .interfaces
        .iter()
        .find(|interface| carries(&interface.kind))
        .map(|interface| interface.name.as_str())
}

/// Host `.99` of each segment, or the segment's only one; IPv4 and IPv6.
fn hosts(policy: &Policy, segment: SegmentId) -> Vec<IpAddr> {
    if segment == SegmentId::WAN {
        return vec!["198.51.100.99".parse().unwrap(), "2001:db8:ffff::99".parse().unwrap()];
    }
    let ranges = &policy.segment(segment).ranges;
    let v4 = ranges.v4.iter().map(|&(first, last)| IpAddr::V4(Ipv4Addr::from_bits(last.min(first + 99))));
    let v6 = ranges.v6.iter().map(|&(first, last)| IpAddr::V6(Ipv6Addr::from_bits(last.min(first + 0x99))));
    v4.chain(v6).collect()
}

fn transport(kind: Kind, v6: bool) -> Transport {
    match kind {
        Kind::Tcp(destination) => Transport::Tcp { source: 50_000, destination },
        Kind::Udp(destination) => Transport::Udp { source: 50_000, destination },
        Kind::Ping if v6 => Transport::Icmpv6(128),
        Kind::Ping => Transport::Icmp(8),
        Kind::Protocol(number) => Transport::Other(number),
    }
}

/// Name of the rule that allows a packet, if one does.
fn allowing<'p>(policy: &'p Policy, interface: &str, from: &str, to: &str, kind: Kind) -> Option<&'p str> {
    let (source, destination): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let packet = PacketView { source, destination, transport: transport(kind, source.is_ipv6()) };
    let decision = Oracle::new(policy).decide(Arrival { interface, outer: 0, vlan: 0 }, &packet);
    let rule = decision.rule.filter(|_| decision.reason == Reason::Flow)?;
    Some(&policy.rules[rule.0 as usize].name)
}

#[test]
fn the_hospital_allows_its_matrix_and_nothing_else() {
    let policy = load("hospital");
    let oracle = Oracle::new(&policy);
    let expected: BTreeSet<(&str, &str, &str)> = MATRIX
        .iter()
        .flat_map(|&(from, to, services)| from.iter().map(move |&from| (from, to, services)))
        .flat_map(|(from, to, services)| to.iter().map(move |&to| (from, to, services)))
        .flat_map(|(from, to, services)| services.iter().map(move |&service| (from, to, service)))
        .collect();
    let ids = || (0u16..).zip(&policy.segments).map(|(number, segment)| (SegmentId(number), segment));
    for v6 in [false, true] {
        let host = |id| hosts(&policy, id).into_iter().find(|address| address.is_ipv6() == v6);
        let mut allowed = BTreeSet::new();
        for (from, source_segment) in ids() {
            let (Some(interface), Some(source)) = (port(&policy, from), host(from)) else { continue };
            for (to, destination_segment) in ids().filter(|&(to, _)| to != from) {
                let Some(destination) = host(to) else { continue };
                for &(name, kind) in PROBES {
                    let packet = PacketView { source, destination, transport: transport(kind, v6) };
                    let decision = oracle.decide(Arrival { interface, outer: 0, vlan: 0 }, &packet);
                    if decision.reason == Reason::Flow {
                        allowed.insert((&*source_segment.name, &*destination_segment.name, name));
                    }
                }
            }
        }
        let too_much: Vec<_> = allowed.difference(&expected).collect();
        let too_little: Vec<_> = expected.difference(&allowed).collect();
        assert!(too_much.is_empty() && too_little.is_empty(), "v6: {v6}, +{too_much:?} -{too_little:?}");
    }
}

#[test]
fn every_segment_arrives_untagged_and_three_on_the_trunk_too() {
    let policy = load("hospital");
    for (number, segment) in (0u16..).zip(&policy.segments).skip(4) {
        assert!(port(&policy, SegmentId(number)).is_some(), "{}", segment.name);
    }
    let oracle = Oracle::new(&policy);
    for (vlan, name) in [(41, "modalities-b"), (61, "analysers"), (62, "point-of-care")] {
        let place = oracle.place(Arrival { interface: "trunk0", outer: 0, vlan }).unwrap();
        assert_eq!(policy.segment(place).name, name);
    }
    assert!(oracle.place(Arrival { interface: "trunk0", outer: 0, vlan: 70 }).is_err());
}

#[test]
fn devices_and_vendors_of_the_hospital() {
    let policy = load("hospital");
    let found = |interface, from, to, kind| allowing(&policy, interface, from, to, kind);
    let https = Kind::Tcp(443);

    // One device reaches its vendor on https; its neighbour, another port, another host do not.
    assert_eq!(found("moda0", "10.10.40.11", "203.0.113.17", https), Some("ct-telemetry"));
    assert_eq!(found("moda0", "fd00:40::11", "2001:db8:113::17", https), Some("ct-telemetry"));
    assert_eq!(found("moda0", "10.10.40.12", "203.0.113.17", https), None);
    assert_eq!(found("moda0", "10.10.40.11", "203.0.113.17", Kind::Tcp(22)), None);
    assert_eq!(found("moda0", "10.10.40.11", "203.0.113.24", https), None);

    // The vendor's prefix reaches the gateway's IPsec and nothing behind it.
    for kind in [Kind::Udp(500), Kind::Udp(4500), Kind::Protocol(50)] {
        assert_eq!(found("wan0", "203.0.113.18", "192.0.2.2", kind), Some("ct-vendor-tunnel"));
        assert_eq!(found("wan0", "2001:db8:113::18", "2001:db8:c::2", kind), Some("ct-vendor-tunnel"));
        assert_eq!(found("wan0", "198.51.100.1", "192.0.2.2", kind), None);
    }
    assert_eq!(found("wan0", "203.0.113.18", "10.10.40.11", https), None);

    // Limited in time: closed until somebody opens it in its window.
    assert_eq!(found("vendor0", "10.10.110.11", "10.10.40.11", https), None);
    assert_eq!(found("vendor0", "10.10.110.12", "10.10.71.10", Kind::Tcp(3389)), None);
}

#[test]
fn the_hospital_has_no_doubts() {
    let policy = load("hospital");
    let doubts: Vec<&str> = lints::lint(&policy).iter().map(|found| found.code).collect();
    assert_eq!(doubts, [""; 0]);
    for rule in &policy.rules {
        assert!(rule.purpose.is_some() && rule.owner.is_some(), "{}", rule.name);
    }
    assert!(policy.interfaces.iter().all(|interface| interface.name.len() <= 15));
}

#[test]
fn the_minimal_policy_is_sound_and_lets_studies_through() {
    let policy = load("minimal");
    assert!(lints::lint(&policy).is_empty());
    let found = |interface, from, to, kind| allowing(&policy, interface, from, to, kind);
    assert_eq!(found("eth2", "10.10.40.11", "10.10.30.10", Kind::Tcp(11112)), Some("store-studies"));
    assert_eq!(found("eth2", "fd00:40::11", "fd00:30::10", Kind::Tcp(104)), Some("store-studies"));
    assert_eq!(found("eth1", "10.10.30.10", "10.10.40.11", Kind::Tcp(11112)), None);
    assert_eq!(found("eth2", "10.10.40.11", "10.10.30.10", Kind::Tcp(445)), None);
    assert_eq!(found("eth3", "198.51.100.1", "10.10.30.10", Kind::Tcp(11112)), None);
}

#[test]
fn the_vendor_examples_open_only_what_has_no_limit_in_time() {
    let policy = load("vendors");
    let doubts: Vec<&str> = lints::lint(&policy).iter().map(|found| found.code).collect();
    assert_eq!(doubts, [""; 0]);
    let found = |interface, from, to, kind| allowing(&policy, interface, from, to, kind);
    assert_eq!(found("wan0", "203.0.113.18", "192.0.2.2", Kind::Udp(500)), Some("ct-vendor-tunnel"));
    assert_eq!(found("wan0", "198.51.100.40", "192.0.2.2", Kind::Udp(51820)), Some("monitor-vendor-tunnel"));
    assert_eq!(
        found("carrier0", "172.16.8.10", "10.10.60.20", Kind::Tcp(443)),
        Some("analyser-vendor/analyser-1")
    );
    assert_eq!(found("wg0", "203.0.113.40", "10.10.110.20", Kind::Tcp(443)), Some("monitor-logs"));
    assert_eq!(found("wan0", "203.0.113.40", "10.10.110.20", Kind::Tcp(443)), None);
    assert_eq!(found("carrier0", "172.16.8.11", "10.10.60.20", Kind::Tcp(443)), None);
    assert_eq!(found("jump0", "10.10.110.11", "10.10.40.11", Kind::Tcp(443)), None);
    assert_eq!(found("wan0", "203.0.113.18", "10.10.40.11", Kind::Tcp(443)), None);
}
