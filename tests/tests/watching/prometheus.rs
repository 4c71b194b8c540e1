//! Rules and dashboards on a real Prometheus that scrapes a gateway in trouble of every kind that can be caused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clinigate_tests::frames::{Packet, Wire};
use clinigate_tests::hospital::{Hospital, Host, WAN_V4};
use clinigate_tests::policy;
use clinigate_tests::prometheus::{Pace, Prometheus};
use clinigate_tests::service::{self, Setting};
use serde_json::Value;

use super::dashboards;

const PATIENCE: Duration = Duration::from_secs(40);
const PACE: Pace = Pace { interval: "500ms", at_once: true };

/// Queries of dashboards that may come back empty here, by a metric that they name, and why.
const EMPTY: [(&str, &str); 7] = [
    ("clinigate_repository_commit_state", "the policy comes from a directory"),
    ("clinigate_repository_commit_blocked", "likewise"),
    ("clinigate_repository_fetches_total", "likewise"),
    ("clinigate_repository_last_fetch_timestamp_seconds", "likewise"),
    ("clinigate_break_glass_open", "nothing is suspended"),
    ("clinigate_grant_opened_timestamp_seconds", "no grant is open"),
    ("clinigate_grants_open", "likewise"),
];

/// Name of an alert, and some of its labels.
type Alert = (&'static str, &'static [(&'static str, &'static str)]);

/// Metrics of features that are not used here, and so are absent.
const ABSENT: [(&str, &str); 3] = [
    ("clinigate_break_glass_unreviewed", "break-glass is not in use"),
    ("clinigate_quarantined", "quarantine is not in use"),
    ("clinigate_state_write_failures_total", "nothing is written"),
];

/// Alerts that are caused here, and labels that they must carry.
const CAUSED: [Alert; 11] = [
    ("ClinigateWormPath", &[("source", "modalities-a"), ("service", "smb"), ("severity", "critical")]),
    (
        "ClinigateClinicalServiceBlocked",
        &[("source", "modalities-a"), ("destination", "vna"), ("service", "dicom-workstation")],
    ),
    ("ClinigateSpoofing", &[("segment", "modalities-a"), ("reason", "spoofed")]),
    ("ClinigateWanAttempt", &[("destination", "modalities-a"), ("service", "smb")]),
    ("ClinigateCallToWorld", &[("source", "pumps"), ("service", "https")]),
    ("ClinigateNewTalker", &[("segment", "pumps"), ("severity", "info")]),
    ("ClinigatePolicyNotApplied", &[("severity", "warning")]),
    ("ClinigateInterfaceNotEnforced", &[("interface", "poct0"), ("severity", "critical")]),
    ("ClinigateConnectionsNearFull", &[("severity", "warning")]),
    ("ClinigateConnectionsRefused", &[("change", "refused")]),
    ("ClinigateDown", &[("severity", "critical"), ("instance", "127.0.0.1:9469")]),
];

/// Alerts that are not, and why; that they fire shows alerts.test.yml.
const NOT_CAUSED: [(&str, &str); 15] = [
    ("ClinigateNoPolicy", "the service ends where it has no policy"),
    ("ClinigateGenericMode", "the programs are attached in the driver's mode"),
    ("ClinigateDefect", "no known defect"),
    ("ClinigateCountersUnreadable", "the kernel's counters can be read"),
    ("ClinigateEventsLost", "the service reads faster than the limit lets reports come"),
    ("ClinigateEventLogLost", "the disk is not full"),
    ("ClinigateStateNotWritten", "likewise"),
    ("ClinigateCommitUnverified", "the policy comes from a directory"),
    ("ClinigateCommitRefused", "likewise"),
    ("ClinigateCommitHeld", "likewise"),
    ("ClinigateRepositoryUnreachable", "likewise"),
    ("ClinigateBreakGlassOpen", "nothing is suspended"),
    ("ClinigateBreakGlassUnreviewed", "likewise"),
    ("ClinigateGrantOpenTooLong", "no grant is open"),
    ("ClinigateQuarantineForgotten", "nothing is in quarantine"),
];

/// Frames that hosts send: source, destination, and whose address the source uses.
fn noise(hospital: &Hospital) -> Vec<(&Host, Packet)> {
    let host = |name: &str| hospital.host(name);
    let syn = |from: &str, claimed: &str, to: SocketAddr| {
        let link = host(from).link;
        let from_address = host(claimed).at(40_000);
        (host(from), Packet { link, tags: Vec::new(), from: from_address, to, payload: Vec::new() })
    };
    vec![
        // Allowed.
        syn("ct-1", "ct-1", host("pacs").at(104)),
        syn("pump", "pump", host("pump-server-1").at(3613)),
        // A worm.
        syn("ct-1", "ct-1", host("pacs").at(445)),
        syn("ct-1", "ct-1", host("his").at(445)),
        syn("ct-1", "ct-1", host("ris").at(445)),
        // A clinical service without a flow.
        syn("ct-1", "ct-1", host("vna").at(11112)),
        // A forged source.
        syn("ct-1", "pump", host("pump-server-1").at(3613)),
        // From the world, and to it.
        syn("attacker", "attacker", host("ct-1").at(445)),
        syn("pump", "pump", host("attacker").at(443)),
        // Between two segments that audit.
        syn("building", "building", host("guest").at(443)),
    ]
}

/// A policy in which two segments audit, and the connection table is small.
fn variant(hospital: &Hospital) -> std::path::PathBuf {
    let directory = hospital.run().directory().join("policy");
    policy::copy(&policy::hospital(), &directory).unwrap();
    policy::set_mode(&directory, "guest", "audit").unwrap();
    fs::write(directory.join("settings.yaml"), "settings: { connections: 1024 }\n").unwrap();
    directory
}

#[test]
fn dashboards_and_alerts_have_data_of_a_gateway_in_trouble() {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let policy = variant(&hospital);
    let log = hospital.run().directory().join("blocked.jsonl");
    let options = ["--policy".as_ref(), policy.as_os_str(), "--event-log".as_ref(), log.as_os_str()];
    let options = options.into_iter().chain(["--learn-talkers".as_ref(), "0s".as_ref()]);
    let mut service = setting.run(options).unwrap();
    service.wait_ready(PATIENCE).unwrap();
    let prometheus = Prometheus::start(&hospital.gateway, hospital.run().directory(), PACE).unwrap();
    // Alerts on what grows want to have seen it before.
    wait_for_all("a scrape", || {
        let seen = !values(&prometheus, "clinigate_new_talkers_total").is_empty();
        if seen { Vec::new() } else { vec!["clinigate_new_talkers_total".to_owned()] }
    });

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| make_noise(&hospital, &stop));
        refuse_a_policy(&hospital, &setting);
        hospital.gateway.batch(&["link delete poct0".to_owned()]).unwrap();
        let early: Vec<_> = CAUSED.iter().filter(|(name, _)| !LATE.contains(name)).copied().collect();
        wait_for_all("dashboards", || unanswered(&prometheus));
        wait_for_all("alerts", || quiet(&prometheus, &early));
        stop.store(true, Ordering::Relaxed);
    });
    every_rule_is_known_and_sound(&prometheus);
    fill_the_table(&hospital);
    let late = |prefix: &str| -> Vec<_> {
        CAUSED.iter().filter(|(name, _)| LATE.contains(name) && name.starts_with(prefix)).copied().collect()
    };
