//! The lab measures what it says: with nothing but routing between the hosts, nothing is lost.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the counts are meant to be read")]

use std::thread;
use std::time::Duration;

use clinigate_tests::hospital::Hospital;
use clinigate_tests::slowness::unhurried;
use clinigate_tests::traffic::{Datagrams, Transfer};

#[test]
fn unprotected_traffic_arrives_complete() {
    let hospital = Hospital::build().unwrap();
    let host = |name| hospital.host(name);
    let pace = Duration::from_millis(1);
    let datagrams = Datagrams::start(host("pump"), host("infrastructure"), 53, pace).unwrap();
    let datagrams_v6 = Datagrams::start_v6(host("attacker"), host("monitor"), 24105, pace).unwrap();
    let transfer = Transfer::start(host("pump"), host("pump-server-1"), 3613).unwrap();
    thread::sleep(unhurried(Duration::from_millis(500)));
    for count in [datagrams.finish().unwrap(), datagrams_v6.finish().unwrap()] {
        println!("{} datagrams sent, {} lost", count.sent, count.lost(0..count.sent));
        assert!(count.sent > 100);
        assert_eq!(count.lost(0..count.sent), 0);
    }
    let transferred = transfer.finish().unwrap();
    println!("{transferred:?}");
    assert!(transferred.sent > 100_000);
    assert_eq!(transferred.sent, transferred.received);
}

#[test]
fn nothing_of_a_hospital_is_left_when_it_is_dropped() {
    let hospital = Hospital::build().unwrap();
    let (directory, namespace) = (hospital.run().directory().to_owned(), hospital.gateway.path());
    assert!(directory.exists() && namespace.exists());
    drop(hospital);
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!directory.exists() && !namespace.exists());
    assert!(!mounts.contains(directory.to_str().unwrap()));
}
