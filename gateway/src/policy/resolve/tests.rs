//! What is noted of a text, how often, and what is kept of it.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::{DIAGNOSTIC_LIMIT, SUGGESTION_LIMIT, resolve};
use crate::policy::SourceFile;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::model::{Level, Policy, Risk, SegmentId};

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
