#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use gateway_common::place::SEGMENT_UNKNOWN;
use gateway_common::table::NO_RULE;

use super::super::names::GENERATIONS_KEPT;
use super::*;
use crate::compile::image::{Manifest, RuleEntry, SegmentEntry};
use crate::policy::model::{Origin, RuleKind};

const BOOT: i64 = 1_700_000_000;

fn manifest() -> Arc<Manifest> {
    let segment = |name: &str| SegmentEntry { name: name.to_owned(), mode: 2 };
    Arc::new(Manifest {
        hash: String::new(),
        segments: ["wan", "gateway", "multicast", "unknown", "pumps", "pacs"].map(segment).to_vec(),
        rules: vec![RuleEntry {
            name: "legacy-smb".to_owned(),
            kind: RuleKind::Deny,
            origin: Origin { file: "deny.yaml".into(), line: 12, column: 5 },
            purpose: None,
            owner: None,
        }],
        interfaces: Vec::new(),
        table_bytes: 0,
        forwarding: false,
    })
}

fn words(address: &str) -> [u64; 2] {
    let octets = match address.parse().unwrap() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let (high, low) = octets.split_at(8);
    [u64::from_ne_bytes(high.try_into().unwrap()), u64::from_ne_bytes(low.try_into().unwrap())]
}

fn smb() -> Event {
    Event {
        time: 5_000_000_000,
        source: words("10.10.70.5"),
        destination: words("10.10.30.9"),
        generation: 3,
        rule: 0,
        ifindex: 8,
        length: 60,
        source_port: 40_000_u16.to_be(),
        destination_port: 445_u16.to_be(),
        vlan: 70,
        source_segment: 4,
        destination_segment: 5,
        ethertype: ETHERTYPE_IPV4,
        source_mac: [2, 0, 0, 0, 0, 1],
        protocol: PROTOCOL_TCP,
        reason: Reason::Denied as u8,
        verdict: Verdict::Drop as u8,
        ..Event::default()
    }
}

fn names() -> Names {
    let mut names = Names::default();
    names.learn_generation(3, manifest());
    names.learn_interfaces(HashMap::from([(8, "trunk0".to_owned())]));
    names
}

fn at(seconds: u64) -> Moment {
    let wall = jiff::Timestamp::from_second(BOOT + i64::try_from(seconds).unwrap()).unwrap();
    Moment { monotonic: seconds * 1_000_000_000, wall }
}

#[test]
fn packets_of_a_flow_become_one_line_with_names() {
    let mut aggregator = Aggregator::default();
    aggregator.add(&smb());
    let four =
        Event { time: 7_250_000_000, source_port: 40_001_u16.to_be(), length: 70, packets: 4, ..smb() };
    aggregator.add(&four);
    let interval = aggregator.finish(&names(), at(10));
    assert_eq!(interval.unlisted, 0);
    let [flow] = interval.flows.as_slice() else { panic!("one flow, not {interval:?}") };
    assert_eq!(
        serde_json::to_string(flow).unwrap(),
        concat!(
            r#"{"first":"2023-11-14T22:13:25.000Z","last":"2023-11-14T22:13:27.250Z","verdict":"drop","#,
            r#""reason":"denied","rule":"legacy-smb","origin":"deny.yaml:12","source_segment":"pumps","#,
            r#""source":"10.10.70.5","source_mac":"02:00:00:00:00:01","source_port":40000,"#,
            r#""destination_segment":"pacs","destination":"10.10.30.9","service":"tcp/445","#,
            r#""service_name":"smb","service_class":"unknown","interface":"trunk0","vlan":70,"#,
            r#""packets":5,"bytes":340}"#
        )
    );
    assert!(aggregator.finish(&names(), at(20)).flows.is_empty(), "an interval starts empty");
}

#[test]
fn the_busiest_flow_comes_first() {
    let mut aggregator = Aggregator::default();
    aggregator.add(&smb());
    for _ in 0..3 {
        aggregator.add(&Event { destination_port: 3389_u16.to_be(), ..smb() });
    }
    let services: Vec<_> =
        aggregator.finish(&names(), at(10)).flows.into_iter().map(|flow| flow.service).collect();
    assert_eq!(services, ["tcp/3389", "tcp/445"]);
}

#[test]
fn memory_is_bounded_and_what_is_not_listed_is_counted() {
    let mut aggregator = Aggregator::default();
    for round in 0..2 {
        for port in 0..10_000_u16 {
            aggregator.add(&Event { destination_port: port.to_be(), ..smb() });
        }
        assert_eq!(aggregator.flows.len(), FLOW_LIMIT, "round {round}");
    }
    let interval = aggregator.finish(&names(), at(10));
    assert_eq!(interval.flows.len(), FLOW_LIMIT);
    assert!(interval.flows.iter().all(|flow| flow.packets == Some(2)));
    assert_eq!(interval.unlisted, 2 * (10_000 - FLOW_LIMIT as u64));
    assert_eq!(aggregator.finish(&names(), at(20)).unlisted, 0);
}

#[test]
fn only_the_last_generations_are_remembered() {
    let mut aggregator = Aggregator::default();
    let mut names = names();
    for generation in 4..4 + u32::try_from(GENERATIONS_KEPT).unwrap() {
        names.learn_generation(generation, manifest());
    }
    aggregator.add(&smb());
    let flow = &aggregator.finish(&names, at(10)).flows[0];
    assert_eq!(
        (flow.source_segment.as_str(), &flow.rule),
        ("#4", &None),
        "a forgotten generation has no names"
    );
}

#[test]
fn services_are_written_as_policies_write_them() {
    let mut aggregator = Aggregator::default();
    let cases = [
        (Event { protocol: PROTOCOL_UDP, destination_port: 53_u16.to_be(), ..smb() }, "udp/53"),
        (Event { protocol: PROTOCOL_ICMP, destination_port: 0x0800_u16.to_be(), ..smb() }, "icmp/8"),
        (
            Event {
                protocol: PROTOCOL_ICMPV6,
                destination_port: 0x8000_u16.to_be(),
                ethertype: ETHERTYPE_IPV6,
                source: words("fd00:70::5"),
                destination: words("fd00:30::9"),
                ..smb()
            },
            "icmpv6/128",
        ),
        (Event { protocol: 50, destination_port: 0, ..smb() }, "protocol/50"),
        (Event { protocol: 0, destination_port: 0, ..smb() }, "ipv4"),
        (Event { ethertype: ETHERTYPE_ARP, ..smb() }, "arp"),
        (Event { ethertype: 0x88cc, source: [0, 0], destination: [0, 0], ..smb() }, "ethertype/0x88cc"),
    ];
    for (event, service) in cases {
        aggregator.add(&event);
        let interval = aggregator.finish(&names(), at(10));
        assert_eq!(interval.flows[0].service, service);
    }
}

#[test]
fn frames_without_addresses_are_told_apart_by_their_sender() {
    let mut aggregator = Aggregator::default();
    let lldp = Event {
        ethertype: 0x88cc,
        source: [0, 0],
        destination: [0, 0],
        rule: NO_RULE,
        destination_segment: SEGMENT_UNKNOWN,
        ..smb()
    };
    aggregator.add(&lldp);
    aggregator.add(&Event { source_mac: [2, 0, 0, 0, 0, 2], ..lldp });
    let interval = aggregator.finish(&names(), at(10));
    assert_eq!(interval.flows.len(), 2);
    let flow = &interval.flows[0];
    assert_eq!((flow.source, flow.destination_segment.as_str(), &flow.rule), (None, "unknown", &None));
}

#[test]
fn numbers_that_mean_nothing_do_no_harm() {
    let mut aggregator = Aggregator::default();
    aggregator.add(&Event {
        reason: 255,
        verdict: 255,
        rule: 77,
        time: u64::MAX,
        source_segment: u16::MAX,
        ..smb()
    });
    let flow = &aggregator.finish(&names(), at(10)).flows[0];
    assert_eq!((flow.reason.as_str(), flow.verdict.as_str()), ("unknown", "unknown"));
}
