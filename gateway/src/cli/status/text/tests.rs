use super::*;
use crate::daemon::status::{EventStatus, ReasonCount, ServiceStatus};

const NOW: u64 = 1_700_000_600_000;

fn map<T: Copy>(entries: &[(&str, T)]) -> BTreeMap<String, T> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

fn interface(name: &str, ifindex: Option<u32>, mode: Option<&str>, segments: &[&str]) -> InterfaceStatus {
    InterfaceStatus {
        name: name.to_owned(),
        ifindex,
        mode: mode.map(str::to_owned),
        exit: mode.map(|_| "tcx".to_owned()),
        driver: mode.map(|_| "veth".to_owned()),
        since: mode.map(|_| NOW - 540_000),
        trunk: segments.len() > 1,
        segments: segments.iter().map(|segment| (*segment).to_owned()).collect(),
    }
}

fn status() -> Status {
    Status {
        service: Some(ServiceStatus {
            pid: 4711,
            version: "0.1.0".to_owned(),
            since: NOW - 600_000,
            policy_dir: "/etc/clinigate/policy".into(),
            labels: [("site".to_owned(), "north".to_owned())].into(),
            metrics: ([127, 0, 0, 1], 9469).into(),
        }),
        policy: Some(PolicyStatus {
            generation: 7,
            hash: "5f".repeat(32),
            commit: Some("0123456789abcdef0123456789abcdef01234567+changes".to_owned()),
            source: "/etc/clinigate/policy".to_owned(),
            files: vec!["flows.yaml".to_owned(), "segments.yaml".to_owned()],
            applied_at: NOW - 540_000,
            took_ms: 31,
            segments: map(&[("audit", 1), ("enforce", 23)]),
            rules: map(&[("deny", 4), ("flow", 57)]),
            tables: map(&[("atoms", 88), ("verdict rows", 40)]),
            table_bytes: 2_200_000,
        }),
        interfaces: vec![
            interface("trunk0", Some(3), Some("native"), &["pacs", "pumps"]),
            interface("pumps0", Some(14), Some("generic"), &["pumps"]),
            interface("wan0", None, None, &["wan"]),
        ],
        connections: ConnectionStatus {
            live: 17,
            capacity: 131_072,
            by_state: map(&[("established", 12), ("udp-stream", 5)]),
            refused: 0,
        },
        traffic: TrafficStatus {
            verdicts: map(&[("pass", 1234), ("drop", 77), ("audit", 5)]),
            reasons: vec![
                ReasonCount { verdict: "drop".to_owned(), reason: "no-flow".to_owned(), packets: 70 },
                ReasonCount { verdict: "drop".to_owned(), reason: "spoofed".to_owned(), packets: 7 },
                ReasonCount { verdict: "audit".to_owned(), reason: "no-flow".to_owned(), packets: 5 },
            ],
        },
        events: EventStatus { read: 80, unlisted: 0, lost: 0, suppressed: 2 },
        last_apply: Some(LastApply {
            at: NOW - 60_000,
            took_ms: 4,
            source: "/home/ward/policy".into(),
            error: Some("error: unknown segment `pump`\n  --> flows.yaml:3:9".to_owned()),
        }),
        repository: None,
        unconfirmed: None,
        withdrawn: None,
        trouble: vec!["interface wan0 does not exist".to_owned()],
        orders: Vec::new(),
    }
}

#[test]
fn a_status_reads_like_this() {
    let expected = "\
Controller   running, version 0.1.0, process 4711, since 2023-11-14 22:13:20 UTC (10 min ago)
             metrics on http://127.0.0.1:9469/metrics
             a reload reads /etc/clinigate/policy
             labels site=north
Attention    interface wan0 does not exist
Attention    the last change, from /home/ward/policy, was refused: see below
Note         generic XDP, which is slow, on pumps0
Policy       generation 7, in force since 2023-11-14 22:14:20 UTC (9 min ago), applied in 31 ms
             from /etc/clinigate/policy (2 files: flows.yaml, segments.yaml)
             hash 5f5f5f5f5f5f, commit 0123456789ab, with changes since
             segments, built-in ones too: 1 audit, 23 enforce; rules: 4 deny, 57 flow
Tables       2149 KiB: 88 atoms, 40 verdict rows
Interfaces   name    index  XDP      driver  attached   segments
             trunk0  3      native   veth    9 min ago  pacs, pumps (trunk)
             pumps0  14     generic  veth    9 min ago  pumps
             wan0    -      missing  -       -          wan
Packets      1234 passed, 77 dropped; not allowed but passed: 5 audited, 0 observed
             drop   no-flow  70
             drop   spoofed  7
             audit  no-flow  5
Connections  17 of 131072 (0 %): 12 established, 5 udp-stream
Events       80 read (0 too many to list), 0 lost, 2 held back by the rate limit
Last change  refused 2023-11-14 22:22:20 UTC (60 s ago) from /home/ward/policy after 4 ms:
             error: unknown segment `pump`
               --> flows.yaml:3:9
";
    let text = render(&status(), NOW);
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn without_its_controller_a_gateway_says_so_and_enforces() {
    let dead = Status { service: None, last_apply: None, ..status() };
    let text = render(&dead, NOW);
    assert!(text.starts_with("Controller   not running; enforcement goes on without it\n"), "{text}");
    assert!(text.contains("Policy       generation 7, in force since"), "{text}");
    assert!(text.contains("Events       0 lost, 2 held back"), "{text}");
    let nothing = render(&Status::default(), NOW);
    assert_eq!(
        nothing,
        "Controller   not running\nAttention    no policy is in force; to put one into force: systemctl start clinigate, or clinigate run --policy DIR\n"
    );
}

#[test]
fn a_kernel_without_tcx_is_worth_a_note_and_no_finding() {
    let mut well = status();
    well.interfaces.pop();
    well.last_apply = None;
    well.trouble.clear();
    let notes = |status: &Status| status.notes().iter().filter(|note| note.contains("clsact")).count();
    assert_eq!(notes(&well), 0);
    for interface in &mut well.interfaces {
        interface.exit = Some("clsact".to_owned());
    }
    assert_eq!((notes(&well), well.findings().len()), (1, 0));
    let text = render(&well, NOW);
    assert!(
        text.contains("Note         the programs at the exits of trunk0, pumps0 are attached by clsact"),
        "{text}"
    );
}

#[test]
fn what_is_well_is_no_finding() {
    let mut well = status();
    well.interfaces.pop();
    well.last_apply = None;
    well.trouble.clear();
    assert_eq!(well.findings(), Vec::<String>::new());
    well.connections.live = 120_000;
    assert_eq!(well.findings().len(), 1, "a table that is nearly full");
}
