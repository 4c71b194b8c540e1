//! Promises 7 (one packet, one generation) and 8 (revocation is immediate) with many rules: policies change
//! under traffic, and every packet is accounted for.
//!
//! By default ten changes of a thousand rules, in seconds. `CLINIGATE_CHANGES` asks for so many of ten thousand rules; that
//! takes an optimised build: `CLINIGATE_CHANGES=1000 cargo test --release -p clinigate-tests --test many_rules --
//! --nocapture`, after `cargo build --release -p clinigate`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the counts are meant to be read")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clinigate::daemon::control::{Client, Reply, Request};
use clinigate::testing::hospital::{self, Flow, Traffic};
use clinigate_tests::frames::Link;
use clinigate_tests::hospital::{HOST_INTERFACE, Host};
use clinigate_tests::metrics::Metrics;
use clinigate_tests::namespace::{End, Namespace, wire};
use clinigate_tests::run::Run;
use clinigate_tests::service::{self, Setting};
use clinigate_tests::traffic::{Count, Datagrams, Transfer};

/// Rules and changes in the suite, and the rules of the long form.
const SHORT: (usize, usize) = (1000, 10);
const LONG: usize = 10_000;
const PACE: Duration = Duration::from_millis(1);
/// How long each policy stays in force.
const STAY: Duration = Duration::from_millis(20);
/// A machine may be busy, and the build not optimised.
const PATIENCE: Duration = Duration::from_mins(1);
/// What monitors send to a gateway of theirs and controllers of the building to a server: names in the catalogue, and
/// ports. Rules of these are among the first, which metrics have by name.
const MONITORS: (&str, u16) = ("intellivue", 24105);
const BUILDING: (&str, u16) = ("bacnet", 47808);
/// A port on which nothing is allowed.
const STRANGE: u16 = 4444;

#[test]
fn promise_7_and_8_changes_of_many_rules_lose_and_misjudge_nothing() {
    let (rules, changes) =
        std::env::var("CLINIGATE_CHANGES").map_or(SHORT, |number| (LONG, number.parse().unwrap()));
    assert_eq!(changes % 2, 0, "the whole policy is the last");
    let ward = Ward::build(rules);
    let setting = Setting::at(&ward.gateway, &ward.run, service::binary().unwrap());
    let service = setting.start(&ward.policies[0]).unwrap();

    let [kept, revoked, transfer] = &ward.flows;
    let start = |flow: &Flow, port| {
        Datagrams::start(&ward.host(flow.source), &ward.host(flow.destination), port, PACE).unwrap()
    };
    let (from, to) = (ward.host(transfer.source), ward.host(transfer.destination));
    let transfer = Transfer::start(&from, &to, transfer.destination_port).unwrap();
    let datagrams = [start(kept, MONITORS.1), start(revoked, BUILDING.1), start(kept, STRANGE)];
    let (begun, mut allowed, mut forbidden, mut took) = (Instant::now(), Vec::new(), Vec::new(), Vec::new());
    for change in 1..=changes {
        took.push(apply(&setting, &ward.policies[change % 2]));
        // The one just begun may be on its way since before.
        let first = datagrams[1].begun() + 1;
        thread::sleep(STAY);
        let while_in_force = first..datagrams[1].begun().max(first);
        if change % 2 == 0 { allowed.push(while_in_force) } else { forbidden.push(while_in_force) }
    }
    took.sort_unstable();
    println!(
        "{changes} changes of {rules} rules in {:.1?}; a change takes {} ms (median), {} ms (longest)",
        begun.elapsed(),
        took[took.len() / 2],
        took[took.len() - 1]
    );

    let transferred = transfer.finish().unwrap();
    let [kept_count, revoked_count, strange_count] = datagrams.map(|datagrams| datagrams.finish().unwrap());
    println!("transfer: {transferred:?}");
    println!("allowed: {} sent, {} lost", kept_count.sent, kept_count.lost(0..kept_count.sent));
    println!("forbidden: {} sent, {} passed", strange_count.sent, strange_count.received.len());
    let (passed, lost) = (arrived(&revoked_count, &forbidden), lost(&revoked_count, &allowed));
    println!("revoked by turns: {} sent while forbidden, {passed} passed", sent(&forbidden));
    println!("revoked by turns: {} sent while allowed, {lost} lost", sent(&allowed));
    assert_eq!(transferred.sent, transferred.received);
    assert_eq!(kept_count.lost(0..kept_count.sent), 0);
    assert_eq!(strange_count.received.len(), 0);
    assert!(sent(&allowed) > 5 * changes as u64 / 2 && sent(&forbidden) > 5 * changes as u64 / 2);
    assert_eq!((passed, lost), (0, 0));

    // What was sent between a request and its answer met the one policy or the other: it arrived or was dropped.
    let metrics = setting.metrics().unwrap();
    let counted = [
        rule_packets(&metrics, &ward.rules[0]),
        dropped(&metrics, ward.segment(kept.vlan)),
        rule_packets(&metrics, &ward.rules[1]),
        dropped(&metrics, ward.segment(revoked.vlan)),
    ];
    println!("counted: {counted:?}");
    let arrived = revoked_count.received.len() as u64;
    assert_eq!(counted, [kept_count.sent, strange_count.sent, arrived, revoked_count.sent - arrived]);
    drop(service);
}

/// Hosts of a generated hospital, each segment that is needed on a port of the gateway.
struct Ward {
    gateway: Namespace,
    /// By VLAN identifier.
    stations: BTreeMap<u16, Station>,
    /// Of a monitor, which every policy allows; of a controller of the building, which every other one does; and TCP, which
    /// every one does.
    flows: [Flow; 3],
    /// Names of the rules of the first two.
    rules: [String; 2],
    /// With and without the second rule.
    policies: [PathBuf; 2],
    // Dropped last: it removes what the namespaces leave.
    run: Run,
}

/// All hosts of a segment.
struct Station {
    namespace: Namespace,
    segment: String,
}

impl Ward {
    fn build(rules: usize) -> Self {
        let hospital = hospital::Hospital::of(rules);
        let flows = flows(&hospital);
        let run = Run::new().unwrap();
        let gateway = run.namespace("gateway").unwrap();
        gateway.sysctl("ipv4/ip_forward", "1").unwrap();
        let files: BTreeMap<String, String> = hospital
            .policy("lo")
            .into_iter()
            .map(|file| (file.name.to_string(), file.text.clone()))
            .collect();
        let mut addresses: BTreeMap<u16, Vec<Ipv4Addr>> = BTreeMap::new();
        for (vlan, address) in
            flows.iter().flat_map(|flow| [(flow.vlan, flow.source), (flow.back_vlan, flow.destination)])
        {
            let of_segment = addresses.entry(vlan).or_default();
            let IpAddr::V4(address) = address else { panic!("{address}") };
            if !of_segment.contains(&address) {
                of_segment.push(address);
            }
        }
        let station = |(vlan, addresses)| {
            let segment = segment_of(&files["segments.yaml"], vlan);
            (vlan, Station { namespace: wired(&run, &gateway, vlan, addresses), segment })
        };
        let stations: BTreeMap<u16, Station> = addresses.into_iter().map(station).collect();
        gateway.wait_up().unwrap();
        let rules = [rule_of(&files, &flows[0], MONITORS.0), rule_of(&files, &flows[1], BUILDING.0)];
        let policies = ["whole", "without"].map(|name| run.directory().join(name));
        for (directory, without) in policies.iter().zip([None, Some(&rules[1])]) {
            write(directory, &files, &stations, without);
        }
        Self { gateway, stations, flows, rules, policies, run }
    }

    fn host(&self, address: IpAddr) -> Host {
        let IpAddr::V4(v4) = address else { panic!("{address}") };
        let flow = self.flows.iter().find(|flow| [flow.source, flow.destination].contains(&address)).unwrap();
        let vlan = if flow.source == address { flow.vlan } else { flow.back_vlan };
        Host {
            name: "host",
            segment: "",
            namespace: self.stations[&vlan].namespace.clone(),
            port: port(vlan),
            v4,
            v6: Ipv6Addr::UNSPECIFIED,
            router_v4: router(v4),
            link: Link { from: mac(vlan, 2), to: mac(vlan, 1) },
        }
    }

    fn segment(&self, vlan: u16) -> &str {
        &self.stations[&vlan].segment
    }
}

/// Flows that rules of single devices allow, each from a segment of its own.
fn flows(hospital: &hospital::Hospital) -> [Flow; 3] {
    // Every other one is by a rule of a device.
    let of_devices = |traffic| hospital.traffic(traffic, false, true, 4096).into_iter().skip(1).step_by(2);
    let udp = |port| of_devices(Traffic::Udp).find(|flow| flow.destination_port == port).unwrap();
    let (kept, revoked) = (udp(MONITORS.1), udp(BUILDING.1));
    let apart = |flow: &Flow| ![kept.vlan, revoked.vlan].contains(&flow.vlan);
    [kept, revoked, of_devices(Traffic::Tcp).find(apart).unwrap()]
}

/// A namespace with some addresses of a segment, behind a port of the gateway.
fn wired(run: &Run, gateway: &Namespace, vlan: u16, addresses: Vec<Ipv4Addr>) -> Namespace {
    let namespace = run.namespace(&format!("v{vlan}")).unwrap();
    for quiet in [&namespace, gateway] {
        quiet.sysctl("ipv6/conf/all/disable_ipv6", "1").unwrap();
        quiet.sysctl("ipv6/conf/default/disable_ipv6", "1").unwrap();
    }
    let router = router(addresses[0]);
    let port = port(vlan);
    let end =
        |namespace, interface, end, addresses| End { namespace, interface, mac: mac(vlan, end), addresses };
    let hosts = addresses.into_iter().map(|address| (address.into(), 20)).collect();
    wire(&end(gateway, &port, 1, vec![(router.into(), 20)]), &end(&namespace, HOST_INTERFACE, 2, hosts))
        .unwrap();
    namespace.batch(&[format!("route add default via {router}")]).unwrap();
    namespace
}

fn port(vlan: u16) -> String {
    format!("port{vlan}")
}

/// The gateway's address in the segment of a host: hosts of generated hospitals are numbered from 16 on, in a /20.
fn router(host: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(host.to_bits() & !0xfff | 1)
}

const fn mac(vlan: u16, end: u8) -> [u8; 6] {
    let [high, low] = vlan.to_be_bytes();
    [2, 0xc9, 3, high, low, end]
}

fn segment_of(text: &str, vlan: u16) -> String {
    let line = text.lines().find(|line| line.contains(&format!("{{ vlan: {vlan},"))).unwrap();
    line.trim().split_once(':').unwrap().0.to_owned()
}

/// The rule of a device that allows a flow.
fn rule_of(files: &BTreeMap<String, String>, flow: &Flow, service: &str) -> String {
    let device = |address: IpAddr| {
        let line = files["devices.yaml"].lines().find(|line| line.contains(&format!("[{address},"))).unwrap();
        line.trim().split_once(':').unwrap().0.to_owned()
    };
    let (from, to) = (device(flow.source), device(flow.destination));
    let ends = format!("from: [{from}], to: [{to}], services: [{service}]");
    let mut lines = files.values().flat_map(|text| text.lines()).filter(|line| line.contains(&ends));
    let line = lines.next().unwrap();
    assert_eq!(lines.next(), None);
    line.split_once("name: ").unwrap().1.split_once(',').unwrap().0.to_owned()
}

fn write(
    directory: &Path,
    files: &BTreeMap<String, String>,
    stations: &BTreeMap<u16, Station>,
    without: Option<&String>,
) {
    fs::create_dir_all(directory).unwrap();
    for (name, text) in files {
        let text = match (name.as_str(), without) {
            ("segments.yaml", _) => {
                let ports = stations
                    .iter()
                    .map(|(vlan, station)| format!("  {}: {{ access: {} }}\n", port(*vlan), station.segment));
                let segments = text.split_once("segments:\n").unwrap().1;
                format!("interfaces:\n{}segments:\n{segments}", ports.collect::<String>())
            }
            (_, Some(rule)) => {
                let other = |line: &&str| !line.contains(&format!("name: {rule},"));
                text.split_inclusive('\n').filter(other).collect()
            }
            _ => text.clone(),
        };
        fs::write(directory.join(name), text).unwrap();
    }
}

/// Puts a policy in force; milliseconds from its text on.
fn apply(setting: &Setting, policy: &Path) -> u64 {
    let request = Request::Apply { dir: policy.to_owned(), confirm_within_s: None };
    match Client::connect(&setting.socket()).unwrap().ask(&request, PATIENCE).unwrap() {
        Reply::Applied { change } if !change.unchanged => change.took_ms,
        other => panic!("{other:?}"),
    }
}

fn sent(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

fn arrived(count: &Count, ranges: &[Range<u64>]) -> usize {
    ranges.iter().map(|range| count.arrived(range.clone())).sum()
}

fn lost(count: &Count, ranges: &[Range<u64>]) -> usize {
    ranges.iter().map(|range| count.lost(range.clone())).sum()
}

fn rule_packets(metrics: &Metrics, rule: &str) -> u64 {
    metrics.sum("clinigate_rule_packets_total", &[("rule", rule)]).to_string().parse().unwrap()
}

/// All packets from a segment that were dropped.
fn dropped(metrics: &Metrics, segment: &str) -> u64 {
    let labels = [("segment", segment), ("direction", "out"), ("verdict", "drop")];
    metrics.sum("clinigate_packets_total", &labels).to_string().parse().unwrap()
}
