//! Rules and dashboards on a real Prometheus that scrapes a gateway in trouble of every kind that can be caused.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clinigate_tests::frames::{Packet, Wire};
use clinigate_tests::hospital::{Hospital, Host, WAN_V4};
use clinigate_tests::namespace::tool;
use clinigate_tests::policy;
use clinigate_tests::prometheus::{Pace, Prometheus};
use clinigate_tests::repository::{Key, Repository};
use clinigate_tests::service::{self, Service, Setting};
use serde_json::Value;

use super::dashboards;

const PATIENCE: Duration = Duration::from_mins(1);
const PACE: Pace = Pace { interval: "1s", at_once: true };

/// Name of an alert, and some of its labels.
type Alert = (&'static str, &'static [(&'static str, &'static str)]);

/// Alerts that are caused here, when, and labels that they must carry.
const CAUSED: [(When, Alert); 24] = [
    (When::Held, ("ClinigateCommitHeld", &[("state", "held"), ("severity", "warning")])),
    (
        When::Together,
        ("ClinigateWormPath", &[("source", "modalities-a"), ("service", "smb"), ("severity", "critical")]),
    ),
    (
        When::Together,
        (
            "ClinigateClinicalServiceBlocked",
            &[("source", "modalities-a"), ("destination", "vna"), ("service", "dicom-workstation")],
        ),
    ),
    (When::Together, ("ClinigateSpoofing", &[("segment", "modalities-a"), ("reason", "spoofed")])),
    (When::Together, ("ClinigateWanAttempt", &[("destination", "modalities-a"), ("service", "smb")])),
    (When::Together, ("ClinigateCallToWorld", &[("source", "pumps"), ("service", "https")])),
    (When::Together, ("ClinigateNewTalker", &[("segment", "pumps"), ("severity", "info")])),
    (When::Together, ("ClinigatePolicyNotApplied", &[("severity", "warning")])),
    (When::Together, ("ClinigateInterfaceNotEnforced", &[("interface", "poct0"), ("severity", "critical")])),
    (When::Together, ("ClinigateCommitUnverified", &[("reason", "signature"), ("severity", "critical")])),
    (When::Together, ("ClinigateCommitRefused", &[("severity", "warning")])),
    (When::Together, ("ClinigateBreakGlassOpen", &[("segment", "analysers"), ("severity", "critical")])),
    (When::Together, ("ClinigateBreakGlassUnreviewed", &[("severity", "warning")])),
    (When::Together, ("ClinigateGrantOpenTooLong", &[("vendor", "ct-vendor-service")])),
    (When::Together, ("ClinigateQuarantineForgotten", &[("severity", "info")])),
    (When::Together, ("ClinigateQuarantineIncomplete", &[("severity", "critical")])),
    (When::FullDisk, ("ClinigateEventLogLost", &[("severity", "warning")])),
    (When::FullDisk, ("ClinigateStateNotWritten", &[("severity", "warning")])),
    (When::FullDisk, ("ClinigateAuditNotWritten", &[("severity", "critical")])),
    (When::FullDisk, ("ClinigateRepositoryUnreachable", &[("severity", "warning")])),
    (When::FullTable, ("ClinigateConnectionsNearFull", &[("severity", "warning")])),
    (When::FullTable, ("ClinigateConnectionsRefused", &[("change", "refused")])),
    (When::Dead, ("ClinigateDown", &[("severity", "critical"), ("instance", "127.0.0.1:9469")])),
    (When::Together, ("ClinigateGenericMode", &[("interface", "pumps0"), ("severity", "info")])),
];

/// When an alert is caused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// A commit is held.
    Held,
    /// All at once, with every dashboard full of data.
    Together,
    /// The disk is full.
    FullDisk,
    /// The connection table is.
    FullTable,
    /// The service is dead.
    Dead,
}

/// Alerts that are not, and why; that they fire shows alerts.test.yml.
const NOT_CAUSED: [(&str, &str); 4] = [
    ("ClinigateNoPolicy", "the service ends where it has no policy"),
    ("ClinigateDefect", "no known defect"),
    ("ClinigateCountersUnreadable", "the kernel's counters can be read"),
    ("ClinigateEventsLost", "the service reads faster than the limit lets reports come"),
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

/// The repository with the site's policy, the service's options for it, and the disk that it all stands on.
struct Site {
    repository: Repository,
    key: Key,
    signers: PathBuf,
    state: PathBuf,
}

impl Site {
    /// A policy in which two segments audit, and the connection table is small.
    fn build(hospital: &Hospital, setting: &Setting) -> Self {
        let state = setting.state();
        fs::create_dir_all(&state).unwrap();
        tool(Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "none"]).arg(&state)).unwrap();
        let repository = Repository::create(&hospital.run().directory().join("git")).unwrap();
        let key = repository.key("mori").unwrap();
        let signers = repository.allowed_signers(&[("mori@example.org", &key)]).unwrap();
        policy::copy(&policy::hospital(), &repository.tree()).unwrap();
        policy::set_mode(&repository.tree(), "guest", "audit").unwrap();
        fs::write(repository.tree().join("settings.yaml"), "settings: { connections: 1024 }\n").unwrap();
        repository.publish("The hospital as it is", Some(&key)).unwrap();
        Self { repository, key, signers, state }
    }

    fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = vec!["--repo".into(), self.repository.url().into()];
        options.extend(["--interval", "1s", "--require-signature", "--allowed-signers"].map(OsString::from));
        options.extend([self.signers.clone().into(), "--event-log".into()]);
        options.push(self.state.join("blocked.jsonl").into());
        // Slow, which is an alert of its own.
        options.extend(["--learn-talkers", "0s", "--xdp-mode", "generic"].map(OsString::from));
        options
    }

    fn run(&self, setting: &Setting) -> Service {
        let options = self.options();
        let mut service =
            setting.run(options.iter().map(OsString::as_os_str).collect::<Vec<&OsStr>>()).unwrap();
        service.wait_ready(PATIENCE).unwrap();
        service
    }

    fn publish(&self, flow: &str, key: Option<&Key>) {
        let text = format!("flows: [{{ name: more, {flow} }}]\n");
        fs::write(self.repository.tree().join("more.yaml"), text).unwrap();
        self.repository.publish("Somebody reaches more", key).unwrap();
    }

    /// As much as there is room for; and the repository is gone.
    fn fill_the_disk(&self, setting: &Setting) {
        let ballast = format!("of={}", self.state.join("ballast").display());
        let filled = Command::new("dd").args(["if=/dev/zero", "bs=4k", &ballast]).output().unwrap();
        assert!(!filled.status.success(), "the disk has no end");
        fs::rename(self.repository.url(), self.repository.url().with_extension("aside")).unwrap();
        // Isolating does not wait for a disk; what cannot be done would be written down, too.
        let isolated = ["quarantine", "add", "10.10.41.99", "--reason", "worm", "--yes"];
        let output = setting.command(&isolated).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        for _ in 0..20 {
            setting.call(&["grant", "close", "nobody", "nothing"]).unwrap_err();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = tool(Command::new("umount").arg("--lazy").arg(&self.state));
    }
}

#[test]
fn dashboards_and_alerts_have_data_of_a_gateway_in_trouble() {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let site = Site::build(&hospital, &setting);
    let service = site.run(&setting);
    let prometheus = Prometheus::start(&hospital.gateway, hospital.run().directory(), PACE).unwrap();
    let caused = |when: When| {
        let alerts: Vec<Alert> =
            CAUSED.iter().filter(|(it, _)| *it == when).map(|(_, alert)| *alert).collect();
        wait_for_all("alerts", || quiet(&prometheus, &alerts));
    };
    // Alerts on what grows want to have seen it before.
    wait_for_all("a scrape", || {
        let seen = !values(&prometheus, "clinigate_new_talkers_total").is_empty();
        if seen { Vec::new() } else { vec!["clinigate_new_talkers_total".to_owned()] }
    });

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also when something below fails.
        let _until = Raise(&stop);
        scope.spawn(|| make_noise(&hospital, &stop));
        order(&hospital, &setting);
        site.publish("from: building, to: his, services: https", Some(&site.key));
        caused(When::Held);
        site.publish("from: viewers, to: lis, services: https", None);
        refuse_a_policy(&hospital, &setting);
        hospital.gateway.batch(&["link delete poct0".to_owned()]).unwrap();
        wait_for_all("dashboards", || unanswered(&prometheus));
        caused(When::Together);
        every_rule_is_known_and_sound(&prometheus);
        site.fill_the_disk(&setting);
        caused(When::FullDisk);
    });
    fill_the_table(&hospital);
    caused(When::FullTable);
    service.kill().unwrap();
    caused(When::Dead);
}

/// One of each kind.
fn order(hospital: &Hospital, setting: &Setting) {
    setting.call(&["quarantine", "add", "mr-1", "--reason", "worm", "--yes"]).unwrap();
    // It takes more addresses than are isolated.
    let mac = "02:00:00:00:be:ef";
    let neighbour =
        |number| format!("neighbour replace fd00:99::{number:x} lladdr {mac} nud permanent dev infra0");
    hospital.gateway.batch(&(1..=1030).map(neighbour).collect::<Vec<_>>()).unwrap();
    setting.call(&["quarantine", "add", mac, "--reason", "worm", "--yes"]).unwrap();
    setting
        .call(&["grant", "open", "ct-vendor-service", "ct-1", "--ticket", "INC-1", "--for", "1h"])
        .unwrap();
    setting.call(&["break-glass", "analysers", "--reason", "fire", "--for", "1h"]).unwrap();
}

/// Raises a flag when it goes.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

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

/// Queries of dashboards that have no data.
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
        if values(prometheus, expression).is_empty() {
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
            let found = !values(prometheus, &format!("count({metric})")).is_empty();
            assert!(found, "{name} asks for {metric}, which nobody has");
        }
        if NOT_CAUSED.iter().any(|(known, _)| *known == name) {
            assert_eq!(rule["state"], "inactive", "{rule}");
        }
    }
    let known = CAUSED.iter().map(|(_, (name, _))| *name).chain(NOT_CAUSED.iter().map(|(name, _)| *name));
    assert_eq!(alerts, known.map(str::to_owned).collect());
}

/// Names of our metrics in an expression.
fn metrics(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with("clinigate_")).map(str::to_owned).collect()
}
