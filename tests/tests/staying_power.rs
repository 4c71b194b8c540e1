//! Promise 10 (staying power): the service is killed, and what it put in force stays in force.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the counts are meant to be read")]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clinigate_tests::hospital::Hospital;
use clinigate_tests::policy;
use clinigate_tests::service::{self, Service, Setting};
use clinigate_tests::slowness::unhurried;
use clinigate_tests::traffic::{Datagrams, Transfer};

const KILLS: u32 = 20;
const PACE: Duration = Duration::from_millis(1);
const READY: Duration = Duration::from_secs(20);

/// A small generator (xorshift64) for moments; the seed is printed.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = now.as_secs() << 20 | u64::from(now.subsec_micros()) | 1;
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, longest: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % u64::try_from(longest.as_micros()).unwrap())
    }
}

/// Writes the hospital's policy, with or without one flow that the traffic does not use.
fn write_policy(directory: &Path, whole: bool) {
    policy::copy(&policy::hospital(), directory).unwrap();
    if !whole {
        policy::remove_flow(directory, "archive-long-term").unwrap();
    }
}

#[test]
fn promise_10_twenty_kills_under_traffic_change_nothing() {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let directory = hospital.run().directory().join("policy");
    write_policy(&directory, true);
    // As long as a change of policy takes, or longer: kills fall into every stage of it.
    let begun = Instant::now();
    let mut service = setting.start(&directory).unwrap();
    let change = begun.elapsed();

    let host = |name| hospital.host(name);
    let transfer = Transfer::start(host("pump"), host("pump-server-1"), 3613).unwrap();
    let pace = unhurried(PACE);
    let kept = Datagrams::start(host("pump"), host("infrastructure"), 53, pace).unwrap();
    let forbidden = [
        (
            "modality to pump server",
            Datagrams::start(host("ct-1"), host("pump-server-1"), 3613, pace).unwrap(),
        ),
        ("world to monitor", Datagrams::start(host("attacker"), host("monitor"), 24105, pace).unwrap()),
        ("modality to viewer, IPv6", Datagrams::start_v6(host("ct-1"), host("viewer"), 445, pace).unwrap()),
    ];

    let (start, mut moments, mut during) = (Instant::now(), Moments::new(), [0; 3]);
    for kill in 0..KILLS {
        // In turn: in peace, while a changed policy is read, while a service is starting.
        match kill % 3 {
            0 => thread::sleep(moments.below(Duration::from_millis(300))),
            1 => {
                write_policy(&directory, kill % 2 == 0);
                service.reload().unwrap();
                thread::sleep(moments.below(change));
            }
            _ => {
                service.kill().unwrap();
                write_policy(&directory, kill % 2 == 0);
                service = setting.start_unready(&directory).unwrap();
                thread::sleep(moments.below(change));
            }
        }
        during[kill as usize % 3] += 1;
        service.kill().unwrap();
        thread::sleep(moments.below(Duration::from_millis(100)));
        service = restart(&setting, &directory);
    }
    println!(
        "killed {KILLS} times in {:.1?}: {} in peace, {} while it reloaded, {} while it started",
        start.elapsed(),
        during[0],
        during[1],
        during[2]
    );

    let transferred = transfer.finish().unwrap();
    println!("allowed transfer: {transferred:?}");
    assert_eq!(transferred.sent, transferred.received);
    assert!(transferred.longest_stall < unhurried(Duration::from_secs(1)), "it stalled");

    let kept = kept.finish().unwrap();
    println!("allowed datagrams: {} sent, {} lost", kept.sent, kept.lost(0..kept.sent));
    assert_eq!(kept.lost(0..kept.sent), 0);

    for (name, datagrams) in forbidden {
        let count = datagrams.finish().unwrap();
        println!("forbidden, {name}: {} sent, {} got through", count.sent, count.received.len());
        assert!(count.sent > 1000);
        assert_eq!(count.received.len(), 0);
    }

    let metrics = setting.metrics().unwrap();
    let force = metrics.text().lines().find(|line| line.starts_with("clinigate_policy_info{")).unwrap();
    println!("in force at the end: {force}");
    assert!(!force.contains("generation=\"1\""), "no change of policy was tried");

    // The last service adopted what the first one pinned: its counters go back to the beginning.
    let counted = metrics.sum("clinigate_rule_packets_total", &[("rule", "clinical-basics")]);
    println!("counted under clinical-basics: {counted} of {}", kept.sent);
    assert_eq!(counted.to_string(), kept.sent.to_string());
    drop(service);
}

fn restart(setting: &Setting, policy: &Path) -> Service {
    let mut service = setting.start_unready(policy).unwrap();
    service.wait_ready(unhurried(READY)).unwrap();
    service
}

/// The only way off is `detach`.
#[test]
fn promise_10_only_detach_takes_it_off() {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let service = setting.start(&policy::hospital()).unwrap();
    let forbidden =
        Datagrams::start(hospital.host("ct-1"), hospital.host("pump-server-1"), 3613, unhurried(PACE))
            .unwrap();
    thread::sleep(unhurried(Duration::from_millis(300)));
    service.kill().unwrap();
    thread::sleep(unhurried(Duration::from_millis(300)));
    let detached = forbidden.begun();
    setting.call(&["detach", "--yes"]).unwrap();
    let off = Instant::now();
    // ARP asks again once a second where an answer was lost or late: until the gateway has found the
    // server, which it never had to before, its stack holds packets back, and Clinigate does not.
    assert!(forbidden.wait_for_arrival(unhurried(Duration::from_secs(10))), "nothing passes after detach");
    println!("the first one got through {:.1?} after detach", off.elapsed());
    let flowing = forbidden.begun() + 1;
    thread::sleep(unhurried(Duration::from_millis(300)));
    let count = forbidden.finish().unwrap();
    println!(
        "{} sent; before detach {} got through, {} after",
        count.sent,
        count.arrived(0..detached),
        count.arrived(flowing..count.sent)
    );
    assert_eq!(count.arrived(0..detached), 0);
    assert_eq!(count.lost(flowing..count.sent), 0);
}
