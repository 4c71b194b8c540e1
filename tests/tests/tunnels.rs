//! A vendor's access through a real tunnel: devices without a link layer in namespaces, joined by UDP, and the service
//! on the gateway where it ends. What comes through it passes; the vendor's address from elsewhere does not; and
//! whoever forges packets of a session on the open network neither gets them in nor ends it.
//!
//! Needs root and `/dev/net/tun`. Everything happens in network namespaces of the test's own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; what was skipped is said")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clinigate_tests::frames::{Link, Packet, Wire, carries};
use clinigate_tests::metrics::Metrics;
use clinigate_tests::namespace::{End, Namespace, wire};
use clinigate_tests::peers::udp;
use clinigate_tests::run::Run;
use clinigate_tests::service::{self, Setting};
use clinigate_tests::slowness::unhurried;
use clinigate_tests::tun;

const POLICY: &str = r"
interfaces:
  b0: { access: scanners }
  w0: { wan: true }
  w1: { wan: true }
  t0: { wan: true, tunnel: openvpn }
segments:
  scanners: { subnets: 10.0.2.0/24 }
devices:
  ct-1: { segment: scanners, address: 10.0.2.5 }
flows:
  - { name: carrier, from: wan, to: gateway, services: [udp/1194, proto/4, proto/gre], purpose: the tunnel itself, owner: network }
vendors:
  maker:
    sources: 203.0.113.5
    owner: imaging
    access:
      - { name: repair, to: ct-1, services: tcp/22, through: openvpn, purpose: repairs }
      - { name: on-call, to: ct-1, services: udp/4711, through: openvpn, grant: required, purpose: repairs at night }
";

const VENDOR: &str = "203.0.113.5";
const SCANNER: &str = "10.0.2.5";
/// Hardware addresses of the outsider and of the port that it is at.
const OUTSIDER: [u8; 6] = [2, 0, 0, 0, 3, 1];
const PORT: [u8; 6] = [2, 0, 0, 0, 3, 2];
/// How long somebody waits for what does not come.
const SILENCE: Duration = Duration::from_millis(400);
/// What forged packets carry.
const FORGED: &[u8] = b"forged on the open network";

/// What a tunnel is made of.
#[derive(Clone, Copy)]
enum Kind {
    /// A program behind a device.
    Tun,
    /// The kernel's own, as `ip link add type` calls it.
    OfKernel(&'static str),
}

/// A gateway; behind it a scanner; before it a vendor with a tunnel, and an outsider who uses the vendor's address.
struct Town {
    run: Run,
    gateway: Namespace,
    scanner: Namespace,
    vendor: Namespace,
    outsider: Namespace,
}

impl Town {
    fn build() -> Self {
        let run = Run::new().unwrap();
        let [gateway, scanner, vendor, outsider] =
            ["gateway", "scanner", "vendor", "outsider"].map(|name| run.namespace(name).unwrap());
        let at = |address: &str| -> IpAddr { address.parse().unwrap() };
        let end = |namespace, interface, mac, addresses: &[(&str, u8)]| End {
            namespace,
            interface,
            mac,
            addresses: addresses.iter().map(|(address, length)| (at(address), *length)).collect(),
        };
        let wires = [
            (
                end(&gateway, "b0", [2, 0, 0, 0, 1, 2], &[("10.0.2.1", 24)]),
                end(&scanner, "e0", [2, 0, 0, 0, 1, 1], &[(SCANNER, 24)]),
            ),
            (
                end(&gateway, "w0", [2, 0, 0, 0, 2, 2], &[("198.51.100.1", 24)]),
                end(&vendor, "e0", [2, 0, 0, 0, 2, 1], &[("198.51.100.2", 24)]),
            ),
            (
                end(&gateway, "w1", PORT, &[("192.0.2.1", 24)]),
                end(&outsider, "e0", OUTSIDER, &[("192.0.2.2", 24), (VENDOR, 32)]),
            ),
        ];
        for (one, other) in &wires {
            wire(one, other).unwrap();
        }
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        gateway.sysctl("ipv4/ip_forward", "1").unwrap();
        scanner.batch(&lines(&["route add default via 10.0.2.1"])).unwrap();
        outsider.batch(&lines(&["route add 10.0.2.0/24 via 192.0.2.1 src 203.0.113.5"])).unwrap();
        let town = Self { run, gateway, scanner, vendor, outsider };
        for namespace in [&town.gateway, &town.scanner, &town.vendor, &town.outsider] {
            namespace.wait_up().unwrap();
        }
        town
    }

    /// Both ends, and the routes through it.
    fn open_tunnel(&self, kind: Kind, port: u16) -> Result<()> {
        let outer = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
        let (own, other) = (outer("198.51.100.1", 1194), outer("198.51.100.2", port));
        for (namespace, own, other) in [(&self.gateway, own, other), (&self.vendor, other, own)] {
            match kind {
                Kind::Tun => tun::end(namespace, "t0", own, other)?,
                Kind::OfKernel(kind) => {
                    let (own, other) = (own.ip(), other.ip());
                    namespace.batch(&[format!("link add t0 type {kind} local {own} remote {other}")])?;
                }
            }
            namespace.batch(&["link set t0 up".to_owned()])?;
        }
        self.gateway.batch(&["route add 203.0.113.5/32 dev t0".to_owned()])?;
        let lines = ["address add 203.0.113.5/32 dev t0", "route add 10.0.2.0/24 dev t0 src 203.0.113.5"];
        self.vendor.batch(&lines.map(str::to_owned))
    }

    fn policy(&self, settings: &str) -> PathBuf {
        let directory = self.run.directory().join("policy");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("policy.yaml"), format!("{POLICY}{settings}")).unwrap();
        directory
    }

    /// Sends what an outsider who knows the session would.
    fn forge(&self, session: &TcpStream) -> u32 {
        let wire = Wire::open(&self.outsider, "e0").unwrap();
        let from = session.local_addr().unwrap();
        let to = SocketAddr::new(SCANNER.parse().unwrap(), 22);
        let packet = Packet {
            link: Link { from: OUTSIDER, to: PORT },
            tags: Vec::new(),
            from,
            to,
            payload: FORGED.to_vec(),
        };
        let mut reset = packet.tcp_middle().unwrap();
        // FIN, SYN, RST, PSH, ACK stand in the 14th byte of the header of TCP; its checksum is nobody's concern here.
        let mut end = reset.clone();
        (reset[14 + 20 + 13], end[14 + 20 + 13]) = (0x04, 0x11);
        let frames = [packet.tcp_middle().unwrap(), packet.tcp_syn().unwrap(), reset, end];
        frames.iter().map(|frame| wire.send(frame).map(|()| 1)).sum::<Result<u32>>().unwrap()
    }
}

/// A connection from a namespace to the scanner, by the vendor's address.
fn connects(from: &Namespace) -> Option<TcpStream> {
    let to = SocketAddr::new(SCANNER.parse().unwrap(), 22);
    from.run(move || TcpStream::connect_timeout(&to, unhurried(SILENCE))).unwrap().ok()
}

/// Whether a session still carries bytes both ways.
fn carries_on(session: &mut TcpStream, word: &[u8]) -> bool {
    session.set_read_timeout(Some(unhurried(Duration::from_secs(3)))).unwrap();
    let mut answer = vec![0; word.len()];
    session.write_all(word).is_ok() && session.read_exact(&mut answer).is_ok() && answer == word
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + unhurried(Duration::from_secs(10));
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Packets without a flow that came from the world to the scanners.
fn refused(metrics: &Metrics) -> f64 {
    let labels = [("segment", "scanners"), ("direction", "in"), ("reason", "no-flow"), ("verdict", "drop")];
    metrics.sum("clinigate_packets_total", &labels)
}

fn through_a_tunnel(kind: Kind, settings: &str) {
    let town = Town::build();
    if let Err(error) = town.open_tunnel(kind, 1194) {
        println!("skipped: {error:#}");
        return;
    }
    let echo = |listener: TcpListener| {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    };
    let listener = town.scanner.run(|| TcpListener::bind((SCANNER, 22))).unwrap().unwrap();
    thread::spawn(move || echo(listener));
    let server = town.scanner.run(|| UdpSocket::bind((SCANNER, 4711))).unwrap().unwrap();
    thread::spawn(move || udp::echo(&server));
    let of_vendor = town.vendor.run(|| UdpSocket::bind((VENDOR, 9))).unwrap().unwrap();
    thread::spawn(move || udp::echo(&of_vendor));

    let setting = Setting::at(&town.gateway, &town.run, service::binary().unwrap());
    let service = setting.start(&town.policy(settings)).unwrap();

    // Through the tunnel, and from the open network with the same address.
    let mut session = connects(&town.vendor).expect("what comes through the tunnel passes");
    assert!(carries_on(&mut session, b"one"));
    let before = refused(&setting.metrics().unwrap());
    assert!(connects(&town.outsider).is_none(), "the vendor's address alone opens nothing");
    let after = refused(&setting.metrics().unwrap());
    assert!(after > before, "refused: {before}, then {after}");

    // Forged packets of the session.
    let behind = Wire::open(&town.scanner, "e0").unwrap();
    let before = refused(&setting.metrics().unwrap());
    let forged = town.forge(&session);
    assert_eq!(behind.count(SILENCE, 1, |frame| carries(frame, FORGED)).unwrap(), 0, "none came in");
    let after = refused(&setting.metrics().unwrap());
    assert!((after - before - f64::from(forged)).abs() < 0.5, "each was counted: {before}, then {after}");
    assert!(carries_on(&mut session, b"two"), "and none ended the session");

    // The gateway's own, and its answers: seen on their way out of a device without a link layer.
    let to = SocketAddr::new(VENDOR.parse().unwrap(), 9);
    let answers =
        || town.gateway.run(|| udp::answers(to, 0, b"anybody there?", unhurried(SILENCE))).unwrap().unwrap();
    assert!(answers(), "the gateway reaches the vendor through the tunnel");

    // A grant opens an access there alone, and ends by itself.
    let to = SocketAddr::new(SCANNER.parse().unwrap(), 4711);
    let asks =
        |from: &Namespace| from.run(|| udp::answers(to, 4000, b"how are you?", SILENCE)).unwrap().unwrap();
    assert!(!asks(&town.vendor), "nobody has opened it");
    let term = unhurried(Duration::from_secs(3)).as_secs();
    let opened = Instant::now();
    setting
        .call(&["grant", "open", "maker", "ct-1", "--ticket", "INC-1", "--for", &format!("{term}s")])
        .unwrap();
    assert!(!asks(&town.outsider), "not to what comes from the open network");
    assert!(asks(&town.vendor), "opened");
    assert!(opened.elapsed() < Duration::from_secs(term), "in time");
    // Over by the kernel's clock: nobody is there to end it.
    service.kill().unwrap();
    eventually("the grant's end ends it", || !asks(&town.vendor));
    assert!(carries_on(&mut session, b"three"), "what needs no grant goes on");

    // The tunnel breaks down and comes back: its device is another one.
    let service = setting.start(&town.policy(settings)).unwrap();
    town.gateway.batch(&["link delete t0".to_owned()]).unwrap();
    town.vendor.batch(&["link delete t0".to_owned()]).unwrap();
    assert!(connects(&town.vendor).is_none());
    eventually("its port is free again", || {
        town.gateway.run(|| UdpSocket::bind(("198.51.100.1", 1194)).is_ok()).unwrap()
    });
    town.open_tunnel(kind, 1195).unwrap();
    eventually("a tunnel that is made anew is enforced, and open", || connects(&town.vendor).is_some());
    assert!(connects(&town.outsider).is_none());
    let status = setting.call(&["status"]).unwrap();
    assert!(status.contains("t0"), "{status}");
    service.end().unwrap();
    setting.call(&["detach", "--yes"]).unwrap();
}

#[test]
fn promise_5_a_vendors_access_through_a_real_tunnel() {
    through_a_tunnel(Kind::Tun, "");
}

/// What comes out of a tunnel, and what goes into one, is the kernel's to forward.
#[test]
fn promise_5_a_vendors_access_through_a_real_tunnel_beside_forwarding_in_xdp() {
    through_a_tunnel(Kind::Tun, "settings: { forwarding: xdp }\n");
}

/// Where the kernel has them: some keep the outer headers in sight of others, and none of XDP.
#[test]
fn promise_5_a_vendors_access_through_a_tunnel_of_the_kernel() {
    for kind in ["ipip", "gre"] {
        through_a_tunnel(Kind::OfKernel(kind), "");
    }
}

/// What IPsec of the kernel decrypts begins with the link header of the packet around it, where that had one: of which
/// nobody can be sure. Such a device is refused.
#[test]
fn a_device_of_the_kernels_ipsec_is_refused() {
    let town = Town::build();
    if let Err(error) = town.gateway.batch(&["link add t0 type xfrm dev w0 if_id 7".to_owned()]) {
        println!("skipped: {error:#}");
        return;
    }
    town.gateway.batch(&["link set t0 up".to_owned()]).unwrap();
    let setting = Setting::at(&town.gateway, &town.run, service::binary().unwrap());
    let mut service = setting.start_unready(&town.policy("")).unwrap();
    let said = service.wait_refused(unhurried(Duration::from_secs(20))).unwrap();
    assert!(said.contains("t0 cannot be enforced: what stands before its packets"), "{said}");
}
