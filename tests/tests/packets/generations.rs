//! Promises 7 and 8: one packet, one generation; revocation is immediate, and what stays allowed
//! loses no packet.

use gateway_common::reason::Reason;

use crate::bench::{Bench, WARD, drop, drop_by, pass};
use crate::frame::{ACK, SYN, echo, packet, tcp, udp};

fn without(flow: &str) -> String {
    let lines: Vec<_> = WARD.lines().filter(|line| !line.contains(&format!("name: {flow},"))).collect();
    assert_eq!(lines.len() + 1, WARD.lines().count(), "{flow} is one line");
    lines.join("\n")
}

fn open(bench: &mut Bench) {
    bench.frame("SYN", "a0", &tcp("10.0.1.5", "10.0.2.5", (1, 104), SYN), pass(Reason::Flow, "store"));
    bench.frame(
        "SYN-ACK",
        "b0",
        &tcp("10.0.2.5", "10.0.1.5", (104, 1), SYN | ACK),
        pass(Reason::Established, "store"),
    );
    bench.frame("ACK", "a0", &tcp("10.0.1.5", "10.0.2.5", (1, 104), ACK), pass(Reason::Established, "store"));
}

#[test]
fn promise_8_a_connection_that_stays_allowed_goes_on() {
    let mut bench = Bench::ward();
    open(&mut bench);
    bench.swap(&without("ask"));
    bench.frame(
        "initiator",
        "a0",
        &tcp("10.0.1.5", "10.0.2.5", (1, 104), ACK),
        pass(Reason::Established, "store"),
    );
    bench.frame(
        "responder",
        "b0",
        &tcp("10.0.2.5", "10.0.1.5", (104, 1), ACK),
        pass(Reason::Established, "store"),
    );
    bench.swap(WARD);
    bench.frame(
        "responder first",
        "b0",
        &tcp("10.0.2.5", "10.0.1.5", (104, 1), ACK),
        pass(Reason::Established, "store"),
    );
    assert_eq!(bench.counters().health.connections_revalidated, 2, "judged once a generation");
}

#[test]
fn promise_8_a_revoked_connection_stops_at_its_next_packet() {
    for responder_first in [false, true] {
        let mut bench = Bench::ward();
        open(&mut bench);
        bench.swap(&without("store"));
        let forth = ("a0", tcp("10.0.1.5", "10.0.2.5", (1, 104), ACK));
        let back = ("b0", tcp("10.0.2.5", "10.0.1.5", (104, 1), ACK));
        let (first, second) = if responder_first { (back, forth) } else { (forth, back) };
        bench.frame("next packet", first.0, &first.1, drop(Reason::Revoked));
        bench.frame("and all after it", second.0, &second.1, drop(Reason::NotInConnection));
        assert_eq!(bench.live(), 0);
        bench.swap(WARD);
        bench.frame(
            "it does not come back",
            "a0",
            &tcp("10.0.1.5", "10.0.2.5", (1, 104), ACK),
            drop(Reason::NotInConnection),
        );
    }
}

#[test]
fn promise_8_a_new_deny_cuts() {
    let mut bench = Bench::ward();
    open(&mut bench);
    bench.frame("echo", "a0", &echo("10.0.1.5", "10.0.2.5", 8, 4), pass(Reason::Flow, "reach"));
    bench.frame("ESP", "a0", &packet("10.0.1.5", "10.0.2.5", 50, &[0; 16]), pass(Reason::Flow, "tunnel"));
    bench.swap(&format!("{WARD}  - {{ name: quarantine, from: [10.0.1.5], to: [beta], services: [any] }}\n"));
    bench.frame(
        "TCP",
        "b0",
        &tcp("10.0.2.5", "10.0.1.5", (104, 1), ACK),
        drop_by(Reason::Revoked, "quarantine"),
    );
    bench.frame(
        "echo reply",
        "b0",
        &echo("10.0.2.5", "10.0.1.5", 0, 4),
        drop_by(Reason::Revoked, "quarantine"),
    );
    bench.frame(
        "ESP",
        "a0",
        &packet("10.0.1.5", "10.0.2.5", 50, &[0; 16]),
        drop_by(Reason::Revoked, "quarantine"),
    );
}

/// A rule that names the initiator's ports is asked with them again: by packets of either end.
#[test]
fn promise_8_source_ports_decide_after_a_change_too() {
    let with = |source: &str| {
        let flow = "\nflows:\n  - { name: print, from: [alpha], to: [beta], services: [spooler] }\n";
        let ports =
            format!("tcp: [{{ ports: 515, source: {source} }}], udp: [{{ ports: 514, source: {source} }}]");
        let service = format!("\nservices:\n  spooler: {{ {ports}, class: infrastructure }}\n");
        WARD.replace("\nflows:\n", flow) + &service
    };
    let tcp = |back: bool, flags| {
        let ends = [("10.0.1.5", 721), ("10.0.2.5", 515)];
        let [from, to] = if back { [ends[1], ends[0]] } else { ends };
        tcp(from.0, to.0, (from.1, to.1), flags)
    };
    let udp = |back: bool| {
        let ends = [("10.0.1.5", 731), ("10.0.2.5", 514)];
        let [from, to] = if back { [ends[1], ends[0]] } else { ends };
        udp(from.0, to.0, (from.1, to.1))
    };
    let opened = || {
        let mut bench = Bench::new(&with("721-731"));
        bench.frame("SYN", "a0", &tcp(false, SYN), pass(Reason::Flow, "print"));
        bench.frame("SYN-ACK", "b0", &tcp(true, SYN | ACK), pass(Reason::Established, "print"));
        bench.frame("datagram", "a0", &udp(false), pass(Reason::Flow, "print"));
        bench
    };
    let sides = [("a0", false), ("b0", true)];
    for (interface, back) in sides {
        let mut bench = opened();
        bench.swap(&with("700-731"));
        bench.frame("TCP, allowed still", interface, &tcp(back, ACK), pass(Reason::Established, "print"));
        bench.frame("UDP, allowed still", interface, &udp(back), pass(Reason::Established, "print"));
        let mut bench = opened();
        bench.swap(&with("722-730"));
        bench.frame("TCP below the ports", interface, &tcp(back, ACK), drop(Reason::Revoked));
        bench.frame("UDP above the ports", interface, &udp(back), drop(Reason::Revoked));
        let mut bench = opened();
        bench.swap(&with("515"));
        bench.frame("the listener's port", interface, &tcp(back, ACK), drop(Reason::Revoked));
        let mut bench = opened();
        bench.swap(WARD);
        bench.frame("the service is gone", interface, &udp(back), drop(Reason::Revoked));
    }
}

#[test]
fn promise_8_an_echo_that_stays_allowed_goes_on() {
    let mut bench = Bench::ward();
    let ends = [("10.0.1.5", "10.0.2.5", 8, 0), ("fd00:1::5", "fd00:2::5", 128, 129)];
    for (from, to, request, _) in ends {
        bench.frame("echo", "a0", &echo(from, to, request, 4), pass(Reason::Flow, "reach"));
    }
    bench.swap(&without("ask"));
    for (from, to, request, reply) in ends {
        bench.frame("its reply", "b0", &echo(to, from, reply, 4), pass(Reason::Established, "reach"));
        bench.frame("the next", "a0", &echo(from, to, request, 4), pass(Reason::Established, "reach"));
    }
    bench.swap(&without("reach"));
    for (from, to, _, reply) in ends {
        bench.frame("no longer", "b0", &echo(to, from, reply, 4), drop(Reason::Revoked));
    }
}

#[test]
fn promise_8_an_icmp_error_does_not_revive_a_revoked_connection() {
    let mut bench = Bench::ward();
    bench.frame("query", "a0", &udp("10.0.1.5", "10.0.2.5", (1, 53)), pass(Reason::Flow, "ask"));
    bench.swap(&without("ask"));
    let quoted = crate::frame::network("10.0.1.5", "10.0.2.5", 17, &crate::frame::udp_header((1, 53), 4));
    let error =
        packet("10.0.2.5", "10.0.1.5", 1, &[&crate::frame::icmp_header(3, 3, [0, 0])[..], &quoted].concat());
    bench.frame("port unreachable", "b0", &error, drop(Reason::Revoked));
}

#[test]
fn promise_8_another_rule_takes_over() {
    let mut bench = Bench::ward();
    open(&mut bench);
    let renamed = WARD.replace("name: store,", "name: archive,");
    bench.swap(&renamed);
    bench.frame(
        "judged anew",
        "a0",
        &tcp("10.0.1.5", "10.0.2.5", (1, 104), ACK),
        pass(Reason::Established, "archive"),
    );
}

#[test]
fn promise_5_a_moved_segment_is_noticed() {
    let mut bench = Bench::ward();
    open(&mut bench);
    // The ports of alpha and beta are swapped: every host now stands on the wrong side.
    let moved = WARD
        .replace("a0: { access: 10 }", "a0: { access: 99 }")
        .replace("b0: { access: 20 }", "b0: { access: 10 }")
        .replace("a0: { access: 99 }", "a0: { access: 20 }");
    bench.swap(&moved);
    bench.frame("client", "a0", &tcp("10.0.1.5", "10.0.2.5", (1, 104), ACK), drop(Reason::Spoofed));
    bench.frame("server", "b0", &tcp("10.0.2.5", "10.0.1.5", (104, 1), ACK), drop(Reason::Spoofed));
    bench.frame(
        "client where it now belongs",
        "b0",
        &tcp("10.0.1.5", "10.0.2.5", (1, 104), ACK),
        pass(Reason::Established, "store"),
    );
    // The connection goes on; where its other end was before counts no longer.
    bench.frame(
        "server where it was",
        "b0",
        &tcp("10.0.2.5", "10.0.1.5", (104, 1), ACK),
        drop(Reason::Spoofed),
    );
    bench.frame(
        "server where it now belongs",
        "a0",
        &tcp("10.0.2.5", "10.0.1.5", (104, 1), ACK),
        pass(Reason::Established, "store"),
    );
}
