//! Promises 1, 2, 4 and 12: default deny, denies override, modes, and every verdict has an origin.

use std::fmt::Write as _;

use gateway_common::reason::{Reason, Verdict};

use crate::bench::{Bench, WARD, audit, drop, drop_by, observe, pass};
use crate::frame::{SYN, VLAN, echo, icmp_header, packet, tagged, tcp, udp};

#[test]
fn promise_1_nothing_passes_without_a_flow() {
    Bench::wards().into_iter().for_each(nothing_passes_without_a_flow);
}

fn nothing_passes_without_a_flow(mut bench: Bench) {
    let cases = [
        ("another port", "a0", tcp("10.0.1.5", "10.0.2.5", (1, 105), SYN)),
        ("the port below", "a0", tcp("10.0.1.5", "10.0.2.5", (1, 103), SYN)),
        ("another protocol on the port", "a0", udp("10.0.1.5", "10.0.2.5", (1, 104))),
        ("the other way", "b0", tcp("10.0.2.5", "10.0.1.5", (1, 104), SYN)),
        ("within a segment", "a0", tcp("10.0.1.5", "10.0.1.6", (1, 104), SYN)),
        ("to the world", "a0", tcp("10.0.1.5", "203.0.113.99", (1, 443), SYN)),
        ("from the world", "w0", tcp("203.0.113.17", "10.0.1.5", (1, 443), SYN)),
        ("from world to world", "w0", tcp("203.0.113.17", "203.0.113.18", (1, 443), SYN)),
        ("an unnamed group", "a0", udp("10.0.1.5", "239.255.255.251", (1, 3702))),
        ("a protocol by number", "a0", packet("10.0.1.5", "10.0.2.5", 47, &[0; 8])),
        ("an ICMP type", "a0", packet("10.0.1.5", "10.0.2.5", 1, &icmp_header(13, 0, [0, 0]))),
        ("IPv6 likewise", "a0", tcp("fd00:1::5", "fd00:2::5", (1, 105), SYN)),
    ];
    for (what, interface, frame) in cases {
        bench.frame(what, interface, &frame, drop(Reason::NoFlow));
    }
    assert_eq!(bench.live(), 0, "what is dropped leaves no connection behind");
}

#[test]
fn promise_12_a_flow_names_its_packets() {
    Bench::wards().into_iter().for_each(a_flow_names_its_packets);
}

fn a_flow_names_its_packets(mut bench: Bench) {
    let cases = [
        ("TCP", "a0", tcp("10.0.1.5", "10.0.2.5", (1, 104), SYN), "store"),
        ("TCP over IPv6", "a0", tcp("fd00:1::5", "fd00:2::5", (1, 11112), SYN), "store"),
        ("UDP", "a0", udp("10.0.1.5", "10.0.2.5", (1, 53)), "ask"),
        ("echo", "a0", echo("10.0.1.5", "10.0.2.5", 8, 7), "reach"),
        ("ICMPv6 echo", "a0", echo("fd00:1::5", "fd00:2::5", 128, 7), "reach"),
        ("ESP", "a0", packet("10.0.1.5", "10.0.2.5", 50, &[0; 16]), "tunnel"),
        ("a group", "a0", udp("10.0.1.5", "239.255.255.250", (1, 3702)), "discover"),
        ("a prefix in the world", "a0", tcp("10.0.1.5", "203.0.113.16", (1, 443), SYN), "update"),
        ("its last address", "a0", tcp("10.0.1.5", "203.0.113.23", (1, 443), SYN), "update"),
        ("first of a range", "a0", tcp("10.0.1.128", "10.0.2.64", (1, 5000), SYN), "high-ports"),
        ("last of a range", "a0", tcp("10.0.1.131", "10.0.2.127", (1, 5010), SYN), "high-ports"),
        ("an ICMP type", "a0", packet("10.0.1.5", "10.0.2.5", 1, &icmp_header(17, 0, [0, 0])), "mask"),
    ];
    for (what, interface, frame, rule) in cases {
        bench.frame(what, interface, &frame, pass(Reason::Flow, rule));
    }
    let beyond = [
        ("below the range", tcp("10.0.1.127", "10.0.2.64", (1, 5000), SYN)),
        ("above the range", tcp("10.0.1.132", "10.0.2.64", (1, 5000), SYN)),
        ("below the prefix", tcp("10.0.1.128", "10.0.2.63", (1, 5000), SYN)),
        ("above the prefix", tcp("10.0.1.128", "10.0.2.128", (1, 5000), SYN)),
        ("below the ports", tcp("10.0.1.128", "10.0.2.64", (1, 4999), SYN)),
        ("above the ports", tcp("10.0.1.128", "10.0.2.64", (1, 5011), SYN)),
        ("behind the world's prefix", tcp("10.0.1.5", "203.0.113.24", (1, 443), SYN)),
    ];
    for (what, frame) in beyond {
        bench.frame(what, "a0", &frame, drop(Reason::NoFlow));
    }
}

#[test]
fn promise_1_a_service_may_name_the_initiators_ports() {
    let services = "
services:
  spooler: { tcp: [{ ports: 515, source: 721-731 }], udp: [{ ports: 514, source: 514 }], class: infrastructure }
";
    let ward = WARD.replace(
        "\nflows:\n",
        "\nflows:\n  - { name: print, from: [alpha], to: [beta], services: [spooler] }\n",
    );
    let mut bench = Bench::new(&format!("{ward}{services}"));
    let tcp = |ports| tcp("10.0.1.5", "10.0.2.5", ports, SYN);
    let udp = |ports| udp("10.0.1.5", "10.0.2.5", ports);
    for (what, frame) in [
        ("first source port", tcp((721, 515))),
        ("last source port", tcp((731, 515))),
        ("the only source port of UDP", udp((514, 514))),
    ] {
        bench.frame(what, "a0", &frame, pass(Reason::Flow, "print"));
    }
    for (what, frame) in [
        ("below the source ports", tcp((720, 515))),
        ("above the source ports", tcp((732, 515))),
        ("the source port of UDP", tcp((514, 515))),
        ("a source port and another port", tcp((721, 514))),
        ("the source port of TCP", udp((721, 514))),
        ("another source port", udp((515, 514))),
    ] {
        bench.frame(what, "a0", &frame, drop(Reason::NoFlow));
    }
    bench.frame("a service without them", "a0", &tcp((40_000, 104)), pass(Reason::Flow, "store"));
}

#[test]
fn promise_2_a_deny_overrides_every_allow() {
    Bench::wards().into_iter().for_each(a_deny_overrides_every_allow);
}

fn a_deny_overrides_every_allow(mut bench: Bench) {
    let stolen = tcp("10.0.1.66", "10.0.2.5", (1, 104), SYN);
    bench.frame("denied", "a0", &stolen, drop_by(Reason::Denied, "lost-device"));
    let v6 = udp("fd00:1::66", "fd00:2::5", (1, 53));
    bench.frame("denied over IPv6", "a0", &v6, drop_by(Reason::Denied, "lost-device"));
    let other_service = tcp("10.0.1.66", "10.0.2.5", (1, 11112), SYN);
    bench.frame("a service that the deny leaves alone", "a0", &other_service, pass(Reason::Flow, "store"));
    bench.frame(
        "its neighbour",
        "a0",
        &tcp("10.0.1.67", "10.0.2.5", (1, 104), SYN),
        pass(Reason::Flow, "store"),
    );
}

/// Rules are put into layers by how much of each side they name. Each kind of flow meets each kind of deny, and
/// stands for itself where there is none.
#[test]
fn promise_2_a_deny_overrides_in_whatever_layer() {
    const ONE: [&str; 2] = ["10.0.1.7", "10.0.2.7"];
    const SOME: [&str; 2] = ["10.0.1.7, 10.0.1.20, 10.0.1.21", "10.0.2.7, 10.0.2.20, 10.0.2.21"];
    const ALL: &str = "alpha, beta, tagged, stacked, watched, watched2, audited";
    let kinds = [[ONE[0], ONE[1]], [ALL, ONE[1]], [ONE[0], ALL], [SOME[0], ONE[1]], [SOME[0], SOME[1]]];
    let (mut flows, mut denies) = (String::new(), String::new());
    for (kind, [from, to]) in kinds.iter().enumerate() {
        let ports = format!("[tcp/{}-{}]", 1_000 + 10 * kind, 1_009 + 10 * kind);
        writeln!(flows, "  - {{ name: flow-{kind}, from: [{from}], to: [{to}], services: {ports} }}")
            .unwrap();
        let ports: Vec<String> =
            (0..kinds.len()).map(|flow| format!("tcp/{}", 1_000 + 10 * flow + kind)).collect();
        let ports = ports.join(", ");
        writeln!(denies, "  - {{ name: deny-{kind}, from: [{from}], to: [{to}], services: [{ports}] }}")
            .unwrap();
    }
    for other in 20..40 {
        let ends = format!("from: [10.0.1.{other}], to: [10.0.2.{other}]");
        writeln!(flows, "  - {{ name: other-{other}, {ends}, services: [tcp/2000] }}").unwrap();
    }
    let policy = WARD.replace("\nflows:\n", &format!("\nflows:\n{flows}")) + &denies;
    for mut bench in [Bench::new(&policy), Bench::layered(&policy)] {
        let opening = |port| tcp("10.0.1.7", "10.0.2.7", (1, port), SYN);
        for flow in 0..5_u16 {
            for deny in 0..5_u16 {
                let what = format!("flow {flow}, deny {deny}");
                let rule = DENIES[usize::from(deny)];
                bench.frame(&what, "a0", &opening(1_000 + 10 * flow + deny), drop_by(Reason::Denied, rule));
            }
            let what = format!("flow {flow} alone");
            let rule = FLOWS[usize::from(flow)];
            bench.frame(&what, "a0", &opening(1_009 + 10 * flow), pass(Reason::Flow, rule));
        }
        bench.frame("neither", "a0", &opening(1_050), drop(Reason::NoFlow));
    }
}

const FLOWS: [&str; 5] = ["flow-0", "flow-1", "flow-2", "flow-3", "flow-4"];
const DENIES: [&str; 5] = ["deny-0", "deny-1", "deny-2", "deny-3", "deny-4"];

#[test]
fn promise_4_the_stricter_mode_of_both_segments_decides() {
    let mut bench = Bench::ward();
    let to = |to: &str| tcp("10.0.5.5", to, (1, 105), SYN);
    bench.frame("observe to observe", "o0", &to("10.0.51.5"), observe(Reason::NoFlow));
    bench.frame("observe to audit", "o0", &to("10.0.6.5"), audit(Reason::NoFlow));
    bench.frame("observe to enforce", "o0", &to("10.0.2.5"), drop(Reason::NoFlow));
    bench.frame("observe to the world", "o0", &to("203.0.113.9"), drop(Reason::NoFlow));
    let back = tcp("10.0.2.5", "10.0.5.5", (1, 105), SYN);
    bench.frame("enforce to observe", "b0", &back, drop(Reason::NoFlow));
    let audited = tcp("10.0.6.5", "10.0.5.5", (1, 105), SYN);
    bench.frame("audit to observe", "u0", &audited, audit(Reason::NoFlow));
    bench.frame(
        "spoofed while observed",
        "o0",
        &tcp("10.0.6.5", "10.0.51.5", (1, 1), SYN),
        observe(Reason::Spoofed),
    );
    bench.frame(
        "spoofed while audited",
        "u0",
        &tcp("10.0.5.5", "10.0.51.5", (1, 1), SYN),
        audit(Reason::Spoofed),
    );
    let allowed = tcp("10.0.5.5", "10.0.6.5", (1, 104), SYN);
    bench.frame("allowed is allowed in any mode", "o0", &allowed, pass(Reason::Flow, "from-watched"));
    assert_eq!(bench.live(), 1, "only the allowed one has a connection");
}

#[test]
fn promise_4_what_every_mode_drops() {
    let mut bench = Bench::ward();
    let good = tcp("10.0.5.5", "10.0.51.5", (1, 105), SYN);
    let tag = tagged(VLAN, 0, &good);
    let cases = [
        ("a tag of nobody", tagged(VLAN, 7, &good), drop(Reason::UnknownVlan)),
        ("cut within its tag", tag[..17].to_vec(), drop(Reason::Truncated)),
        ("cut behind its tag", tag[..18].to_vec(), observe(Reason::Truncated)),
        ("cut within its addresses", good[..30].to_vec(), observe(Reason::Truncated)),
        ("cut behind its addresses", good[..34].to_vec(), observe(Reason::Truncated)),
    ];
    for (what, frame, expected) in cases {
        bench.frame(what, "o0", &frame, expected);
    }
    let to_enforced = tcp("10.0.5.5", "10.0.2.5", (1, 105), SYN);
    bench.frame("the destination enforces", "o0", &to_enforced[..34], drop(Reason::Truncated));
    bench.frame("and cannot be read", "o0", &to_enforced[..30], observe(Reason::Truncated));
}

#[test]
fn promise_12_an_event_names_what_was_dropped() {
    let mut bench = Bench::ward();
    bench.frame(
        "denied",
        "a0",
        &tcp("10.0.1.66", "10.0.2.5", (4_321, 104), SYN),
        drop_by(Reason::Denied, "lost-device"),
    );
    let events = bench.events();
    let [event] = &events[..] else { panic!("one event: {events:?}") };
    assert_eq!(event.reason, Reason::Denied as u8);
    assert_eq!(event.verdict, Verdict::Drop as u8);
    assert_eq!(u16::from_be(event.source_port), 4_321);
    assert_eq!(u16::from_be(event.destination_port), 104);
    assert_eq!(event.protocol, 6);
    assert_eq!(event.tcp_flags, SYN);
    assert_eq!(event.source_mac, crate::frame::SENDER);
    assert_eq!(event.ethertype, 0x0800);
    assert_eq!(event.length, 54);
    assert_eq!(event.packets, 1);
    assert_ne!(event.rule, u32::MAX);
    assert_eq!(event.source[1].to_ne_bytes(), [0, 0, 0xff, 0xff, 10, 0, 1, 66]);

    bench.frame("audited", "u0", &tcp("10.0.6.5", "10.0.5.5", (1, 105), SYN), audit(Reason::NoFlow));
    assert_eq!(bench.events().len(), 1, "what would be dropped is reported");
    bench.frame("observed", "o0", &tcp("10.0.5.5", "10.0.51.5", (1, 105), SYN), observe(Reason::NoFlow));
    bench.frame("allowed", "a0", &tcp("10.0.1.5", "10.0.2.5", (1, 104), SYN), pass(Reason::Flow, "store"));
    assert!(bench.events().is_empty(), "what passes is not");
}
