//! The night shift with real sockets: quarantine, grants and broken glass come into force within a second, end by
//! themselves with the controller dead, survive restarts and new policies, and leave a log whose bytes nobody changes
//! unseen.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the figures are meant to be read")]

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clinigate_tests::hospital::Hospital;
use clinigate_tests::policy;
use clinigate_tests::service::{self, Setting};
use clinigate_tests::traffic::Datagrams;
use serde_json::Value;

/// What the reference policy has not: an access that wants a grant and no window, and a flow that is kept in quarantine.
const ADDITION: &str = r"
vendors:
  ct-on-call:
    sources: [jump-ct]
    access:
      - { name: ct-repair, to: [ct-1], services: [udp/4711], grant: required, purpose: repairs, owner: imaging }
quarantine:
  - { name: quarantine-names, from: [modalities-a, modalities-b], to: [infrastructure], services: [dns], purpose: names, owner: network }
";

/// How long the orders of the first test hold.
const TERM: Duration = Duration::from_secs(8);
/// How soon an order is in force. A build without optimization compiles a policy many times slower.
const SOON: Duration = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 1 });
/// A packet every so often: as exactly can a change be timed.
const PACE: Duration = Duration::from_millis(1);

/// A hospital with that policy.
fn open() -> (Hospital, Setting, PathBuf) {
    let hospital = Hospital::build().unwrap();
    let directory = hospital.run().directory().join("night");
    policy::copy(&policy::hospital(), &directory).unwrap();
    fs::write(directory.join("night.yaml"), ADDITION).unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    (hospital, setting, directory)
}

/// Numbered datagrams, watched.
struct Stream {
    what: &'static str,
    datagrams: Datagrams,
    /// How many had arrived, whenever that changed.
    seen: Vec<(Instant, u64)>,
}

impl Stream {
    fn start(what: &'static str, hospital: &Hospital, from: &str, to: &str, port: u16) -> Self {
        let datagrams = Datagrams::start(hospital.host(from), hospital.host(to), port, PACE).unwrap();
        Self { what, datagrams, seen: vec![(Instant::now(), 0)] }
    }

    fn look(&mut self) {
        let arrived = self.datagrams.arrived();
        if arrived != self.seen.last().unwrap().1 {
            self.seen.push((Instant::now(), arrived));
        }
    }

    /// When the first arrived after `since`.
    fn first_after(&self, since: Instant) -> Option<Instant> {
        self.seen.iter().map(|seen| seen.0).find(|at| *at > since)
    }

    /// When the last arrived before `until`.
    fn last_before(&self, until: Instant) -> Option<Instant> {
        self.seen.iter().map(|seen| seen.0).rfind(|at| *at < until)
    }
}

fn watch(streams: &mut [Stream], until: Instant) {
    while Instant::now() < until {
        streams.iter_mut().for_each(Stream::look);
        thread::sleep(Duration::from_micros(500));
    }
}

/// Runs a command while the streams are watched; when it was typed and what it said.
fn type_in(setting: &Setting, arguments: &[&str], streams: &mut [Stream]) -> (Instant, String) {
    let typed = Instant::now();
    let said = thread::scope(|scope| {
        let command = scope.spawn(|| setting.call(arguments).unwrap());
        while !command.is_finished() {
            watch(streams, Instant::now() + PACE);
        }
        command.join().unwrap()
    });
    watch(streams, Instant::now() + Duration::from_millis(200));
    (typed, said)
}

#[test]
fn promise_9_orders_come_within_a_second_and_end_by_themselves_with_the_controller_dead() {
    let (hospital, setting, directory) = open();
    let service = setting.start(&directory).unwrap();
    let mut streams = [
        Stream::start("what quarantine isolates", &hospital, "mr-1", "infrastructure", 123),
        Stream::start("what quarantine keeps", &hospital, "mr-1", "infrastructure", 53),
        Stream::start("what a grant lets in", &hospital, "jump-ct", "ct-1", 4711),
        Stream::start("what broken glass lets through", &hospital, "analyser", "his", 4712),
    ];
    watch(&mut streams, Instant::now() + Duration::from_millis(500));
    let arrived: Vec<bool> = streams.iter().map(|stream| stream.seen.len() > 1).collect();
    assert_eq!(arrived, [true, true, false, false], "before");

    let term = format!("{}s", TERM.as_secs());
    let grant = ["grant", "open", "ct-on-call", "ct-1", "--ticket", "INC-1", "--for", &term];
    let (granted, said) = type_in(&setting, &grant, &mut streams);
    let in_force = streams[2].first_after(granted).expect("the grant lets in") - granted;
    println!("grant: {:.0} ms from command to first changed verdict; {said}", in_force.as_secs_f64() * 1e3);
    assert!(in_force < SOON);
    let closed = ["grant", "close", "ct-on-call", "ct-1"];
    let (closed, _) = type_in(&setting, &closed, &mut streams);
    let cut = streams[2].last_before(Instant::now()).unwrap().duration_since(closed);
    println!(
        "grant closed: {:.0} ms from command to the last packet of a running session",
        cut.as_secs_f64() * 1e3
    );
    assert!(cut < SOON);
    let (granted, _) = type_in(&setting, &grant, &mut streams);

    let broken = ["break-glass", "analysers", "--reason", "analyser must reach the HIS", "--for", &term];
    let (broken, said) = type_in(&setting, &broken, &mut streams);
    let in_force = streams[3].first_after(broken).expect("broken glass lets through") - broken;
    println!("break-glass: {:.0} ms; {said}", in_force.as_secs_f64() * 1e3);
    assert!(in_force < SOON);
    let metrics = setting.metrics().unwrap();
    assert_eq!(metrics.sum("clinigate_break_glass_open", &[("segment", "analysers")]).to_string(), "1");
    assert_eq!(metrics.sum("clinigate_grants_open", &[]).to_string(), "1");
    let status = setting.command(&["status"]).output().unwrap();
    assert_eq!(status.status.code(), Some(1), "broken glass is to be looked at");
    assert!(String::from_utf8_lossy(&status.stdout).contains("BREAK-GLASS: segment analysers is open"));

    let target = hospital.host("mr-1").v4.to_string();
    let isolated = ["quarantine", "add", &target, "--reason", "scans for SMB", "--for", &term, "--yes"];
    let (isolated, said) = type_in(&setting, &isolated, &mut streams);
    let last = streams[0].last_before(Instant::now()).unwrap();
    let in_force = last.saturating_duration_since(isolated);
    println!("quarantine: {:.0} ms from command to the last packet; {said}", in_force.as_secs_f64() * 1e3);
    assert!(in_force < SOON && last.elapsed() > Duration::from_millis(100));
    let kept = streams[1].last_before(Instant::now()).unwrap();
    assert!(kept.elapsed() < Duration::from_millis(100), "what is kept goes on");

    service.kill().unwrap();
    watch(&mut streams, isolated + TERM + Duration::from_millis(1500));
    let ends = [
        ("quarantine", isolated, streams[0].first_after(isolated + Duration::from_secs(2))),
        ("grant", granted, streams[2].last_before(Instant::now())),
        ("break-glass", broken, streams[3].last_before(Instant::now())),
    ];
    for (what, typed, ended) in ends {
        let held = ended.expect("it ends").duration_since(typed);
        println!(
            "{what} with the controller dead: over {:.2} s after the command, for {TERM:?}",
            held.as_secs_f64()
        );
        assert!(held > TERM && held < TERM + Duration::from_secs(1), "{what}: {held:?}");
    }
    for stream in streams {
        println!("{}: {} changes seen", stream.what, stream.seen.len());
        stream.datagrams.finish().unwrap();
    }

    let _service = setting.start(&directory).unwrap();
    let listed = |what: &str| -> Vec<Value> {
        serde_json::from_str(&setting.call(&[what, "list", "--format", "json"]).unwrap()).unwrap()
    };
    assert!(listed("quarantine").is_empty() && listed("grant").is_empty());
    assert_eq!(listed("break-glass")[0]["open"], false, "it waits for its review");
    setting.call(&["break-glass", "review", "analysers", "--note", "a flow was written"]).unwrap();
    assert!(listed("break-glass").is_empty());

    let audit = |what: &str| {
        let mut command = setting.binary_command();
        command.args(["audit", what, "--state-dir"]).arg(setting.state()).output().unwrap()
    };
    println!("{}", String::from_utf8_lossy(&audit("show").stdout));
    let verified = audit("verify");
    println!("{}", String::from_utf8_lossy(&verified.stdout));
    assert!(verified.status.success());
    let log = setting.state().join("audit.jsonl");
    let mut text = fs::read(&log).unwrap();
    let middle = text.len() / 2;
    text[middle] ^= 1;
    fs::write(&log, &text).unwrap();
    let changed = audit("verify");
    println!("a byte changed: {}", String::from_utf8_lossy(&changed.stdout));
    assert_eq!(changed.status.code(), Some(1));
}

#[test]
fn a_quarantine_survives_new_policies_and_restarts() {
    let (hospital, setting, directory) = open();
    let mut service = setting.start(&directory).unwrap();
    let stream = || Stream::start("isolated", &hospital, "ct-1", "infrastructure", 123);
    let arrives = || {
        let mut streams = [stream()];
        watch(&mut streams, Instant::now() + Duration::from_millis(400));
        let [stream] = streams;
        stream.datagrams.finish().unwrap();
        stream.seen.len() > 1
    };
    let passes = |expected: bool, when: &str| assert_eq!(arrives(), expected, "{when}");
    passes(true, "before");
    let refused = setting.command(&["quarantine", "add", "ct-9", "--reason", "r", "--yes"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "nobody knows it");
    setting.call(&["quarantine", "add", "ct-1", "--reason", "worm", "--yes"]).unwrap();
    passes(false, "isolated");
    let question = ["explain", "running", "--from", "ct-1", "--to", "infrastructure", "--service", "ntp"];
    let explained = setting.command(&question).output().unwrap();
    let (code, text) = (explained.status.code(), String::from_utf8(explained.stdout).unwrap());
    assert!(
        code == Some(1) && text.contains("forbidden by `quarantine/ct-1`, ordered at the gateway"),
        "{text}"
    );
    policy::remove_flow(&directory, "pumps-to-server").unwrap();
    setting.call(&["apply", directory.to_str().unwrap()]).unwrap();
    passes(false, "under another policy");
    service.kill().unwrap();
    passes(false, "without a controller");
    service = setting.start(&directory).unwrap();
    passes(false, "after a restart");
    let list = setting.call(&["quarantine", "list"]).unwrap();
    assert!(list.contains("ct-1") && list.contains("worm"), "{list}");
    setting.call(&["quarantine", "release", "ct-1"]).unwrap();
    passes(true, "released");

    // What was ordered and a crash kept from being laid is laid by the next service, whatever became of the text meanwhile.
    setting.call(&["quarantine", "add", "ct-1", "--reason", "worm", "--yes"]).unwrap();
    let ordered = fs::read(setting.state().join("orders.json")).unwrap();
    setting.call(&["quarantine", "release", "ct-1"]).unwrap();
    service.kill().unwrap();
    fs::write(setting.state().join("orders.json"), ordered).unwrap();
    fs::write(directory.join("broken.yaml"), "flows: [").unwrap();
    passes(true, "not laid");
    service = setting.start(&directory).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while arrives() {
        assert!(Instant::now() < until, "it is listed, and not laid");
    }
    fs::remove_file(directory.join("broken.yaml")).unwrap();
    setting.call(&["quarantine", "release", "ct-1"]).unwrap();
    passes(true, "released again");

    // Orders that cannot be read are not taken for none: somebody is told until he has looked at them.
    setting.call(&["quarantine", "add", "ct-1", "--reason", "worm", "--yes"]).unwrap();
    service.kill().unwrap();
    fs::write(setting.state().join("orders.json"), "{").unwrap();
    for is_broken in [false, true] {
        if is_broken {
            fs::write(directory.join("broken.yaml"), "flows: [").unwrap();
        }
        let service = setting.start(&directory).unwrap();
        let status = setting.command(&["status"]).output().unwrap();
        let said = String::from_utf8(status.stdout).unwrap();
        assert!(
            status.status.code() == Some(1)
                && said.contains("could not be read at a start: they are NOT kept"),
            "{said}"
        );
        thread::sleep(Duration::from_secs(3));
        passes(false, "what was laid of them stays");
        if is_broken {
            fs::remove_file(setting.state().join("orders.json.unreadable")).unwrap();
            let until = Instant::now() + Duration::from_secs(20);
            while !arrives() {
                assert!(Instant::now() < until, "somebody has seen to it");
            }
        }
        service.kill().unwrap();
    }
    fs::remove_file(directory.join("broken.yaml")).unwrap();
    let service = setting.start(&directory).unwrap();
    assert_eq!(setting.command(&["status"]).output().unwrap().status.code(), Some(0));
    passes(true, "somebody has looked at them");
    drop(service);
}
