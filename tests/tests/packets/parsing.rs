//! Promise 6: what cannot be parsed is dropped, with a reason of its own.

use std::net::Ipv6Addr;

use gateway_common::reason::Reason;

use crate::bench::{Bench, drop, pass};
use crate::frame::{
    ACK, FIN, IPV4, IPV6, RST, SYN, TCP, UDP, VLAN, ethernet, icmp_header, ipv6, network, packet, tagged,
    tcp, tcp_header, udp, udp_header, with_options,
};

const FROM: &str = "10.0.1.5";
const TO: &str = "10.0.2.5";

/// `frame` with bytes from `offset` on replaced.
fn altered(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

#[test]
fn promise_6_ipv4_that_contradicts_itself_is_dropped() {
    let good = udp(FROM, TO, (1, 53));
    let mut bench = Bench::ward_on_any_link();
    let cases = [
        ("Ethernet header alone", cut(good.clone(), 14), Reason::Truncated),
        ("half an IPv4 header", cut(good.clone(), 24), Reason::Truncated),
        ("IPv4 header alone", cut(good.clone(), 34), Reason::Truncated),
        ("one byte short", cut(good.clone(), good.len() - 1), Reason::Truncated),
        ("version 5", altered(good.clone(), 14, &[0x55]), Reason::MalformedIpv4),
        ("header of 16 bytes", altered(good.clone(), 14, &[0x44]), Reason::MalformedIpv4),
        ("header longer than the packet", altered(good.clone(), 14, &[0x4f]), Reason::MalformedIpv4),
        ("total length below the header", altered(good.clone(), 16, &[0, 19]), Reason::MalformedIpv4),
        ("total length beyond the frame", altered(good.clone(), 16, &[0x05, 0xdc]), Reason::Truncated),
        (
            "UDP header cut by the total length",
            altered(good.clone(), 16, &[0, 27]),
            Reason::MalformedTransport,
        ),
        ("UDP length of 7", altered(good.clone(), 38, &[0, 7]), Reason::MalformedTransport),
        ("UDP length beyond the packet", altered(good.clone(), 38, &[0, 13]), Reason::MalformedTransport),
        ("a tag and nothing else", tagged(VLAN, 0, &good[..14])[..18].to_vec(), Reason::Truncated),
        ("IPv6 in an IPv4 EtherType", altered(good.clone(), 14, &[0x60]), Reason::MalformedIpv4),
        ("ICMPv6 over IPv4", packet(FROM, TO, 58, &icmp_header(128, 0, [1, 1])), Reason::MalformedTransport),
        ("an ICMP header of four bytes", packet(FROM, TO, 1, &[8, 0, 0, 0]), Reason::MalformedTransport),
    ];
    for (what, frame, reason) in cases {
        bench.frame(what, "a0", &frame, drop(reason));
    }
    let padded = [&good[..], &[0; 18]].concat();
    bench.frame("padding behind the packet is no error", "a0", &padded, pass(Reason::Flow, "ask"));
}

#[test]
fn promise_6_tcp_flags_that_nobody_combines_are_dropped() {
    let mut bench = Bench::ward_on_any_link();
    for flags in [0, FIN, SYN | FIN, SYN | RST, FIN | RST, SYN | ACK | FIN, SYN | ACK | RST, 0x20, 0x29, 0x3f]
    {
        let frame = tcp(FROM, TO, (1, 104), flags);
        bench.frame(&format!("flags {flags:#x}"), "a0", &frame, drop(Reason::TcpFlags));
    }
    let short = altered(tcp(FROM, TO, (1, 104), SYN), 14 + 20 + 12, &[0x40]);
    bench.frame("data offset of 16", "a0", &short, drop(Reason::MalformedTransport));
    let long = altered(tcp(FROM, TO, (1, 104), SYN), 14 + 20 + 12, &[0xf0]);
    bench.frame("data offset beyond the packet", "a0", &long, drop(Reason::MalformedTransport));
}

#[test]
fn promise_6_ipv4_options_are_walked() {
    let mut bench = Bench::ward_on_any_link();
    let plain = network(FROM, TO, UDP, &udp_header((1, 53), 4));
    let with = |options: &[u8]| ethernet(IPV4, &with_options(&plain, options));
    bench.frame("router alert", "a0", &with(&[148, 4, 0, 0]), pass(Reason::Flow, "ask"));
    bench.frame("fillers, end", "a0", &with(&[1, 1, 1, 0]), pass(Reason::Established, "ask"));
    bench.frame("record route", "a0", &with(&[7, 7, 4, 0, 0, 0, 0, 1]), pass(Reason::Established, "ask"));
    bench.frame("loose source route", "a0", &with(&[131, 7, 4, 10, 0, 3, 1, 0]), drop(Reason::SourceRoute));
    bench.frame(
        "strict, behind others",
        "a0",
        &with(&[1, 148, 4, 0, 0, 137, 3, 4]),
        drop(Reason::SourceRoute),
    );
    bench.frame("length of one", "a0", &with(&[148, 1, 0, 0]), drop(Reason::MalformedIpv4));
    bench.frame("length of zero", "a0", &with(&[148, 0, 0, 0]), drop(Reason::MalformedIpv4));
    bench.frame("beyond the header", "a0", &with(&[148, 9, 0, 0]), drop(Reason::MalformedIpv4));
    bench.frame("twelve fillers", "a0", &with(&[1; 12]), pass(Reason::Established, "ask"));
    bench.frame("more than are walked", "a0", &with(&[1; 16]), drop(Reason::MalformedIpv4));
}

#[test]
fn promise_6_ipv6_extension_headers_are_walked_to_a_bound() {
    let mut bench = Bench::ward_on_any_link();
    let from: Ipv6Addr = "fd00:1::5".parse().unwrap();
    let to: Ipv6Addr = "fd00:2::5".parse().unwrap();
    let transport = udp_header((1, 53), 4);
    let with = |chain: &[u8], first: u8| {
        ethernet(IPV6, &ipv6(from, to, first, 64, &[chain, &transport[..]].concat()))
    };
    // Each header: next, length, padding option.
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    bench.frame("none", "a0", &with(&[], UDP), pass(Reason::Flow, "ask"));
    bench.frame("hop-by-hop", "a0", &with(&options(UDP), 0), pass(Reason::Established, "ask"));
    let two = [options(60), options(UDP)].concat();
    bench.frame("hop-by-hop, destination options", "a0", &with(&two, 0), pass(Reason::Established, "ask"));
    let late = [options(0), options(UDP)].concat();
    bench.frame("hop-by-hop behind another", "a0", &with(&late, 60), drop(Reason::MalformedIpv6));
    let six = [options(60), options(60), options(60), options(60), options(60), options(UDP)].concat();
    bench.frame("six", "a0", &with(&six, 60), pass(Reason::Established, "ask"));
    let seven =
        [options(60), options(60), options(60), options(60), options(60), options(60), options(UDP)].concat();
    bench.frame("seven", "a0", &with(&seven, 60), drop(Reason::ExtensionHeaders));
    bench.frame(
        "routing header type 0",
        "a0",
        &with(&[UDP, 0, 0, 0, 0, 0, 0, 0], 43),
        drop(Reason::SourceRoute),
    );
    bench.frame(
        "routing header type 2",
        "a0",
        &with(&[UDP, 0, 2, 0, 0, 0, 0, 0], 43),
        pass(Reason::Established, "ask"),
    );
    bench.frame("segments left", "a0", &with(&[UDP, 0, 4, 1, 0, 0, 0, 0], 43), drop(Reason::SourceRoute));
    bench.frame(
        "authentication",
        "a0",
        &with(&[UDP, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], 51),
        pass(Reason::Established, "ask"),
    );
    let long = [UDP, 200, 1, 4, 0, 0, 0, 0];
    bench.frame("length beyond the packet", "a0", &with(&long, 60), drop(Reason::MalformedIpv6));
    bench.frame("no next header", "a0", &with(&[], 59), drop(Reason::NoFlow));
}

#[test]
fn promise_6_no_header_is_read_before_its_place() {
    let mut bench = Bench::ward_on_any_link();
    // Destination options that reach beyond what is read, and in them, where reading ends, a UDP header
    // for a port that is allowed. The real one behind them asks for another.
    let (begin, end_of_reading) = (14 + 40, 1023);
    let mut options = vec![0; 1200];
    options[..2].copy_from_slice(&[UDP, 149]);
    options[end_of_reading - begin..][..12].copy_from_slice(&udp_header((1, 53), 4));
    let chain = [&options[..], &udp_header((1, 445), 4)].concat();
    let frame = packet("fd00:1::5", "fd00:2::5", 60, &chain);
    bench.frame("a header within options", "a0", &frame, drop(Reason::Truncated));
    assert_eq!(bench.live(), 0);
}

#[test]
fn promise_6_ipv6_that_contradicts_itself_is_dropped() {
    let mut bench = Bench::ward_on_any_link();
    let good = udp("fd00:1::5", "fd00:2::5", (1, 53));
    let cases = [
        ("half a header", cut(good.clone(), 34), Reason::Truncated),
        ("header alone", cut(good.clone(), 54), Reason::Truncated),
        ("payload cut", cut(good.clone(), good.len() - 1), Reason::Truncated),
        ("version 4", altered(good.clone(), 14, &[0x40]), Reason::MalformedIpv6),
        ("payload length beyond the frame", altered(good.clone(), 18, &[0x05, 0xdc]), Reason::Truncated),
        ("payload length of 4", altered(good.clone(), 18, &[0, 4]), Reason::MalformedTransport),
        (
            "ICMP over IPv6",
            packet("fd00:1::5", "fd00:2::5", 1, &icmp_header(8, 0, [1, 1])),
            Reason::MalformedTransport,
        ),
    ];
    for (what, frame, reason) in cases {
        bench.frame(what, "a0", &frame, drop(reason));
    }
}

#[test]
fn large_frames_are_read_whole() {
    let mut bench = Bench::ward_on_any_link();
    let large = packet(FROM, TO, UDP, &udp_header((1, 53), 8_000));
    bench.frame("a jumbo frame", "a0", &large, pass(Reason::Flow, "ask"));
    let cut_off = cut(large, 5_000);
    bench.frame("a jumbo frame cut off", "a0", &cut_off, drop(Reason::Truncated));
    let segment = [tcp_header((1, 104), SYN), vec![0; 6_000]].concat();
    bench.frame("a jumbo segment", "a0", &packet(FROM, TO, TCP, &segment), pass(Reason::Flow, "store"));
}
