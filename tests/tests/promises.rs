//! Promises of the design with real sockets, each on a hospital of its own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the counts are meant to be read")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clinigate_tests::hospital::Hospital;
use clinigate_tests::namespace::{End, Namespace, wire};
use clinigate_tests::peers::tcp;
use clinigate_tests::policy;
use clinigate_tests::service::{self, Service, Setting};
use clinigate_tests::slowness::unhurried;
use clinigate_tests::traffic::{Datagrams, Transfer};

/// Less than the second after which a SYN is sent again.
const WAIT: Duration = Duration::from_millis(700);

struct Ward {
    service: Service,
    hospital: Hospital,
}

impl Ward {
    fn open() -> Self {
        let hospital = Hospital::build().unwrap();
        let setting = Setting::new(&hospital, service::binary().unwrap());
        let service = setting.start(&policy::hospital()).unwrap();
        Self { service, hospital }
    }

    /// A copy of the policy in force, to change.
    fn policy(&self, name: &str) -> PathBuf {
        let directory = self.hospital.run().directory().join(name);
        policy::copy(&policy::hospital(), &directory).unwrap();
        directory
    }

    fn apply(&self, policy: &std::path::Path) {
        self.service.setting().call(&["apply", policy.to_str().unwrap()]).unwrap();
    }

    fn packets(&self, segment: &str, direction: &str, verdict: &str, reason: &str) -> u64 {
        let labels =
            [("segment", segment), ("direction", direction), ("verdict", verdict), ("reason", reason)];
        let sum = self.service.setting().metrics().unwrap().sum("clinigate_packets_total", &labels);
        sum.to_string().parse().unwrap()
    }

    fn connects(&self, from: &str, to: SocketAddr) -> bool {
        connects(&self.hospital.host(from).namespace, to)
    }
}

fn connects(from: &Namespace, to: SocketAddr) -> bool {
    from.run(|| tcp::connects(to, WAIT)).unwrap()
}

/// Accepts on a port, for as long as the test runs.
fn listen(namespace: &Namespace, port: u16) {
    let listener = namespace.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))).unwrap().unwrap();
    thread::spawn(move || tcp::sink(&listener));
}

#[test]
fn promise_3_path_mtu_discovery_works_through_the_gateway() {
    let ward = Ward::open();
    // A narrow link beyond the provider: its router answers large packets with ICMP errors, which
    // come from an address that no flow names.
    ward.hospital.provider.batch(&["link set vendor mtu 900".to_owned()]).unwrap();
    let host = |name| ward.hospital.host(name);
    let transfer = Transfer::start(host("ct-1"), host("vendor"), 443).unwrap();
    thread::sleep(unhurried(Duration::from_millis(500)));
    let transferred = transfer.finish().unwrap();
    let related = ward.packets("wan", "out", "pass", "related");
    println!("{transferred:?}, {related} ICMP errors passed");
    assert!(related > 0);
    assert!(transferred.sent > 100_000);
    assert_eq!(transferred.sent, transferred.received);
}

#[test]
fn promise_4_modes_decide_what_becomes_of_what_is_not_allowed() {
    let ward = Ward::open();
    listen(&ward.hospital.host("his").namespace, 443);
    let his = ward.hospital.host("his").at(443);
    let directory = ward.policy("modes");
    for (office, records, passes, verdict) in [
        ("observe", "observe", true, "observe"),
        ("observe", "audit", true, "audit"),
        ("enforce", "observe", false, "drop"),
        ("audit", "enforce", false, "drop"),
    ] {
        policy::set_mode(&directory, "information", office).unwrap();
        policy::set_mode(&directory, "his", records).unwrap();
        ward.apply(&directory);
        let before = ward.packets("information", "out", verdict, "denied");
        assert_eq!(ward.connects("office-pc", his), passes, "information {office}, HIS {records}");
        let counted = ward.packets("information", "out", verdict, "denied") - before;
        println!("information {office}, HIS {records}: {counted} counted as {verdict}");
        assert!(counted > 0);
    }
}

#[test]
fn promise_8_a_revoked_transfer_stops_at_once() {
    let ward = Ward::open();
    let host = |name| ward.hospital.host(name);
    let kept = Datagrams::start(host("pump"), host("infrastructure"), 53, Duration::from_millis(1)).unwrap();
    let transfer = Transfer::start(host("pump"), host("pump-server-1"), 3613).unwrap();
    thread::sleep(Duration::from_millis(200));
    let directory = ward.policy("without");
    policy::remove_flow(&directory, "pumps-to-server").unwrap();
    ward.apply(&directory);
    // What the change found in the listener's socket is still read.
    thread::sleep(Duration::from_millis(20));
    let arrived = transfer.received();
    thread::sleep(Duration::from_millis(500));
    println!("{arrived} bytes before the change, {} after", transfer.received() - arrived);
    // Whichever end's packet comes first ends the connection, and is counted as such. On a busy machine the sender may have
    // been waiting to send again.
    let revoked = || ["out", "in"].map(|direction| ward.packets("pumps", direction, "drop", "revoked"));
    let patience = Instant::now() + unhurried(Duration::from_secs(10));
    while revoked() == [0, 0] {
        assert!(Instant::now() < patience, "nothing is counted as revoked");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(transfer.received(), arrived);
    let kept = kept.finish().unwrap();
    assert_eq!(kept.lost(0..kept.sent), 0);
}

#[test]
fn promise_11_the_gateway_opens_connections_and_takes_none() {
    let ward = Ward::open();
    let (gateway, his) = (&ward.hospital.gateway, ward.hospital.host("his"));
    listen(gateway, 22);
    listen(&his.namespace, 6514);
    assert!(connects(gateway, his.at(6514)));
    assert!(connects(gateway, his.at_v6(6514)));
    assert!(!ward.connects("his", (his.router_v4, 22).into()));
    assert_eq!(ward.packets("his", "out", "drop", "no-flow"), 1);
}

#[test]
fn promise_11_an_interface_that_the_policy_does_not_name_is_not_touched() {
    let ward = Ward::open();
    let console = ward.hospital.run().namespace("console").unwrap();
    let end = |namespace, number: u8| End {
        namespace,
        interface: "mgmt0",
        mac: [2, 0xc9, 0, 0, 252, number],
        addresses: vec![(IpAddr::from([192, 168, 252, number]), 24)],
    };
    wire(&end(&ward.hospital.gateway, 1), &end(&console, 2)).unwrap();
    listen(&ward.hospital.gateway, 22);
    console.wait_up().unwrap();
    assert!(connects(&console, ([192, 168, 252, 1], 22).into()));
}
