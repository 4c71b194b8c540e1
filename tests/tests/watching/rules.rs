//! The rules by themselves, as promtool sees them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use clinigate_tests::namespace::tool;
use clinigate_tests::prometheus::deploy;

fn promtool(arguments: &[&str]) {
    tool(Command::new("promtool").args(arguments).current_dir(deploy().join("prometheus"))).unwrap();
}

#[test]
fn rules_and_example_are_sound() {
    promtool(&["check", "rules", "recording.rules.yml", "alerts.rules.yml"]);
    promtool(&["check", "config", "prometheus.yml"]);
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    promtool(&["test", "rules", "alerts.test.yml"]);
}

/// An alert that nobody has seen fire is none.
#[test]
fn every_alert_has_its_case() {
    let read = |name: &str| fs::read_to_string(deploy().join("prometheus").join(name)).unwrap();
    let after = |text: &str, key: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| Some(line.trim().strip_prefix(key)?.to_owned())).collect()
    };
    let alerts = after(&read("alerts.rules.yml"), "- alert: ");
    let tests = read("alerts.test.yml");
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in &alerts {
        let fires = format!("labels: 'ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"");
        assert!(tests.contains(&fires), "no case in which {alert} fires");
    }
    assert_eq!(after(&tests, "- name: "), alerts);
}
