//! A million frames that nobody meant: random, cut and mutated. None that the policy does not allow
//! passes, and every one is counted under a reason.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clinigate::policy::model::{InterfaceKind, Policy, RuleKind, SegmentId, ServiceMatch};
use clinigate::policy::{SourceFile, resolve};
use etherparse::{LaxSlicedPacket, TransportSlice};
use gateway_common::reason::Reason;

use crate::bench::{Bench, WARD};
use crate::frame::{
    ACK, ICMP, IPV4, IPV6, SENDER, SERVICE_VLAN, SYN, UDP, VLAN, arp, echo, ethernet, icmp_header, ipv4,
    ipv6, network, packet, tagged, tcp, tcp_header, udp, udp_header, with_options,
};

const FRAMES: u64 = 1_000_000;
const SEED: u64 = 0x00c1_1417_e5ee_d001;

/// `SplitMix64`: small, and the same everywhere, so that a seed names a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

#[test]
fn a_million_mutated_frames() {
    let mut bench = Bench::ward();
    let policy = resolve(vec![SourceFile::new("policy.yaml", WARD)]).policy.unwrap();
    let seeds = seeds();
    let interfaces = ["a0", "b0", "t0", "q0", "w0"];
    // CLINIGATE_SEED=… runs another million.
    let seed = std::env::var("CLINIGATE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SEED);
    let mut random = Random(seed);
    let mut passed = 0_u64;
    for number in 0..FRAMES {
        let frame = mutate(&mut random, &seeds);
        let interface = interfaces[random.below(interfaces.len())];
        if number % 1_000 == 0 {
            bench.now += 1_000_000_000;
        }
        if bench.passes(interface, &frame) {
            passed += 1;
            if let Err(why) = may_pass(&policy, interface, &frame) {
                panic!("frame {number} of seed {seed} passed on {interface}: {why}\n{frame:02x?}");
            }
        }
    }
    let counters = bench.counters();
    let mut reasons: BTreeMap<Reason, u64> = BTreeMap::new();
    for (key, counter) in &counters.pairs {
        *reasons.entry(key.reason).or_default() += counter.packets;
    }
    for (reason, packets) in &reasons {
        println!("{:>9}  {}", packets, reason.name());
    }
    println!("{passed:>9}  passed of {FRAMES}");
    assert_eq!(reasons.values().sum::<u64>(), FRAMES, "each frame is counted once");
    let passes: u64 = reasons.iter().filter(|(reason, _)| reason.passes()).map(|(_, packets)| packets).sum();
    assert_eq!(passes, passed, "counted as passed, and passed");
    assert!(!reasons.contains_key(&Reason::Internal), "no table is ever short");
    assert!(reasons.len() > 20, "the noise reaches most reasons: {reasons:?}");
    assert!(passed > FRAMES / 100, "some of it is allowed");
}

/// Frames of every kind that the programs know, allowed and not.
fn seeds() -> Vec<Vec<u8>> {
    let plain = network("10.0.1.5", "10.0.2.5", UDP, &udp_header((1, 53), 24));
    let sent = network("10.0.1.5", "10.0.2.5", 6, &tcp_header((1, 104), ACK));
    let chain =
        [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[UDP, 0, 1, 4, 0, 0, 0, 0], &udp_header((1, 53), 4)].concat();
    let fragment = [&[UDP, 0, 0, 1, 0, 0, 0, 9][..], &udp_header((1, 53), 16)].concat();
    let (from6, to6) = ("fd00:1::5".parse().unwrap(), "fd00:2::5".parse().unwrap());
    let from_trunk = tcp("10.0.3.5", "10.0.2.5", (1, 104), SYN);
    let stacked = tcp("10.0.4.5", "10.0.2.5", (1, 104), SYN);
    let solicitation =
        [&icmp_header(135, 0, [0, 0])[..], &[0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]].concat();
    vec![
        tcp("10.0.1.5", "10.0.2.5", (1, 104), SYN),
        tcp("10.0.2.5", "10.0.1.5", (104, 1), SYN | ACK),
        tcp("10.0.1.5", "10.0.2.5", (1, 104), ACK),
        tcp("10.0.1.5", "10.0.2.5", (1, 445), SYN),
        tcp("fd00:1::5", "fd00:2::5", (1, 11112), SYN),
        tcp("10.0.1.66", "10.0.2.5", (1, 104), SYN),
        tcp("203.0.113.9", "198.51.100.1", (1, 22), SYN),
        udp("10.0.1.5", "10.0.2.5", (1, 53)),
        udp("10.0.2.5", "10.0.1.5", (53, 1)),
        udp("fd00:1::5", "fd00:2::5", (1, 53)),
        udp("0.0.0.0", "255.255.255.255", (68, 67)),
        udp("10.0.1.5", "239.255.255.250", (1, 3702)),
        echo("10.0.1.5", "10.0.2.5", 8, 7),
        echo("10.0.2.5", "10.0.1.5", 0, 7),
        echo("fd00:1::5", "fd00:2::5", 128, 7),
        packet("10.0.1.5", "10.0.2.5", 50, &[0; 24]),
        packet("10.0.2.254", "10.0.1.5", ICMP, &[&icmp_header(3, 4, [0, 1400])[..], &sent[..28]].concat()),
        ethernet(IPV4, &with_options(&plain, &[148, 4, 0, 0, 1, 1, 1, 0])),
        ethernet(
            IPV4,
            &ipv4([10, 0, 1, 5].into(), [10, 0, 2, 5].into(), UDP, 0x2000, &udp_header((1, 53), 24)),
        ),
        ethernet(IPV4, &ipv4([10, 0, 1, 5].into(), [10, 0, 2, 5].into(), UDP, 4, &[0; 24])),
        ethernet(IPV6, &ipv6(from6, to6, 0, 64, &chain)),
        ethernet(IPV6, &ipv6(from6, to6, 44, 64, &fragment)),
        ethernet(IPV6, &ipv6(from6, "ff02::1:ff00:1".parse().unwrap(), 58, 255, &solicitation)),
        arp(1, SENDER, "10.0.1.5", "10.0.1.1"),
        tagged(VLAN, 30, &from_trunk),
        tagged(SERVICE_VLAN, 100, &tagged(VLAN, 40, &stacked)),
        tagged(VLAN, 30, &ethernet(0x88cc, &[0; 46])),
    ]
}

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    if random.below(50) == 0 {
        let length = 14 + random.below(200);
        return (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
    }
    let mut frame = seeds[random.below(seeds.len())].clone();
    for _ in 0..random.below(4) {
        // Behind the addresses, where the headers are; a bit, a byte or a word.
        let at = 12 + random.below(frame.len() - 12);
        match random.below(4) {
            0 => frame[at] ^= 1 << random.below(8),
            1 => frame[at] = random.next().to_le_bytes()[0],
            2 => frame[at] = [0, 1, 4, 5, 6, 17, 44, 58, 0x7f, 0xff][random.below(10)],
            _ => frame[at] = frame[at].wrapping_add(1),
        }
    }
    if random.below(8) == 0 {
        frame.truncate(14 + random.below(frame.len() - 13));
    }
    if random.below(20) == 0 {
        frame = tagged([VLAN, SERVICE_VLAN][random.below(2)], [0, 10, 30, 40, 100][random.below(5)], &frame);
    }
    frame
}

/// Whether a frame that passed may: read by a parser that nobody here wrote, and held against the
/// policy in the plainest way. A later fragment or an ICMP error passes by what was seen before, and
/// here only has to come from its segment.
fn may_pass(policy: &Policy, interface: &str, frame: &[u8]) -> Result<(), String> {
    let untagged = strip_tags(policy, interface, frame)?;
    let segment = untagged.1;
    let frame = untagged.0;
    let kind = u16::from_be_bytes([frame[12], frame[13]]);
    if kind != IPV4 && kind != IPV6 {
        let listed = policy.segments[segment].ethertypes.contains(&if kind < 0x600 { 0 } else { kind });
        return if listed || kind == 0x0806 { Ok(()) } else { Err(format!("EtherType {kind:#x}")) };
    }
    let parsed = LaxSlicedPacket::from_ethernet(&frame).map_err(|error| format!("no packet: {error}"))?;
    let (source, destination, fragment) = match parsed.net.as_ref().ok_or("no network header")? {
        etherparse::LaxNetSlice::Ipv4(v4) => (
            IpAddr::V4(v4.header().source_addr()),
            IpAddr::V4(v4.header().destination_addr()),
            v4.header().fragments_offset().value() != 0,
        ),
        etherparse::LaxNetSlice::Ipv6(v6) => {
            let (source, destination) = (v6.header().source_addr(), v6.header().destination_addr());
            let fragment = v6.extensions().clone().into_iter().any(|header| {
                matches!(&header, etherparse::Ipv6ExtensionSlice::Fragment(part) if part.fragment_offset().value() != 0)
            });
            (IpAddr::V6(source), IpAddr::V6(destination), fragment)
        }
        etherparse::LaxNetSlice::Arp(_) => return Err("ARP in an IP EtherType".to_owned()),
    };
    let local = match source {
        IpAddr::V4(v4) => v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_unicast_link_local(),
    };
    let own = usize::from(policy.segment_of(source).0);
    if own != segment && !local {
        return Err(format!("{source} is of segment {own}, the place of {segment}"));
    }
    if fragment {
        return Ok(());
    }
    let there = policy.segment_of(destination);
    let on_link =
        there == SegmentId::GATEWAY || usize::from(there.0) == segment || destination.is_multicast();
    let services: Vec<ServiceMatch> = match parsed.transport {
        Some(TransportSlice::Tcp(tcp)) => vec![
            port_match(6, tcp.source_port(), tcp.destination_port()),
            port_match(6, tcp.destination_port(), tcp.source_port()),
        ],
        Some(TransportSlice::Udp(udp)) => vec![
            port_match(17, udp.source_port(), udp.destination_port()),
            port_match(17, udp.destination_port(), udp.source_port()),
        ],
        Some(TransportSlice::Igmp(_)) => return Ok(()),
        Some(TransportSlice::Icmpv4(icmp)) => match icmp.type_u8() {
            3 | 11 | 12 => return Ok(()),
            kind => vec![ServiceMatch::Icmp((kind, kind)), ServiceMatch::Icmp((8, 8))],
        },
        Some(TransportSlice::Icmpv6(icmp)) => match icmp.type_u8() {
            1..=4 => return Ok(()),
            130..=136 | 143 if on_link => return Ok(()),
            kind => vec![ServiceMatch::Icmpv6((kind, kind)), ServiceMatch::Icmpv6((128, 128))],
        },
        // The first of several fragments is left unread by the parser.
        None => {
            let payload =
                parsed.net.as_ref().and_then(etherparse::LaxNetSlice::ip_payload_ref).ok_or("no payload")?;
            match (payload.ip_number.0, payload.payload) {
                (protocol @ (6 | 17), &[a, b, c, d, ..]) => {
                    let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    vec![port_match(protocol, from, to), port_match(protocol, to, from)]
                }
                (1, &[3 | 11 | 12, ..]) | (58, &[1..=4, ..]) => return Ok(()),
                (1, &[kind, ..]) => vec![ServiceMatch::Icmp((kind, kind)), ServiceMatch::Icmp((8, 8))],
                (58, &[kind, ..]) => {
                    vec![ServiceMatch::Icmpv6((kind, kind)), ServiceMatch::Icmpv6((128, 128))]
                }
                (protocol, _) => vec![ServiceMatch::Protocol(protocol); 2],
            }
        }
    };
    let opens = allowed(policy, (source, segment), destination, services[0]);
    let answers =
        allowed(policy, (destination, usize::from(policy.segment_of(destination).0)), source, services[1]);
    if opens || answers {
        Ok(())
    } else {
        Err(format!("{source} to {destination} {services:?} is not allowed"))
    }
}

fn port_match(protocol: u8, source: u16, destination: u16) -> ServiceMatch {
    let (source, destination) = ((source, source), (destination, destination));
    if protocol == 6 {
        ServiceMatch::Tcp { source, destination }
    } else {
        ServiceMatch::Udp { source, destination }
    }
}

/// Whether some flow, and no deny, names a packet.
fn allowed(
    policy: &Policy,
    (source, segment): (IpAddr, usize),
    destination: IpAddr,
    wanted: ServiceMatch,
) -> bool {
    let segment = SegmentId(u16::try_from(segment).unwrap());
    let mut allowed = false;
    for rule in &policy.rules {
        let named = rule.from.contains(source, segment)
            && rule.to.contains(destination, policy.segment_of(destination))
            && rule.services.iter().any(|service| {
                policy.services[*service].matches.iter().any(|candidate| covers(*candidate, wanted))
            });
        if named && rule.kind == RuleKind::Deny {
            return false;
        }
        allowed |= named;
    }
    allowed
}

fn covers(rule: ServiceMatch, packet: ServiceMatch) -> bool {
    let within = |range: (u16, u16), value: (u16, u16)| range.0 <= value.0 && value.1 <= range.1;
    match (rule, packet) {
        (ServiceMatch::Tcp { source, destination }, ServiceMatch::Tcp { source: from, destination: to })
        | (ServiceMatch::Udp { source, destination }, ServiceMatch::Udp { source: from, destination: to }) => {
            within(source, from) && within(destination, to)
        }
        (ServiceMatch::Icmp(range), ServiceMatch::Icmp(kind))
        | (ServiceMatch::Icmpv6(range), ServiceMatch::Icmpv6(kind)) => range.0 <= kind.0 && kind.1 <= range.1,
        (ServiceMatch::Protocol(one), ServiceMatch::Protocol(other)) => one == other,
        _ => false,
    }
}

/// The frame without its tags, and the segment of its place.
fn strip_tags(policy: &Policy, interface: &str, frame: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let mut tags = Vec::new();
    let mut frame = frame.to_vec();
    while matches!(u16::from_be_bytes([frame[12], frame[13]]), VLAN | SERVICE_VLAN) && tags.len() < 2 {
        tags.push(u16::from_be_bytes([frame[14], frame[15]]) & 0xfff);
        frame.drain(12..16);
    }
    let kind =
        &policy.interfaces.iter().find(|entry| entry.name == interface).ok_or("no such interface")?.kind;
    let segment = match (kind, &tags[..]) {
        (InterfaceKind::Access(segment), [] | [0]) => Some(*segment),
        (InterfaceKind::Wan, [] | [0]) => Some(SegmentId::WAN),
        (InterfaceKind::Trunk { outer: 0, vlans }, [] | [0]) => vlans.get(&0).copied(),
        (InterfaceKind::Trunk { outer: 0, vlans }, [vlan]) => vlans.get(vlan).copied(),
        (InterfaceKind::Trunk { outer, vlans }, [first, vlan]) if first == outer => vlans.get(vlan).copied(),
        _ => None,
    };
    segment.map(|id| (frame, usize::from(id.0))).ok_or_else(|| format!("tags {tags:?} have no segment"))
}
