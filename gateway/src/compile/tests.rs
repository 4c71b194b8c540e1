//! The image against the oracle, and what single tables must hold.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_common::place::Place;
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::{Cell, Lanes};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::oracle::Oracle;
use crate::packet::{Arrival, Transport};
use crate::policy::model::{
    ANY_PORT, AddressSet, Interface, InterfaceKind, ModeSetting, Origin, Ranges, Rule, RuleKind, Segment,
    Service, ServiceMatch,
};
use crate::testing::packets::{self, Edges};
use crate::testing::policies;

mod limits;

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_image_decides_as_the_oracle(
        policy in policies::policy(),
        layering in layering(),
        draws in vec(packets::draw(), 400),
    ) {
        let image = compile_as(&policy, layering).unwrap();
        let oracle = Oracle::new(&policy);
        let edges = Edges::of(&policy);
        for draw in &draws {
            let (port, packet) = edges.packet(draw);
            let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
            let expected = oracle.decide(arrival, &packet);
            prop_assert_eq!(image.decide(arrival, &packet), Some(expected), "{:?} at {:?}", packet, port);
            for address in [packet.source, packet.destination] {
                let atom = image.atom(address).unwrap();
                prop_assert_eq!(SegmentId(atom.segment), policy.segment_of(address), "{}", address);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_image_decides_as_the_oracle_at_any_time_and_on_any_way(
        policy in prop_oneof![
            policies::at_times(policies::policy(), 1_000_000_000),
            policies::with_tunnels(policies::policy()),
            policies::with_tunnels(policies::at_times(policies::policy(), 1_000_000_000)),
        ],
        layering in layering(),
        draws in vec(packets::draw(), 200),
        seconds in vec(0u64..500, 4),
    ) {
        let image = compile_as(&policy, layering).unwrap();
        let edges = Edges::of(&policy);
        for (draw, second) in draws.iter().zip(seconds.iter().cycle()) {
            let (port, packet) = edges.packet(draw);
            let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
            for now in [second * 1_000_000_000 - u64::from(*second > 0), second * 1_000_000_000] {
                let expected = Oracle::new(&policy).at(now).decide(arrival, &packet);
                prop_assert_eq!(image.decide_at(now, arrival, &packet), Some(expected), "{:?} at {}", packet, now);
            }
        }
    }
}

/// Random policies are small: they would never be compiled in layers.
fn layering() -> impl Strategy<Value = Layering> {
    prop_oneof![Just(Layering::BySize), Just(Layering::Always)]
}

/// The comparison above is worth something only if its packets reach every kind of decision.
#[test]
fn random_packets_reach_every_stateless_reason() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<Reason, usize> = BTreeMap::new();
    for _ in 0..60 {
        let policy = policies::policy().new_tree(&mut runner).unwrap().current();
        let edges = Edges::of(&policy);
        for draw in vec(packets::draw(), 200).new_tree(&mut runner).unwrap().current() {
            let (port, packet) = edges.packet(&draw);
            let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
            *seen.entry(Oracle::new(&policy).decide(arrival, &packet).reason).or_default() += 1;
        }
    }
    let stateless = [
        Reason::Flow,
        Reason::NoFlow,
        Reason::Denied,
        Reason::Spoofed,
        Reason::Martian,
        Reason::UnknownVlan,
        Reason::UnknownInterface,
    ];
    for reason in stateless {
        assert!(seen.get(&reason).is_some_and(|&count| count > 100), "{}: {seen:?}", reason.name());
    }
}

/// Segments `lan` (4: 10.0.0.0/24) and `ward` (5: 10.0.1.0/24), the gateway at 10.0.0.1.
fn two_segments() -> Policy {
    let mut policy =
        policies::sized(2..=2, 0..=0).new_tree(&mut TestRunner::deterministic()).unwrap().current();
    for segment in &mut policy.segments {
        segment.ranges = Ranges::default();
    }
    policy.segments[1].ranges.v4 = vec![(0x0a00_0001, 0x0a00_0001)];
    policy.segments[4].ranges.v4 = vec![(0x0a00_0000, 0x0a00_00ff)];
    policy.segments[5].ranges.v4 = vec![(0x0a00_0100, 0x0a00_01ff)];
    policy.services.truncate(1);
    policy.services[0].matches = vec![ServiceMatch::Tcp { source: ANY_PORT, destination: (104, 104) }];
    policy
}

fn rule(kind: RuleKind, from: AddressSet, to: AddressSet) -> Rule {
    let origin = Origin { file: "test.yaml".into(), line: 1, column: 1 };
    Rule {
        name: String::new(),
        kind,
        from,
        to,
        services: vec![0],
        purpose: None,
        owner: None,
        review: None,
        unenforced: false,
        condition: None,
        through: None,
        limits: None,
        origin,
    }
}

fn whole(segment: u16) -> AddressSet {
    AddressSet { segments: [SegmentId(segment)].into(), ranges: Ranges::default() }
}

fn range(first: u32, last: u32) -> AddressSet {
    AddressSet { segments: [].into(), ranges: Ranges { v4: vec![(first, last)], v6: Vec::new() } }
}

/// What the image says about DICOM from `source` to `destination`.
fn cell(policy: &Policy, source: u32, destination: u32) -> Cell {
    let image = compile(policy).unwrap();
    let atom = |bits| image.atom(Ipv4Addr::from_bits(bits).into()).unwrap();
    image
        .lookup(0, atom(source), atom(destination), Transport::Tcp { source: 50000, destination: 104 })
        .unwrap()
}

const LAN_HOST: u32 = 0x0a00_0009;
const WARD_HOST: u32 = 0x0a00_0109;
const GATEWAY_HOST: u32 = 0x0a00_0001;

#[test]
fn the_first_deny_decides_else_the_first_active_flow() {
    let mut policy = two_segments();
    let flow = || rule(RuleKind::Flow, whole(4), whole(5));
    let deny = || rule(RuleKind::Deny, range(LAN_HOST, LAN_HOST), whole(5));
    policy.rules = vec![flow(), flow(), deny(), deny()];
    assert_eq!(cell(&policy, LAN_HOST, WARD_HOST), Cell::deny(2));
    assert_eq!(cell(&policy, LAN_HOST + 1, WARD_HOST), Cell::allow(0));
    assert_eq!(cell(&policy, WARD_HOST, LAN_HOST), Cell::NO_RULE);
    policy.rules[0].unenforced = true;
    policy.rules[2].unenforced = true;
    assert_eq!(cell(&policy, LAN_HOST, WARD_HOST), Cell::deny(3));
    assert_eq!(cell(&policy, LAN_HOST + 1, WARD_HOST), Cell::allow(1));
}

#[test]
fn a_prefix_does_not_open_the_gateway_that_stands_in_it() {
    let mut policy = two_segments();
    policy.rules = vec![rule(RuleKind::Flow, whole(5), range(0x0a00_0000, 0x0a00_00ff))];
    assert_eq!(cell(&policy, WARD_HOST, LAN_HOST), Cell::allow(0));
    assert_eq!(cell(&policy, WARD_HOST, GATEWAY_HOST), Cell::NO_RULE);
    policy.rules[0].to = whole(1);
    assert_eq!(cell(&policy, WARD_HOST, GATEWAY_HOST), Cell::allow(0));
}

#[test]
fn source_ports_cost_a_matrix_only_while_a_rule_needs_them() {
    let mut policy = two_segments();
    policy.services[0].matches = vec![ServiceMatch::Udp { source: (68, 68), destination: (67, 67) }];
    let unused = compile(&policy).unwrap();
    assert_eq!((unused.config.source_ports, unused.matrix.len(), unused.source_ports.len()), (0, 0, 0));
    policy.rules = vec![rule(RuleKind::Flow, whole(4), whole(5))];
    let used = compile(&policy).unwrap();
    assert_eq!((used.config.source_ports, used.matrix.len()), (2, 4));
    let class = |source, destination| used.service_class(Transport::Udp { source, destination }).unwrap();
    assert_ne!(class(68, 67), class(69, 67));
    assert_eq!(class(69, 67), class(68, 68));
}

#[test]
fn a_model_that_refers_to_nothing_is_refused() {
    let dangling = CompileError::DanglingRule { rule: String::new() };
    for (from, to) in [(whole(4), whole(6)), (whole(6), whole(4))] {
        let mut policy = two_segments();
        policy.rules = vec![rule(RuleKind::Flow, from, to)];
        assert_eq!(compile(&policy).unwrap_err(), dangling);
    }
    let mut policy = two_segments();
    policy.rules = vec![rule(RuleKind::Flow, whole(4), whole(5))];
    policy.rules[0].services = vec![0, 1];
    assert_eq!(compile(&policy).unwrap_err(), dangling);

    let mut policy = two_segments();
    policy.interfaces = vec![interface(InterfaceKind::Access(SegmentId(6)))];
    let dangling = CompileError::DanglingInterface { interface: "port".to_owned() };
    assert_eq!(compile(&policy).unwrap_err(), dangling);

    let mut policy = two_segments();
    policy.segments.truncate(usize::from(SEGMENT_FIRST) - 1);
    assert_eq!(compile(&policy).unwrap_err(), CompileError::NoBuiltInSegments);
    let mut policy = two_segments();
    policy.segments.truncate(usize::from(SEGMENT_FIRST));
    policy.interfaces.clear();
    compile(&policy).unwrap();
}

fn interface(kind: InterfaceKind) -> Interface {
    let origin = Origin { file: "test.yaml".into(), line: 1, column: 1 };
    Interface { name: "port".to_owned(), kind, routed: false, tunnel: None, origin }
}

#[test]
fn places_are_the_tags_that_an_interface_names() {
    let mut policy = two_segments();
    let vlans = [(0, SegmentId(4)), (70, SegmentId(5)), (71, SegmentId(5))].into();
    policy.interfaces = vec![interface(InterfaceKind::Trunk { outer: 9, vlans })];
    for segment in &mut policy.segments {
        (segment.routers, segment.ethertypes) = (false, [].into());
    }
    policy.segments[5].routers = true;
    policy.segments[5].ethertypes = [0, 0x88cc].into();
    let image = compile(&policy).unwrap();
    let place = |outer, vlan| image.place(Arrival { interface: "port", outer, vlan });
    let segment = |outer, vlan| place(outer, vlan).map(|place| (place.segment, place.flags));
    assert_eq!(segment(9, 0), Some((4, 0)));
    assert_eq!(segment(9, 70), Some((5, Place::ROUTERS)));
    assert_eq!(segment(9, 71), Some((5, Place::ROUTERS)));
    assert_eq!((segment(0, 70), segment(9, 72)), (None, None));
    assert_eq!(image.place(Arrival { interface: "other", outer: 9, vlan: 70 }), None);
    let atom = image.atoms[place(9, 70).unwrap().link_atom as usize];
    assert_eq!((atom.segment, atom.flags), (5, 0));
    assert_eq!(image.ethertypes, [5 << 16, 5 << 16 | 0x88cc]);
    let entry = &image.manifest.interfaces[0];
    assert_eq!((entry.name.as_str(), entry.trunk), ("port", true));
    assert_eq!(entry.segments, [SegmentId(4), SegmentId(5)]);

    for (kind, segment) in
        [(InterfaceKind::Access(SegmentId(5)), SegmentId(5)), (InterfaceKind::Wan, SegmentId::WAN)]
    {
        policy.interfaces = vec![interface(kind)];
        let image = compile(&policy).unwrap();
        let place = |vlan| image.place(Arrival { interface: "port", outer: 0, vlan });
        assert_eq!((place(0).unwrap().segment, place(70)), (segment.0, None));
        let entry = &image.manifest.interfaces[0];
        assert_eq!((entry.trunk, entry.segments.as_slice()), (false, [segment].as_slice()));
    }
}

/// First and last address, segment and flags of the ranges that standards set apart.
#[test]
fn special_addresses_begin_and_end_where_the_standards_say() {
    const NEVER: u16 = Atom::NEVER_SOURCE;
    const GROUP: u16 = Atom::NEVER_SOURCE | Atom::GROUP;
    let (wan, gateway, multicast) = (SegmentId::WAN, SegmentId::GATEWAY, SegmentId::MULTICAST);
    let v4 = [
        ("0.0.0.0", "0.0.0.0", gateway, Atom::UNSPECIFIED),
        ("0.0.0.1", "0.255.255.255", wan, NEVER),
        ("1.0.0.0", "9.255.255.255", wan, 0),
        ("10.0.2.0", "126.255.255.255", wan, 0),
        ("127.0.0.0", "127.255.255.255", gateway, NEVER),
        ("128.0.0.0", "169.253.255.255", wan, 0),
        ("169.254.0.0", "169.254.255.255", gateway, Atom::LINK_LOCAL),
        ("169.255.0.0", "223.255.255.255", wan, 0),
        ("224.0.0.0", "224.0.0.255", gateway, GROUP),
        ("224.0.1.0", "239.255.255.255", multicast, GROUP),
        ("240.0.0.0", "255.255.255.254", wan, NEVER),
        ("255.255.255.255", "255.255.255.255", gateway, GROUP),
    ];
    let v6 = [
        ("::", "::", gateway, Atom::UNSPECIFIED),
        ("::1", "::1", gateway, NEVER),
        ("::2", "::fffe:ffff:ffff", wan, 0),
        ("::ffff:0:0", "::ffff:255.255.255.255", wan, NEVER),
        ("::1:0:0:0", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", wan, 0),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", gateway, Atom::LINK_LOCAL),
        ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", wan, 0),
    ];
    let mut ranges: Vec<(IpAddr, IpAddr, SegmentId, u16)> = v4
        .into_iter()
        .chain(v6)
        .map(|(first, last, segment, flags)| (first.parse().unwrap(), last.parse().unwrap(), segment, flags))
        .collect();
    // The third digit of a group is its flags, the fourth its scope: 1 and 2 end at the gateway.
    for group in 0xff00..=0xffff_u16 {
        let first = Ipv6Addr::from_bits(u128::from(group) << 112);
        let last = Ipv6Addr::from_bits(first.to_bits() | u128::MAX >> 16);
        let segment = if [1, 2].contains(&(group & 0xf)) { gateway } else { multicast };
        ranges.push((first.into(), last.into(), segment, GROUP));
    }
    let image = compile(&two_segments()).unwrap();
    for (first, last, segment, flags) in ranges {
        for address in [first, last] {
            let atom = image.atom(address).unwrap();
            assert_eq!((SegmentId(atom.segment), atom.flags), (segment, flags), "{address}");
        }
    }
}

/// Constants of the program: what the policy sets, and the sizes of the tables that it walks.
#[test]
fn the_configuration_is_that_of_the_policy() {
    let mut policy = two_segments();
    policy.rules = vec![rule(RuleKind::Flow, whole(4), whole(5))];
    policy.settings.midstream = true;
    policy.settings.timeouts = std::array::from_fn(|state| 100 + u32::try_from(state).unwrap());
    (policy.settings.neighbour_rate, policy.settings.event_rate) = (7, 8);
    policy.settings.connections = 5000;
    let image = compile(&policy).unwrap();
    let config = &image.config;
    assert_eq!((config.segments, config.midstream), (6, 1));
    assert_eq!((config.neighbour_rate, config.event_rate), (7, 8));
    assert_eq!(config.timeouts, policy.settings.timeouts);
    assert_eq!(image.connections, 5000);
    assert_eq!((config.forwarding, image.manifest.forwarding), (0, false));
    policy.settings.forwarding = Forwarding::Xdp;
    let sent_on = compile(&policy).unwrap();
    assert_eq!((sent_on.config.forwarding, sent_on.manifest.forwarding), (1, true));
    // Classes of the lan and of the rest, of the ward and of the rest; DICOM and the rest.
    assert_eq!((config.destinations, config.services, image.pairs.len()), (2, 2, 4));
}

/// The counters are read by it: what was dropped, and what only would have been.
#[test]
fn the_manifest_tells_what_became_of_a_packet() {
    let mut policy = two_segments();
    policy.segments[0].mode = ModeSetting::Enforce;
    policy.segments[4].mode = ModeSetting::Observe;
    policy.segments[5].mode = ModeSetting::Audit;
    let image = compile(&policy).unwrap();
    let modes = [Mode::Enforce, Mode::Observe, Mode::Audit].map(|mode| mode as u32);
    assert_eq!([image.segments[0], image.segments[4], image.segments[5]], modes);
    let verdict = |source, destination| image.manifest.verdict(source, destination, Reason::NoFlow);
    assert_eq!(verdict(4, 4), Verdict::Observe);
    assert_eq!((verdict(4, 5), verdict(5, 4)), (Verdict::Audit, Verdict::Audit));
    assert_eq!((verdict(4, 0), verdict(0, 4)), (Verdict::Drop, Verdict::Drop));
    assert_eq!(image.manifest.verdict(4, 0, Reason::Flow), Verdict::Pass);
    // A frame from an unknown place is dropped in every mode; an unknown destination has no mode.
    assert_eq!(verdict(3, 4), Verdict::Drop);
    assert_eq!((verdict(4, 3), verdict(5, 3)), (Verdict::Observe, Verdict::Audit));
    policy.segments[3].mode = ModeSetting::Enforce;
    let image = compile(&policy).unwrap();
    assert_eq!(image.segments[3], Mode::Observe as u32);
    assert_eq!(image.manifest.verdict(4, 3, Reason::NoFlow), Verdict::Observe);
}

/// The datapath reports such holes as a defect; reading them here must not panic either.
#[test]
fn tables_with_holes_are_read_as_holes() {
    let policy = two_segments();
    let whole = compile(&policy).unwrap();
    let host = |bits: u32| IpAddr::from(Ipv4Addr::from_bits(bits));
    let transport = Transport::Tcp { source: 50000, destination: 104 };
    let atom = whole.atom(host(LAN_HOST)).unwrap();
    assert!(whole.lookup(0, atom, atom, transport).is_some());

    let mut image = whole.clone();
    image.v4.truncate(gateway_common::table::ROOT as usize);
    assert_eq!(image.atom(host(LAN_HOST)), None);
    let mut image = whole.clone();
    image.atoms.clear();
    assert_eq!(image.atom(host(LAN_HOST)), None);
    let mut image = whole.clone();
    // An entry that leads to a node where the address has no further byte.
    image.v4.fill(gateway_common::table::NODE);
    assert_eq!(image.atom(host(LAN_HOST)), None);
    let mut image = whole.clone();
    image.services.clear();
    assert_eq!(image.lookup(0, atom, atom, transport), None);
    let mut image = whole.clone();
    image.pairs.clear();
    assert_eq!(image.lookup(0, atom, atom, transport), None);
    let mut image = whole;
    image.verdicts.clear();
    assert_eq!(image.lookup(0, atom, atom, transport), None);
}

/// Of 128 classes 64 are most of them and 2 are many; of few classes one is never many.
#[test]
fn a_rule_is_in_the_layer_of_what_it_names() {
    let first = 0x1400_0000;
    let hosts = |count: u32| range(first, first + count - 1);
    let host = |n: u32| range(first + n, first + n);
    let layers = |count: u32, others: &[(AddressSet, AddressSet)]| {
        let mut policy = two_segments();
        let own = (0..count).map(|n| (host(n), host(n)));
        let ends = own.chain(others.iter().cloned());
        policy.rules = ends.map(|(from, to)| rule(RuleKind::Flow, from, to)).collect();
        let space = address::partition(&policy);
        assert_eq!(
            (space.sources.count(), space.destinations.count()),
            (count as usize + 1, count as usize + 1)
        );
        layer::Layer::apart(&policy, &space.sources, &space.destinations).map(|layer| {
            let others = layer.rules.into_iter().filter_map(|rule| rule.checked_sub(count as usize));
            others.collect::<Vec<_>>()
        })
    };
    let sides = [1, 2, 63, 64].map(|count| (hosts(count), host(0)));
    assert_eq!(layers(127, &sides), [vec![0], vec![3], vec![], vec![1, 2]]);
    let turned = sides.map(|(from, to)| (to, from));
    assert_eq!(layers(127, &turned), [vec![0], vec![], vec![1, 2, 3], vec![]]);
    let both = [(hosts(64), hosts(64)), (hosts(2), hosts(64)), (hosts(2), hosts(2))];
    assert_eq!(layers(127, &both), [vec![], vec![0], vec![1, 2], vec![]]);
    assert_eq!(layers(9, &[(host(0), host(1)), (hosts(2), host(1))]), [vec![0], vec![], vec![], vec![1]]);
}

#[test]
fn source_ports_are_those_of_their_protocol() {
    let mut policy = two_segments();
    policy.rules = vec![rule(RuleKind::Flow, whole(4), whole(5))];
    policy.services[0].matches = vec![
        ServiceMatch::Udp { source: (1000, 1999), destination: (67, 67) },
        ServiceMatch::Tcp { source: (3000, 3999), destination: (67, 67) },
    ];
    let image = compile(&policy).unwrap();
    let class = |transport| image.service_class(transport).unwrap();
    let none = class(Transport::Udp { source: 1, destination: 1 });
    for (first, last, named) in [(0, 999, [false; 2]), (1000, 1999, [true, false]), (2000, 2999, [false; 2])]
        .into_iter()
        .chain([(3000, 3999, [false, true]), (4000, u16::MAX, [false; 2])])
    {
        for source in [first, last] {
            let udp = class(Transport::Udp { source, destination: 67 }) != none;
            let tcp = class(Transport::Tcp { source, destination: 67 }) != none;
            assert_eq!([udp, tcp], named, "{source}");
            assert_eq!(class(Transport::Udp { source, destination: 68 }), none);
        }
    }
}
