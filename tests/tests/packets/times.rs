//! Promise 9: time holds without the controller. Rules that hold only at times, quarantine and break-glass, by nothing
//! but the clock that the programs read.

use std::collections::BTreeMap;

use clinigate::policy::model::{
    ANY_PORT, AddressSet, Condition, Policy, Ranges, Rule, RuleKind, SegmentId, Service, ServiceClass,
    ServiceMatch,
};
use clinigate::policy::{SourceFile, resolve};
use gateway_common::reason::{Reason, Verdict};

use crate::bench::{Bench, Expected, WARD, drop, drop_by, pass};
use crate::frame::{ACK, SYN, VLAN, echo, network, packet, tcp, udp};

const SECOND: u64 = 1_000_000_000;
/// When a bench begins.
const START: u64 = 3600 * SECOND;

fn ward() -> Policy {
    resolve(vec![SourceFile::new("policy.yaml", WARD)]).policy.unwrap()
}

/// The ward, with rules that hold only in these seconds of the bench.
fn timed(rules: &[(&str, &[(u64, u64)])]) -> Policy {
    let mut policy = ward();
    for (name, intervals) in rules {
        let rule = policy.rules.iter_mut().find(|rule| rule.name == *name).unwrap();
        rule.condition = Some(policy.conditions.len());
        let at = |(from, until): &(u64, u64)| (START + from * SECOND, START + until * SECOND);
        policy.conditions.push(Condition { intervals: intervals.iter().map(at).collect() });
    }
    policy
}

/// Puts an address into quarantine for so many seconds; `kept` stays allowed for it.
fn quarantine(mut policy: Policy, address: &str, seconds: u64, kept: &[&str]) -> Policy {
    let bits = address.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
    let isolated =
        AddressSet { ranges: Ranges { v4: vec![(bits, bits)], v6: Vec::new() }, ..AddressSet::default() };
    let segments = (0..policy.segments.len()).map(|index| SegmentId(u16::try_from(index).unwrap()));
    let everywhere = AddressSet {
        segments: segments.filter(|id| *id != SegmentId::UNKNOWN).collect(),
        ranges: Ranges::default(),
    };
    policy.services.push(Service {
        name: "everything".to_owned(),
        matches: [
            ServiceMatch::Tcp { source: ANY_PORT, destination: ANY_PORT },
            ServiceMatch::Udp { source: ANY_PORT, destination: ANY_PORT },
            ServiceMatch::Icmp((0, 255)),
            ServiceMatch::Protocol(50),
        ]
        .to_vec(),
        class: ServiceClass::Unknown,
        phi: false,
        cleartext: false,
        standard: None,
        origin: None,
    });
    policy.conditions.push(Condition { intervals: vec![(0, START + seconds * SECOND)] });
    let condition = Some(policy.conditions.len() - 1);
    let origin = policy.rules[0].origin.clone();
    for rule in policy.rules.clone().into_iter().filter(|rule| kept.contains(&rule.name.as_str())) {
        let name = format!("kept/{}", rule.name);
        policy.rules.push(Rule { name, kind: RuleKind::Kept, condition, ..rule });
    }
    let ends = [("quarantine/out", &isolated, &everywhere), ("quarantine/in", &everywhere, &isolated)];
    for (name, from, to) in ends {
        policy.rules.push(Rule {
            name: name.to_owned(),
            kind: RuleKind::Quarantine,
            from: from.clone(),
            to: to.clone(),
            services: vec![policy.services.len() - 1],
            purpose: None,
            owner: None,
            review: None,
            unenforced: false,
            condition,
            through: None,
            limits: None,
            origin: origin.clone(),
        });
    }
    policy
}

fn quarantined(rule: Option<&'static str>) -> Expected {
    rule.map_or_else(|| drop(Reason::Quarantined), |rule| drop_by(Reason::Quarantined, rule))
}

fn store(port: u16, flags: u8) -> Vec<u8> {
    tcp("10.0.1.5", "10.0.2.5", (port, 104), flags)
}

fn stored(port: u16, flags: u8) -> Vec<u8> {
    tcp("10.0.2.5", "10.0.1.5", (104, port), flags)
}

#[test]
fn promise_9_a_window_opens_and_ends_by_the_clock_and_cuts_what_it_carried() {
    for mut bench in Bench::both(&timed(&[("store", &[(10, 20), (40, 50)])])) {
        bench.frame("before the window", "a0", &store(1, SYN), drop(Reason::NoFlow));
        bench.wait(10);
        bench.frame("its first second", "a0", &store(1, SYN), pass(Reason::Flow, "store"));
        bench.frame("SYN-ACK", "b0", &stored(1, SYN | ACK), pass(Reason::Established, "store"));
        bench.frame("ACK", "a0", &store(1, ACK), pass(Reason::Established, "store"));
        bench.now = START + 20 * SECOND - 1;
        bench.frame("its last nanosecond", "b0", &stored(1, ACK), pass(Reason::Established, "store"));
        bench.now += 1;
        bench.frame("its end", "b0", &stored(1, ACK), drop(Reason::Revoked));
        bench.frame("and all after it", "a0", &store(1, ACK), drop(Reason::NotInConnection));
        bench.frame("nothing new", "a0", &store(2, SYN), drop(Reason::NoFlow));
        assert_eq!(bench.live(), 0);
        bench.wait(20);
        bench.frame("the next window", "a0", &store(1, SYN), pass(Reason::Flow, "store"));
        assert_eq!(bench.counters().health.connections_revoked, 1);
        assert_eq!(bench.counters().health.connections_revalidated, 0, "no other generation");
    }
}

#[test]
fn promise_9_another_rule_carries_on_what_a_window_began() {
    let mut policy = timed(&[("store", &[(0, 20)])]);
    let store_rule = policy.rules.iter().find(|rule| rule.name == "store").unwrap();
    let always = Rule { name: "always".to_owned(), condition: None, ..store_rule.clone() };
    policy.rules.push(always);
    for mut bench in Bench::both(&policy) {
        bench.frame("SYN", "a0", &store(1, SYN), pass(Reason::Flow, "store"));
        bench.frame("SYN-ACK", "b0", &stored(1, SYN | ACK), pass(Reason::Established, "store"));
        bench.wait(20);
        bench.frame("goes on", "a0", &store(1, ACK), pass(Reason::Established, "always"));
        bench.frame("both ways", "b0", &stored(1, ACK), pass(Reason::Established, "always"));
    }
}

#[test]
fn promise_9_a_deny_at_times_cuts_what_always_passes_at_others() {
    for mut bench in Bench::both(&timed(&[("lost-device", &[(10, 20)])])) {
        let lost = |port, flags| tcp("10.0.1.66", "10.0.2.5", (port, 104), flags);
        bench.frame("before", "a0", &lost(1, SYN), pass(Reason::Flow, "store"));
        bench.wait(10);
        bench.frame("within", "a0", &lost(1, ACK), drop_by(Reason::Revoked, "lost-device"));
        bench.frame("a new one", "a0", &lost(2, SYN), drop_by(Reason::Denied, "lost-device"));
        bench.wait(10);
        bench.frame("after", "a0", &lost(2, SYN), pass(Reason::Flow, "store"));
    }
}

#[test]
fn promise_9_every_kind_of_connection_ends_with_its_window() {
    let window: &[(u64, u64)] = &[(0, 20)];
    for mut bench in Bench::both(&timed(&[("ask", window), ("reach", window), ("tunnel", window)])) {
        bench.frame("UDP", "a0", &udp("10.0.1.5", "10.0.2.5", (1, 53)), pass(Reason::Flow, "ask"));
        bench.frame("echo", "a0", &echo("10.0.1.5", "10.0.2.5", 8, 4), pass(Reason::Flow, "reach"));
        bench.frame("ESP", "a0", &packet("10.0.1.5", "10.0.2.5", 50, &[0; 16]), pass(Reason::Flow, "tunnel"));
        bench.wait(20);
        let quoted = network("10.0.1.5", "10.0.2.5", 17, &crate::frame::udp_header((1, 53), 4));
        let error = packet(
            "10.0.2.5",
            "10.0.1.5",
            1,
            &[&crate::frame::icmp_header(3, 3, [0, 0])[..], &quoted].concat(),
        );
        bench.frame("an error that quotes it", "b0", &error, drop(Reason::Revoked));
        bench.frame("UDP", "b0", &udp("10.0.2.5", "10.0.1.5", (53, 1)), drop(Reason::NoFlow));
        bench.frame("echo reply", "b0", &echo("10.0.2.5", "10.0.1.5", 0, 4), drop(Reason::Revoked));
        bench.frame("ESP", "a0", &packet("10.0.1.5", "10.0.2.5", 50, &[0; 16]), drop(Reason::Revoked));
    }
}

#[test]
fn a_quarantine_cuts_what_runs_keeps_what_the_policy_keeps_and_ends_by_itself() {
    let mut bench = Bench::of_policy(&ward());
    bench.frame("SYN", "a0", &store(1, SYN), pass(Reason::Flow, "store"));
    bench.frame("SYN-ACK", "b0", &stored(1, SYN | ACK), pass(Reason::Established, "store"));
    bench.frame("query", "a0", &udp("10.0.1.5", "10.0.2.5", (9, 53)), pass(Reason::Flow, "ask"));
    bench.swap_policy(&quarantine(ward(), "10.0.1.5", 30, &["ask"]));
    bench.frame("cut", "b0", &stored(1, ACK), quarantined(Some("quarantine/out")));
    bench.frame("and all after it", "a0", &store(1, ACK), quarantined(None));
    bench.frame("nothing new", "a0", &store(2, SYN), quarantined(Some("quarantine/out")));
    bench.frame(
        "nor from elsewhere",
        "b0",
        &tcp("10.0.2.5", "10.0.1.5", (1, 22), SYN),
        quarantined(Some("quarantine/in")),
    );
    bench.frame(
        "what it keeps goes on",
        "a0",
        &udp("10.0.1.5", "10.0.2.5", (9, 53)),
        pass(Reason::Established, "kept/ask"),
    );
    bench.frame(
        "and opens anew",
        "a0",
        &udp("10.0.1.5", "10.0.2.5", (10, 53)),
        pass(Reason::Flow, "kept/ask"),
    );
    bench.frame(
        "another host is free",
        "a0",
        &tcp("10.0.1.6", "10.0.2.5", (1, 104), SYN),
        pass(Reason::Flow, "store"),
    );
    bench.wait(30);
    bench.frame("it ends by itself", "a0", &store(2, SYN), pass(Reason::Flow, "store"));
    bench.frame(
        "and its other flows name their rule again",
        "a0",
        &udp("10.0.1.5", "10.0.2.5", (11, 53)),
        pass(Reason::Flow, "ask"),
    );
}

/// In a segment that only observes or audits a quarantine drops, too, and a deny of the policy holds before what
/// quarantine keeps.
#[test]
fn a_quarantine_asks_no_mode_and_a_deny_still_overrides() {
    let policy = quarantine(quarantine(ward(), "10.0.5.5", 30, &[]), "10.0.1.66", 30, &["ask"]);
    for mut bench in Bench::both(&policy) {
        let to = |port, flags| tcp("10.0.5.5", "10.0.51.9", (port, 104), flags);
        bench.frame("between observed segments", "o0", &to(1, SYN), quarantined(Some("quarantine/out")));
        bench.frame("in its middle", "o0", &to(1, ACK), quarantined(None));
        bench.frame("back", "p0", &tcp("10.0.51.9", "10.0.5.5", (104, 1), ACK), quarantined(None));
        bench.frame("a deny", "a0", &udp("10.0.1.66", "10.0.2.5", (9, 53)), quarantined(Some("lost-device")));
        bench.wait(30);
        let observed = crate::bench::observe(Reason::NotInConnection);
        bench.frame("as before", "o0", &to(1, ACK), observed);
        bench.frame(
            "the deny as ever",
            "a0",
            &udp("10.0.1.66", "10.0.2.5", (9, 53)),
            drop_by(Reason::Denied, "lost-device"),
        );
    }
}

fn opened(rule: Option<&'static str>) -> Expected {
    Expected::new(Verdict::Audit, Reason::BreakGlass, rule)
}

#[test]
fn broken_glass_lets_through_and_reports_until_its_time_is_over() {
    let mut policy = ward();
    let alpha = policy.segments.iter().position(|segment| segment.name == "alpha").unwrap();
    let alpha = SegmentId(u16::try_from(alpha).unwrap());
    policy.break_glass = BTreeMap::from([(alpha, START + 30 * SECOND)]);
    for mut bench in Bench::both(&policy) {
        let web = tcp("10.0.1.5", "10.0.2.5", (1, 80), SYN);
        let back = tcp("10.0.2.5", "10.0.1.5", (80, 1), SYN | ACK);
        bench.events();
        bench.frame("to a segment that enforces", "a0", &web, opened(None));
        assert_eq!(bench.events().len(), 1, "reported");
        bench.frame("and back", "b0", &back, opened(None));
        bench.frame(
            "what a deny forbids",
            "a0",
            &udp("10.0.1.66", "10.0.2.5", (9, 53)),
            opened(Some("lost-device")),
        );
        bench.frame("what is allowed is as ever", "a0", &store(1, SYN), pass(Reason::Flow, "store"));
        bench.frame(
            "not the world",
            "a0",
            &tcp("10.0.1.5", "203.0.113.99", (1, 80), SYN),
            drop(Reason::NoFlow),
        );
        bench.frame(
            "not the gateway",
            "a0",
            &tcp("10.0.1.5", "10.0.1.1", (1, 80), SYN),
            drop(Reason::NoFlow),
        );
        bench.frame(
            "nor other segments",
            "t0",
            &crate::frame::tagged(VLAN, 30, &tcp("10.0.3.5", "10.0.2.5", (1, 80), SYN)),
            drop(Reason::NoFlow),
        );
        bench.now = START + 30 * SECOND - 1;
        bench.frame("its last nanosecond", "a0", &web, opened(None));
        bench.now += 1;
        bench.frame("its end", "a0", &web, drop(Reason::NoFlow));
        bench.frame("both ways", "b0", &back, drop(Reason::NotInConnection));
    }
}

/// Broken glass is for care, not for what was taken out of the network by hand.
#[test]
fn broken_glass_frees_nothing_from_quarantine() {
    let mut policy = quarantine(ward(), "10.0.1.5", 30, &[]);
    let alpha = policy.segments.iter().position(|segment| segment.name == "alpha").unwrap();
    policy.break_glass = BTreeMap::from([(SegmentId(u16::try_from(alpha).unwrap()), u64::MAX)]);
    for mut bench in Bench::both(&policy) {
        bench.frame("quarantined", "a0", &store(1, SYN), quarantined(Some("quarantine/out")));
        bench.frame("its neighbour", "a0", &tcp("10.0.1.6", "10.0.2.5", (1, 80), SYN), opened(None));
    }
}
