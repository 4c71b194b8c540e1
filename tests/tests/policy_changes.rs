//! Promises 7 (one packet, one generation) and 8 (revocation is immediate), under traffic; and what `plan`
//! says beforehand.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the counts are meant to be read")]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clinigate_tests::hospital::Hospital;
use clinigate_tests::policy;
use clinigate_tests::service::{self, Setting};
use clinigate_tests::traffic::{Datagrams, Transfer};
use serde_json::Value;

const CHANGES: usize = 200;
const PACE: Duration = Duration::from_millis(1);
/// Flow that every other policy lacks.
const REVOKED: &str = "monitors-announce";

#[test]
fn promise_7_and_8_two_hundred_changes_lose_no_kept_packet_and_pass_no_revoked_one() {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let policies = ["whole", "without"].map(|name| hospital.run().directory().join(name));
    for directory in &policies {
        policy::copy(&policy::hospital(), directory).unwrap();
    }
    policy::remove_flow(&policies[1], REVOKED).unwrap();
    let service = setting.start(&policies[0]).unwrap();

    let host = |name| hospital.host(name);
    let transfer = Transfer::start(host("pump"), host("pump-server-1"), 3613).unwrap();
    let kept = Datagrams::start(host("pump"), host("infrastructure"), 53, PACE).unwrap();
    let revoked = Datagrams::start(host("monitor"), host("monitor-gateway"), 24005, PACE).unwrap();
    let never = Datagrams::start(host("ct-1"), host("pump-server-1"), 3613, PACE).unwrap();

    // Numbers that were begun while a policy was certainly in force: after its change was
    // confirmed, before the next one was asked for.
    let (start, mut allowed, mut forbidden) = (Instant::now(), Vec::new(), Vec::new());
    for change in 1..=CHANGES {
        apply(&setting, &policies[change % 2]);
        // The one just begun may be on its way since before.
        let first = revoked.begun() + 1;
        thread::sleep(Duration::from_millis(10));
        let while_in_force = first..revoked.begun().max(first);
        if change % 2 == 0 { allowed.push(while_in_force) } else { forbidden.push(while_in_force) }
    }
    println!("{CHANGES} changes in {:.1?}", start.elapsed());

    let kept = kept.finish().unwrap();
    println!("kept flow: {} datagrams sent, {} lost", kept.sent, kept.lost(0..kept.sent));
    let transferred = transfer.finish().unwrap();
    println!("kept transfer: {transferred:?}");
    let revoked = revoked.finish().unwrap();
    let sent_while =
        |ranges: &[std::ops::Range<u64>]| -> u64 { ranges.iter().map(|r| r.end - r.start).sum() };
    let passed: usize = forbidden.iter().map(|range| revoked.arrived(range.clone())).sum();
    let lost: usize = allowed.iter().map(|range| revoked.lost(range.clone())).sum();
    println!(
        "revoked flow: {} datagrams sent while it was forbidden, {passed} passed",
        sent_while(&forbidden)
    );
    println!("revoked flow: {} datagrams sent while it was allowed, {lost} lost", sent_while(&allowed));
    let never = never.finish().unwrap();
    println!("never allowed: {} datagrams sent, {} passed", never.sent, never.received.len());

    assert_eq!(kept.lost(0..kept.sent), 0);
    assert_eq!(transferred.sent, transferred.received);
    assert!(sent_while(&forbidden) > 500 && sent_while(&allowed) > 500);
    assert_eq!((passed, lost), (0, 0));
    assert_eq!(never.received.len(), 0);
    counters_are_exact(&setting, kept.sent, never.sent);
    drop(service);
}

/// What `plan` says of running connections comes true when the change is made.
#[test]
fn plan_lists_the_running_connections_that_the_change_then_cuts() {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let policies = ["whole", "without", "other"].map(|name| hospital.run().directory().join(name));
    for directory in &policies {
        policy::copy(&policy::hospital(), directory).unwrap();
    }
    let [whole, without, other] = &policies;
    policy::remove_flow(without, REVOKED).unwrap();
    policy::remove_flow(other, "pumps-to-server").unwrap();
    let service = setting.start(whole).unwrap();
    let host = |name| hospital.host(name);
    let transfer = Transfer::start(host("pump"), host("pump-server-1"), 3613).unwrap();
    let datagrams = Datagrams::start(host("monitor"), host("monitor-gateway"), 24005, PACE).unwrap();
    assert!(datagrams.wait_for_arrival(Duration::from_secs(5)));

    let announced = |answer: &Value, rule: &str, line: [&str; 4]| {
        let connections = &answer["connections"];
        assert_eq!((&connections["cut"], &connections["unenforced"]), (&1.into(), &0.into()), "{answer}");
        let group = &connections["groups"][0];
        assert_eq!((&group["rule"]["name"], &group["reason"]), (&rule.into(), &"no-flow".into()), "{answer}");
        let connection = &group["connections"][0];
        let ends = [&connection["from"]["address"], &connection["to"]["address"]];
        let words = [ends[0], ends[1], &connection["service"], &connection["state"]];
        assert_eq!(words, line.map(Value::from).each_ref(), "{answer}");
        assert!(connection["idle"].as_u64().unwrap() <= 2, "{answer}");
    };
    let udp = ["10.10.80.11", "10.10.81.10", "udp/24005", "udp-new"];
    let tcp = ["10.10.70.11", "10.10.71.10", "tcp/3613", "established"];
    announced(&plan(&setting, whole, without), REVOKED, udp);
    announced(&plan(&setting, Path::new("running"), other), "pumps-to-server", tcp);
    assert_eq!(plan(&setting, whole, whole)["connections"]["cut"], 0);
    is_in_the_manual(&setting, whole, without);
    let unknown = plan(&setting, other, whole)["connections"]["unknown"].clone();
    assert!(unknown.as_str().unwrap().contains("not the one in force"), "{unknown}");
    // Nobody has to run for it: the table is in the kernel.
    service.kill().unwrap();
    announced(&plan(&setting, whole, without), REVOKED, udp);

    let service = setting.start(whole).unwrap();
    apply(&setting, without);
    let after = datagrams.begun() + 1;
    let received = transfer.received();
    thread::sleep(Duration::from_millis(300));
    assert!(transfer.received() > received, "the transfer goes on");
    let transferred = transfer.finish().unwrap();
    assert_eq!(transferred.sent, transferred.received);
    let datagrams = datagrams.finish().unwrap();
    assert!(datagrams.sent > after);
    assert_eq!(datagrams.arrived(after..datagrams.sent), 0);
    let revoked =
        setting.metrics().unwrap().sum("clinigate_connection_changes_total", &[("change", "revoked")]);
    assert_eq!(revoked.to_string(), "1");
    drop(service);
}

/// The manual shows this very change, but for the monitor's port and the moment.
fn is_in_the_manual(setting: &Setting, old: &Path, new: &Path) {
    const SHOWN: &str = "10.10.80.11:59059 -> ";
    let manual = include_str!("../../docs/plan.md");
    let output = setting.command(&["plan", old.to_str().unwrap(), new.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, block) = text.split_once("Running connections").unwrap();
    let block = block.split_once("\n\n").unwrap().0;
    let (before, rest) = block.split_once("10.10.80.11:").unwrap();
    let (_, after) = rest.split_once(" -> ").unwrap();
    let (after, _) = after.rsplit_once(" idle ").unwrap();
    let shown = format!("Running connections{before}{SHOWN}{after} idle 0 s\n");
    assert!(manual.contains(&shown), "docs/plan.md does not show:\n{shown}");
}

/// What `plan` prints for programs.
fn plan(setting: &Setting, old: &Path, new: &Path) -> Value {
    let arguments = ["plan", old.to_str().unwrap(), new.to_str().unwrap(), "--format=json"];
    let output = setting.command(&arguments).output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The counters outlive two hundred generations: no packet is missing, none is counted twice.
fn counters_are_exact(setting: &Setting, kept: u64, never: u64) {
    let metrics = setting.metrics().unwrap();
    let flow = metrics.sum("clinigate_rule_packets_total", &[("rule", "clinical-basics")]);
    let labels =
        [("segment", "modalities-a"), ("direction", "out"), ("verdict", "drop"), ("reason", "no-flow")];
    let drops = metrics.sum("clinigate_packets_total", &labels);
    println!("counted: {flow} under clinical-basics, {drops} dropped from modalities-a");
    assert_eq!([flow.to_string(), drops.to_string()], [kept.to_string(), never.to_string()]);
}

fn apply(setting: &Setting, policy: &Path) {
    setting.call(&["apply", policy.to_str().unwrap()]).unwrap();
}
