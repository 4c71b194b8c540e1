//! What the service refuses, and that a refusal changes nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use clinigate_tests::hospital::{Hospital, TRUNK};
use clinigate_tests::metrics::Metrics;
use clinigate_tests::namespace::tool;
use clinigate_tests::policy;
use clinigate_tests::service::{self, Setting};
use clinigate_tests::traffic::Datagrams;

const SOON: Duration = Duration::from_secs(20);

fn build() -> (Hospital, Setting) {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    (hospital, setting)
}

fn generation(metrics: &Metrics) -> String {
    metrics.text().lines().find(|line| line.starts_with("clinigate_policy_info{")).unwrap().to_owned()
}

#[test]
fn a_second_service_is_refused_and_the_first_goes_on() {
    let (_hospital, setting) = build();
    let first = setting.start(&policy::hospital()).unwrap();
    let before = generation(&setting.metrics().unwrap());
    let said = setting.start_unready(&policy::hospital()).unwrap().wait_refused(SOON).unwrap();
    assert!(said.contains("error: clinigate is already running"), "{said}");
    assert_eq!(generation(&setting.metrics().unwrap()), before);
    drop(first);
}

/// What another installation pinned goes on without its service; this one does not take its place.
#[test]
fn a_foreign_xdp_program_is_left_alone() {
    let (_hospital, setting) = build();
    setting.start(&policy::hospital()).unwrap().kill().unwrap();
    let other = setting.foreign("other");
    let said = other.start_unready(&policy::hospital()).unwrap().wait_refused(SOON).unwrap();
    assert!(said.contains("error: ") && said.contains("infra0") && said.contains("XDP program"), "{said}");
    let again = setting.start(&policy::hospital()).unwrap();
    assert!(generation(&setting.metrics().unwrap()).contains("generation=\"1\""), "it was not adopted");
    drop(again);
}

#[test]
fn a_missing_interface_is_named_before_anything_is_changed() {
    let (hospital, setting) = build();
    hospital.gateway.batch(&["link delete vna0".to_owned()]).unwrap();
    let said = setting.start_unready(&policy::hospital()).unwrap().wait_refused(SOON).unwrap();
    assert!(said.contains("vna0"), "{said}");
    let links = tool(hospital.gateway.command("ip").args(["link", "show"])).unwrap();
    assert!(!links.contains("xdp"), "{links}");
}

#[test]
fn a_policy_with_a_mistake_leaves_the_old_one_in_force() {
    let (hospital, setting) = build();
    let service = setting.start(&policy::hospital()).unwrap();
    let before = generation(&setting.metrics().unwrap());
    let broken = hospital.run().directory().join("broken");
    policy::copy(&policy::hospital(), &broken).unwrap();
    fs::write(
        broken.join("more.yaml"),
        "flows:\n  - { name: x, from: [nobody], to: [pacs], services: [dicom] }\n",
    )
    .unwrap();
    let refusal = setting.call(&["apply", broken.to_str().unwrap()]).unwrap_err().to_string();
    assert!(refusal.contains("nobody") && refusal.contains("more.yaml"), "{refusal}");
    // Sound text, and against an invariant: pumps never reach the world.
    fs::write(
        broken.join("more.yaml"),
        "flows:\n  - { name: x, from: [pumps], to: [wan], services: [https] }\n",
    )
    .unwrap();
    let refusal = setting.call(&["apply", broken.to_str().unwrap()]).unwrap_err().to_string();
    assert!(refusal.contains("pumps-never-world") && refusal.contains("more.yaml"), "{refusal}");
    let code = |directory: &str| setting.command(&["apply", directory]).output().unwrap().status.code();
    assert_eq!(code(broken.to_str().unwrap()), Some(1), "mistakes are findings");
    assert_eq!(code("/nonexistent"), Some(2), "a directory that is not there is wrong use");
    assert_eq!(generation(&setting.metrics().unwrap()), before);
    drop(service);
}

/// A tag that the card takes out of the frame is a tag that no program sees.
#[test]
fn a_trunk_does_not_hide_tags_from_the_program() {
    let (hospital, setting) = build();
    let ethtool = |arguments: &[&str]| tool(hospital.gateway.command("ethtool").args(arguments)).unwrap();
    ethtool(&["-K", TRUNK, "rx-vlan-offload", "on"]);
    let service = setting.start(&policy::hospital()).unwrap();
    let features = ethtool(&["-k", TRUNK]);
    let offload = features.lines().find(|line| line.starts_with("rx-vlan-offload")).unwrap();
    assert!(offload.contains("off"), "{offload}");
    drop(service);
}

/// The page has what was sent: so many datagrams, under the flow and under the reason.
#[test]
fn metrics_are_well_formed_and_equal_what_was_sent() {
    let (hospital, setting) = build();
    let service = setting.start(&policy::hospital()).unwrap();
    let before = setting.metrics().unwrap();
    let host = |name| hospital.host(name);
    let start = |to| Datagrams::start(host("pump"), host(to), 53, Duration::from_millis(1)).unwrap();
    let (allowed, forbidden) = (start("infrastructure"), start("attacker"));
    thread::sleep(Duration::from_millis(300));
    let (allowed, forbidden) = (allowed.finish().unwrap(), forbidden.finish().unwrap());
    let after = setting.metrics().unwrap();
    let grown = |name, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    let flow = grown("clinigate_rule_packets_total", &[("rule", "clinical-basics")]);
    let dropped = |segment, direction| {
        let of_pair =
            [("segment", segment), ("direction", direction), ("verdict", "drop"), ("reason", "no-flow")];
        grown("clinigate_packets_total", &of_pair)
    };
    assert_eq!(flow.to_string(), allowed.sent.to_string());
    assert_eq!(dropped("pumps", "out").to_string(), forbidden.sent.to_string());
    assert_eq!(dropped("wan", "in").to_string(), forbidden.sent.to_string());
    assert_eq!((allowed.lost(0..allowed.sent), forbidden.received.len()), (0, 0));

    let mut promtool = std::process::Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = promtool.spawn().unwrap();
    running.stdin.take().unwrap().write_all(after.text().as_bytes()).unwrap();
    let checked = running.wait_with_output().unwrap();
    assert!(
        checked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(
        checked.stdout.is_empty() && checked.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    drop(service);
}
