//! What is counted and reported while generations come and go.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aya::maps::{Map, MapData, ProgramArray};
use clinigate::compile::compile;
use clinigate::dataplane::{Dataplane, NetworkChanges, Options, PairKey};
use clinigate::policy::model::ModeSetting;
use clinigate_tests::slowness::unhurried;
use gateway_common::reason::{Reason, Verdict};

use crate::clinic::{self, SYN};
use crate::place::{self, Place, Wire, ip, layout, record};

fn refused() -> PairKey {
    PairKey {
        source: "modalities".to_owned(),
        destination: "archive".to_owned(),
        verdict: Verdict::Drop,
        reason: Reason::NoFlow,
    }
}

fn refused_packets(dataplane: &Dataplane) -> u64 {
    dataplane.counters().unwrap().pairs.get(&refused()).map_or(0, |counter| counter.packets)
}

/// Waits until what was sent has been judged.
fn settle() {
    thread::sleep(Duration::from_millis(100));
}

fn modality(place: &Place) -> Wire {
    place.at_the_peers(|| Wire::on("m0-p"))
}

/// A frame that the policy refuses, sent again and again.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Flood {
    fn begin(place: &Place) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, sender) = (Arc::clone(&stop), modality(place));
        let thread = thread::spawn(move || {
            let mut sent = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                sender.send(&clinic::tcp(40000, 445, SYN));
                sent += 1;
                // Slow enough for a queue of 256 frames, and to leave the changes under it a processor.
                if sent.is_multiple_of(16) {
                    thread::sleep(unhurried(Duration::from_micros(500)));
                }
            }
            sent
        });
        Self { stop, thread }
    }

    /// How many were sent; all have been judged.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.thread.join().unwrap();
        settle();
        sent
    }
}

#[test]
fn counters_are_exact_across_generations_and_restarts() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let flood = Flood::begin(place);
        let mut last = 0;
        for round in 0..12_u16 {
            dataplane.apply(&clinic::image(&[104, 200 + round]), record("next")).unwrap();
            let now = refused_packets(&dataplane);
            assert!(now > last, "counters never fall: {last}, then {now}");
            last = now;
            if round % 3 == 0 {
                drop(dataplane);
                dataplane = place.open().unwrap();
                assert!(refused_packets(&dataplane) >= last);
            }
        }
        let sent = flood.end();
        assert_eq!(refused_packets(&dataplane), sent);
        assert_eq!(
            dataplane.counters().unwrap().no_policy.packets,
            0,
            "there was no instant without a policy"
        );
    });
}

#[test]
fn nothing_gets_through_while_generations_and_layouts_change() {
    place::run(|place| {
        let refused = clinic::tcp(40000, 445, SYN);
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let behind = Wire::on("m0");
        modality(place).send(&clinic::tcp(40000, 104, SYN));
        settle();
        assert_eq!(behind.count(&clinic::tcp(40000, 104, SYN)), 1, "what passes is seen here");
        let flood = Flood::begin(place);
        let root = place.options().pin_root;
        for round in 0..6 {
            if round % 2 == 0 {
                drop(dataplane);
                fs::rename(root.join(layout()), root.join("v0")).unwrap();
                dataplane = place.open().unwrap();
            }
            dataplane.apply(&clinic::image(&[104, 200 + round]), record("next")).unwrap();
            assert_eq!(behind.count(&refused), 0);
        }
        assert!(flood.end() > 1000);
        assert_eq!(behind.count(&refused), 0);
    });
}

#[test]
fn a_crash_while_a_generation_retires_neither_loses_nor_doubles() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let sender = modality(place);
        for _ in 0..7 {
            sender.send(&clinic::tcp(40000, 445, SYN));
        }
        settle();
        assert_eq!(refused_packets(&dataplane), 7);

        let pins = place.options().pin_root.join(layout()).join("gen-1");
        let totals = place.path("state/totals.json");
        let before = fs::read(&totals).unwrap();
        let description = fs::read(place.path("state/generations/1.json")).unwrap();
        let maps: Vec<(String, MapData)> = place::names(&pins)
            .into_iter()
            .filter(|name| name != "judge" && name != "egress")
            .map(|name| (name.clone(), MapData::from_pin(pins.join(name)).unwrap()))
            .collect();
        let judge =
            aya::programs::Xdp::from_pin(pins.join("judge"), aya_obj::programs::XdpAttachType::Interface);
        let mut judge = judge.unwrap();
        dataplane.apply(&clinic::image(&[105]), record("second")).unwrap();
        drop(dataplane);
        let mut restore = || {
            fs::create_dir(&pins).unwrap();
            for (name, map) in &maps {
                map.pin(pins.join(name)).unwrap();
            }
            judge.pin(pins.join("judge")).unwrap();
            fs::write(place.path("state/generations/1.json"), &description).unwrap();
        };

        // Killed after the totals were written, before the pins were removed.
        restore();
        let dataplane = place.open().unwrap();
        assert_eq!(dataplane.active().unwrap().generation, 2);
        assert_eq!(refused_packets(&dataplane), 7);
        assert!(!pins.exists());
        drop(dataplane);

        // Killed after the flip, before the totals were written.
        restore();
        fs::write(&totals, &before).unwrap();
        let dataplane = place.open().unwrap();
        assert_eq!(refused_packets(&dataplane), 7);
        assert!(!pins.exists());
    });
}

#[test]
fn a_generation_without_description_is_enforced_and_counted() {
    place::run(|place| {
        place.open().unwrap().apply(&clinic::image(&[104]), record("first")).unwrap();
        fs::remove_file(place.path("state/generations/1.json")).unwrap();
        let mut dataplane = place.open().unwrap();
        assert!(dataplane.active().unwrap().anonymous);
        modality(place).send(&clinic::tcp(40000, 445, SYN));
        settle();
        let count = |dataplane: &Dataplane| {
            let counters = dataplane.counters().unwrap();
            let key = PairKey { source: "#4".to_owned(), destination: "#5".to_owned(), ..refused() };
            counters.pairs.get(&key).map(|counter| counter.packets)
        };
        assert_eq!(count(&dataplane), Some(1));
        dataplane.apply(&clinic::image(&[104]), record("second")).unwrap();
        assert!(!dataplane.active().unwrap().anonymous);
        assert_eq!(count(&dataplane), Some(1));
    });
}

#[test]
fn drops_are_reported_as_they_happen() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sender = modality(place);
        runtime.block_on(async {
            let mut events = dataplane.events().unwrap();
            for port in [445, 3389] {
                sender.send(&clinic::tcp(40000, port, SYN));
                let wait = async {
                    loop {
                        let event = events.next().await.unwrap();
                        if event.reason == Reason::NoFlow as u8 && event.destination_port == port.to_be() {
                            return event;
                        }
                    }
                };
                let event = tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap();
                assert_eq!((event.generation, event.verdict), (1, Verdict::Drop as u8));
            }
        });
        assert_eq!(dataplane.connections().unwrap().live, 0);
        sender.send(&clinic::tcp(40000, 104, SYN));
        settle();
        let connections = dataplane.connections().unwrap();
        assert_eq!((connections.live, connections.capacity), (1, 1 << 17));
        assert_eq!(dataplane.live_connections().unwrap()[0].responder(), ("10.0.2.9".parse().unwrap(), 104));
    });
}

#[test]
fn without_a_policy_in_force_nothing_passes() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let slot =
            MapData::from_pin(place.options().pin_root.join(layout()).join("shared/GENERATION")).unwrap();
        ProgramArray::try_from(Map::ProgramArray(slot)).unwrap().clear_index(&0).unwrap();
        let (behind, allowed) = (Wire::on("m0"), clinic::tcp(40000, 104, SYN));
        modality(place).send(&allowed);
        settle();
        assert_eq!(behind.count(&allowed), 0);
        assert!(dataplane.counters().unwrap().no_policy.packets > 0, "what was dropped is counted");
    });
}

/// While segments only observe, the gateway passes on what no rule allows. Its egress program sees that
/// leave, and must not take it for a connection of the gateway: it would get its answers also when the
/// segments enforce.
#[test]
fn what_is_passed_on_is_not_the_gateways_own() {
    place::run(|place| {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        for change in [
            "link set m0 address 02:00:00:00:00:01",
            "link set a0 address 02:00:00:00:00:0a",
            "addr add 10.0.1.1/24 dev m0",
            "addr add 10.0.2.1/24 dev a0",
            "neigh add 10.0.2.9 lladdr 02:00:00:00:00:09 dev a0",
        ] {
            ip(change);
        }
        let mut policy = clinic::policy(&[104]);
        for segment in &mut policy.segments {
            segment.mode = ModeSetting::Observe;
        }
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&compile(&policy).unwrap(), record("observed")).unwrap();
        let beyond = place.at_the_peers(|| Wire::on("a0-p"));
        let unruled = clinic::tcp(40000, 445, SYN);
        modality(place).send(&unruled);
        settle();
        assert_eq!(beyond.count(&routed(&unruled, [2, 0, 0, 0, 0, 0x0a], [2, 0, 0, 0, 0, 9])), 1);
        assert_eq!(dataplane.live_connections().unwrap(), []);
    });
}

/// An IPv4 frame as a router passes it on: one hop less (RFC 1141 for the checksum), from `own` to `next`.
fn routed(frame: &[u8], own: [u8; 6], next: [u8; 6]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&next);
    frame[6..12].copy_from_slice(&own);
    frame[22] -= 1;
    let sum = u32::from(u16::from_be_bytes([frame[24], frame[25]])) + 0x100;
    let checksum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[test]
fn single_packets_can_be_traced() {
    place::run(|place| {
        let mut dataplane = Dataplane::open(Options { trace: true, ..place.options() }).unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sender = modality(place);
        runtime.block_on(async {
            let mut traces = dataplane.traces().unwrap().unwrap();
            sender.send(&clinic::tcp(40000, 445, SYN));
            tokio::time::timeout(Duration::from_secs(5), traces.forward()).await.unwrap().unwrap();
        });
    });
}

#[test]
fn changes_of_the_network_wake_the_listener() {
    place::run(|_| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut changes = NetworkChanges::listen().unwrap();
            let quiet = tokio::time::timeout(Duration::from_millis(1500), async {
                loop {
                    changes.changed().await.unwrap();
                }
            });
            assert!(quiet.await.is_err(), "the listener goes on");
            for change in ["addr add 10.0.1.1/24 dev m0", "link set a0 down"] {
                ip(change);
                tokio::time::timeout(Duration::from_secs(5), changes.changed()).await.unwrap().unwrap();
            }
        });
        let addresses = clinigate::dataplane::local_addresses().unwrap();
        let expected = ["10.0.1.1", "10.0.1.255"].map(|address| address.parse::<std::net::IpAddr>().unwrap());
        assert_eq!(addresses, expected);
    });
}
