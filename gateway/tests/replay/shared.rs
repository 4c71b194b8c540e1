//! Captures that others made, where they are at hand: beside the workspace, and never part of it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Bench;

/// The two ends of each capture in segments of their own, and what they do allowed where it is sound.
const POLICY: &str = r#"
interfaces:
  his0: { access: 20 }
  engine0: { access: 25 }
  v6a: { access: 61 }
  v6b: { access: 62 }
  trunk0: { trunk: [123] }
  wan0: { wan: true }
segments:
  his: { vlan: 20, subnets: [10.0.0.128/25], mode: enforce }
  engine: { vlan: 25, subnets: [10.0.0.0/25], mode: enforce }
  v6-clients: { vlan: 61, subnets: ["2001:db8:1::2/128"], mode: enforce }
  v6-servers: { vlan: 62, subnets: ["2001:db8:1::1/128"], mode: enforce }
  lab: { vlan: 123, subnets: [192.168.123.0/24], mode: enforce }
flows:
  - { name: adt, from: [his], to: [engine], services: [tcp/6661], purpose: ADT over MLLP, owner: integration }
  - { name: web, from: [v6-clients], to: [v6-servers], services: [http], purpose: web, owner: it }
  - { name: ping, from: [lab], to: [lab], services: [icmp/8], purpose: tests, owner: it }
"#;

fn captures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/pcap");
    folder.is_dir().then_some(folder)
}

fn reasons(lines: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        let key = format!("{} {}", line["verdict"].as_str().unwrap(), line["reason"].as_str().unwrap());
        *counts.entry(key).or_default() += 1;
    }
    counts
}

#[test]
fn captures_of_others_get_the_verdicts_that_a_person_gives_them() {
    let Some(folder) = captures() else {
        writeln!(std::io::stderr(), "skipped: ../shared/data/pcap is not there").unwrap();
        return;
    };
    let bench = Bench::new(POLICY);
    let of = |name: &str, more: &[&str]| reasons(&bench.json(&[&folder.join(name)], more).0);
    let expect = |pairs: &[(&str, usize)]| -> BTreeMap<String, usize> {
        pairs.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect()
    };
    // One connection, opened where the policy allows it.
    assert_eq!(of("hl7.pcap", &[]), expect(&[("pass flow", 1), ("pass established", 8)]));
    // Echoes both ways, and ARP between two hosts of one tagged segment.
    assert_eq!(
        of("icmp_dot1q.pcap", &[]),
        expect(&[("pass flow", 1), ("pass established", 8), ("pass link-local", 6)])
    );
    // Neighbour discovery by link-local addresses is no more than the interface tells.
    let forced = ["--interface", "v6a"];
    assert_eq!(of("icmp6-neighbor-solicit.pcap", &[]), expect(&[("not-judged unplaced", 1)]));
    assert_eq!(of("icmp6-toobig.pcap", &forced), expect(&[("drop unrelated-icmp", 1)]));
    assert_eq!(of("icmp-destunreach-udp.pcap", &[]), expect(&[("drop unrelated-icmp", 1)]));
    // Every capture there is: each packet has a line, with a word for its verdict and its reason.
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let (lines, summary) = bench.json(&[&path], &forced);
        assert_eq!(summary["packets"].as_u64().unwrap(), lines.len() as u64, "{}", path.display());
        assert!(lines.iter().all(|line| line["verdict"] != "not-judged"), "{}", path.display());
    }
}
