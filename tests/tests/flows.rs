//! `clinigate flows` in a running hospital.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clinigate_tests::hospital::Hospital;
use clinigate_tests::peers::tcp;
use clinigate_tests::policy;
use clinigate_tests::service::{self, Setting};
use clinigate_tests::traffic::Datagrams;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

fn flows(setting: &Setting, arguments: &[&str]) -> Vec<Value> {
    let text = setting.call(&[&["flows", "--format", "json"], arguments].concat()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn attempt(hospital: &Hospital, from: &str, to: &str, port: u16) {
    let to = hospital.host(to).at(port);
    let host = hospital.host(from);
    assert!(!host.namespace.run(|| tcp::connects(to, Duration::from_millis(200))).unwrap());
}

#[test]
fn flows_show_who_talks_to_whom_and_who_may_not_with_names() {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let service = setting.start(&policy::hospital()).unwrap();
    let host = |name| hospital.host(name);
    let names =
        Datagrams::start(host("pump"), host("infrastructure"), 53, Duration::from_millis(20)).unwrap();
    assert!(names.wait_for_arrival(SOON));
    attempt(&hospital, "ct-1", "pacs", 445);
    attempt(&hospital, "pump", "attacker", 443);

    let until = Instant::now() + SOON;
    let all = loop {
        let all = flows(&setting, &[]);
        if all.len() >= 3 || Instant::now() > until {
            break all;
        }
    };
    let of = |service: &str| all.iter().find(|flow| flow["service"] == service).unwrap();
    let (scan, call, question) = (of("tcp/445"), of("tcp/443"), of("udp/53"));
    let is = |flow: &Value, expected: &[(&str, &str)]| {
        for (field, value) in expected {
            assert_eq!(flow[field], *value, "{field} of {flow}");
        }
    };
    is(scan, &[("verdict", "drop"), ("reason", "denied"), ("rule", "worm-paths"), ("service_name", "smb")]);
    is(scan, &[("source_segment", "modalities-a"), ("source_device", "ct-1"), ("source", "10.10.40.11")]);
    is(scan, &[("destination_segment", "pacs"), ("destination", "10.10.30.10"), ("interface", "moda0")]);
    assert_eq!(scan["packets"], 1);
    is(
        call,
        &[
            ("verdict", "drop"),
            ("reason", "no-flow"),
            ("service_name", "https"),
            ("service_class", "clinical"),
        ],
    );
    is(
        call,
        &[("source_segment", "pumps"), ("destination_segment", "wan"), ("destination", "198.51.100.66")],
    );
    is(question, &[("verdict", "pass"), ("rule", "clinical-basics"), ("service_name", "dns")]);
    is(question, &[("source_segment", "pumps"), ("destination_segment", "infrastructure")]);
    assert_eq!(question["connections"], 1);
    assert!(question["rule_packets"].as_u64().unwrap() > 0, "{question}");

    let found = |arguments: &[&str]| -> Vec<String> {
        let found = flows(&setting, arguments).into_iter();
        let mut found: Vec<_> = found.map(|flow| flow["service"].as_str().unwrap().to_owned()).collect();
        found.sort();
        found
    };
    assert_eq!(found(&["--blocked"]), ["tcp/443", "tcp/445"]);
    assert_eq!(found(&["--verdict", "pass"]), ["udp/53"]);
    assert_eq!(found(&["--device", "ct-1"]), ["tcp/445"]);
    assert_eq!(found(&["--segment", "pumps"]), ["tcp/443", "udp/53"]);
    assert_eq!(found(&["--address", "10.10.30.0/24"]), ["tcp/445"]);
    assert_eq!(found(&["--service", "smb"]), ["tcp/445"]);
    assert_eq!(found(&["--rule", "clinical-basics"]), ["udp/53"]);
    assert!(found(&["--segment", "guest"]).is_empty());
    let table = setting.call(&["flows", "--blocked", "--device", "ct-1"]).unwrap();
    let lines: Vec<_> = table.lines().collect();
    assert!(
        lines.len() == 2 && lines[1].contains("modalities-a ct-1") && lines[1].contains("smb tcp/445"),
        "{table}"
    );
    names.finish().unwrap();
    drop(service);
}

/// The follower is told what is new, and outlives a restart of the service.
#[test]
fn a_follower_is_told_what_is_new() {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let service = setting.start(&policy::hospital()).unwrap();
    attempt(&hospital, "ct-1", "pacs", 445);
    let mut command = setting.command(&["flows", "--blocked", "--follow", "--format", "json"]);
    let mut follower = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let output = BufReader::new(follower.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    // Hosts also speak by themselves, of groups.
    let next = || -> Value {
        let mut flows = std::iter::repeat_with(|| lines.recv_timeout(SOON).unwrap());
        let attempt = flows.find(|line| !line.contains("icmpv6/143")).unwrap();
        serde_json::from_str(&attempt).unwrap()
    };
    assert_eq!(next()["service"], "tcp/445");
    attempt(&hospital, "ct-1", "pacs", 3389);
    let news = next();
    assert_eq!((&news["service"], &news["service_name"]), (&"tcp/3389".into(), &"rdp".into()));
    service.kill().unwrap();
    let again = setting.start(&policy::hospital()).unwrap();
    attempt(&hospital, "pump", "attacker", 443);
    assert_eq!(next()["service"], "tcp/443");
    follower.kill().unwrap();
    follower.wait().unwrap();
    drop(again);
}

/// One snapshot where standard output is no terminal: exact rates by pair, and who is blocked.
#[test]
fn top_shows_the_busiest_and_the_most_blocked() {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let service = setting.start(&policy::hospital()).unwrap();
    let host = |name| hospital.host(name);
    let names = Datagrams::start(host("pump"), host("infrastructure"), 53, Duration::from_millis(5)).unwrap();
    assert!(names.wait_for_arrival(SOON));
    let calls = Datagrams::start(host("pump"), host("attacker"), 53, Duration::from_millis(20)).unwrap();
    let text = setting.call(&["top", "--interval", "1s", "--format", "json"]).unwrap();
    let snapshot: Value = serde_json::from_str(&text).unwrap();
    let pairs = snapshot["pairs"].as_array().unwrap();
    assert_eq!(
        (&pairs[0]["source"], &pairs[0]["destination"]),
        (&"pumps".into(), &"infrastructure".into()),
        "{text}"
    );
    assert!(pairs[0]["packets_per_second"].as_f64().unwrap() > 50.0, "{text}");
    let blocked = pairs.iter().find(|pair| pair["verdict"] == "drop").unwrap();
    assert_eq!((&blocked["destination"], &blocked["reason"]), (&"wan".into(), &"no-flow".into()));
    assert_eq!(snapshot["blocked"][0]["service"], "udp/53", "{text}");
    assert_eq!(snapshot["rules"][0]["rule"], "clinical-basics", "{text}");
    let page = setting.call(&["top", "--interval", "500ms"]).unwrap();
    assert!(page.contains("pumps -> infrastructure") && page.contains("pumps -> wan"), "{page}");
    names.finish().unwrap();
    calls.finish().unwrap();
    drop(service);
}
