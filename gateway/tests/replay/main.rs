//! `clinigate replay` on captures made here, judged by the programs in this kernel. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod frames;
mod shared;
mod speed;

use std::path::{Path, PathBuf};
use std::process::Command;

use frames::{ACK, SYN, pcap, record, solicitation, tagged, tcp, udp, write};
use serde_json::Value;
use tempfile::TempDir;

/// Modalities (vlan 40) and lab (vlan 61) on a trunk, archive on an access port.
const POLICY: &str = r"
interfaces:
  trunk0: { trunk: [40, 61] }
  pacs0: { access: 30 }
  wan0: { wan: true }
segments:
  pacs: { vlan: 30, subnets: [10.10.30.0/24], mode: enforce }
  modalities: { vlan: 40, subnets: [10.10.40.0/24], mode: enforce }
  lab: { vlan: 61, subnets: [10.10.61.0/24], mode: audit }
  printers: { vlan: 99, subnets: [10.10.99.0/24], mode: observe }
flows:
  - { name: store, from: [modalities], to: [pacs], services: [dicom], purpose: C-STORE, owner: imaging }
  - { name: names, from: [modalities], to: [pacs], services: [dns], purpose: names, owner: it }
deny:
  - { name: no-smb, to: [pacs], services: [smb], purpose: worms, owner: it }
";

const CT: &str = "10.10.40.11";
const PACS: &str = "10.10.30.10";

pub(crate) struct Bench {
    pub(crate) directory: TempDir,
}

pub(crate) struct Shown {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new(policy: &str) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("policy")).unwrap();
        write(&directory.path().join("policy"), "policy.yaml", policy.as_bytes());
        Self { directory }
    }

    fn pcap(&self, name: &str, packets: &[frames::Timed]) -> PathBuf {
        pcap(self.directory.path(), name, packets)
    }

    pub(crate) fn run(&self, captures: &[&Path], more: &[&str]) -> Shown {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clinigate"));
        command.arg("replay").arg(self.directory.path().join("policy")).args(captures).args(more);
        let output = command.output().unwrap();
        Shown {
            code: output.status.code().expect("it ends by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Lines of JSON, the summary last.
    pub(crate) fn json(&self, captures: &[&Path], more: &[&str]) -> (Vec<Value>, Value) {
        let shown = self.run(captures, &[&["--format", "json"], more].concat());
        let mut lines: Vec<Value> =
            shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = lines.pop().unwrap_or_else(|| panic!("{}", shown.stderr));
        let summary = last["summary"].clone();
        let is_fine = summary["not_allowed"].as_array().unwrap().is_empty();
        assert_eq!(shown.code, i32::from(!is_fine), "{}", shown.stderr);
        (lines, summary)
    }
}

/// `interface/placed verdict:reason` of each packet.
fn brief(lines: &[Value]) -> Vec<String> {
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or("-").to_owned();
    let brief = |line: &Value| {
        let [interface, placed, verdict, reason] =
            ["interface", "placed", "verdict", "reason"].map(|key| word(line, key));
        format!("{interface}/{placed} {verdict}:{reason}")
    };
    lines.iter().map(brief).collect()
}

#[test]
fn a_packet_is_shown_with_all_that_led_to_its_verdict() {
    let bench = Bench::new(POLICY);
    let syn = tagged(40, &tcp(CT, PACS, (40_000, 11_112), SYN, 0));
    let smb = tagged(40, &tcp(CT, PACS, (40_001, 445), SYN, 0));
    let (lines, summary) = bench.json(&[&bench.pcap("a.pcap", &[(1, syn), (2, smb)])], &[]);
    let first = &lines[0];
    assert_eq!(first["packet"], 1);
    assert_eq!(first["time"], "2026-03-02T00:00:00.001000Z");
    assert_eq!((&first["interface"], &first["vlan"]), (&"trunk0".into(), &40.into()));
    assert_eq!((&first["source"], &first["source_port"]), (&CT.into(), &40_000.into()));
    assert_eq!((&first["destination"], &first["service"]), (&PACS.into(), &"tcp/11112".into()));
    assert_eq!(first["source_segment"], "modalities");
    assert_eq!(first["destination_segment"], "pacs");
    assert_eq!((&first["rule"], &first["origin"]), (&"store".into(), &"policy.yaml:12".into()));
    assert_eq!((&lines[1]["reason"], &lines[1]["origin"]), (&"denied".into(), &"policy.yaml:15".into()));
    let row = &summary["not_allowed"][0];
    assert_eq!((&row["service"], &row["rule"]), (&"tcp/445".into(), &"no-smb".into()));
    assert_eq!((&summary["pass"], &summary["drop"]), (&1.into(), &1.into()));
}

#[test]
fn a_place_is_told_from_tag_then_source_then_sender() {
    let bench = Bench::new(POLICY);
    let packets = [
        tagged(40, &tcp(CT, PACS, (40_000, 104), SYN, 0)),
        // The answer, untagged.
        tcp(PACS, CT, (104, 40_000), SYN | ACK, 0),
        // Its segment is on the trunk only: it gets its tag.
        tcp(CT, PACS, (40_001, 104), SYN, 0),
        // A tag that the source does not belong to.
        tagged(61, &tcp(CT, PACS, (40_002, 104), SYN, 0)),
        tagged(777, &tcp(CT, PACS, (40_003, 104), SYN, 0)),
        // Link-local sources: one that is known by its hardware address, one that is not.
        solicitation(CT),
        solicitation("10.10.40.12"),
        tcp("198.51.100.7", PACS, (40_004, 104), SYN, 0),
        // Its segment arrives nowhere.
        tcp("10.10.99.1", PACS, (40_005, 104), SYN, 0),
    ];
    let timed: Vec<_> = packets.into_iter().zip(0..).map(|(frame, time)| (time, frame)).collect();
    let capture = bench.pcap("places.pcap", &timed);
    let (lines, summary) = bench.json(&[&capture], &[]);
    assert_eq!(
        brief(&lines),
        [
            "trunk0/tag pass:flow",
            "pacs0/source pass:established",
            "trunk0/source pass:flow",
            "trunk0/tag drop:spoofed",
            "trunk0/unknown-tag drop:unknown-vlan",
            "trunk0/sender pass:link-local",
            "-/- not-judged:unplaced",
            "wan0/source drop:no-flow",
            "-/- not-judged:unplaced",
        ]
    );
    assert_eq!(lines[2]["vlan"], 40, "put in");
    assert_eq!(summary["not_judged"][0]["packets"], 2);

    let (lines, _) = bench.json(&[&capture], &["--interface", "pacs0"]);
    assert!(brief(&lines).iter().all(|line| line.starts_with("pacs0/interface ")), "{lines:?}");
    assert_eq!(lines[0]["reason"], "unknown-vlan");
    assert_eq!(lines[2]["reason"], "spoofed");

    let refused = bench.run(&[&capture], &["--interface", "pcas0"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("no interface pcas0; it has: trunk0, pacs0, wan0"), "{}", refused.stderr);
}

#[test]
fn connections_time_out_by_the_time_of_capture() {
    let bench = Bench::new(POLICY);
    let ask = || udp(CT, PACS, (5353, 53));
    let answer = || udp(PACS, CT, (53, 5353));
    // A stream ends after five minutes of silence.
    let capture = [(0, ask()), (10, answer()), (299_000, answer()), (598_000, answer()), (899_000, answer())];
    let (lines, _) = bench.json(&[&bench.pcap("a.pcap", &capture)], &[]);
    let reasons: Vec<_> = lines.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["flow", "established", "established", "established", "no-flow"]);
}

#[test]
fn state_carries_over_to_the_next_capture_but_not_to_an_earlier_one() {
    let bench = Bench::new(POLICY);
    let first = bench.pcap("first.pcap", &[(0, tcp(CT, PACS, (40_000, 104), SYN, 0))]);
    let second = bench.pcap("second.pcap", &[(5, tcp(PACS, CT, (104, 40_000), SYN | ACK, 0))]);
    assert_eq!(bench.json(&[&first, &second], &[]).0[1]["reason"], "established");
    assert_eq!(bench.json(&[&second, &first, &second], &[]).0[0]["reason"], "not-in-connection");
    // Opened by the second capture, then forgotten, because the third begins before it.
    let third = bench.pcap("third.pcap", &[(3, tcp(PACS, CT, (104, 40_000), SYN | ACK, 0))]);
    let late = bench.pcap("late.pcap", &[(9, tcp(CT, PACS, (40_000, 104), SYN, 0))]);
    assert_eq!(bench.json(&[&late, &third], &[]).0[1]["reason"], "not-in-connection");
    // The same of who sent from where.
    let asks = |name, time| bench.pcap(name, &[(time, solicitation(CT))]);
    let placed = |asks: &Path| brief(&bench.json(&[&late, asks], &[]).0).pop().unwrap();
    assert_eq!(placed(&asks("asks-later.pcap", 10)), "trunk0/sender pass:link-local");
    assert_eq!(placed(&asks("asks-earlier.pcap", 3)), "-/- not-judged:unplaced");
}

#[test]
fn times_that_run_backwards_are_said_and_do_not_go_back() {
    let bench = Bench::new(POLICY);
    let syn = |port| tcp(CT, PACS, (port, 104), SYN, 0);
    let (lines, summary) =
        bench.json(&[&bench.pcap("a.pcap", &[(10, syn(1)), (3, syn(2)), (11, syn(3))])], &[]);
    assert!(lines.iter().all(|line| line["reason"] == "flow"), "{lines:?}");
    assert_eq!(summary["out_of_order"], 1);
    // Half a minute too late for the answer: a packet from before does not turn the clock back.
    let (ask, answer) = (udp(CT, PACS, (5353, 53)), udp(PACS, CT, (53, 5353)));
    let capture = [(0, ask), (90_000, syn(4)), (30_000, answer)];
    let (lines, _) = bench.json(&[&bench.pcap("b.pcap", &capture)], &[]);
    assert_eq!(lines[2]["reason"], "no-flow");
}

#[test]
fn a_packet_cut_short_is_judged_if_its_headers_are_there() {
    let bench = Bench::new(POLICY);
    let long = tagged(40, &tcp(CT, PACS, (40_000, 104), SYN, 1400));
    let records =
        [record(0, &long, 60), record(1, &long, 57), record(2, &long, 10), record(3, &long[..9], 9)];
    let bytes = [frames::header(), records.concat()].concat();
    let capture = write(bench.directory.path(), "cut.pcap", &bytes);
    let (lines, _) = bench.json(&[&capture], &[]);
    assert_eq!(
        brief(&lines),
        [
            "trunk0/tag pass:flow",
            "-/- not-judged:cut-short",
            "-/- not-judged:cut-short",
            "-/- not-judged:too-short",
        ]
    );
    assert_eq!(lines[0]["length"], 1458);
}

#[test]
fn modes_say_whether_it_would_be_dropped() {
    let bench =
        Bench::new(&POLICY.replace("[10.10.30.0/24], mode: enforce", "[10.10.30.0/24], mode: observe"));
    let from_lab = tcp("10.10.61.5", PACS, (40_000, 80), SYN, 0);
    let from_pacs = tcp(PACS, CT, (40_000, 80), SYN, 0);
    let shown = bench.run(&[&bench.pcap("a.pcap", &[(0, from_lab), (1, from_pacs)])], &[]);
    assert_eq!(shown.code, 1);
    let expected = "2 packets in 1 capture: 0 pass, 1 would be dropped, 1 pass only because of mode audit\n";
    assert!(shown.stdout.contains(expected), "{}", shown.stdout);
}

#[test]
fn a_person_sees_few_packets_one_by_one_and_many_as_a_summary() {
    let bench = Bench::new(POLICY);
    let scan: Vec<_> =
        (0..60).map(|host| (host, tcp(CT, &format!("10.10.30.{host}"), (40_000, 445), SYN, 0))).collect();
    let few = bench.run(&[&bench.pcap("scan.pcap", &scan[..2])], &[]).stdout;
    let line = "     2 2026-03-02T00:00:00.001000Z trunk0 vlan 40 (by source)  10.10.40.11 port 40000 to 10.10.30.1 \
                tcp/445  modalities to pacs  drop: denied, no-smb (policy.yaml:15)\n";
    assert!(few.contains(line), "{few}");
    let capture = bench.pcap("scan.pcap", &scan);
    let many = bench.run(&[&capture], &[]).stdout;
    let summary = "60 packets in 1 capture: 0 pass, 60 would be dropped\n\n\
                   VERDICT  FROM        TO    SERVICE  REASON                           PACKETS  BYTES\n\
                   drop     modalities  pacs  tcp/445  denied: no-smb (policy.yaml:15)       60   3240\n";
    assert_eq!(many, summary);
    let all = bench.run(&[&capture], &["--packets"]).stdout;
    assert_eq!(all.matches("denied, no-smb").count(), 60);
    assert!(all.ends_with(summary), "{all}");
}

#[test]
fn a_broken_capture_is_refused_after_what_is_whole_of_it() {
    let bench = Bench::new(POLICY);
    let frame = tagged(40, &tcp(CT, PACS, (40_000, 104), SYN, 0));
    let bytes = [frames::header(), record(0, &frame, frame.len()), record(1, &frame, frame.len())].concat();
    let cut = write(bench.directory.path(), "cut.pcap", &bytes[..bytes.len() - 5]);
    let shown = bench.run(&[&cut], &["--format", "json"]);
    assert_eq!((shown.code, shown.stdout.lines().count()), (2, 1));
    let expected = "cut.pcap: cut off: the file ends within what begins at byte 98, after 1 whole packets";
    assert!(shown.stderr.contains(expected), "{}", shown.stderr);

    let mut bomb = bytes;
    bomb[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let bomb = write(bench.directory.path(), "bomb.pcap", &bomb);
    let shown = bench.run(&[&bomb], &[]);
    assert_eq!(shown.code, 2);
    assert!(shown.stderr.contains("bomb.pcap: at byte 24, after 0 packets"), "{}", shown.stderr);

    let shown = bench.run(&[&bench.directory.path().join("policy/policy.yaml")], &[]);
    assert!(shown.stderr.contains("neither pcap nor pcapng"), "{}", shown.stderr);
    assert_eq!(bench.run(&[Path::new("/no/such.pcap")], &[]).code, 2);
}

#[test]
fn a_policy_with_mistakes_replays_nothing() {
    let bench = Bench::new("segments: { pacs: { vlan: 30, subnets: [10.10.30.1/24] } }");
    let shown = bench.run(&[Path::new("/no/such.pcap")], &[]);
    assert_eq!(shown.code, 1);
    assert!(shown.stderr.contains("nothing was replayed"), "{}", shown.stderr);
}
