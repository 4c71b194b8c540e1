//! Promise 3: ICMP errors pass where they quote a packet of a connection; path MTU discovery depends
//! on it.

use gateway_common::reason::Reason;

use crate::bench::{Bench, drop, pass};
use crate::frame::{
    ACK, ICMP, ICMPV6, SYN, TCP, UDP, echo, icmp_header, network, packet, tcp, tcp_header, udp_header,
};

/// An error from `from` to `to` that quotes `quoted`.
fn error(from: &str, to: &str, kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    let protocol = if from.contains(':') { ICMPV6 } else { ICMP };
    packet(from, to, protocol, &[&icmp_header(kind, code, [0, 1_400])[..], quoted].concat())
}

#[test]
fn promise_3_errors_that_quote_a_connection_pass() {
    let mut bench = Bench::ward_on_any_link();
    bench.frame("SYN", "a0", &tcp("10.0.1.5", "10.0.2.5", (1, 104), SYN), pass(Reason::Flow, "store"));
    bench.frame(
        "SYN-ACK",
        "b0",
        &tcp("10.0.2.5", "10.0.1.5", (104, 1), SYN | ACK),
        pass(Reason::Established, "store"),
    );
    let sent = network("10.0.1.5", "10.0.2.5", TCP, &tcp_header((1, 104), ACK));
    let too_big = error("10.0.2.254", "10.0.1.5", 3, 4, &sent[..28]);
    bench.frame("fragmentation needed", "b0", &too_big, pass(Reason::Related, "store"));
    let answered = network("10.0.2.5", "10.0.1.5", TCP, &tcp_header((104, 1), ACK));
    bench.frame(
        "about the answer",
        "a0",
        &error("10.0.1.254", "10.0.2.5", 11, 0, &answered[..28]),
        pass(Reason::Related, "store"),
    );
    bench.frame(
        "to somebody else",
        "b0",
        &error("10.0.2.254", "10.0.1.6", 3, 4, &sent[..28]),
        drop(Reason::UnrelatedIcmp),
    );
    let never = network("10.0.1.5", "10.0.2.5", TCP, &tcp_header((2, 104), ACK));
    bench.frame(
        "about nothing",
        "b0",
        &error("10.0.2.254", "10.0.1.5", 3, 4, &never[..28]),
        drop(Reason::UnrelatedIcmp),
    );
    bench.frame("spoofed", "w0", &too_big, drop(Reason::Spoofed));
    bench.frame(
        "quote cut short",
        "b0",
        &error("10.0.2.254", "10.0.1.5", 3, 4, &sent[..20]),
        drop(Reason::MalformedTransport),
    );
    bench.frame(
        "quote is no packet",
        "b0",
        &error("10.0.2.254", "10.0.1.5", 3, 4, &[0; 28]),
        drop(Reason::MalformedTransport),
    );
    let later = {
        let mut later = sent.clone();
        later[7] = 9;
        later
    };
    bench.frame(
        "quotes a later fragment",
        "b0",
        &error("10.0.2.254", "10.0.1.5", 3, 4, &later[..28]),
        drop(Reason::UnrelatedIcmp),
    );
    // A message without an identifier must not pass for the echo with identifier 0.
    bench.frame("echo", "a0", &echo("10.0.1.5", "10.0.2.5", 8, 0), pass(Reason::Flow, "reach"));
    let about_error = network("10.0.1.5", "10.0.2.5", ICMP, &icmp_header(3, 4, [0, 0]));
    bench.frame(
        "an error about an error",
        "b0",
        &error("10.0.2.254", "10.0.1.5", 3, 4, &about_error),
        drop(Reason::UnrelatedIcmp),
    );
}

#[test]
fn promise_3_icmpv6_errors() {
    let mut bench = Bench::ward_on_any_link();
    let query = crate::frame::udp("fd00:1::5", "fd00:2::5", (1, 53));
    bench.frame("query", "a0", &query, pass(Reason::Flow, "ask"));
    let sent = network("fd00:1::5", "fd00:2::5", UDP, &udp_header((1, 53), 4));
    bench.frame(
        "packet too big",
        "b0",
        &error("fd00:2::fe", "fd00:1::5", 2, 0, &sent),
        pass(Reason::Related, "ask"),
    );
    bench.frame(
        "port unreachable",
        "b0",
        &error("fd00:2::5", "fd00:1::5", 1, 4, &sent),
        pass(Reason::Related, "ask"),
    );
    bench.frame(
        "to somebody else",
        "b0",
        &error("fd00:2::fe", "fd00:1::6", 2, 0, &sent),
        drop(Reason::UnrelatedIcmp),
    );
    bench.frame("echo", "a0", &echo("fd00:1::5", "fd00:2::5", 128, 3), pass(Reason::Flow, "reach"));
    let sent = network("fd00:1::5", "fd00:2::5", ICMPV6, &icmp_header(128, 0, [3, 1]));
    bench.frame(
        "about an echo",
        "b0",
        &error("fd00:2::fe", "fd00:1::5", 3, 0, &sent),
        pass(Reason::Related, "reach"),
    );
}

#[test]
fn redirects_and_the_like_need_a_flow() {
    let mut bench = Bench::ward_on_any_link();
    bench.frame(
        "redirect",
        "a0",
        &packet("10.0.1.5", "10.0.1.1", ICMP, &icmp_header(5, 0, [0, 0])),
        drop(Reason::NoFlow),
    );
    bench.frame(
        "source quench",
        "a0",
        &packet("10.0.1.5", "10.0.2.5", ICMP, &icmp_header(4, 0, [0, 0])),
        drop(Reason::NoFlow),
    );
}
