//! `forwarding: xdp`: what leaves by another interface, byte by byte, and what is left to the stack. Routes and
//! neighbours are those of a network namespace that has interfaces and no traffic.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::Ipv6Addr;
use std::process::{Command, Stdio};

use clinigate::dataplane::trial::{Outcome, Trial};
use gateway_common::table::TestContext;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use crate::bench::image;
use crate::frame::{
    ICMP, IPV4, IPV6, SERVICE_VLAN, SYN, UDP, VLAN, arp, ethernet, ipv6, network, packet, tagged, tcp, udp,
    udp_header, with_options,
};

const POLICY: &str = r#"
interfaces:
  a0: { access: archive }
  t0: { trunk: [pumps, servers] }
  q0: { trunk: [branch], outer: 300 }
  w0: { wan: true }
gateway: { addresses: [10.0.2.1, 10.0.70.1] }
settings: { forwarding: xdp }
segments:
  archive: { vlan: 2, subnets: [10.0.2.0/24, "fd00:2::/64"] }
  pumps:   { vlan: 70, subnets: [10.0.70.0/24, "fd00:70::/64"] }
  servers: { vlan: 71, subnets: [10.0.71.0/24], mode: observe }
  branch:  { vlan: 80, subnets: [10.0.80.0/24] }
services:
  numbers: { tcp: [7000], udp: [7000] }
flows:
  - { name: all, from: [archive, pumps, branch], to: [archive, pumps, servers, branch, 192.0.3.0/24, 198.51.100.0/24, 203.0.113.0/24], services: [numbers] }
  - { name: manage, from: [pumps], to: [gateway], services: [numbers] }
  - { name: discover, from: [pumps], to: [239.255.255.250], services: [numbers] }
"#;

/// What the kernel is told: nobody here answers for an address.
const SETUP: &str = "
link set lo up
link add a0 address 02:00:00:00:00:a1 type veth peer name a0-p
link add t0 address 02:00:00:00:00:b1 type veth peer name t0-p
link add q0 address 02:00:00:00:00:c1 type veth peer name q0-p
link add w0 address 02:00:00:00:00:d1 type veth peer name w0-p
address add 10.0.2.1/24 dev a0
address add fd00:2::1/64 dev a0 nodad
address add 10.0.70.1/24 dev t0
address add fd00:70::1/64 dev t0 nodad
address add 10.0.71.1/24 dev t0
address add 10.0.80.1/24 dev q0
address add 192.0.2.1/24 dev w0
link set a0 mtu 1400
link set a0 up
link set t0 up
link set q0 up
link set w0 up
link set a0-p up
link set t0-p up
link set q0-p up
link set w0-p up
neigh add 10.0.2.9 lladdr 02:00:00:00:00:a9 dev a0
neigh add fd00:2::9 lladdr 02:00:00:00:00:a9 dev a0
neigh add 10.0.70.5 lladdr 02:00:00:00:00:b5 dev t0
neigh add 10.0.70.6 lladdr 02:00:00:00:00:b6 dev t0
neigh add fd00:70::5 lladdr 02:00:00:00:00:b5 dev t0
neigh add 10.0.71.9 lladdr 02:00:00:00:00:b9 dev t0
neigh add 10.0.80.5 lladdr 02:00:00:00:00:c5 dev q0
neigh add 192.0.2.254 lladdr 02:00:00:00:00:d9 dev w0
route add 203.0.113.0/24 via 192.0.2.254
route add 198.51.100.0/24 via 10.0.71.9
route add 198.18.0.0/24 via 10.0.71.10
";

const ARCHIVE: &str = "10.0.2.9";
const PUMP: &str = "10.0.70.5";
const SERVER: &str = "10.0.71.9";
const BRANCH: &str = "10.0.80.5";
const PORTS: (u16, u16) = (40_000, 7_000);

/// Last bytes of the hardware addresses here.
const OF_A0: u8 = 0xa1;
const OF_T0: u8 = 0xb1;
const OF_Q0: u8 = 0xc1;
const OF_W0: u8 = 0xd1;

/// A router and what it is asked to pass on.
struct Router {
    trial: Trial,
    interfaces: BTreeMap<String, u32>,
}

impl Router {
    /// In a network namespace of this thread's own, which ends with it.
    fn new(policy: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            fs::write(format!("/proc/sys/net/{key}"), "1").unwrap();
        }
        ip(SETUP);
        let interfaces: BTreeMap<String, u32> =
            ["a0", "t0", "q0", "w0"].map(|name| (name.to_owned(), if_nametoindex(name).unwrap())).into();
        let trial = Trial::routed(&image(policy), &interfaces).unwrap();
        Self { trial, interfaces }
    }

    fn run(&self, interface: &str, frame: &[u8]) -> Outcome {
        let context =
            TestContext { now: 3_600_000_000_000, ifindex: self.interfaces[interface], reserved: 0 };
        self.trial.run(context, frame).unwrap()
    }

    /// The frame leaves with these hardware addresses (their last bytes: from, to) and tags, one hop older, and
    /// nothing else of it is changed.
    #[track_caller]
    fn forwards(&self, what: &str, interface: &str, frame: &[u8], macs: (u8, u8), tags: &[(u16, u16)]) {
        let outcome = self.run(interface, frame);
        assert!(outcome.forwarded(), "{what}: action {}", outcome.action);
        let expected = onward(&untagged(frame), macs, tags);
        assert_eq!(hex(&outcome.frame), hex(&expected), "{what}");
    }

    /// The stack gets the frame, as it came but for tags that it has no device for.
    #[track_caller]
    fn leaves_to_the_stack(&self, what: &str, interface: &str, frame: &[u8]) {
        let outcome = self.run(interface, frame);
        assert!(outcome.passed() && !outcome.forwarded(), "{what}: action {}", outcome.action);
        assert_eq!(hex(&outcome.frame), hex(&untagged(frame)), "{what}");
    }

    #[track_caller]
    fn drops(&self, what: &str, interface: &str, frame: &[u8]) {
        let outcome = self.run(interface, frame);
        assert!(!outcome.passed(), "{what}: action {}", outcome.action);
        assert_eq!(hex(&outcome.frame), hex(frame), "{what}");
    }

    /// What becomes of a frame that the gateway itself sends on an interface: whether it leaves, and with which
    /// tag within the frame. The outer one, or the only one, stands beside it in the kernel.
    fn sends(&mut self, interface: &str, frame: &[u8]) -> (bool, Option<u16>) {
        let outcome = self.trial.send_on(self.interfaces[interface], 0, frame).unwrap();
        let tag = (outcome.frame[12..14] == VLAN.to_be_bytes())
            .then(|| u16::from_be_bytes([outcome.frame[14], outcome.frame[15]]));
        (outcome.action.cast_signed() == -1, tag)
    }
}

fn ip(lines: &str) {
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    ip.stdin.take().unwrap().write_all(lines.trim_start().as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
}

/// The frame without its tags.
fn untagged(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    while [VLAN, SERVICE_VLAN].iter().any(|kind| frame[12..14] == kind.to_be_bytes()) {
        frame.drain(12..16);
    }
    frame
}

/// What a router makes of an untagged frame.
fn onward(frame: &[u8], (from, to): (u8, u8), tags: &[(u16, u16)]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, to]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, from]);
    if frame[12..14] == IPV4.to_be_bytes() {
        frame[22] -= 1;
        sum(&mut frame);
    } else {
        frame[21] -= 1;
    }
    tags.iter().rev().fold(frame, |frame, (kind, vlan)| tagged(*kind, *vlan, &frame))
}

/// Writes the right checksum into an untagged frame's IPv4 header, all of it summed anew (RFC 1071).
fn sum(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let header = &frame[14..34];
    let mut sum: u32 = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
}

fn hex(frame: &[u8]) -> String {
    format!("{frame:02x?}")
}

/// To the gateway's hardware address on an interface, with a right checksum.
fn at(gateway: u8, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, gateway]);
    if frame[12..14] == IPV4.to_be_bytes() {
        sum(&mut frame);
    }
    frame
}

/// From the pump, with its tag.
fn from_pump(to: &str) -> Vec<u8> {
    tagged(VLAN, 70, &at(OF_T0, udp(PUMP, to, PORTS)))
}

#[test]
fn allowed_packets_leave_with_the_tags_of_their_next_segment() {
    let router = Router::new(POLICY);
    let pump = at(OF_T0, udp(PUMP, ARCHIVE, PORTS));
    let to_archive = (OF_A0, 0xa9);
    router.forwards("a tag comes off", "t0", &tagged(VLAN, 70, &pump), to_archive, &[]);
    let archive = at(OF_A0, udp(ARCHIVE, PUMP, PORTS));
    router.forwards("a tag goes on", "a0", &archive, (OF_T0, 0xb5), &[(VLAN, 70)]);
    let server = at(OF_T0, udp(PUMP, SERVER, PORTS));
    let swapped = [(VLAN, 71)];
    router.forwards("another tag", "t0", &tagged(VLAN, 70, &server), (OF_T0, 0xb9), &swapped);
    let branch = tagged(SERVICE_VLAN, 300, &tagged(VLAN, 80, &at(OF_Q0, udp(BRANCH, ARCHIVE, PORTS))));
    router.forwards("two tags come off", "q0", &branch, to_archive, &[]);
    let to_branch = at(OF_A0, udp(ARCHIVE, BRANCH, PORTS));
    let both = [(SERVICE_VLAN, 300), (VLAN, 80)];
    router.forwards("two tags go on", "a0", &to_branch, (OF_Q0, 0xc5), &both);
    let two_for_one = tagged(SERVICE_VLAN, 300, &tagged(VLAN, 80, &at(OF_Q0, udp(BRANCH, PUMP, PORTS))));
    router.forwards("one tag for two", "q0", &two_for_one, (OF_T0, 0xb5), &[(VLAN, 70)]);
    let one_for_two = tagged(VLAN, 70, &at(OF_T0, udp(PUMP, BRANCH, PORTS)));
    router.forwards("two tags for one", "t0", &one_for_two, (OF_Q0, 0xc5), &both);

    let world = from_pump("203.0.113.7");
    router.forwards("by a router", "t0", &world, (OF_W0, 0xd9), &[]);
    let beyond = from_pump("198.51.100.7");
    router.forwards("by a router on the trunk, by its tag", "t0", &beyond, (OF_T0, 0xb9), &swapped);
    let v6 = tagged(VLAN, 70, &at(OF_T0, udp("fd00:70::5", "fd00:2::9", PORTS)));
    router.forwards("IPv6", "t0", &v6, to_archive, &[]);
    let v6 = at(OF_A0, udp("fd00:2::9", "fd00:70::5", PORTS));
    router.forwards("IPv6 with a tag", "a0", &v6, (OF_T0, 0xb5), &[(VLAN, 70)]);
    let opening = tagged(VLAN, 70, &at(OF_T0, tcp(PUMP, ARCHIVE, PORTS, SYN)));
    router.forwards("TCP", "t0", &opening, to_archive, &[]);
    let answer = at(OF_A0, udp(ARCHIVE, PUMP, (7_000, 40_000)));
    router.forwards("an answer", "a0", &answer, (OF_T0, 0xb5), &[(VLAN, 70)]);
    let padded = [&pump[..], &[0; 14]].concat();
    assert_eq!(padded.len(), 60);
    router.forwards("with Ethernet's padding", "t0", &tagged(VLAN, 70, &padded), to_archive, &[]);
    let health = router.trial.counters().unwrap().health;
    assert_eq!((health.forwarded, health.handed_over), (14, 0));
}

#[test]
fn a_header_checksum_stays_right_whatever_it_was() {
    let router = Router::new(POLICY);
    let mut sums = [0; 4];
    for identification in (0..=u16::MAX).step_by(61).chain(0x2000..0x2100) {
        let mut frame = udp(ARCHIVE, PUMP, PORTS);
        frame[18..20].copy_from_slice(&identification.to_be_bytes());
        let frame = at(OF_A0, frame);
        sums[usize::from(frame[24] >> 6)] += 1;
        router.forwards("a packet", "a0", &frame, (OF_T0, 0xb5), &[(VLAN, 70)]);
    }
    assert!(sums.iter().all(|count| *count > 200), "{sums:?}");
    // Where the sum overflows: from 0xfeff on it begins anew.
    for (before, after) in [(0xfefe_u16, 0xfffe_u16), (0xfeff, 0), (0xff00, 1), (0xff01, 2)] {
        let frame = with_sum(before);
        let left = router.run("a0", &frame).frame;
        assert_eq!(u16::from_be_bytes([left[28], left[29]]), after, "from {before:#06x}");
    }
}

/// A packet from the archive to the pump whose header has this checksum.
fn with_sum(wanted: u16) -> Vec<u8> {
    (0..=u16::MAX)
        .map(|identification: u16| {
            let mut frame = udp(ARCHIVE, PUMP, PORTS);
            frame[18..20].copy_from_slice(&identification.to_be_bytes());
            at(OF_A0, frame)
        })
        .find(|frame| frame[24..26] == wanted.to_be_bytes())
        .unwrap()
}

#[test]
fn what_a_router_must_think_about_is_left_to_the_stack() {
    let router = Router::new(POLICY);
    let stack = |what, frame: &[u8]| router.leaves_to_the_stack(what, "t0", &tagged(VLAN, 70, frame));
    let usual = at(OF_T0, udp(PUMP, ARCHIVE, PORTS));
    let hops = |left: u8| {
        let mut frame = usual.clone();
        frame[22] = left;
        at(OF_T0, frame)
    };
    stack("its last hop", &hops(1));
    stack("no hop left", &hops(0));
    router.forwards("one hop more", "t0", &tagged(VLAN, 70, &hops(2)), (OF_A0, 0xa9), &[]);
    let v6 = |next, hops, payload: &[u8]| {
        let addresses = ["fd00:70::5", "fd00:2::9"].map(|text| text.parse().unwrap());
        at(OF_T0, ethernet(IPV6, &ipv6(addresses[0], addresses[1], next, hops, payload)))
    };
    let datagram = udp_header(PORTS, 4);
    stack("its last hop, IPv6", &v6(UDP, 1, &datagram));
    stack("hop-by-hop options", &v6(0, 64, &[&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &datagram].concat()));
    stack("a routing header", &v6(43, 64, &[&[UDP, 0, 3, 0, 0, 0, 0, 0][..], &datagram].concat()));
    let options = with_options(&network(PUMP, ARCHIVE, UDP, &datagram), &[1, 1, 1, 0]);
    stack("IPv4 options", &at(OF_T0, ethernet(IPV4, &options)));

    stack("to another hardware address", &at(0x77, usual.clone()));
    let mut all = usual.clone();
    all[..6].fill(0xff);
    stack("to all", &all);
    stack("to the gateway", &at(OF_T0, udp(PUMP, "10.0.70.1", PORTS)));
    stack("to a group", &at(OF_T0, udp(PUMP, "239.255.255.250", PORTS)));
    stack("back to where it came from", &at(OF_T0, udp(PUMP, "10.0.70.6", PORTS)));
    stack("to a neighbour that is not known", &at(OF_T0, udp(PUMP, "10.0.2.10", PORTS)));
    stack("without a route", &at(OF_T0, udp(PUMP, "192.0.3.7", PORTS)));
    stack("with something behind the packet", &[&usual[..], &[0; 60]].concat());

    let long = |payload: usize| at(OF_T0, packet(PUMP, ARCHIVE, UDP, &udp_header(PORTS, payload)));
    let (fits, exceeds) = (long(1_400 - 28), long(1_401 - 28));
    router.forwards("as long as its link takes", "t0", &tagged(VLAN, 70, &fits), (OF_A0, 0xa9), &[]);
    stack("longer than its link takes", &exceeds);
    let v6_fits = v6(UDP, 64, &udp_header(PORTS, 1_400 - 48));
    router.forwards("as long as its link takes, IPv6", "t0", &tagged(VLAN, 70, &v6_fits), (OF_A0, 0xa9), &[]);
    stack("longer than its link takes, IPv6", &v6(UDP, 64, &udp_header(PORTS, 1_401 - 48)));
}

#[test]
fn what_is_not_allowed_is_not_forwarded() {
    let router = Router::new(POLICY);
    let drops = |what, interface, frame: Vec<u8>| router.drops(what, interface, &frame);
    drops("no flow", "t0", tagged(VLAN, 70, &at(OF_T0, udp(PUMP, ARCHIVE, (1, 7_001)))));
    drops("spoofed", "t0", tagged(VLAN, 70, &at(OF_T0, udp("10.0.2.9", SERVER, PORTS))));
    drops("a tag of nobody", "t0", tagged(VLAN, 72, &at(OF_T0, udp(PUMP, ARCHIVE, PORTS))));
    drops("without its tag", "t0", at(OF_T0, udp(PUMP, ARCHIVE, PORTS)));

    // Observed: the first three of its kind pass, and what could be read of them is forwarded.
    let observed = POLICY.replace("archive: { vlan: 2,", "archive: { mode: observe, vlan: 2,");
    let router = std::thread::spawn(move || {
        let router = Router::new(&observed);
        let server = |frame| tagged(VLAN, 71, &at(OF_T0, frame));
        let no_flow = server(udp(SERVER, ARCHIVE, (1, 7_001)));
        router.forwards("no flow while observed", "t0", &no_flow, (OF_A0, 0xa9), &[]);
        let spoofed = server(udp(PUMP, ARCHIVE, PORTS));
        router.leaves_to_the_stack("spoofed while observed", "t0", &spoofed);
        let cut = server(packet(SERVER, ARCHIVE, ICMP, &[8, 0, 0]));
        router.leaves_to_the_stack("unreadable while observed", "t0", &cut);
    });
    router.join().unwrap();
}

#[test]
fn what_the_gateway_sends_gets_the_tags_of_its_segment() {
    let mut router = Router::new(POLICY);
    let frame = |to: &str| at(0xee, udp("10.0.80.1", to, PORTS));
    // The inner tag is in the frame; the outer one, and one alone, stand beside it.
    assert_eq!(router.sends("q0", &frame(BRANCH)), (true, Some(80)), "two tags");
    assert_eq!(router.sends("t0", &frame(PUMP)), (true, None), "one tag");
    assert_eq!(router.sends("t0", &frame("198.51.100.7")), (true, None), "by a router on the trunk");
    assert_eq!(router.sends("a0", &frame(ARCHIVE)), (true, None), "none on an access port");
    assert_eq!(router.sends("t0", &frame("198.18.0.7")), (true, None), "by a router that is not known yet");
    assert_eq!(router.sends("t0", &tagged(VLAN, 70, &frame(PUMP))), (true, Some(70)), "has one already");
    let question = |target: &str| arp(1, crate::frame::SENDER, "10.0.70.1", target);
    assert_eq!(router.sends("t0", &question(PUMP)), (true, None), "asks for a neighbour");
    let solicitation = |target: &str| {
        let target: Ipv6Addr = target.parse().unwrap();
        let body = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
        packet("fd00:70::1", "ff02::1:ff00:5", 58, &body)
    };
    assert_eq!(router.sends("t0", &solicitation("fd00:70::5")), (true, None), "asks for one over IPv6");
    assert_eq!(router.trial.counters().unwrap().health.untagged, 0);
    assert_eq!(router.sends("t0", &frame(ARCHIVE)), (false, None), "for another port's segment");
    assert_eq!(router.sends("t0", &frame("224.0.0.1")), (false, None), "for all of a link");
    assert_eq!(router.sends("t0", &question(ARCHIVE)), (false, None), "asks for another port's");
    assert_eq!(router.sends("t0", &solicitation("fd00:2::9")), (false, None), "the same over IPv6");
    assert_eq!(router.trial.counters().unwrap().health.untagged, 4);
    let redirect = packet("10.0.70.1", PUMP, ICMP, &[5, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(router.sends("t0", &redirect), (false, None), "a redirect");
    let redirect = packet("fe80::1", "fd00:70::5", 58, &[137, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(router.sends("t0", &redirect), (false, None), "a redirect, IPv6");
    assert_eq!(router.trial.counters().unwrap().health.untagged, 4, "no tag was missing");
}

/// Link-local addresses are no segment's: an answer goes where its receiver was heard.
#[test]
fn who_was_heard_is_answered_with_his_tags() {
    let mut router = Router::new(POLICY);
    let mut answer = packet("fe80::1", "fe80::5", 58, &[129, 0, 0, 0, 0, 0, 0, 0]);
    answer[..6].copy_from_slice(&crate::frame::SENDER);
    assert!(!router.sends("q0", &answer).0, "nobody was heard");
    let solicitation = {
        let body = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]];
        let addresses = ["fe80::5", "ff02::1:ff00:1"].map(|text| text.parse().unwrap());
        at(OF_Q0, ethernet(IPV6, &ipv6(addresses[0], addresses[1], 58, 255, &body.concat())))
    };
    let arrived = tagged(SERVICE_VLAN, 300, &tagged(VLAN, 80, &solicitation));
    router.leaves_to_the_stack("a neighbour asks", "q0", &arrived);
    assert_eq!(router.sends("q0", &answer), (true, Some(80)));
    assert!(!router.sends("t0", &answer).0, "he was heard on another port");
    answer[5] ^= 1;
    assert!(!router.sends("q0", &answer).0, "another was not heard");
}
