//! `forwarding: xdp`: a router on a stick, between VLANs of a trunk and an access port, on a kernel without VLAN
//! devices.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clinigate_tests::frames::{Link, Packet, Wire, carries};
use clinigate_tests::namespace::{End, Namespace, tool, wire};
use clinigate_tests::peers::{path, tcp, udp};
use clinigate_tests::run::Run;
use clinigate_tests::service::{self, Service, Setting};
use clinigate_tests::switch::Switch;

const SOON: Duration = Duration::from_secs(5);
const POLICY: &str = r#"
interfaces:
  a0: { access: archive }
  trunk0: { trunk: [70, 71] }
  carrier0: { trunk: [80], outer: 300 }
segments:
  archive: { vlan: 2, subnets: [10.0.2.0/24, "fd00:2::/64"] }
  pumps:   { vlan: 70, subnets: [10.0.70.0/24, "fd00:70::/64"] }
  servers: { vlan: 71, subnets: [10.0.71.0/24, "fd00:71::/64"] }
  branch:  { vlan: 80, subnets: [10.0.80.0/24] }
services:
  numbers: { tcp: [7000], udp: [7000-7999] }
flows:
  - { name: store, from: [pumps], to: [archive], services: [numbers], purpose: test, owner: test }
  - { name: branch, from: [branch], to: [archive], services: [numbers], purpose: test, owner: test }
  - { name: beyond, from: [pumps], to: [192.0.2.0/24], services: [numbers], purpose: test, owner: test }
  - { name: report, from: [pumps], to: [servers], services: [numbers], purpose: test, owner: test }
"#;

/// The gateway with its archive on an access port, a pump and its server in two VLANs of the trunk, and a branch
/// behind two tags.
struct Stick {
    branch: Namespace,
    archive: Namespace,
    pump: Namespace,
    server: Namespace,
    gateway: Namespace,
    setting: Setting,
    _service: Service,
    bridge: Switch,
    _run: Run,
}

const fn mac(link: u8, end: u8) -> [u8; 6] {
    [2, 0xc9, 1, 0, link, end]
}

fn end<'a>(namespace: &'a Namespace, interface: &'a str, mac: [u8; 6], addresses: &[&str]) -> End<'a> {
    let length = |address: &IpAddr| if address.is_ipv4() { 24 } else { 64 };
    let parsed = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
    End { namespace, interface, mac, addresses: parsed.map(|address| (address, length(&address))).collect() }
}

impl Stick {
    fn build(forwarding: &str) -> Self {
        let run = Run::new().unwrap();
        let [gateway, archive, pump, server, switch, branch] =
            ["gateway", "archive", "pump", "server", "switch", "branch"]
                .map(|name| run.namespace(name).unwrap());
        gateway.sysctl("ipv4/ip_forward", "1").unwrap();
        gateway.sysctl("ipv6/conf/all/forwarding", "1").unwrap();
        wire(
            &end(&gateway, "a0", mac(2, 1), &["10.0.2.1", "fd00:2::1"]),
            &end(&archive, "eth0", mac(2, 2), &["10.0.2.9", "fd00:2::9"]),
        )
        .unwrap();
        let routers = ["10.0.70.1", "fd00:70::1", "10.0.71.1", "fd00:71::1"];
        wire(&end(&gateway, "trunk0", mac(1, 1), &routers), &end(&switch, "uplink0", mac(1, 2), &[]))
            .unwrap();
        wire(
            &end(&switch, "p70", mac(70, 1), &[]),
            &end(&pump, "eth0", mac(70, 2), &["10.0.70.11", "fd00:70::11"]),
        )
        .unwrap();
        wire(
            &end(&switch, "p71", mac(71, 1), &[]),
            &end(&server, "eth0", mac(71, 2), &["10.0.71.10", "fd00:71::10"]),
        )
        .unwrap();
        wire(&end(&gateway, "carrier0", mac(80, 1), &["10.0.80.1"]), &end(&branch, "eth0", mac(80, 2), &[]))
            .unwrap();
        for (host, v4, v6) in [
            (&archive, "10.0.2.1", "fd00:2::1"),
            (&pump, "10.0.70.1", "fd00:70::1"),
            (&server, "10.0.71.1", "fd00:71::1"),
        ] {
            host.batch(&[format!("route add default via {v4}"), format!("route add ::/0 via {v6}")]).unwrap();
        }
        // A veth takes redirected frames only where its other end polls; nothing may grow there, for the
        // switch sends on what it receives.
        for (namespace, interface) in [(&archive, "eth0"), (&switch, "uplink0"), (&branch, "eth0")] {
            tool(namespace.command("ethtool").args(["-K", interface, "gro", "on"])).unwrap();
            let small = format!("link set {interface} gro_max_size 1");
            namespace.batch(&[small]).unwrap();
        }
        for namespace in [&gateway, &archive, &pump, &server, &switch, &branch] {
            namespace.wait_up().unwrap();
        }
        let policy = policy(&run, forwarding);
        let setting = Setting::at(&gateway, &run, service::binary().unwrap());
        let service = setting.start(&policy).unwrap();
        let bridge = Switch::start(&switch, "uplink0", &[(70, "p70"), (71, "p71")]).unwrap();
        Self { branch, archive, pump, server, gateway, setting, _service: service, bridge, _run: run }
    }

    fn forwarded(&self, by: &str) -> f64 {
        self.setting.metrics().unwrap().sum("clinigate_forwarded_packets_total", &[("by", by)])
    }

    /// A megabyte over TCP, from the pump to this address of `to`; then what XDP and what the kernel forwarded.
    fn transfer(&self, to: &Namespace, address: &str) -> (f64, f64) {
        let before = (self.forwarded("xdp"), self.forwarded("kernel"));
        let address: SocketAddr = address.parse().unwrap();
        let received = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let listener = to.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let counter = Arc::clone(&received);
        thread::spawn(move || tcp::counting_sink(&listener, counter));
        let sender = {
            let stop = Arc::clone(&stop);
            self.pump.spawn(move || tcp::source(address, Duration::ZERO, SOON, &stop))
        };
        let until = Instant::now() + SOON;
        while received.load(Ordering::SeqCst) < 1 << 20 && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        stop.store(true, Ordering::SeqCst);
        let sent = sender.join().unwrap().unwrap();
        while received.load(Ordering::SeqCst) < sent && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        assert!(sent >= 1 << 20, "{address}: {sent} bytes");
        assert_eq!(received.load(Ordering::SeqCst), sent, "{address}");
        (self.forwarded("xdp") - before.0, self.forwarded("kernel") - before.1)
    }
}

fn policy(run: &Run, forwarding: &str) -> PathBuf {
    let directory = run.directory().join("policy");
    std::fs::create_dir_all(&directory).unwrap();
    let text = format!("{POLICY}settings: {{ forwarding: {forwarding} }}\n");
    std::fs::write(directory.join("policy.yaml"), text).unwrap();
    directory
}

#[test]
fn connections_cross_ports_and_tags() {
    let stick = Stick::build("xdp");
    let seen = Wire::open(&stick.pump, "eth0").unwrap();
    for (to, address) in [
        (&stick.archive, "10.0.2.9:7000"),
        (&stick.archive, "[fd00:2::9]:7000"),
        (&stick.server, "10.0.71.10:7000"),
        (&stick.server, "[fd00:71::10]:7000"),
    ] {
        let (xdp, kernel) = stick.transfer(to, address);
        assert!(xdp > 700.0, "{address}: XDP forwarded {xdp} packets, the kernel {kernel}");
        // The first packets, until the neighbours are known, and ARP.
        assert!(kernel < 30.0, "{address}: XDP forwarded {xdp} packets, the kernel {kernel}");
    }
    // The kernel, which knows of one link only, believes that there is a shorter way.
    let redirects = |frame: &[u8]| match frame[12..14] {
        [0x08, 0x00] => frame[23] == 1 && frame[34] == 5,
        [0x86, 0xdd] => frame[20] == 58 && frame[54] == 137,
        _ => false,
    };
    assert_eq!(seen.count(Duration::from_millis(100), 1, redirects).unwrap(), 0, "redirects");
}

#[test]
fn a_hop_is_counted_and_the_last_is_the_stacks_to_report() {
    let stick = Stick::build("xdp");
    let sender = stick.pump.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for (server, port, hops) in [("10.0.2.9", 7001, 63), ("10.0.71.10", 7002, 63)] {
        let to = if port == 7001 { &stick.archive } else { &stick.server };
        let listener = to.run(|| UdpSocket::bind(("0.0.0.0", port))).unwrap().unwrap();
        let address: SocketAddr = format!("{server}:{port}").parse().unwrap();
        set(&listener, libc::IPPROTO_IP, libc::IP_RECVTTL, 1);
        // Twice: the first may have waited in the stack for its neighbour.
        for _ in 0..2 {
            sender.send_to(b"hop", address).unwrap();
            assert_eq!(hop_limit(&listener), hops, "{server}");
        }
    }
    let hop = stick.pump.run(|| path::first_hop("10.0.2.9:7003".parse().unwrap(), SOON)).unwrap().unwrap();
    assert_eq!(hop, Some("10.0.70.1".parse().unwrap()), "time exceeded, from the gateway");
}

#[test]
fn path_mtu_discovery_works() {
    let stick = Stick::build("xdp");
    stick.gateway.batch(&["link set a0 mtu 1400".to_owned()]).unwrap();
    for address in ["10.0.2.9:7004", "[fd00:2::9]:7004"] {
        let mtu = stick.pump.run(|| path::mtu(address.parse().unwrap(), 1440, 1500, SOON)).unwrap().unwrap();
        assert_eq!(mtu, 1400, "{address}");
    }
}

#[test]
fn frames_for_somebody_else_are_not_forwarded() {
    let stick = Stick::build("xdp");
    let arrives = |link: Link| {
        let seen = Wire::open(&stick.archive, "eth0").unwrap();
        let sender = Wire::open(&stick.pump, "eth0").unwrap();
        let packet = Packet {
            link,
            tags: Vec::new(),
            from: "10.0.70.11:7005".parse().unwrap(),
            to: "10.0.2.9:7005".parse().unwrap(),
            payload: b"for whom".to_vec(),
        };
        sender.send(&packet.udp().unwrap()).unwrap();
        seen.count(Duration::from_millis(500), 1, |frame| carries(frame, b"for whom")).unwrap()
    };
    assert_eq!(arrives(Link { from: mac(70, 2), to: mac(1, 1) }), 1, "to the gateway");
    assert_eq!(arrives(Link { from: mac(70, 2), to: [2, 0, 0, 0, 0, 77] }), 0, "to another");
    assert_eq!(arrives(Link { from: mac(70, 2), to: [0xff; 6] }), 0, "to all");
}

/// What stands behind a packet is not part of it, and does not cross.
#[test]
fn bytes_behind_a_packet_do_not_cross() {
    let stick = Stick::build("xdp");
    let seen = Wire::open(&stick.archive, "eth0").unwrap();
    let sender = Wire::open(&stick.pump, "eth0").unwrap();
    let packet = Packet {
        link: Link { from: mac(70, 2), to: mac(1, 1) },
        tags: Vec::new(),
        from: "10.0.70.11:7008".parse().unwrap(),
        to: "10.0.2.9:7008".parse().unwrap(),
        payload: b"a packet".repeat(10),
    };
    let frame = packet.udp().unwrap();
    // Twice: the first may wait in the stack for its neighbour.
    for _ in 0..2 {
        sender.send(&[&frame[..], &b"stowaway".repeat(10)].concat()).unwrap();
        let arrives = |frame: &[u8]| {
            assert!(!carries(frame, b"stowaway"));
            carries(frame, b"a packet")
        };
        assert_eq!(seen.count(SOON, 1, arrives).unwrap(), 1);
    }
}

#[test]
fn two_tags_come_off_and_go_on() {
    let stick = Stick::build("xdp");
    // The branch is only a wire: nobody there answers for its address.
    let neighbour = "neigh add 10.0.80.5 lladdr 02:c9:01:00:50:02 dev carrier0".to_owned();
    stick.gateway.batch(&[neighbour]).unwrap();
    let archive = stick.archive.run(|| UdpSocket::bind("10.0.2.9:7006")).unwrap().unwrap();
    archive.set_read_timeout(Some(SOON)).unwrap();
    let wire = Wire::open(&stick.branch, "eth0").unwrap();
    let packet = Packet {
        link: Link { from: mac(80, 2), to: mac(80, 1) },
        tags: vec![300, 80],
        from: "10.0.80.5:7006".parse().unwrap(),
        to: "10.0.2.9:7006".parse().unwrap(),
        payload: b"of a branch".to_vec(),
    };
    let mut buffer = [0; 64];
    // Twice: the first waits in the stack for its neighbour.
    for path in ["kernel", "xdp"] {
        let before = stick.forwarded(path);
        wire.send(&packet.udp().unwrap()).unwrap();
        let (length, from) = archive.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"of a branch"[..], packet.from));
        assert!(stick.forwarded(path) > before, "not by {path}");
    }
    archive.send_to(b"to a branch", packet.from).unwrap();
    // A packet socket shows the outer tag beside the frame, the inner one in it.
    let inner = |frame: &[u8]| frame[12..16] == [0x81, 0, 0, 80] && carries(frame, b"to a branch");
    assert_eq!(wire.count(SOON, 1, inner).unwrap(), 1);
}

#[test]
fn a_router_on_a_trunk_is_reached_by_its_own_tag() {
    let stick = Stick::build("xdp");
    stick.gateway.batch(&["route add 192.0.2.0/24 via 10.0.71.10".to_owned()]).unwrap();
    stick.server.batch(&["address add 192.0.2.9/32 dev lo".to_owned()]).unwrap();
    let beyond = stick.server.run(|| UdpSocket::bind("192.0.2.9:7007")).unwrap().unwrap();
    beyond.set_read_timeout(Some(SOON)).unwrap();
    let sender = stick.pump.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for path in ["kernel", "xdp"] {
        let before = stick.forwarded(path);
        sender.send_to(b"beyond", "192.0.2.9:7007").unwrap();
        assert_eq!(beyond.recv(&mut [0; 16]).unwrap(), 6, "{path}");
        assert!(stick.forwarded(path) > before, "not by {path}");
    }
}

#[test]
fn the_kernel_forwards_unless_told_otherwise() {
    let stick = Stick::build("kernel");
    let listener = stick.archive.run(|| UdpSocket::bind("0.0.0.0:7000")).unwrap().unwrap();
    // There is nobody to untag frames for the kernel: the trunk needs VLAN devices then.
    let answers = stick
        .pump
        .run(|| udp::answers("10.0.2.9:7000".parse().unwrap(), 0, b"x", Duration::from_millis(300)));
    assert!(!answers.unwrap().unwrap());
    drop(listener);
    assert!(stick.forwarded("xdp") + stick.forwarded("kernel") < 1.0);
}

/// What the gateway says to a whole link has no segment on a trunk without VLAN devices: it must not leave
/// untagged, into whatever the switch makes of that.
#[test]
fn nothing_leaves_a_trunk_untagged() {
    let stick = Stick::build("xdp");
    let dropped = || stick.setting.metrics().unwrap().sum("clinigate_untagged_frames_total", &[]);
    stick.gateway.batch(&["link set trunk0 down".to_owned(), "link set trunk0 up".to_owned()]).unwrap();
    let until = Instant::now() + SOON;
    while dropped() < 1.0 && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
    }
    assert!(dropped() > 0.0, "listener reports of the gateway, each time an interface comes up");
    stick.transfer(&stick.server, "10.0.71.10:7000");
    assert_eq!(stick.bridge.untagged(), 0);
}

fn set(socket: &UdpSocket, level: libc::c_int, option: libc::c_int, value: libc::c_int) {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
    // SAFETY: the value lives until the call returns.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    assert_eq!(done, 0);
}

/// The hop limit that the next IPv4 datagram arrives with.
fn hop_limit(socket: &UdpSocket) -> u8 {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg};
    socket.set_read_timeout(Some(SOON)).unwrap();
    let (mut buffer, mut control) = ([0; 64], nix::cmsg_space!(libc::c_int));
    let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
    let message =
        recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()).unwrap();
    let found = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::Ipv4Ttl(ttl) => u8::try_from(ttl).ok(),
        _ => None,
    });
    found.unwrap()
}
