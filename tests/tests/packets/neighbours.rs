//! Promise 6: link-local needs work inside a segment, checked and limited. Promise 5: ARP and
//! neighbour discovery senders belong to their segment.

use std::net::Ipv6Addr;

use gateway_common::reason::Reason;

use crate::bench::{Bench, drop, pass_unruled, stay_on_this_cpu};
use crate::frame::{ICMPV6, IPV4, IPV6, SENDER, arp, ethernet, icmp_header, ipv4, ipv6, packet};

fn link_local() -> crate::bench::Expected {
    pass_unruled(Reason::LinkLocal)
}

/// A neighbour discovery message with a target.
fn discovery(from: &str, to: &str, kind: u8, hop_limit: u8, target: &str) -> Vec<u8> {
    let target: Ipv6Addr = target.parse().unwrap();
    let body = [&icmp_header(kind, 0, [0, 0])[..], &target.octets()].concat();
    ethernet(IPV6, &ipv6(from.parse().unwrap(), to.parse().unwrap(), ICMPV6, hop_limit, &body))
}

#[test]
fn promise_5_arp_senders_belong_to_their_segment() {
    let mut bench = Bench::ward();
    bench.frame("request", "a0", &arp(1, SENDER, "10.0.1.5", "10.0.1.1"), link_local());
    bench.frame("reply", "a0", &arp(2, SENDER, "10.0.1.5", "10.0.1.1"), link_local());
    bench.frame("probe", "a0", &arp(1, SENDER, "0.0.0.0", "10.0.1.5"), link_local());
    bench.frame(
        "a reply from nobody",
        "a0",
        &arp(2, SENDER, "0.0.0.0", "10.0.1.5"),
        drop(Reason::SpoofedNeighbour),
    );
    bench.frame(
        "another segment's",
        "a0",
        &arp(2, SENDER, "10.0.2.5", "10.0.1.1"),
        drop(Reason::SpoofedNeighbour),
    );
    bench.frame(
        "the gateway's",
        "a0",
        &arp(2, SENDER, "10.0.1.1", "10.0.1.9"),
        drop(Reason::SpoofedNeighbour),
    );
    bench.frame(
        "another's hardware",
        "a0",
        &arp(2, [2; 6], "10.0.1.5", "10.0.1.1"),
        drop(Reason::SpoofedNeighbour),
    );
    bench.frame(
        "an inside address on the WAN",
        "w0",
        &arp(2, SENDER, "10.0.1.5", "198.51.100.1"),
        drop(Reason::SpoofedNeighbour),
    );
    bench.frame(
        "the world's on the WAN",
        "w0",
        &arp(2, SENDER, "198.51.100.2", "198.51.100.1"),
        link_local(),
    );
}

#[test]
fn promise_6_malformed_arp_is_dropped() {
    let mut bench = Bench::ward();
    let good = arp(1, SENDER, "10.0.1.5", "10.0.1.1");
    for (what, offset, value) in [
        ("hardware type", 15, 6),
        ("protocol type", 16, 0x86),
        ("hardware length", 18, 8),
        ("protocol length", 19, 16),
        ("operation", 21, 3),
    ] {
        let mut bad = good.clone();
        bad[offset] = value;
        bench.frame(what, "a0", &bad, drop(Reason::MalformedArp));
    }
    bench.frame("cut short", "a0", &good[..30], drop(Reason::Truncated));
}

#[test]
fn promise_6_neighbour_discovery() {
    let mut bench = Bench::ward();
    let ask = |from: &str, hops: u8| discovery(from, "ff02::1:ff00:1", 135, hops, "fd00:1::1");
    bench.frame("solicitation", "a0", &ask("fd00:1::5", 255), link_local());
    bench.frame("from a link-local", "a0", &ask("fe80::5", 255), link_local());
    bench.frame("duplicate detection", "a0", &ask("::", 255), link_local());
    bench.frame("from afar", "a0", &ask("fd00:1::5", 254), drop(Reason::InvalidNeighbour));
    bench.frame("spoofed source", "a0", &ask("fd00:2::5", 255), drop(Reason::Spoofed));
    let tell = |target: &str| discovery("fd00:1::5", "fd00:1::1", 136, 255, target);
    bench.frame("advertisement", "a0", &tell("fd00:1::5"), link_local());
    bench.frame("of a link-local", "a0", &tell("fe80::5"), link_local());
    bench.frame("of another segment's", "a0", &tell("fd00:2::5"), drop(Reason::SpoofedNeighbour));
    bench.frame("of the gateway's", "a0", &tell("fd00:1::1"), drop(Reason::SpoofedNeighbour));
    bench.frame("of an IPv4 address", "a0", &tell("::ffff:10.0.1.5"), drop(Reason::SpoofedNeighbour));
    let short = packet("fd00:1::5", "fd00:1::1", ICMPV6, &icmp_header(136, 0, [0, 0]));
    let mut short_near = short.clone();
    short_near[14 + 7] = 255;
    bench.frame("without a target", "a0", &short_near, drop(Reason::InvalidNeighbour));
    bench.frame(
        "redirect",
        "a0",
        &discovery("fe80::1", "fd00:1::5", 137, 255, "fd00:1::9"),
        drop(Reason::InvalidNeighbour),
    );
    bench.frame("router solicitation", "a0", &discovery("fe80::5", "ff02::2", 133, 255, "::"), link_local());
    let advertise = discovery("fe80::1", "ff02::1", 134, 255, "::");
    bench.frame("router advertisement, not named", "a0", &advertise, drop(Reason::RouterAdvertisement));
    bench.frame("router advertisement, named", "b0", &advertise, link_local());
}

#[test]
fn promise_6_group_membership() {
    let mut bench = Bench::ward();
    let report = |hops: u8| {
        let mut packet = ipv4([10, 0, 1, 5].into(), [224, 0, 0, 22].into(), 2, 0, &[0x22; 16]);
        packet[8] = hops;
        ethernet(IPV4, &packet)
    };
    bench.frame("IGMP", "a0", &report(1), link_local());
    bench.frame("IGMP from afar", "a0", &report(2), drop(Reason::NoFlow));
    let listener = ethernet(
        IPV6,
        &ipv6(
            "fe80::5".parse().unwrap(),
            "ff02::16".parse().unwrap(),
            ICMPV6,
            1,
            &icmp_header(143, 0, [0, 0]),
        ),
    );
    bench.frame("MLD", "a0", &listener, link_local());
}

#[test]
fn promise_1_link_control_for_elsewhere_needs_a_flow() {
    let mut bench = Bench::ward();
    for kind in [130, 131, 132, 143] {
        let report = packet("fd00:1::5", "fd00:2::5", ICMPV6, &icmp_header(kind, 0, [0, 0]));
        bench.frame(&format!("MLD type {kind}"), "a0", &report, drop(Reason::NoFlow));
    }
    for kind in 133..=137 {
        let across = discovery("fd00:1::5", "fd00:2::5", kind, 255, "fd00:1::5");
        bench.frame(&format!("neighbour discovery type {kind}"), "a0", &across, drop(Reason::NoFlow));
    }
    let within = discovery("fd00:1::5", "fd00:1::6", 136, 255, "fd00:1::5");
    bench.frame("between hosts of one segment", "a0", &within, link_local());
    let far_group = ipv6(
        "fe80::5".parse().unwrap(),
        "ff02::16".parse().unwrap(),
        ICMPV6,
        64,
        &icmp_header(143, 0, [0, 0]),
    );
    bench.frame("MLD from afar", "a0", &ethernet(IPV6, &far_group), drop(Reason::NoFlow));
}

/// The tokens of one second, refilled bit by bit.
#[test]
fn promise_6_a_budget_is_that_of_a_second() {
    stay_on_this_cpu();
    let mut bench = Bench::ward();
    let flood = arp(1, SENDER, "10.0.1.5", "10.0.1.1");
    let passed = |bench: &Bench| (0..200).filter(|_| bench.passes("a0", &flood)).count();
    assert_eq!(passed(&bench), 50, "the default");
    for (milliseconds, expected) in [(100, 5), (500, 25), (900, 45), (1, 0), (60_000, 50)] {
        bench.now += milliseconds * 1_000_000;
        assert_eq!(passed(&bench), expected, "{milliseconds} ms later");
    }
    bench.now += 900_000_000;
    assert!(bench.passes("a0", &flood));
    bench.now += 900_000_000;
    assert_eq!(passed(&bench), 50, "what is left over is not saved up");
}

#[test]
fn promise_6_one_sender_has_a_budget() {
    let mut bench = Bench::ward();
    // The default is 50 a second and CPU; the test run may move between CPUs.
    let cpus = std::thread::available_parallelism().unwrap().get();
    let flood = arp(1, SENDER, "10.0.1.5", "10.0.1.1");
    let passed = (0..50 * cpus + 200).filter(|_| bench.passes("a0", &flood)).count();
    assert!((50..=50 * cpus).contains(&passed), "{passed} of a flood passed");
    let mut other = arp(1, [2, 0, 0, 0, 7, 7], "10.0.1.9", "10.0.1.1");
    other[6..12].copy_from_slice(&[2, 0, 0, 0, 7, 7]);
    bench.frame("another sender is not hurt", "a0", &other, link_local());
    bench.wait(2);
    bench.frame("and a second later neither is the first", "a0", &flood, link_local());
}
