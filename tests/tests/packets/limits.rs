//! Every limit has a decided behaviour and a counter: a full connection table refuses what is new and
//! keeps what lives; a flood of drops is sampled, and what the sample holds back is counted.

use gateway_common::reason::Reason;

use crate::bench::{Bench, WARD, drop, pass, stay_on_this_cpu};
use crate::frame::{ACK, SYN, tcp, udp};

/// Connections that the smallest table holds.
const SMALLEST: usize = 1024 * 8;

#[test]
fn a_full_connection_table_refuses_the_new_and_keeps_the_living() {
    let mut bench = Bench::new(&format!("{WARD}\nsettings: {{ connections: 1024 }}\n"));
    bench.frame("SYN", "a0", &tcp("10.0.1.5", "10.0.2.5", (1, 104), SYN), pass(Reason::Flow, "store"));
    bench.frame(
        "SYN-ACK",
        "b0",
        &tcp("10.0.2.5", "10.0.1.5", (104, 1), SYN | ACK),
        pass(Reason::Established, "store"),
    );
    bench.frame("ACK", "a0", &tcp("10.0.1.5", "10.0.2.5", (1, 104), ACK), pass(Reason::Established, "store"));

    let mut refused = 0;
    for host in 1..=4 {
        for port in 1..=5_000 {
            let query = udp(&format!("10.0.1.{}", 10 + host), "10.0.2.5", (port, 53));
            refused += usize::from(!bench.passes("a0", &query));
        }
    }
    let counters = bench.counters();
    assert_eq!(counters.health.connections_refused, refused as u64);
    assert_eq!(bench.live() + refused, 20_001, "each has a connection or was refused");
    assert!(bench.live() > SMALLEST * 9 / 10, "only {} of {SMALLEST} entries are used", bench.live());
    let full: u64 = counters
        .pairs
        .iter()
        .filter(|(key, _)| key.reason == Reason::ConnectionTableFull)
        .map(|(_, counter)| counter.packets)
        .sum();
    assert_eq!(full, refused as u64);

    bench.frame(
        "a living connection",
        "b0",
        &tcp("10.0.2.5", "10.0.1.5", (104, 1), ACK),
        pass(Reason::Established, "store"),
    );
    bench.wait(61);
    let late = udp("10.0.1.200", "10.0.2.5", (9, 53));
    bench.frame("room again, with nobody's help", "a0", &late, pass(Reason::Flow, "ask"));
    bench.frame(
        "still living",
        "a0",
        &tcp("10.0.1.5", "10.0.2.5", (1, 104), ACK),
        pass(Reason::Established, "store"),
    );
}

/// A bucket holds eight connections. One that finds its bucket full goes to another, and is found there.
#[test]
fn a_connection_has_two_buckets_to_choose_from() {
    let bench = Bench::new(&format!("{WARD}\nsettings: {{ connections: 1024 }}\n"));
    let ends = |port: u16| format!("10.0.1.{}", 10 + port % 4);
    let accepted: Vec<u16> =
        (1..=5_000).filter(|&port| bench.passes("a0", &udp(&ends(port), "10.0.2.5", (port, 53)))).collect();
    // Refused by chance: about 10, at most 20. With one bucket for each it would be about 110, at least 60.
    assert!(accepted.len() > 4_970, "{} of 5000 in a table for {SMALLEST}", accepted.len());
    let lost = accepted
        .iter()
        .filter(|&&port| !bench.passes("b0", &udp("10.0.2.5", &ends(port), (53, port))))
        .count();
    assert_eq!(lost, 0, "every connection is found again");
    assert_eq!(bench.live(), accepted.len());
}

#[test]
fn a_scan_leaves_no_connections() {
    let bench = Bench::ward();
    for port in 1..=10_000 {
        assert!(!bench.passes("b0", &tcp("10.0.2.5", "10.0.1.5", (4_000, port), SYN)));
    }
    assert_eq!(bench.live(), 0);
}

#[test]
fn a_flood_of_drops_is_sampled_and_counted() {
    stay_on_this_cpu();
    let mut bench = Bench::ward();
    let worm = tcp("10.0.1.5", "10.0.2.5", (1, 445), SYN);
    for _ in 0..10_000 {
        assert!(!bench.passes("a0", &worm));
    }
    let events = bench.events();
    assert_eq!(events.len(), 1, "events of one flow in one second");
    let health = bench.counters().health;
    assert_eq!(health.events_suppressed + events.len() as u64, 10_000);
    assert_eq!(health.events_lost, 0, "the ring has room");

    // Another flow is reported all the same.
    bench.frame("another", "a0", &tcp("10.0.1.5", "10.0.2.6", (1, 3389), SYN), drop(Reason::NoFlow));
    assert_eq!(bench.events().len(), 1);

    // A second later the flow is reported again, and says how many were held back.
    bench.wait(2);
    let mut reported = 0;
    for _ in 0..100 {
        assert!(!bench.passes("a0", &worm));
    }
    for event in bench.events() {
        reported += event.packets;
    }
    assert!(reported > 100, "the record stands for the packets held back: {reported}");
}

#[test]
fn a_scan_of_many_targets_meets_the_rate_of_the_policy() {
    let mut bench = Bench::new(&format!("{WARD}\nsettings: {{ event-rate: 100 }}\n"));
    for port in 1..=5_000 {
        assert!(!bench.passes("a0", &tcp("10.0.1.5", "10.0.2.5", (1, 20_000 + port), SYN)));
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    let events = bench.events().len();
    assert!((100..=100 * cpus).contains(&events), "{events} events");
    let health = bench.counters().health;
    assert_eq!(health.events_suppressed + health.events_lost + events as u64, 5_000);
}

#[test]
fn a_full_event_ring_loses_reports_and_counts_them() {
    let mut bench = Bench::new(&format!("{WARD}\nsettings: {{ event-rate: 100000 }}\n"));
    // Nobody reads. The gate lets a flow report once a second, so the scan comes again and again.
    let mut packets = 0;
    for _ in 0..6 {
        for port in 20_000..28_000 {
            assert!(!bench.passes("a0", &tcp("10.0.1.5", "10.0.2.5", (1, port), SYN)));
            packets += 1;
        }
        bench.wait(2);
        if bench.counters().health.events_lost > 0 {
            break;
        }
    }
    let health = bench.counters().health;
    assert!(health.events_lost > 0, "{health:?}");
    assert_eq!(bench.events().len() as u64 + health.events_suppressed + health.events_lost, packets);
    let dropped: u64 = bench.counters().pairs.values().map(|counter| counter.packets).sum();
    assert_eq!(dropped, packets, "the counters miss none");
}
