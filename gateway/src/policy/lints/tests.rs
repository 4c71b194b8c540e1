#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use super::*;
use crate::policy::model::{
    ANY_PORT, AddressSet, Interface, InterfaceKind, ModeSetting, Origin, Ranges, Rule, Segment, Service,
    ServiceClass, ServiceMatch, Tunnel,
};

mod enumeration;
mod segments;

const A: SegmentId = SegmentId(4);
const B: SegmentId = SegmentId(5);

fn origin(line: u32) -> Origin {
    Origin { file: "test.yaml".into(), line, column: 1 }
}

/// IPv4 range 10.0.0.0/16, by its last two octets.
fn addresses(first: u32, last: u32) -> Ranges {
    Ranges { v4: vec![(0x0a00_0000 | first, 0x0a00_0000 | last)], v6: Vec::new() }
}

fn segment(name: &str, ranges: Ranges, line: u32) -> Segment {
    Segment {
        name: name.to_owned(),
        vlan: None,
        ranges,
        zone: None,
        mode: ModeSetting::Enforce,
        ethertypes: BTreeSet::new(),
        routers: false,
        origin: origin(line),
    }
}

fn udp(port: u16) -> ServiceMatch {
    ServiceMatch::Udp { source: ANY_PORT, destination: (port, port) }
}

fn service(name: &str, matches: Vec<ServiceMatch>) -> Service {
    Service {
        name: name.to_owned(),
        matches,
        class: ServiceClass::Unknown,
        phi: true,
        cleartext: true,
        standard: None,
        origin: Some(origin(90)),
    }
}

/// Segments `a` (10.0.1.0/24) and `b` (10.0.2.0/24) on interfaces of their own, and the world;
/// services udp 0 to 3, each of that number, and number 4, TCP.
fn policy(rules: Vec<Rule>) -> Policy {
    let interface = |name: &str, kind| Interface {
        name: name.to_owned(),
        kind,
        routed: false,
        tunnel: None,
        origin: origin(1),
    };
    let builtin = ["wan", "gateway", "multicast", "unknown"].map(|name| segment(name, Ranges::default(), 0));
    let mut segments = builtin.to_vec();
    segments.push(segment("a", addresses(0x0100, 0x01ff), 2));
    segments.push(segment("b", addresses(0x0200, 0x02ff), 3));
    let tcp = ServiceMatch::Tcp { source: ANY_PORT, destination: ANY_PORT };
    let mut services: Vec<Service> =
        (0..4).map(|port| service(&format!("s{port}"), vec![udp(port)])).collect();
    services.push(service("tcp", vec![tcp]));
    Policy {
        interfaces: vec![
            interface("a0", InterfaceKind::Access(A)),
            interface("b0", InterfaceKind::Access(B)),
            interface("wan0", InterfaceKind::Wan),
        ],
        segments,
        services,
        rules,
        ..Policy::default()
    }
}

fn whole(id: SegmentId) -> AddressSet {
    AddressSet { segments: BTreeSet::from([id]), ranges: Ranges::default() }
}

fn part(first: u32, last: u32) -> AddressSet {
    AddressSet { segments: BTreeSet::new(), ranges: addresses(first, last) }
}

fn rule(kind: RuleKind, from: AddressSet, to: AddressSet, services: &[usize]) -> Rule {
    Rule {
        name: "rule".to_owned(),
        kind,
        from,
        to,
        services: services.to_vec(),
        purpose: Some("purpose".to_owned()),
        owner: Some("owner".to_owned()),
        review: None,
        unenforced: false,
        condition: None,
        through: None,
        limits: None,
        origin: origin(10),
    }
}

fn flow(from: AddressSet, to: AddressSet, services: &[usize]) -> Rule {
    rule(RuleKind::Flow, from, to, services)
}

fn deny(from: AddressSet, to: AddressSet, services: &[usize]) -> Rule {
    rule(RuleKind::Deny, from, to, services)
}

/// Codes, sorted, without those about services that a test does not use.
fn codes(policy: &Policy) -> Vec<&'static str> {
    let mut codes: Vec<&str> = lint(policy).iter().map(|found| found.code).collect();
    codes.retain(|code| *code != "unused-service");
    codes.sort_unstable();
    codes
}

/// Codes for a policy of these rules, given numbered lines; segments are all named by a last flow.
fn codes_of(rules: Vec<Rule>) -> Vec<&'static str> {
    let mut rules = rules;
    rules.push(flow(whole(A), whole(B), &[4]));
    rules.push(flow(whole(B), whole(A), &[4]));
    codes(&policy(rules))
}

#[test]
fn a_sound_policy_has_no_diagnostics() {
    assert!(codes_of(vec![flow(whole(A), whole(B), &[0])]).is_empty());
}

#[test]
fn an_unresolved_policy_does_not_panic() {
    assert!(lint(&Policy::default()).is_empty());
}

#[test]
fn two_denies_together_undo_a_flow() {
    let rules = vec![
        flow(part(0x0100, 0x0107), whole(B), &[0, 1]),
        deny(part(0x0100, 0x0103), whole(B), &[0, 1]),
        deny(part(0x0104, 0x01ff), whole(B), &[0, 1, 2]),
    ];
    assert_eq!(codes_of(rules.clone()), ["denied-rule"]);
    let mut with_gap = rules;
    with_gap[2].from = part(0x0105, 0x01ff);
    assert!(codes_of(with_gap).is_empty());
}

/// What a flow is taken apart for: one of so many exceptions counts as alive.
#[test]
fn so_many_denies_undo_a_flow_and_not_more() {
    let undone = |count: u32| {
        let denies = (0..count).map(|n| deny(part(0x0100 + n, 0x0100 + n), whole(B), &[0]));
        codes_of([flow(part(0x0100, 0x0100 + count - 1), whole(B), &[0])].into_iter().chain(denies).collect())
    };
    assert_eq!((undone(128), undone(129)), (vec!["denied-rule"], vec![]));
}

#[test]
fn a_deny_of_the_addresses_leaves_hosts_without_one() {
    let by_segment = flow(whole(A), whole(SegmentId::GATEWAY), &[0]);
    let by_address = deny(part(0x0100, 0x01ff), whole(SegmentId::GATEWAY), &[0]);
    assert!(codes_of(vec![by_segment, by_address]).is_empty());
}

#[test]
fn the_wider_rule_covers_the_narrower_and_the_first_its_equal() {
    let narrow = flow(part(0x0103, 0x0103), whole(B), &[0]);
    let wide = flow(whole(A), whole(B), &[0, 1]);
    assert_eq!(codes_of(vec![narrow, wide.clone()]), ["covered-rule"]);
    let mut policy = policy(vec![wide.clone(), wide, flow(whole(B), whole(A), &[0])]);
    policy.rules[1].origin.line = 11;
    let found: Vec<(&str, u32)> = lint(&policy)
        .iter()
        .filter(|found| found.code != "unused-service")
        .map(|found| (found.code, found.place.line))
        .collect();
    assert_eq!(found, [("covered-rule", 11)]);
}

/// The rule that covers is shown, wherever it stands.
#[test]
fn one_rule_that_covers_another_is_named() {
    let narrow = flow(part(0x0103, 0x0103), whole(B), &[0]);
    let wide = Rule { name: "wide".to_owned(), origin: origin(11), ..flow(whole(A), whole(B), &[0, 1]) };
    for rules in [[narrow.clone(), wide.clone()], [wide, narrow]] {
        let found = lint(&policy(rules.to_vec()));
        let [found] = found.iter().filter(|it| it.code == "covered-rule").collect::<Vec<_>>()[..] else {
            panic!("{found:?}")
        };
        assert_eq!(found.message, "flow `rule` changes nothing: flow `wide` covers all of it");
        assert_eq!((found.place.line, found.related[0].place.line), (10, 11));
    }
}

#[test]
fn flows_and_denies_do_not_cover_each_other() {
    let wide = deny(whole(A), whole(B), &[0]);
    let inactive = unreached(flow(whole(A), whole(B), &[1]));
    assert_eq!(codes_of(vec![inactive, flow(part(0x0101, 0x0101), whole(B), &[1]), wide]), ["not-enforced"]);
}

#[test]
fn a_flow_takes_the_meaning_from_a_vendors_limits() {
    let vendor = rule(RuleKind::Vendor, part(0x0101, 0x0101), part(0x0202, 0x0202), &[0]);
    assert_eq!(
        codes_of(vec![unreached(vendor), flow(whole(A), whole(B), &[0])]),
        ["limit-without-effect", "not-enforced"]
    );
}

/// What comes through the tunnel alone says nothing about what comes otherwise.
#[test]
fn access_through_a_tunnel_covers_nothing_and_may_be_covered() {
    let both = || flow(whole(A), whole(B), &[0]);
    let through = |rule| Rule { kind: RuleKind::Vendor, through: Some(Tunnel::Ipsec), ..rule };
    let codes = |rules: Vec<Rule>| -> Vec<&str> {
        let mut policy = policy(rules);
        policy.interfaces[0].tunnel = Some(Tunnel::Ipsec);
        let found = lint(&policy).into_iter().map(|found| found.code);
        found.filter(|code| !["wide-vendor-access", "unused-service"].contains(code)).collect()
    };
    let narrow = flow(part(0x0101, 0x0101), part(0x0202, 0x0202), &[0]);
    let none: [&str; 0] = [];
    assert_eq!(codes(vec![through(both()), narrow.clone()]), none, "a flow is more than part of it");
    assert_eq!(codes(vec![through(narrow), both()]), ["limit-without-effect"]);
    let halves = [part(0x0100, 0x017f), part(0x0180, 0x01ff)].map(|from| through(flow(from, whole(B), &[0])));
    let codes = codes([halves.to_vec(), vec![both()]].concat());
    assert_eq!(codes, ["limit-without-effect", "limit-without-effect"], "nor together");
}

/// The rule, as one that wants a tunnel of which no interface is the end.
fn unreached(rule: Rule) -> Rule {
    Rule { unenforced: true, through: Some(Tunnel::Ipsec), ..rule }
}

#[test]
fn rules_that_can_never_match() {
    let v6 = Ranges { v4: Vec::new(), v6: vec![(0xfd00 << 112, 0xfd00 << 112)] };
    let only_v6 = AddressSet { segments: BTreeSet::new(), ranges: v6 };
    let broadcast = AddressSet {
        segments: BTreeSet::new(),
        ranges: Ranges { v4: vec![(u32::MAX, u32::MAX)], v6: vec![] },
    };
    let loopback = AddressSet {
        segments: BTreeSet::new(),
        ranges: Ranges { v4: vec![(0x7f00_0001, 0x7f00_0001)], v6: vec![] },
    };
    for never in [
        flow(whole(SegmentId::GATEWAY), whole(A), &[0]),
        flow(loopback, whole(A), &[0]),
        flow(part(0x0101, 0x0101), only_v6, &[0]),
        flow(whole(A), broadcast, &[0]),
        flow(whole(A), AddressSet::default(), &[0]),
        flow(AddressSet::default(), whole(A), &[0]),
        flow(whole(A), whole(SegmentId::MULTICAST), &[4]),
    ] {
        assert_eq!(codes_of(vec![never.clone()]), ["dead-rule"], "{never:?}");
    }
}

#[test]
fn a_dead_rule_says_why() {
    let why = |from, to| {
        let found = lint(&policy(vec![flow(from, to, &[0])]));
        found.into_iter().find(|found| found.code == "dead-rule").unwrap().message
    };
    let cases = [
        (AddressSet::default(), whole(A), "`from` names nothing"),
        (whole(SegmentId::GATEWAY), whole(A), "connections of the gateway itself need no rule"),
        (whole(SegmentId::MULTICAST), whole(A), "no packet can come from where it says"),
        (whole(A), AddressSet::default(), "what `to` names has no addresses"),
    ];
    for (from, to, reason) in cases {
        assert_eq!(why(from, to), format!("flow `rule` can never match: {reason}"));
    }
    let mut without_a = policy(vec![flow(part(0x0101, 0x0101), whole(B), &[0])]);
    without_a.interfaces.remove(0);
    let messages: Vec<String> = lint(&without_a).into_iter().map(|found| found.message).collect();
    assert!(messages.contains(&"flow `rule` can never match: no interface carries segment `a`".to_owned()));
}

/// Every code is explained in docs/warnings.md, and nothing else is.
#[test]
fn the_page_of_warnings_names_every_code() {
    let page = include_str!("../../../../docs/warnings.md");
    let explained: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let sources = [
        include_str!("dead.rs"),
        include_str!("mod.rs"),
        include_str!("records.rs"),
        include_str!("review.rs"),
        include_str!("segments.rs"),
        include_str!("../../assure/invariant.rs"),
    ];
    let codes: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.split("Diagnostic::warning(").skip(1))
        .filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    assert!(codes.len() > 10);
    assert_eq!(explained, codes);
}

#[test]
fn records_of_rules() {
    let anonymous = Rule { purpose: None, owner: Some(" ".to_owned()), ..flow(whole(A), whole(B), &[0]) };
    assert_eq!(codes_of(vec![anonymous]), ["undocumented-rule"]);
    let vendor = |from, to| rule(RuleKind::Vendor, from, to, &[0]);
    for wide in [
        vendor(whole(SegmentId::WAN), part(0x0101, 0x0101)),
        vendor(part(0x0101, 0x0101), whole(B)),
        vendor(part(0x0101, 0x0101), part(0x0201, 0x0202)),
    ] {
        assert_eq!(codes_of(vec![wide.clone()]), ["wide-vendor-access"], "{wide:?}");
    }
    assert!(
        codes_of(vec![vendor(part(0x0110, 0x0117), part(0x0201, 0x0201))]).is_empty(),
        "a prefix is one source"
    );
    assert!(codes_of(vec![vendor(part(0x0110, 0x0117), whole(SegmentId::GATEWAY))]).is_empty());
    let v6 = |last: u128, v4: AddressSet| {
        let ranges = Ranges { v6: vec![(0xfd00 << 112, (0xfd00 << 112) + last)], ..v4.ranges };
        let narrow = vendor(part(0x0101, 0x0101), AddressSet { ranges, ..v4 });
        let found = lint(&policy(vec![narrow]));
        found.iter().any(|found| found.code == "wide-vendor-access")
    };
    assert!(!v6(0, part(0x0201, 0x0201)), "one address of each IP version are one host");
    assert!(v6(1, part(0x0201, 0x0201)) && v6(0, part(0x0201, 0x0202)));
}

#[test]
fn a_service_of_the_text_that_no_rule_names() {
    let mut policy = policy(vec![flow(whole(A), whole(B), &[0, 2])]);
    policy.services[3].origin = None;
    let found = lint(&policy).into_iter().filter(|found| found.code == "unused-service");
    let messages: Vec<String> = found.map(|found| found.message).collect();
    assert_eq!(messages, ["no rule uses service `s1`", "no rule uses service `tcp`"]);
}

#[test]
fn cleartext_phi_counts_what_is_allowed() {
    let mut policy = policy(vec![
        flow(whole(A), whole(B), &[0]),
        deny(whole(A), whole(B), &[1]),
        Rule { unenforced: true, ..flow(whole(A), whole(B), &[2]) },
    ]);
    assert!(cleartext_phi(&policy).eq(&policy.rules[..1]));
    for (phi, cleartext, count) in [(true, true, 1), (true, false, 0), (false, true, 0), (false, false, 0)] {
        (policy.services[0].phi, policy.services[0].cleartext) = (phi, cleartext);
        assert_eq!(cleartext_phi(&policy).count(), count);
    }
}

#[test]
fn a_spent_budget_is_said_and_ends_the_comparison() {
    let policy = policy(vec![flow(whole(A), whole(B), &[0]), flow(whole(A), whole(B), &[0])]);
    let world = World::new(&policy);
    let rules = Rules::new(&policy, &world);
    let codes = |budget| {
        let mut findings = Findings::default();
        compare(&policy, &world, &rules, budget, &mut findings);
        findings.finish().iter().map(|found| found.code).collect::<Vec<_>>()
    };
    assert_eq!((codes(0), codes(1000)), (vec!["not-compared"], vec!["covered-rule"]));
    for budget in 0..20 {
        let codes = codes(budget);
        // One may be found before the budget is spent on the next.
        let rest = codes.strip_prefix(&["covered-rule"]).unwrap_or(&codes);
        assert!(!codes.is_empty() && (rest.is_empty() || rest == ["not-compared"]), "{codes:?}");
    }
}

#[test]
fn a_flood_of_one_kind_is_cut_and_counted() {
    let equal = flow(whole(A), whole(B), &[0]);
    let mut rules = vec![equal; SHOWN + 8];
    rules.push(flow(whole(A), whole(A), &[0]));
    let found = lint(&policy(rules));
    let of = |code| found.iter().filter(|found| found.code == code).count();
    assert_eq!((of("covered-rule"), of("within-segment")), (SHOWN, 1));
    let more: Vec<&str> =
        found.iter().filter(|f| f.code == "more-warnings").map(|f| f.message.as_str()).collect();
    assert_eq!(more, ["7 more warnings of the kind `covered-rule` are not shown; this is the last"]);
}

#[test]
fn rules_together_cover_one() {
    let parts =
        || vec![flow(part(0x0100, 0x017f), whole(B), &[0]), flow(part(0x0180, 0x01ff), whole(B), &[0, 1])];
    let both = flow(part(0x0110, 0x01f0), whole(B), &[0]);
    assert_eq!(codes_of([parts(), vec![both.clone()]].concat()), ["covered-rule"]);
    let more = Rule { services: vec![0, 1], ..both.clone() };
    assert!(codes_of([parts(), vec![more]].concat()).is_empty());
    let limited = unreached(both.clone());
    assert_eq!(codes_of([parts(), vec![limited]].concat()), ["limit-without-effect", "not-enforced"]);
    // What is removed must not be what the rest relies on.
    let all = flow(part(0x0100, 0x01ff), whole(B), &[0]);
    let halves = vec![flow(part(0x0100, 0x017f), whole(B), &[0]), flow(part(0x0180, 0x01ff), whole(B), &[0])];
    assert_eq!(codes_of([halves, vec![all]].concat()), ["covered-rule", "covered-rule"]);
}

#[test]
fn what_denies_forbid_in_part_is_named() {
    let name = |name: &str, rule: Rule| Rule { name: name.to_owned(), ..rule };
    let policy = policy(vec![
        name("part", flow(whole(A), whole(B), &[0, 1])),
        name("wholly", flow(part(0x0100, 0x010f), whole(B), &[1])),
        name("other", flow(whole(A), whole(B), &[2])),
        name("closed", Rule { unenforced: true, ..flow(whole(A), whole(B), &[1]) }),
        name("first", deny(whole(A), part(0x0200, 0x0204), &[0])),
        name("second", deny(part(0x0100, 0x01ff), whole(B), &[1])),
        name("elsewhere", deny(whole(B), whole(A), &[0])),
    ]);
    let found = narrowed(&policy).unwrap();
    let names: Vec<(&str, Vec<&str>)> = found
        .iter()
        .map(|it| (it.rule.name.as_str(), it.denies.iter().map(|deny| deny.name.as_str()).collect()))
        .collect();
    assert_eq!(names, [("part", vec!["first", "second"])]);
}

/// Pairs are what it costs.
#[test]
fn too_many_pairs_of_flow_and_deny_are_not_looked_at() {
    let pairs = |denies: usize, allows: usize| {
        let closed = Rule { unenforced: true, ..flow(whole(A), whole(B), &[0]) };
        let deny = deny(whole(A), whole(B), &[0]);
        let policy = policy([vec![deny; denies], vec![closed; allows]].concat());
        narrowed(&policy).map(|found| found.len())
    };
    assert_eq!((pairs(2000, 2000), pairs(2001, 2000)), (Some(0), None));
}

#[test]
fn a_review_is_overdue_on_the_day_after() {
    let review = |date: &str| Rule { review: Some(date.to_owned()), ..flow(whole(A), whole(B), &[0]) };
    let reviewed = policy(vec![review("2026-11-21"), review("2026-11-22"), flow(whole(B), whole(A), &[0])]);
    let overdue = |today: &str| overdue(&reviewed, today.parse().unwrap()).len();
    assert_eq!((overdue("2026-11-21"), overdue("2026-11-22"), overdue("2026-11-23")), (0, 1, 2));
    assert_eq!(unreviewed(&reviewed).count(), 1);
    let blank = Rule { owner: Some(" ".to_owned()), ..flow(whole(A), whole(B), &[0]) };
    let blank = policy(vec![blank, Rule { owner: None, ..deny(whole(A), whole(B), &[1]) }]);
    assert_eq!(unowned(&blank).count(), 2);
}

/// What a deny leaves of a flow is taken apart further: each packet of it once.
#[test]
fn what_is_left_of_a_rule_is_in_disjoint_parts() {
    let policy = policy(vec![
        flow(whole(A), whole(B), &[0, 1]),
        deny(part(0x0110, 0x011f), part(0x0220, 0x022f), &[1, 2]),
    ]);
    let world = World::new(&policy);
    let rules = Rules::new(&policy, &world);
    let [flow, deny] = [0, 1].map(|rule| rules.block(rule, extent::Family::V4).unwrap());
    let parts: Vec<_> = flow.difference(&deny).collect();
    assert_eq!(parts.len(), 3);
    for (number, part) in parts.iter().enumerate() {
        for other in &parts[..number] {
            let services = part.services.difference(&part.services.difference(&other.services));
            let is_apart = !part.from.meets(&other.from)
                || !part.to.meets(&other.to)
                || services.first(extent::Family::V4).is_none();
            assert!(is_apart, "{part:?} {other:?}");
        }
    }
}

/// A rule for each of 10,000 devices, as a large hospital has them.
#[test]
fn rules_of_many_devices_fit_the_budget() {
    let device = |number: u32| part(0x1000 + number, 0x1000 + number);
    let rules = (0..10_000).map(|number| flow(device(number), whole(B), &[0, 1])).collect();
    let mut policy = policy(rules);
    policy.segments[4].ranges = addresses(0x1000, 0x7fff);
    assert!(codes(&policy).is_empty());
}
