#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::process::{Command, Stdio};

use gateway_common::connection::State;
use gateway_common::counter::Health;

use super::*;
use crate::telemetry::flow::Flow;
use crate::telemetry::reading::{InterfaceReading, RuleTotal};

fn total(source: &str, destination: &str, verdict: Verdict, reason: Reason, packets: u64) -> PairTotal {
    let counter = Counter { packets, bytes: packets * 100 };
    PairTotal { source: source.to_owned(), destination: destination.to_owned(), verdict, reason, counter }
}

fn reading() -> Reading {
    let segments = [
        ("wan", Mode::Enforce),
        ("gateway", Mode::Enforce),
        ("multicast", Mode::Enforce),
        ("unknown", Mode::Observe),
        ("pumps", Mode::Enforce),
        ("pacs", Mode::Audit),
    ];
    Reading {
        policy: Some(PolicyReading {
            hash: "5f".repeat(32),
            commit: Some("0123abcd".to_owned()),
            generation: 7,
            applied_at: 1_700_000_000_500,
            segments: segments.map(|(name, mode)| (name.to_owned(), mode)).to_vec(),
            rules: vec![
                ("store-studies".to_owned(), RuleKind::Flow),
                ("legacy-smb".to_owned(), RuleKind::Deny),
            ],
        }),
        pairs: vec![
            total("pumps", "pacs", Verdict::Pass, Reason::Flow, 3),
            total("pumps", "pacs", Verdict::Pass, Reason::Established, 40),
            total("pumps", "wan", Verdict::Drop, Reason::NoFlow, 5),
            total("pacs", "pumps", Verdict::Drop, Reason::Denied, 2),
            total("unknown", "unknown", Verdict::Drop, Reason::UnknownVlan, 9),
            total("wan", "wan", Verdict::Drop, Reason::Truncated, 0),
        ],
        rules: vec![
            RuleTotal {
                rule: "store-studies".to_owned(),
                kind: RuleKind::Flow,
                counter: Counter { packets: 43, bytes: 4300 },
            },
            RuleTotal {
                rule: "gone".to_owned(),
                kind: RuleKind::Flow,
                counter: Counter { packets: 1, bytes: 1 },
            },
        ],
        health: Health { events_lost: 4, events_suppressed: 6, connections_inserted: 3, ..Health::default() },
        no_policy: Counter { packets: 11, bytes: 660 },
        connections: vec![(State::SynSent, 0), (State::Established, 2)],
        connections_capacity: 131_072,
        interfaces: vec![
            InterfaceReading {
                name: "pumps0".to_owned(),
                ifindex: Some(3),
                mode: Some("generic"),
                exit: Some("clsact"),
            },
            InterfaceReading { name: "wan0".to_owned(), ifindex: None, mode: None, exit: None },
        ],
    }
}

fn page(shown: Option<&Reading>) -> String {
    let metrics = Metrics::new().unwrap();
    metrics.applied(Duration::from_millis(30));
    metrics.refused(Duration::from_millis(3));
    metrics.events_read(12);
    metrics.watching.blocked(&Flow {
        source_segment: "pumps".to_owned(),
        source: "10.10.70.5".parse().ok(),
        destination_segment: "pacs".to_owned(),
        destination: "10.10.30.9".parse().ok(),
        service: "tcp/445".to_owned(),
        verdict: "drop".to_owned(),
        reason: "denied".to_owned(),
        packets: Some(3),
        ..Flow::default()
    });
    metrics.watching.segments(&[watching::ShownSegment {
        name: "pumps".to_owned(),
        zone: "clinical".to_owned(),
        mode: "enforce",
        own: true,
    }]);
    metrics.watching.talkers(&BTreeMap::from([("pumps", 3)]), false);
    let page = match shown {
        Some(reading) => metrics.page(reading),
        None => metrics.page_without_counters(reading().policy.as_ref(), &reading().interfaces),
    };
    String::from_utf8(page.unwrap()).unwrap()
}

#[track_caller]
fn assert_sample(page: &str, sample: &str) {
    assert!(page.lines().any(|line| line == sample), "no line `{sample}` in:\n{page}");
}

#[test]
fn every_counter_is_shown_once_under_both_of_its_segments() {
    let page = page(Some(&reading()));
    for sample in [
        r#"clinigate_packets_total{direction="out",reason="flow",segment="pumps",verdict="pass"} 3"#,
        r#"clinigate_packets_total{direction="in",reason="flow",segment="pacs",verdict="pass"} 3"#,
        r#"clinigate_packets_total{direction="out",reason="established",segment="pumps",verdict="pass"} 40"#,
        r#"clinigate_bytes_total{direction="out",reason="established",segment="pumps",verdict="pass"} 4000"#,
        r#"clinigate_packets_total{direction="out",reason="no-flow",segment="pumps",verdict="drop"} 5"#,
        r#"clinigate_packets_total{direction="in",reason="no-flow",segment="wan",verdict="drop"} 5"#,
        r#"clinigate_packets_total{direction="out",reason="denied",segment="pacs",verdict="drop"} 2"#,
        r#"clinigate_packets_total{direction="out",reason="unknown-vlan",segment="unknown",verdict="drop"} 9"#,
        r#"clinigate_packets_total{direction="out",reason="no-policy",segment="unknown",verdict="drop"} 11"#,
        r#"clinigate_segment_pair_packets_total{destination="pacs",source="pumps",verdict="pass"} 43"#,
        r#"clinigate_segment_pair_packets_total{destination="wan",source="pumps",verdict="drop"} 5"#,
        r#"clinigate_rule_packets_total{kind="flow",rule="store-studies"} 43"#,
        r#"clinigate_rule_bytes_total{kind="flow",rule="store-studies"} 4300"#,
        r#"clinigate_rule_packets_total{kind="deny",rule="legacy-smb"} 0"#,
        r#"clinigate_connections{state="established"} 2"#,
        "clinigate_connections_capacity 131072",
        "clinigate_events_lost_total 4",
        "clinigate_events_suppressed_total 6",
        "clinigate_events_total 12",
        r#"clinigate_interface_info{interface="pumps0",mode="generic"} 1"#,
        r#"clinigate_interface_info{interface="wan0",mode="none"} 1"#,
        r#"clinigate_interface_exit_info{exit="clsact",interface="pumps0"} 1"#,
        r#"clinigate_interface_exit_info{exit="none",interface="wan0"} 1"#,
        r#"clinigate_policy_apply_seconds_count{result="refused"} 1"#,
        "clinigate_policy_apply_failures_total 1",
        "clinigate_policy_last_apply_success 0",
        "clinigate_policy_applied_timestamp_seconds 1700000000.5",
    ] {
        assert_sample(&page, sample);
    }
    let info =
        format!(r#"clinigate_policy_info{{commit="0123abcd",generation="7",hash="{}"}} 1"#, "5f".repeat(32));
    assert_sample(&page, &info);
    assert!(page.contains("process_resident_memory_bytes"), "{page}");
    assert!(!page.contains("gone"), "rules that left the policy leave the page:\n{page}");
    assert!(!page.contains("truncated"), "nothing happened for this reason:\n{page}");
}

/// The manual lists the labels; none of them holds an address.
#[test]
fn labels_are_names_and_words() {
    const KNOWN: [&str; 22] = [
        "segment",
        "direction",
        "verdict",
        "reason",
        "source",
        "destination",
        "rule",
        "kind",
        "commit",
        "hash",
        "generation",
        "result",
        "state",
        "change",
        "interface",
        "exit",
        "mode",
        "by",
        "service",
        "class",
        "zone",
        "cause",
    ];
    let page = page(Some(&reading()));
    let mut seen = 0;
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, labels)) = line.split_once('{') else { continue };
        for label in labels.split("=\"").filter_map(|part| part.rsplit(['{', ',', '"']).next()) {
            if label.is_empty() || label.contains(['}', ' ']) {
                continue;
            }
            assert!(KNOWN.contains(&label) || ["le", "version"].contains(&label), "{label} in {line}");
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen} labels");
}

#[test]
fn the_sum_over_segments_is_twice_the_packets() {
    let page = page(Some(&reading()));
    let sum: u64 = page
        .lines()
        .filter(|line| line.starts_with("clinigate_packets_total{") && !line.contains("no-policy"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 2 * (3 + 40 + 5 + 2 + 9));
}

#[test]
fn alerts_see_the_first_packet() {
    let page = page(Some(&reading()));
    assert_sample(
        &page,
        r#"clinigate_packets_total{direction="in",reason="no-flow",segment="pumps",verdict="drop"} 0"#,
    );
    assert_sample(
        &page,
        r#"clinigate_packets_total{direction="out",reason="spoofed",segment="pacs",verdict="audit"} 0"#,
    );
    assert_sample(
        &page,
        r#"clinigate_packets_total{direction="out",reason="internal",segment="unknown",verdict="drop"} 0"#,
    );
    let milder =
        r#"clinigate_packets_total{direction="out",reason="spoofed",segment="pumps",verdict="audit"}"#;
    assert!(!page.contains(milder), "{page}");
}

/// `increase()` of a series that is born with its first packet is 0: what the cases of the alerts begin with, the page
/// of a gateway must have.
#[test]
fn cases_of_alerts_begin_with_series_of_the_page() {
    let page = page(Some(&reading()));
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus/alerts.test.yml");
    let cases = std::fs::read_to_string(cases).unwrap();
    let mut seen = 0;
    for line in cases.lines() {
        let Some((_, rest)) = line.split_once("series: 'clinigate_packets_total{") else { continue };
        let (labels, values) = rest.split_once("}', values: '").unwrap();
        let of_gateway = |label: &&str| !label.starts_with("job=") && !label.starts_with("instance=");
        let mut labels: Vec<&str> = labels.split(", ").filter(of_gateway).collect();
        labels.sort_unstable();
        assert!(values.starts_with("0x"), "{line}");
        assert_sample(&page, &format!("clinigate_packets_total{{{}}} 0", labels.join(",")));
        seen += 1;
    }
    assert!(seen >= 4, "{seen} series");
}

#[test]
fn a_policy_of_many_rules_stays_a_page() {
    let mut reading = reading();
    let policy = reading.policy.as_mut().unwrap();
    policy.rules = (0..RULES_SHOWN + 2).map(|n| (format!("r{n}"), RuleKind::Flow)).collect();
    let beyond = |n: usize| RuleTotal {
        rule: format!("r{n}"),
        kind: RuleKind::Flow,
        counter: Counter { packets: 10, bytes: 1 },
    };
    reading.rules = vec![beyond(0), beyond(RULES_SHOWN), beyond(RULES_SHOWN + 1)];
    let page = page(Some(&reading));
    assert_sample(&page, r#"clinigate_rule_packets_total{kind="flow",rule="r0"} 10"#);
    assert_sample(&page, r#"clinigate_rule_packets_total{kind="flow",rule="(other)"} 20"#);
    let series = page.lines().filter(|line| line.starts_with("clinigate_rule_packets_total{")).count();
    assert_eq!(series, RULES_SHOWN + 1);
}

#[test]
fn a_page_without_a_reading_says_so() {
    let page = page(None);
    assert_sample(&page, "clinigate_reading_failures_total 1");
    assert!(!page.contains("clinigate_packets_total"));
    // Else `ClinigateNoPolicy` would wake somebody.
    let info = page.lines().filter(|line| line.starts_with("clinigate_policy_info{"));
    assert_eq!(info.count(), 1, "{page}");
    let interfaces = page.lines().filter(|line| line.starts_with("clinigate_interface_info{"));
    assert_eq!(
        interfaces.count(),
        reading().interfaces.len(),
        "else `ClinigateInterfaceNotEnforced` would be blind"
    );
    let nothing = Metrics::new().unwrap().page_without_counters(None, &[]).unwrap();
    assert!(!String::from_utf8(nothing).unwrap().contains("clinigate_policy_info"));
}

/// Prometheus' own linter.
#[test]
#[expect(clippy::print_stderr, reason = "a test that does nothing says so")]
fn promtool_finds_nothing() {
    for page in [page(Some(&reading())), page(None), page(Some(&Reading::default()))] {
        let started = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut promtool) = started else {
            eprintln!("skipped: promtool is not installed");
            return;
        };
        promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "promtool says: {said}\n{page}");
    }
}
