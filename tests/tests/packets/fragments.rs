//! Promise 6: later fragments follow the verdict of their first.

use std::net::{Ipv4Addr, Ipv6Addr};

use gateway_common::reason::Reason;

use crate::bench::{Bench, WARD, drop, pass};
use crate::frame::{IPV4, IPV6, SYN, TCP, UDP, ethernet, ipv4, ipv6, tcp_header, udp_header};

const MORE: u16 = 0x2000;

fn v4(from: [u8; 4], protocol: u8, word: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(IPV4, &ipv4(from.into(), Ipv4Addr::new(10, 0, 2, 5), protocol, word, payload))
}

fn v6(next: u8, offset: u16, more: bool, identification: u32, payload: &[u8]) -> Vec<u8> {
    let from: Ipv6Addr = "fd00:1::5".parse().unwrap();
    let to: Ipv6Addr = "fd00:2::5".parse().unwrap();
    let mut header = vec![next, 0];
    header.extend((offset << 3 | u16::from(more)).to_be_bytes());
    header.extend(identification.to_be_bytes());
    ethernet(IPV6, &ipv6(from, to, 44, 64, &[&header[..], payload].concat()))
}

/// The first fragment of a long datagram: its length field names more than is here.
fn first_part(ports: (u16, u16)) -> Vec<u8> {
    let mut part = udp_header(ports, 16);
    part[4..6].copy_from_slice(&1_000_u16.to_be_bytes());
    part
}

#[test]
fn promise_6_later_fragments_follow_their_first() {
    let mut bench = Bench::ward_on_any_link();
    let own = [10, 0, 1, 5];
    bench.frame("later before first", "a0", &v4(own, UDP, 3, &[7; 16]), drop(Reason::UnknownFragment));
    bench.frame("first", "a0", &v4(own, UDP, MORE, &first_part((1, 53))), pass(Reason::Flow, "ask"));
    bench.frame("middle", "a0", &v4(own, UDP, MORE | 3, &[7; 16]), pass(Reason::Established, "ask"));
    bench.frame("last", "a0", &v4(own, UDP, 5, &[7; 16]), pass(Reason::Established, "ask"));
    bench.frame("another host's", "a0", &v4([10, 0, 1, 6], UDP, 5, &[7; 16]), drop(Reason::UnknownFragment));
    bench.frame("from elsewhere", "b0", &v4(own, UDP, 5, &[7; 16]), drop(Reason::Spoofed));
    bench.wait(31);
    bench.frame("after its time", "a0", &v4(own, UDP, 5, &[7; 16]), drop(Reason::UnknownFragment));
}

#[test]
fn a_datagram_of_a_running_connection_may_be_long() {
    let mut bench = Bench::ward_on_any_link();
    let query =
        ethernet(IPV4, &ipv4([10, 0, 1, 5].into(), [10, 0, 2, 5].into(), UDP, 0, &udp_header((1, 53), 4)));
    bench.frame("query", "a0", &query, pass(Reason::Flow, "ask"));
    let answer = |word, payload: &[u8]| {
        ethernet(IPV4, &ipv4([10, 0, 2, 5].into(), [10, 0, 1, 5].into(), UDP, word, payload))
    };
    bench.frame("first", "b0", &answer(MORE, &first_part((53, 1))), pass(Reason::Established, "ask"));
    bench.frame("last", "b0", &answer(3, &[7; 16]), pass(Reason::Established, "ask"));
}

#[test]
fn promise_6_fragments_of_a_dropped_datagram_are_dropped() {
    let mut bench = Bench::ward_on_any_link();
    let own = [10, 0, 1, 5];
    bench.frame("first", "a0", &v4(own, UDP, MORE, &first_part((1, 54))), drop(Reason::NoFlow));
    bench.frame("later", "a0", &v4(own, UDP, 3, &[7; 16]), drop(Reason::UnknownFragment));
}

#[test]
fn promise_6_fragments_that_could_rewrite_a_header_are_dropped() {
    let mut bench = Bench::ward_on_any_link();
    let own = [10, 0, 1, 5];
    let header = tcp_header((1, 104), SYN);
    bench.frame(
        "TCP header cut in two",
        "a0",
        &v4(own, TCP, MORE, &header[..16]),
        drop(Reason::InvalidFragment),
    );
    bench.frame("UDP header cut in two", "a0", &v4(own, UDP, MORE, &[0; 4]), drop(Reason::InvalidFragment));
    bench.frame(
        "whole TCP header",
        "a0",
        &v4(own, TCP, MORE, &[&header[..], &[0; 4]].concat()),
        pass(Reason::Flow, "store"),
    );
    bench.frame("second at 8 bytes", "a0", &v4(own, TCP, 1, &[0; 16]), drop(Reason::InvalidFragment));
    bench.frame("second at 16 bytes", "a0", &v4(own, TCP, 2, &[0; 16]), drop(Reason::InvalidFragment));
    bench.frame("second at 24 bytes", "a0", &v4(own, TCP, 3, &[0; 16]), pass(Reason::Established, "store"));
}

/// A later fragment does not say whether its datagram was a SYN or an echo request.
#[test]
fn promise_6_fragments_whose_connection_is_gone_open_none() {
    let settings = "settings: { midstream: true, timeouts: { syn-sent: 5s, echo: 5s } }";
    let mut bench = Bench::new(&format!("{WARD}\n{settings}\n"));
    let own = [10, 0, 1, 5];
    let syn = [&tcp_header((1, 104), SYN)[..], &[0; 4]].concat();
    bench.frame("SYN", "a0", &v4(own, TCP, MORE, &syn), pass(Reason::Flow, "store"));
    bench.frame("later", "a0", &v4(own, TCP, 3, &[7; 16]), pass(Reason::Established, "store"));
    bench.wait(6);
    bench.frame("too late", "a0", &v4(own, TCP, 3, &[7; 16]), drop(Reason::NotInConnection));
    let echo = [8, 0, 0, 0, 0, 7, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    bench.frame("echo request", "a0", &v4(own, 1, MORE, &echo), pass(Reason::Flow, "reach"));
    bench.frame("later", "a0", &v4(own, 1, 2, &[7; 16]), pass(Reason::Established, "reach"));
    bench.wait(6);
    bench.frame("too late", "a0", &v4(own, 1, 2, &[7; 16]), drop(Reason::UnknownFragment));
}

#[test]
fn promise_6_ipv6_fragments() {
    let mut bench = Bench::ward_on_any_link();
    bench.frame("later before first", "a0", &v6(UDP, 3, false, 9, &[7; 16]), drop(Reason::UnknownFragment));
    bench.frame("first", "a0", &v6(UDP, 0, true, 9, &first_part((1, 53))), pass(Reason::Flow, "ask"));
    bench.frame("later", "a0", &v6(UDP, 3, false, 9, &[7; 16]), pass(Reason::Established, "ask"));
    bench.frame("another datagram's", "a0", &v6(UDP, 3, false, 10, &[7; 16]), drop(Reason::UnknownFragment));
    bench.frame(
        "an atomic fragment",
        "a0",
        &v6(UDP, 0, false, 11, &udp_header((2, 53), 4)),
        pass(Reason::Flow, "ask"),
    );
    bench.frame("TCP at 8 bytes", "a0", &v6(TCP, 1, false, 12, &[0; 16]), drop(Reason::InvalidFragment));
    bench.frame("TCP at 16 bytes", "a0", &v6(TCP, 2, false, 12, &[0; 16]), drop(Reason::InvalidFragment));
    bench.frame("TCP at 24 bytes", "a0", &v6(TCP, 3, false, 12, &[0; 16]), drop(Reason::UnknownFragment));
    // Who puts an IPv6 datagram together does not look at what its later fragments say they carry.
    bench.frame("UDP at 16 bytes", "a0", &v6(UDP, 2, false, 9, &[0; 16]), drop(Reason::InvalidFragment));
    let options = [UDP, 0, 1, 4, 0, 0, 0, 0];
    bench.frame(
        "a header between the fragment header and the ports",
        "a0",
        &v6(60, 0, true, 13, &[&options[..], &first_part((1, 53))].concat()),
        drop(Reason::InvalidFragment),
    );
    let twice = [44, 0, 0, 1, 0, 0, 0, 9, UDP, 0, 0, 1, 0, 0, 0, 9];
    let payload = [&twice[..], &first_part((1, 53))].concat();
    let from = "fd00:1::5".parse().unwrap();
    let to = "fd00:2::5".parse().unwrap();
    bench.frame(
        "two fragment headers",
        "a0",
        &ethernet(IPV6, &ipv6(from, to, 44, 64, &payload)),
        drop(Reason::MalformedIpv6),
    );
}

/// The kernel makes room by forgetting what was not used lately, more or less (`BPF_MAP_TYPE_LRU_HASH`). What it
/// has forgotten is dropped: nothing passes that nobody has judged.
#[test]
fn a_flood_of_first_fragments_forgets_some_and_passes_nothing_unjudged() {
    const REMEMBERED: u32 = 16_384;
    const SENT: u32 = REMEMBERED + REMEMBERED / 4;
    let mut bench = Bench::ward();
    let first = |datagram| v6(UDP, 0, true, datagram, &first_part((1, 53)));
    let later = |datagram| v6(UDP, 3, false, datagram, &[7; 16]);
    for datagram in 0..SENT {
        assert!(bench.passes("a0", &first(datagram)), "first fragments are never refused");
    }
    let followed = (0..SENT).filter(|datagram| bench.passes("a0", &later(*datagram))).count();
    assert!((1..=REMEMBERED as usize).contains(&followed), "{followed} are remembered");
    let counters = bench.counters();
    let unknown = counters.pairs.iter().filter(|(key, _)| key.reason == Reason::UnknownFragment);
    let dropped: u64 = unknown.map(|(_, counter)| counter.packets).sum();
    assert_eq!(dropped + followed as u64, u64::from(SENT));
    assert_eq!(counters.health.fragments_recorded, u64::from(SENT));
    bench.frame("a new one", "a0", &first(9_999_999), pass(Reason::Established, "ask"));
    bench.frame("what follows it", "a0", &later(9_999_999), pass(Reason::Established, "ask"));
}
