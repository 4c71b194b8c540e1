//! What text means, and what hostile text costs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use gateway_common::connection::State;
use proptest::prelude::*;

use super::model::{
    Forwarding, InterfaceKind, ModeSetting, Policy, RuleKind, SegmentId, ServiceMatch, Tunnel,
};
use super::{Resolved, SourceFile, load, resolve};

mod reference;

/// Segments that most tests stand on.
const SEGMENTS: &str = "
segments:
  pumps: { vlan: 70, subnets: [10.10.70.0/24, 'fd00:70::/64'], zone: clinical }
  pacs: { vlan: 30, subnets: 10.10.30.0/24, zone: clinical, mode: audit }
  guests: { vlan: 250, subnets: 10.30.0.0/24 }
";

fn resolve_text(text: &str) -> Resolved {
    resolve(vec![SourceFile::new("segments.yaml", SEGMENTS), SourceFile::new("test.yaml", text)])
}

fn policy(text: &str) -> Policy {
    let resolved = resolve_text(text);
    assert_eq!(resolved.diagnostics, []);
    resolved.policy.unwrap()
}

/// Codes and `line:column` of what is wrong with a text.
fn mistakes(text: &str) -> Vec<String> {
    let resolved = resolve_text(text);
    assert!(resolved.policy.is_none());
    let shown = |d: &super::diagnostic::Diagnostic| format!("{} {}:{}", d.code, d.place.line, d.place.column);
    resolved.diagnostics.iter().map(shown).collect()
}

fn id(policy: &Policy, name: &str) -> SegmentId {
    let index = policy.segments.iter().position(|segment| segment.name == name).unwrap();
    SegmentId(u16::try_from(index).unwrap())
}

#[test]
fn built_in_segments_come_first() {
    let policy = policy("segments: { wan: { mode: audit } }");
    let names: Vec<&str> = policy.segments.iter().map(|segment| segment.name.as_str()).collect();
    assert_eq!(names, ["wan", "gateway", "multicast", "unknown", "pumps", "pacs", "guests"]);
    assert_eq!(policy.segment(SegmentId::WAN).mode, ModeSetting::Audit);
    assert_eq!(policy.segment(SegmentId::GATEWAY).mode, ModeSetting::Enforce);
    assert_eq!(policy.segment(SegmentId::UNKNOWN).mode, ModeSetting::Observe);
    assert_eq!(policy.segment(id(&policy, "pacs")).mode, ModeSetting::Audit);
    assert_eq!(
        policy.segment(id(&policy, "pumps")).mode,
        ModeSetting::Enforce,
        "unless the text says otherwise"
    );
    assert_eq!(policy.segment_of("10.10.70.9".parse().unwrap()), id(&policy, "pumps"));
    assert_eq!(policy.segment_of("fd00:70::9".parse().unwrap()), id(&policy, "pumps"));
    assert_eq!(policy.segment_of("198.51.100.1".parse().unwrap()), SegmentId::WAN);
}

/// The gateway's own addresses and those of one link first, then subnets, groups, and the world.
#[test]
fn an_address_has_one_segment() {
    let policy = policy("gateway: { addresses: [10.10.70.1, 'fd00:70::1', 192.0.2.1] }");
    let segment = |address: &str| policy.segment_of(address.parse().unwrap());
    for own in [
        "10.10.70.1",
        "fd00:70::1",
        "192.0.2.1",
        "255.255.255.255",
        "169.254.1.1",
        "224.0.0.5",
        "ff02::1",
        "ff11::1",
    ] {
        assert_eq!(segment(own), SegmentId::GATEWAY, "{own}");
    }
    assert_eq!((segment("10.10.70.2"), segment("fd00:70::2")), (id(&policy, "pumps"), id(&policy, "pumps")));
    for group in ["224.0.1.0", "239.255.255.250", "ff05::2", "ff0e::1"] {
        assert_eq!(segment(group), SegmentId::MULTICAST, "{group}");
    }
    for other in ["192.0.2.2", "10.10.71.1", "2001:db8::1", "223.255.255.255", "240.0.0.1"] {
        assert_eq!(segment(other), SegmentId::WAN, "{other}");
    }
    let own: Vec<&str> = policy.own_segments().iter().map(|segment| segment.name.as_str()).collect();
    assert_eq!(own, ["pumps", "pacs", "guests"]);
    let firsts: Vec<String> = policy.segments[4].ranges.firsts().map(|first| first.to_string()).collect();
    assert_eq!(firsts, ["10.10.70.0", "fd00:70::"]);
}

#[test]
fn interfaces_name_vlans_or_segments() {
    let policy = policy(
        "interfaces:\n  t: { trunk: [30, pumps], outer: 9, untagged: guests }\n  a: { access: 70 }\n  w: { wan: true }",
    );
    let (pumps, pacs, guests) = (id(&policy, "pumps"), id(&policy, "pacs"), id(&policy, "guests"));
    let vlans = [(0, guests), (30, pacs), (70, pumps)].into_iter().collect();
    let kinds: Vec<InterfaceKind> = policy.interfaces.into_iter().map(|interface| interface.kind).collect();
    assert_eq!(
        kinds,
        [InterfaceKind::Trunk { outer: 9, vlans }, InterfaceKind::Access(pumps), InterfaceKind::Wan]
    );
}

#[test]
fn a_router_stands_behind_what_is_routed() {
    let policy = policy("interfaces:\n  c: { access: 70, routed: true }\n  a: { access: 30 }");
    assert_eq!(policy.interfaces.iter().map(|interface| interface.routed).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn endpoints_are_segments_zones_groups_and_addresses() {
    let policy = policy(
        "devices: { pump-1: { segment: pumps, addresses: [10.10.70.1, 'fd00:70::1'] } }
groups: { some: [pump-1, 10.10.70.2, 10.10.70.8/30], more: [some, guests] }
flows:
  - { name: a, from: more, to: zone/clinical, services: [dicom] }
  - { name: b, from: any, to: [gateway, wan, 239.255.255.250], services: [dicom] }
  - { name: c, from: 10.10.30.5-10.10.30.9, to: multicast, services: [dicom] }",
    );
    let (pumps, pacs, guests) = (id(&policy, "pumps"), id(&policy, "pacs"), id(&policy, "guests"));
    let [a, b, c] = policy.rules.as_slice() else { panic!("three rules") };
    assert_eq!(a.from.segments, [guests].into());
    assert_eq!(a.from.ranges.v4, [(0x0a0a_4601, 0x0a0a_4602), (0x0a0a_4608, 0x0a0a_460b)]);
    assert_eq!(a.from.ranges.v6, [(0xfd00_0070 << 96 | 1, 0xfd00_0070 << 96 | 1)]);
    assert_eq!(a.to.segments, [pumps, pacs].into());
    assert_eq!(b.from.segments, [SegmentId::WAN, pumps, pacs, guests].into());
    assert_eq!(b.to.segments, [SegmentId::WAN, SegmentId::GATEWAY].into());
    assert_eq!(b.to.ranges.v4, [(0xefff_fffa, 0xefff_fffa)]);
    assert_eq!(c.from.ranges.v4, [(0x0a0a_1e05, 0x0a0a_1e09)]);
    assert_eq!(c.to.segments, [SegmentId::MULTICAST].into());
}

#[test]
fn a_deny_without_an_end_means_everything_there() {
    let policy =
        policy("deny: [{ name: smb, from: guests, services: smb }, { name: rdp, to: pacs, services: rdp }]");
    let everywhere = policy.rules[1].from.segments.clone();
    assert_eq!(everywhere.len(), 4);
    assert!(!everywhere.contains(&SegmentId::GATEWAY));
    assert_eq!(policy.rules[0].to.segments.len(), 6);
    assert!(policy.rules[0].to.segments.contains(&SegmentId::GATEWAY));
}

#[test]
fn services_are_defined_built_in_or_in_place() {
    let policy = policy(
        "services:
  mine: { tcp: [{ ports: 104, source: 1024-65535 }], icmp: echo-request }
  dns: { udp: 5353, override: true }
flows: [{ name: a, from: pumps, to: pacs, services: [mine, dns, tcp/8443, icmpv6, proto/esp, ntp] }]",
    );
    let matches = |name: &str| &policy.services.iter().find(|service| service.name == name).unwrap().matches;
    assert_eq!(
        *matches("mine"),
        [ServiceMatch::Tcp { source: (1024, 65535), destination: (104, 104) }, ServiceMatch::Icmp((8, 8))]
    );
    assert_eq!(*matches("dns"), [ServiceMatch::Udp { source: (0, 65535), destination: (5353, 5353) }]);
    assert_eq!(*matches("tcp/8443"), [ServiceMatch::Tcp { source: (0, 65535), destination: (8443, 8443) }]);
    assert_eq!(*matches("icmpv6"), [ServiceMatch::Icmpv6((0, 255))]);
    assert_eq!(*matches("proto/esp"), [ServiceMatch::Protocol(50)]);
    assert_eq!(policy.rules[0].services.len(), 6);
    assert!(policy.services.iter().find(|service| service.name == "ntp").unwrap().origin.is_none());
}

#[test]
fn vendor_access_with_a_limit_that_nothing_enforces_is_not_active() {
    let policy = policy(
        "vendors:
  v:
    sources: 203.0.113.16/29
    owner: it
    access:
      - { to: pacs, services: https }
      - { to: pacs, services: ssh, grant: required }
      - { to: pacs, services: rdp, through: ipsec }
      - { name: w, to: pumps, services: ssh, window: { days: mon, from: '22:00', to: '04:00', timezone: UTC } }",
    );
    let rules: Vec<(&str, bool)> =
        policy.rules.iter().map(|rule| (rule.name.as_str(), rule.is_active())).collect();
    assert_eq!(rules, [("v/pacs", true), ("v/pacs-2", false), ("v/pacs-3", false), ("w", false)]);
    assert!(
        policy.rules.iter().all(|rule| rule.kind == RuleKind::Vendor && rule.owner.as_deref() == Some("it"))
    );
}

#[test]
fn access_through_a_tunnel_is_active_where_one_ends() {
    let vendors = "vendors:
  v:
    sources: 203.0.113.16/29
    access:
      - { name: tunnelled, to: pacs, services: rdp, through: ipsec }
      - { name: direct, to: pacs, services: ssh, through: direct }
      - { name: granted, to: pacs, services: https, through: ipsec, grant: required }
";
    let of = |interfaces: &str| -> Vec<(bool, Option<Tunnel>)> {
        let policy = policy(&format!("{interfaces}{vendors}"));
        policy.rules.iter().map(|rule| (rule.is_active(), rule.through)).collect()
    };
    let ipsec = Some(Tunnel::Ipsec);
    assert_eq!(
        of("interfaces: { w0: { wan: true }, t0: { wan: true, tunnel: ipsec } }\n"),
        [(true, ipsec), (true, Some(Tunnel::Direct)), (false, ipsec)]
    );
    // Another tunnel is none, and nothing is direct where all is tunnelled.
    assert_eq!(
        of("interfaces: { t0: { wan: true, tunnel: wireguard } }\n"),
        [(false, ipsec), (false, Some(Tunnel::Direct)), (false, ipsec)]
    );
    // Where there are no tunnels everything is direct.
    assert_eq!(of("interfaces: { w0: { wan: true } }\n"), [(false, ipsec), (true, None), (false, ipsec)]);
}

#[test]
fn settings_are_read() {
    let policy = policy(
        "settings: { midstream: true, forwarding: xdp, connections: 5000, timeouts: { echo: 2m, other: 1d }, event-rate: 7 }",
    );
    assert!(policy.settings.midstream);
    assert_eq!(policy.settings.forwarding, Forwarding::Xdp);
    assert_eq!(policy.settings.connections, 5000);
    assert_eq!(policy.settings.timeouts[State::Echo as usize], 120);
    assert_eq!(policy.settings.timeouts[State::Other as usize], 86400);
    assert_eq!(policy.settings.timeouts[State::Reset as usize], State::Reset.default_timeout());
    assert_eq!(policy.settings.event_rate, 7);
}

/// A table of connections has a smallest and a largest size, and one unless the policy says.
#[test]
fn a_connection_table_has_bounds() {
    assert_eq!(policy("settings: { midstream: false }").settings.connections, 131_072);
    for (number, is_fine) in [(1023, false), (1024, true), (16_777_216, true), (16_777_217, false)] {
        let text = format!("{SEGMENTS}\nsettings: {{ connections: {number} }}\n");
        let resolved = resolve(vec![SourceFile::new("a.yaml", text)]);
        let mistakes = resolved.diagnostics.iter().filter(|it| it.is_error()).count();
        assert_eq!(mistakes == 0, is_fine, "{number}: {:?}", resolved.diagnostics);
    }
}

/// Semantics, 2: a policy is a directory of files, read as one, in whatever order.
#[test]
fn order_of_files_never_matters() {
    let flows = "flows: [{ name: a, from: pumps, to: pacs, services: dicom }, { name: b, from: pacs, to: pumps, services: hl7 }]";
    let mut files = vec![
        SourceFile::new("z.yaml", SEGMENTS),
        SourceFile::new("a.yaml", flows),
        SourceFile::new("m.yaml", "deny: [{ name: c, to: pacs, services: [smb] }]"),
    ];
    let one = resolve(files.clone()).policy.unwrap();
    files.reverse();
    let other = resolve(files.clone()).policy.unwrap();
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    let names: Vec<&str> = one.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!((one.rules[1].origin.line, one.rules[1].origin.column), (1, 70));
    files[0].text.push('\n');
    assert_ne!(resolve(files).policy.unwrap().hash, one.hash);
}

/// Semantics, 2: two files cannot conflict silently.
#[test]
fn one_name_has_one_meaning_across_files() {
    let found = mistakes(
        "segments: { pumps: { subnets: 10.1.0.0/16 } }
devices: { pacs: { segment: guests, address: 10.30.0.1 } }
groups: { guests: [pumps] }
flows: [{ name: a, from: pumps, to: pacs, services: ntp }]
deny: [{ name: a, from: pumps, to: pacs, services: ntp }]",
    );
    let duplicate = |place: &str| format!("duplicate-name {place}");
    assert_eq!(found, ["1:13", "2:12", "3:11", "5:16"].map(duplicate));
}

#[test]
fn subnets_of_two_segments_do_not_overlap() {
    let found = mistakes("segments: { a: { subnets: [10.0.0.0/8] }, b: { subnets: ['fd00:70::1:0/112'] } }");
    // 10.0.0.0/8 lies around three subnets of the other file.
    assert_eq!(found, ["overlap 1:28", "overlap 1:28", "overlap 1:28", "overlap 1:58"]);
}

#[test]
fn an_alias_repeats_a_value() {
    let policy = policy(
        "flows:
  - { name: a, from: &clinical [pumps, pacs], to: guests, services: dicom }
  - { name: b, from: guests, to: *clinical, services: dicom }",
    );
    assert_eq!(policy.rules[0].from, policy.rules[1].to);
}

#[test]
fn groups_that_lead_back_are_named() {
    let resolved = resolve_text("groups: { a: [b, pumps], b: [c], c: [a] }");
    assert_eq!(resolved.diagnostics.len(), 1);
    assert_eq!(resolved.diagnostics[0].message, "group `a` contains itself: a -> b -> c -> a");
}

#[test]
fn names_in_unreadable_text_are_not_called_unknown() {
    let found = mistakes(
        "devices:\n  one: { segment: pumps, address: [10.10.70.1 }\n\
         flows:\n  - { name: a, from: one, to: two, services: dicom }",
    );
    assert_eq!(found, ["syntax 2:35", "unknown-name 4:31"]);
}

#[test]
fn segments_are_limited() {
    let segments = (0..200).map(|n| format!("  s{n}: {{ subnets: 10.{n}.0.0/16 }}\n"));
    let text = format!("segments:\n{}", segments.collect::<String>());
    let resolved = resolve(vec![SourceFile::new("a.yaml", text)]);
    assert_eq!(resolved.diagnostics.len(), 1);
    assert_eq!(resolved.diagnostics[0].message, "a policy has at most 188 segments");
}

/// What this thread has used of a processor: how busy the machine is does not matter.
fn processor_time() -> Duration {
    nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap().into()
}

#[test]
fn bombs_are_refused_at_once() {
    let laughs = (1..40).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        let before = vec![format!("*a{}", n - 1); 9].join(", ");
        format!("{text}a{n}: &a{n} [{before}]\n")
    });
    let deep_block = (0..3000).fold(String::new(), |text, n| text + &" ".repeat(n) + "a:\n");
    let lines = |count: u32, line: &dyn Fn(u32) -> String| (0..count).map(line).collect::<Vec<_>>().concat();
    let group = lines(30_000, &|n| format!("10.{}.{}.1, ", n >> 8, n & 255));
    let nested = lines(2000, &|n| format!("  g{}: [g{n}, 11.0.{}.{}]\n", n + 1, n >> 8, n & 255));
    let bombs = [
        ("aliases", laughs),
        ("brackets", "flows: ".to_owned() + &"[".repeat(100_000) + &"]".repeat(100_000)),
        ("open brackets", "{a: ".repeat(100_000)),
        ("deep block", deep_block),
        ("deep sequence", "- ".repeat(50_000) + "a"),
        ("values", format!("flows: [{}0]", "0,".repeat(1_100_000))),
        ("one word", "a".repeat(8 << 20)),
        ("mistakes", lines(50_000, &|n| format!("k{n}: 1\n"))),
        ("groups", format!("groups:\n  g0: [{group}]\n{nested}")),
    ];
    for (name, bomb) in bombs {
        let began = processor_time();
        let resolved = resolve(vec![SourceFile::new("bomb.yaml", bomb)]);
        let took = processor_time().saturating_sub(began);
        assert!(resolved.policy.is_none(), "{name}");
        assert!((1..=502).contains(&resolved.diagnostics.len()), "{name}");
        let words: usize = resolved.diagnostics.iter().map(|diagnostic| diagnostic.message.len()).sum();
        assert!(words < 100_000, "{name}: {words} bytes of messages");
        // Unoptimised; an optimised build takes a small part of it.
        assert!(took < Duration::from_secs(40), "{name} took {took:?}");
    }
}

#[test]
fn only_regular_files_within_bounds_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("segments.yaml"), SEGMENTS).unwrap();
    std::fs::create_dir_all(path("wards/tests")).unwrap();
    std::fs::create_dir(path("tests")).unwrap();
    std::fs::write(path("wards/flows.yml"), "flows: [{ name: a, from: pumps, to: pacs, services: dicom }]")
        .unwrap();
    for ignored in ["tests/a.yaml", "wards/tests/b.yaml", ".hidden.yaml", "notes.txt"] {
        std::fs::write(path(ignored), "not a policy: [").unwrap();
    }
    let loaded = load(directory.path()).unwrap();
    assert_eq!(loaded.diagnostics, []);
    assert_eq!(loaded.policy.unwrap().rules[0].origin.file.as_ref(), "wards/flows.yml");

    std::os::unix::fs::symlink("segments.yaml", path("link.yaml")).unwrap();
    std::os::unix::fs::symlink(".", path("loop")).unwrap();
    nix::unistd::mkfifo(&path("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(path("latin1.yaml"), b"flows: []\n# caf\xe9\n").unwrap();
    std::fs::File::create(path("huge.yaml")).unwrap().set_len(1 << 30).unwrap();
    let loaded = load(directory.path()).unwrap();
    assert!(loaded.policy.is_none());
    let found: Vec<String> =
        loaded.diagnostics.iter().map(|d| format!("{}: {}", d.place.file, d.message)).collect();
    assert_eq!(
        found,
        [
            "huge.yaml: a file of a policy has at most 8 MiB",
            "latin1.yaml: this file is not UTF-8 text: see line 2",
            "link.yaml: symbolic links are not followed: they can lead out of the policy",
            "loop: symbolic links are not followed: they can lead out of the policy",
            "pipe.yaml: this is not a regular file",
        ]
    );
}

#[test]
fn directories_are_nested_to_a_limit() {
    let nested = |depth: usize| {
        let directory = tempfile::tempdir().unwrap();
        let deepest = directory.path().join(vec!["d"; depth].join("/"));
        std::fs::create_dir_all(&deepest).unwrap();
        std::fs::write(deepest.join("segments.yaml"), SEGMENTS).unwrap();
        load(directory.path()).unwrap().diagnostics
    };
    assert_eq!(nested(16), []);
    let found = nested(17);
    assert_eq!(found[0].message, "directories are nested more than 16 deep");
}

/// What cannot be read is not called missing as well.
#[test]
fn tests_that_cannot_be_read_are_not_called_missing() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("segments.yaml"), SEGMENTS).unwrap();
    let codes = || {
        let (loaded, expectations) =
            super::load_tests(directory.path(), &super::Selection::default()).unwrap();
        assert_eq!(expectations, []);
        loaded.diagnostics.iter().map(|d| d.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(), ["empty-list"]);
    std::fs::create_dir(directory.path().join("tests")).unwrap();
    assert_eq!(codes(), ["empty-list"]);
    std::os::unix::fs::symlink("../segments.yaml", directory.path().join("tests/link.yaml")).unwrap();
    assert_eq!(codes(), ["refused-file"]);
}

/// Text that is near enough to a policy to reach every part of resolving one.
fn near_policy() -> impl Strategy<Value = String> {
    let words = [
        "interfaces",
        "segments",
        "devices",
        "groups",
        "services",
        "flows",
        "deny",
        "vendors",
        "invariants",
        "settings",
        "gateway",
        "name",
        "from",
        "to",
        "subnets",
        "vlan",
        "trunk",
        "access",
        "wan",
        "any",
        "pumps",
        "zone/clinical",
        "10.10.70.0/24",
        "10.10.70.1-10.10.70.9",
        "fd00::/8",
        "::ffff:1.2.3.4",
        "tcp/80",
        "dicom",
        "-1",
        "0x88cc",
        "99999999999999999999",
        "1e400",
        "yes",
        "true",
        "~",
        "&a ",
        "*a",
        "<<",
        "!!binary ",
        "!x ",
        ": ",
        ": ",
        ": ",
        "\n",
        "\n",
        "\n  ",
        "\n  ",
        "\n    - ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "'",
        "\"",
        "#",
        "|",
        ">",
        "---",
        "...",
        "%YAML 1.2",
        "\t",
        "\u{feff}",
        "\u{202e}",
        "é",
        "?",
        "\r\n",
        "\0",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn resolving_and_showing_never_panics(texts in prop::collection::vec(prop_oneof![near_policy(), ".{0,200}"], 1..4)) {
        let files: Vec<SourceFile> =
            texts.into_iter().zip(0..).map(|(text, n)| SourceFile::new(&format!("{n}.yaml"), text)).collect();
        let resolved = resolve(files.clone());
        prop_assert_eq!(resolved.policy.is_none(), resolved.diagnostics.iter().any(super::diagnostic::Diagnostic::is_error));
        let report = super::render::Report::new(&files, false);
        for diagnostic in &resolved.diagnostics {
            prop_assert!(!report.render(diagnostic).is_empty());
        }
    }

    #[test]
    fn every_cut_of_a_policy_is_read_or_refused(cut in 0usize..2000) {
        let whole = include_str!("../../tests/check/every-key/policy.yaml");
        let cut = whole.floor_char_boundary(cut);
        resolve(vec![SourceFile::new("cut.yaml", &whole[..cut])]);
    }
}
