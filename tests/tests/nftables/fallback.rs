//! The ruleset in the place of Clinigate: real connections through the hospital's router, which runs
//! nothing else.

use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clinigate::export::nftables::{State, export};
use clinigate_tests::hospital::{Hospital, Host};
use clinigate_tests::namespace::tool;
use clinigate_tests::peers::{ping, tcp};
use clinigate_tests::policy;

/// How long what should pass may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what should be dropped is waited for: an answer on wires of this machine takes far less.
const WAIT: Duration = Duration::from_millis(300);

#[test]
fn a_router_without_xdp_protects_the_hospital_with_it() {
    let hospital = Hospital::build().unwrap();
    let policy = clinigate::policy::load(&policy::hospital()).unwrap().policy.unwrap();
    load(&hospital, &export(&policy, State::Tracked).ruleset);
    let [ct, pacs, office, pump, guest] =
        ["ct-1", "pacs", "office-pc", "pump", "guest"].map(|name| hospital.host(name));
    let attacker = hospital.host("attacker");
    let archive = Listener::start(pacs, 104);
    let on_scanner = Listener::start(ct, 104);

    for address in [archive.v4, archive.v6] {
        assert!(connects(ct, address, PATIENCE), "the scanner does not reach the archive at {address}");
    }
    let strangers = [
        (office, archive.v4),
        (guest, archive.v6),
        (pump, archive.v6),
        (attacker, archive.v4),
        (pacs, on_scanner.v4),
    ];
    for (stranger, address) in strangers {
        assert!(!connects(stranger, address, WAIT), "{} reaches {address}", stranger.name);
    }

    // A connection's answers pass, and its data both ways of the acknowledgements.
    let (received, to) = (Arc::clone(&archive.received), archive.v4);
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let source = scope.spawn(|| ct.namespace.run(|| tcp::source(to, Duration::ZERO, PATIENCE, &stop)));
        thread::sleep(WAIT);
        stop.store(true, Ordering::Relaxed);
        source.join().unwrap().unwrap().unwrap()
    });
    let arrived = || received.load(Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    while arrived() < sent && Instant::now() < until {
        thread::sleep(WAIT / 30);
    }
    assert!(sent > 0 && arrived() == sent, "{sent} bytes sent, {} arrived", arrived());

    // For the router itself, by a flow that names it; in fragments, too.
    let answers = |host: &Host, length, wait| {
        host.namespace.run(|| ping::answers(host.router_v4.into(), length, wait).unwrap()).unwrap()
    };
    assert!(answers(ct, 56, PATIENCE) && answers(ct, 4000, PATIENCE));
    assert!(!answers(guest, 56, WAIT), "a guest reaches the router");

    let counters =
        tool(hospital.gateway.command("nft").args(["list", "counters", "table", "inet", "clinigate"]));
    let counters = counters.unwrap();
    for counted in ["flow-store-studies", "deny-guest-to-inside", "established", "no-flow", "link-local"] {
        let (_, counter) = counters.split_once(&format!("counter {counted} {{\n")).unwrap();
        assert!(
            !counter.trim_start().starts_with("packets 0 "),
            "nothing was counted as {counted}: {counters}"
        );
    }
}

/// Accepts connections and counts what they bring.
struct Listener {
    v4: SocketAddr,
    v6: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Listener {
    fn start(host: &Host, port: u16) -> Self {
        let listener =
            host.namespace.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))).unwrap().unwrap();
        let received: Arc<AtomicU64> = Arc::default();
        let counter = Arc::clone(&received);
        thread::spawn(move || tcp::counting_sink(&listener, counter));
        Self { v4: host.at(port), v6: host.at_v6(port), received }
    }
}

fn connects(from: &Host, to: SocketAddr, wait: Duration) -> bool {
    from.namespace.run(|| tcp::connects(to, wait)).unwrap()
}

fn load(hospital: &Hospital, ruleset: &str) {
    let mut nft = hospital.gateway.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(ruleset.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
}
