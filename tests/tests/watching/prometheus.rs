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
const ABSENT: [(&str, &str); 2] = [
    ("clinigate_break_glass_unreviewed", "break-glass is not in use"),
    ("clinigate_quarantined", "quarantine is not in use"),
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
    wait_for_all("a full table", || quiet(&prometheus, &late("ClinigateConnections")));
    service.kill().unwrap();
    wait_for_all("the end of the service", || quiet(&prometheus, &late("ClinigateDown")));
}

/// Caused after the rest.
const LATE: [&str; 3] = ["ClinigateConnectionsNearFull", "ClinigateConnectionsRefused", "ClinigateDown"];

fn make_noise(hospital: &Hospital, stop: &AtomicBool) {
    let noise = noise(hospital);
    let mut wires: BTreeMap<&str, Wire> = BTreeMap::new();
    for (host, _) in &noise {
        wires.entry(host.name).or_insert_with(|| host.wire().unwrap());
    }
    let vendor = hospital.host("vendor");
    let tunnel = vendor.namespace.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    while !stop.load(Ordering::Relaxed) {
        for (host, packet) in &noise {
            wires[host.name].send(&packet.tcp_syn().unwrap()).unwrap();
        }
        // Nobody listens: what comes back is no error of the test.
        let _ = tunnel.send_to(b"a vendor's tunnel", (WAN_V4, 500));
        thread::sleep(Duration::from_millis(300));
    }
}

fn refuse_a_policy(hospital: &Hospital, setting: &Setting) {
    let broken = hospital.run().directory().join("broken");
    policy::copy(&policy::hospital(), &broken).unwrap();
    let text = "flows:\n  - { name: x, from: [pumps], to: [wan], services: [https] }\n";
    fs::write(broken.join("more.yaml"), text).unwrap();
    setting.call(&["apply", broken.to_str().unwrap()]).unwrap_err();
}

/// More questions than the table has room for.
fn fill_the_table(hospital: &Hospital) {
    let (pump, server) = (hospital.host("pump"), hospital.host("infrastructure"));
    let wire = pump.wire().unwrap();
    for port in 20_000..32_000 {
        let packet = Packet {
            link: pump.link,
            tags: Vec::new(),
            from: pump.at(port),
            to: server.at(53),
            payload: b"question".to_vec(),
        };
        wire.send(&packet.udp().unwrap()).unwrap();
        // A wire takes some hundred frames at once.
        if port % 50 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Asks until nothing is missing any more.
fn wait_for_all(what: &str, mut missing: impl FnMut() -> Vec<String>) {
    let until = Instant::now() + PATIENCE;
    loop {
        let missing = missing();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "waited in vain for {what}: {missing:#?}");
        thread::sleep(Duration::from_millis(250));
    }
}

/// Values of a query, those that are not numbers left out.
fn values(prometheus: &Prometheus, expression: &str) -> Vec<f64> {
    let answer: Value = serde_json::from_str(&prometheus.query(expression).unwrap()).unwrap();
    assert_eq!(answer["status"], "success", "{expression}");
    let results = answer["data"]["result"].as_array().unwrap();
    let values = results.iter().map(|result| result["value"][1].as_str().unwrap().parse::<f64>().unwrap());
    values.filter(|value| !value.is_nan()).collect()
}

/// Queries of dashboards that have no data, but for those that must not have any.
fn unanswered(prometheus: &Prometheus) -> Vec<String> {
    let mut missing = Vec::new();
    for dashboards::Query { place, text } in dashboards::queries() {
        let expression = text
            .replace("$__rate_interval", "10s")
            .replace("$instance", ".*")
            .replace("$segment", "modalities-a");
        assert!(!expression.contains('$'), "{place}: {text}");
        // A fallback to 0 is no data.
        let expression = expression.trim_end_matches(" or vector(0)");
        let may_be_empty = EMPTY.iter().chain(&ABSENT).any(|(metric, _)| expression.contains(metric));
        if !may_be_empty && values(prometheus, expression).is_empty() {
            missing.push(format!("{place}: {text}"));
        }
    }
    for (metric, label) in dashboards::variables() {
        if values(prometheus, &format!("count by ({label}) ({metric})")).is_empty() {
            missing.push(format!("the variable of {metric}"));
        }
    }
    missing
}

/// Alerts that do not fire with their labels.
fn quiet(prometheus: &Prometheus, alerts: &[Alert]) -> Vec<String> {
    let expressions = alerts.iter().map(|(name, labels)| {
        let labels = labels.iter().map(|(label, value)| format!(", {label}=\"{value}\""));
        let labels = labels.collect::<Vec<_>>().concat();
        format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"{labels}}}")
    });
    expressions.filter(|expression| values(prometheus, expression).is_empty()).collect()
}

/// Every rule is evaluated without an error; every recording rule has data; every alert is caused here or stands in
/// the list of those that are not, asks for metrics that exist, and is quiet.
fn every_rule_is_known_and_sound(prometheus: &Prometheus) {
    let answer: Value = serde_json::from_str(&prometheus.get("/api/v1/rules").unwrap()).unwrap();
    let groups = answer["data"]["groups"].as_array().unwrap();
    let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let mut alerts = BTreeSet::new();
    for rule in rules {
        let (name, query) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        assert_eq!(rule["health"], "ok", "{name}: {rule}");
        if rule["type"] == "recording" {
            assert!(!values(prometheus, name).is_empty(), "{name} has no data");
            continue;
        }
        alerts.insert(name.to_owned());
        for metric in metrics(query) {
            let may_be_absent = EMPTY.iter().chain(&ABSENT).any(|(known, _)| *known == metric);
            let found = !values(prometheus, &format!("count({metric})")).is_empty();
            assert!(found || may_be_absent, "{name} asks for {metric}, which nobody has");
        }
        if NOT_CAUSED.iter().any(|(known, _)| *known == name) {
            assert_eq!(rule["state"], "inactive", "{rule}");
        }
    }
    let known = CAUSED.iter().map(|(name, _)| *name).chain(NOT_CAUSED.iter().map(|(name, _)| *name));
    assert_eq!(alerts, known.map(str::to_owned).collect());
}

/// Names of our metrics in an expression.
fn metrics(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with("clinigate_")).map(str::to_owned).collect()
}
