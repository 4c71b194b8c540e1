//! What is noted of a text, how often, and what is kept of it.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::{DIAGNOSTIC_LIMIT, SUGGESTION_LIMIT, resolve};
use crate::policy::diagnostic::Diagnostic;
use crate::policy::expectation::resolve_tests;
use crate::policy::model::{Level, Policy, Risk, RuleId, SegmentId};
use crate::policy::{Selection, SourceFile};

const SEGMENTS: &str = "
segments:
  pumps: { vlan: 70, subnets: [10.10.70.0/24, 'fd00:70::/64'] }
  pacs: { vlan: 30, subnets: 10.10.30.0/24 }
";

fn policy(text: &str) -> Policy {
    let resolved = resolve(vec![SourceFile::new("a.yaml", SEGMENTS), SourceFile::new("b.yaml", text)]);
    assert_eq!(resolved.diagnostics, []);
    resolved.policy.unwrap()
}

fn mistakes(text: &str) -> Vec<Diagnostic> {
    let resolved = resolve(vec![SourceFile::new("a.yaml", SEGMENTS), SourceFile::new("b.yaml", text)]);
    assert!(resolved.policy.is_none());
    resolved.diagnostics
}

/// Code, message and help of each mistake.
fn words(text: &str) -> Vec<(&'static str, String, Option<String>)> {
    mistakes(text).into_iter().map(|found| (found.code, found.message, found.help)).collect()
}

/// Lines of the same shape.
fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[test]
fn mistakes_beyond_the_limit_are_counted() {
    let groups = |count: usize| format!("groups:\n{}", lines(count, |n| format!("  g{n}: [10.0.0.256]\n")));
    assert_eq!(mistakes(&groups(DIAGNOSTIC_LIMIT)).len(), DIAGNOSTIC_LIMIT);
    let found = mistakes(&groups(DIAGNOSTIC_LIMIT + 2));
    assert_eq!(found.len(), DIAGNOSTIC_LIMIT + 1);
    assert!(found.iter().any(|d| d.code == "limit" && d.message == "2 more mistakes are not shown"));
}

/// What decoding leaves out counts, too.
#[test]
fn mistakes_that_decoding_leaves_out_are_counted() {
    let found = mistakes(&format!("settings:\n{}", lines(503, |n| format!("  k{n}: 1\n"))));
    assert_eq!(found.len(), 501);
    assert!(found.iter().any(|d| d.message == "3 more mistakes are not shown"));
}

#[test]
fn the_nearest_name_is_sought_for_the_first_unknown_ones() {
    let group = lines(SUGGESTION_LIMIT + 1, |_| "pump, ".to_owned());
    let found = mistakes(&format!("groups: {{ g: [{group}] }}"));
    assert_eq!(found.len(), SUGGESTION_LIMIT + 1);
    let helped = found.iter().filter(|d| d.help.as_deref() == Some("did you mean `pumps`?")).count();
    assert_eq!(helped, SUGGESTION_LIMIT);
}

#[test]
fn a_device_lies_in_its_segment() {
    let outside = |segment: &str, address: &str, help: Option<&str>| {
        let found = words(&format!("devices: {{ d: {{ segment: {segment}, address: '{address}' }} }}"));
        let message = format!("{address} is outside the subnets of segment `{segment}`");
        assert_eq!(found, [("outside-segment", message, help.map(str::to_owned))]);
    };
    outside("pumps", "10.10.30.9", Some("it lies in segment `pacs`"));
    outside("pumps", "192.0.2.1", None);
    outside("wan", "10.10.30.9", Some("it lies in segment `pacs`"));
    let devices = policy(
        "devices: { a: { segment: pumps, addresses: [10.10.70.9, 'fd00:70::9'] }, b: { segment: wan, address: 192.0.2.1 } }",
    )
    .devices;
    assert_eq!((devices[0].addresses.len(), devices[1].segment), (2, SegmentId::WAN));
    let related = |text: &str| mistakes(text)[0].related.len();
    assert_eq!(related("devices: { d: { segment: pumps, address: 192.0.2.1 } }"), 1);
    // The world has no line to point at, until the text sets something of it.
    assert_eq!(related("devices: { d: { segment: wan, address: 10.10.30.9 } }"), 0);
    assert_eq!(
        related("segments: { wan: { mode: audit } }\ndevices: { d: { segment: wan, address: 10.10.30.9 } }"),
        1
    );
}

/// One mistake is said once, where it is.
#[test]
fn a_device_of_a_segment_with_a_mistake_is_not_blamed() {
    let found = words("segments: { s: 7 }\ndevices: { d: { segment: s, address: 10.0.0.1 } }");
    assert_eq!(found.len(), 1);
    let found = words(
        "segments: { s: { subnets: [10.0.0.1/8] } }\ndevices: { d: { segment: s, address: 10.0.0.1 } }",
    );
    assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), ["host-bits"]);
}

#[test]
fn risk_is_kept_on_its_three_axes() {
    let policy = policy(
        "devices: { d: { segment: pumps, address: 10.10.70.9, risk: { safety: high, privacy: low, outage: medium } } }",
    );
    let risk = Risk { safety: Level::High, privacy: Level::Low, outage: Level::Medium };
    assert_eq!(policy.devices[0].risk, Some(risk));
}

#[test]
fn a_mac_address_is_six_pairs_of_digits() {
    let device =
        |mac: &str| format!("devices: {{ d: {{ segment: pumps, address: 10.10.70.9, mac: '{mac}' }} }}");
    for mac in ["00:1b:2c:3d:4e:5f", "00-1B-2C-3D-4E-5F"] {
        assert_eq!(policy(&device(mac)).devices[0].labels["mac"], mac);
    }
    for mac in
        ["00:1b:2c:3d:4e", "00:1b:2c:3d:4e:5f:60", "0:1b:2c:3d:4e:5f", "00:1b:2c:3d:4e:5g", "001b2c3d4e5f"]
    {
        assert_eq!(words(&device(mac))[0].0, "bad-mac", "{mac}");
    }
}

#[test]
fn zones_are_those_of_the_segments() {
    let text = |zone: &str| {
        format!(
            "segments: {{ s: {{ subnets: 10.9.0.0/16, zone: clinical }} }}\ngroups: {{ g: [s, zone/{zone}], h: [zone/{zone}] }}"
        )
    };
    policy(&text("clinical"));
    let found = words(&text("clinica"));
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|found| found.0 == "unknown-zone"));
    assert_eq!(found[0].2.as_deref(), Some("did you mean `zone/clinical`?"));
}

/// Codes and lines of what is wrong with a text.
fn codes(text: &str) -> Vec<String> {
    mistakes(text).iter().map(|found| format!("{} {}", found.code, found.place.line)).collect()
}

#[test]
fn interfaces_have_names_that_linux_takes() {
    policy("interfaces: { abcdefghijklmno: { access: 70 }, eth0.1@x: { access: 30 } }");
    for name in ["abcdefghijklmnop", "a/b", "'a:b'", "'a b'", ".", "..", "é"] {
        assert_eq!(codes(&format!("interfaces: {{ {name}: {{ access: 70 }} }}")), ["bad-name 1"], "{name}");
    }
}

#[test]
fn an_interface_is_one_thing() {
    assert_eq!(codes("interfaces: { a: {} }"), ["interface-kind 1"]);
    assert_eq!(codes("interfaces: { a: { access: 70, wan: true } }"), ["interface-kind 1"]);
    // Another mistake may be why it is none; it is not why it is two.
    assert_eq!(codes("interfaces: { a: { acces: 70 } }"), ["unknown-key 1"]);
    let both = codes("interfaces:\n  a:\n    { access: 70, wan: true,\n      acces: 70 }");
    assert_eq!(both, ["interface-kind 2", "unknown-key 4"]);
    assert_eq!(codes("segments: { s: 7 }\ninterfaces: { a: { access: s } }").len(), 1);
}

/// What is missing from it was said already.
#[test]
fn a_list_with_a_mistake_is_not_called_empty() {
    assert_eq!(codes("groups: { g: [] }"), ["empty-list 1"]);
    assert_eq!(codes("groups: { g: [true] }"), ["type 1"]);
    let flow = |from: &str| codes(&format!("flows: [{{ name: a, from: {from}, to: any, services: ntp }}]"));
    assert_eq!((flow("[]"), flow("[true]")), (vec!["empty-list 1".to_owned()], vec!["type 1".to_owned()]));
}

#[test]
fn multicast_listens_and_nobody_is_unknown() {
    let flow =
        |from: &str, to: &str| format!("flows: [{{ name: a, from: {from}, to: {to}, services: ntp }}]");
    assert_eq!(codes(&flow("multicast", "pacs")), ["bad-endpoint 1"]);
    assert_eq!(codes("groups: { g: [multicast] }"), ["bad-endpoint 1"]);
    assert_eq!(codes(&flow("pacs", "unknown")), ["bad-endpoint 1"]);
    let expected = |from: &str| mistakes(&flow(from, "pacs")).remove(0).expected;
    assert_eq!(
        expected("multicast").as_deref(),
        Some("groups are listeners: `multicast` stands in `to` alone")
    );
    assert_eq!(expected("unknown").as_deref(), Some("no rule applies to what is unknown"));
    assert_eq!(policy(&flow("pacs", "multicast")).rules[0].to.segments, [SegmentId::MULTICAST].into());
}

#[test]
fn a_review_is_a_day() {
    let rule = |day: &str| {
        format!("flows: [{{ name: a, from: pumps, to: pacs, services: dicom, review: '{day}' }}]")
    };
    assert_eq!(policy(&rule("2028-02-29")).rules[0].review.as_deref(), Some("2028-02-29"));
    for day in ["2027-02-29", "20280229", "2028-2-29", "2028-02-29T01:00", "2028-02-29 ", "soon"] {
        assert_eq!(codes(&rule(day)), ["bad-date 1"], "{day}");
    }
}

#[test]
fn a_segment_without_a_subnet_is_a_mistake_of_its_own() {
    assert_eq!(codes("segments: { s: {} }"), ["missing-key 1"]);
    assert_eq!(codes("segments: { s: { subnets: [] } }"), ["missing-key 1"]);
    assert_eq!(codes("segments: { s: { subnets: [{}] } }").len(), 1);
    assert_eq!(codes("segments: { s: { bogus: 1 } }"), ["unknown-key 1"]);
}

#[test]
fn ethertypes_begin_where_lengths_end() {
    let segment = |ethertype: &str| {
        format!("segments: {{ s: {{ subnets: 10.9.0.0/16, ethertypes: ['{ethertype}'] }} }}")
    };
    for (text, number) in [
        ("llc", 0),
        ("lldp", 0x88cc),
        ("0x0600", 0x600),
        ("0XffFF", 0xffff),
        ("1536", 1536),
        ("35020", 35020),
    ] {
        assert_eq!(policy(&segment(text)).segments[6].ethertypes, [number].into(), "{text}");
    }
    for text in ["0x05ff", "1535", "0", "0x10000", "65536", "0x0800", "33024", "ldp"] {
        assert_eq!(codes(&segment(text)), ["bad-ethertype 1"], "{text}");
    }
}

#[test]
fn a_service_matches_something() {
    let service = |text: &str| words(&format!("services: {{ s: {{ {text} }} }}"));
    let nothing = [("empty-list", "service `s` matches nothing".to_owned(), None)];
    assert_eq!(service("class: clinical"), nothing);
    let empty = [("empty-list", "this list is empty".to_owned(), None)];
    for key in ["tcp", "udp", "icmp", "icmpv6", "protocol"] {
        assert_eq!(service(&format!("{key}: []")), empty, "{key}");
        assert_eq!(service(&format!("{key}: [[]]")).len(), 1, "{key}");
    }
    assert_eq!(service("tcp: 0")[0].0, "bad-service");
    assert_eq!(service("bogus: 1").iter().map(|found| found.0).collect::<Vec<_>>(), ["unknown-key"]);
}

#[test]
fn a_service_with_a_mistake_is_not_called_unknown() {
    let flow = "flows: [{ name: a, from: pumps, to: pacs, services: [s, tcp/8443] }]";
    assert_eq!(codes(&format!("services: {{ s: 7 }}\n{flow}")).len(), 1);
    let found =
        words(&format!("services: {{ my-service: {{ tcp: 1 }} }}\n{}", flow.replace("[s,", "[my-servic,")));
    assert_eq!(found[0].2.as_deref(), Some("did you mean `my-service`?"));
}

#[test]
fn a_setting_stands_once() {
    let settings = |text: &str| SourceFile::new(&format!("{text}.yaml"), format!("settings: {{ {text} }}"));
    for (one, other) in [
        ("connections: 5000", "connections: 6000"),
        ("midstream: true", "midstream: false"),
        ("event-rate: 5", "event-rate: 6"),
        ("neighbour-rate: 5", "neighbour-rate: 6"),
        ("timeouts: { echo: 5s }", "timeouts: { echo: 6s }"),
    ] {
        let files = vec![SourceFile::new("a.yaml", SEGMENTS), settings(one), settings(other)];
        let found = resolve(files).diagnostics;
        assert_eq!(found.iter().map(|d| d.code).collect::<Vec<_>>(), ["duplicate-name"], "{one}");
    }
}

#[test]
fn a_window_is_checked_where_it_stands() {
    let window = |text: &str| {
        codes(&format!(
            "vendors: {{ v: {{ sources: 203.0.113.9, access: [{{ to: pacs, services: ssh,\n  window: {{ {text} }} }}] }} }}"
        ))
    };
    let with = |days: &str, from: &str, to: &str, zone: &str| {
        window(&format!("days: {days}, from: '{from}', to: '{to}', timezone: {zone}"))
    };
    assert_eq!(with("[]", "01:00", "05:00", "UTC"), ["empty-list 2"]);
    assert_eq!(with("[someday]", "01:00", "05:00", "UTC").len(), 1);
    assert_eq!(with("mon", "24:00", "05:00", "UTC"), ["bad-time 2"]);
    assert_eq!(with("mon", "01:00", "25:00", "UTC"), ["bad-time 2"]);
    assert_eq!(with("mon", "01:00", "01:00", "UTC"), ["bad-time 2"]);
    assert_eq!(with("mon", "01:00", "05:00", "Tokyo"), ["bad-timezone 2"]);
    assert_eq!(window("from: '01:00', to: '05:00', timezone: UTC"), ["missing-key 2"]);
}

/// Sources that every access repeats are counted for every access.
#[test]
fn ranges_of_all_rules_together_are_limited() {
    let sources = lines(1000, |n| format!("'2001:db8::{n:x}:0', "));
    let with = |count: usize| {
        let access = lines(count, |_| "{ to: pacs, services: ssh }, ".to_owned());
        let text = format!("vendors: {{ v: {{ sources: [{sources}], access: [{access}] }} }}");
        resolve(vec![SourceFile::new("a.yaml", SEGMENTS), SourceFile::new("b.yaml", text)])
    };
    // An IPv6 range counts as four: 4,000 for the list itself and for each access.
    assert_eq!(with(999).diagnostics, []);
    assert_eq!(with(1000).diagnostics.len(), 1);
    let found = with(1002).diagnostics;
    let message = "the rules of a policy hold at most 4000000 ranges of addresses together";
    assert_eq!(found.iter().map(|d| d.message.as_str()).collect::<Vec<_>>(), [message]);
}

#[test]
fn an_expectation_names_the_rule_that_decides() {
    let flows = "flows:
  - { name: one, from: pumps, to: pacs, services: dicom }
  - { name: two, from: pacs, to: pumps, services: dicom }";
    let expecting = |rule: &str| {
        let test = format!(
            "must-pass: [{{ name: t, from: pacs, to: pumps, services: dicom, because: why, rule: {rule} }}]"
        );
        let files = vec![SourceFile::new("a.yaml", SEGMENTS), SourceFile::new("b.yaml", flows)];
        resolve_tests(files, &[SourceFile::new("tests/t.yaml", test)], &Selection::default())
    };
    let (resolved, expectations) = expecting("two");
    assert_eq!(resolved.diagnostics, []);
    assert_eq!(expectations[0].rule, Some(RuleId(1)));
    let found = expecting("tow").0.diagnostics;
    assert_eq!((found[0].code, found[0].help.as_deref()), ("unknown-name", Some("did you mean `two`?")));
}
