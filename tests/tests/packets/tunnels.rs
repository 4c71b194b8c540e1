//! Promise 5: access that must come through a tunnel is open to what comes through it, and to nothing else.

use clinigate::policy::model::{Condition, Policy, Rule};
use clinigate::policy::{SourceFile, resolve};
use gateway_common::reason::Reason;

use crate::bench::{Bench, drop, drop_by, pass};
use crate::frame::{ACK, FIN, ICMP, RST, SYN, icmp_header, packet, tcp, udp};

const SECOND: u64 = 1_000_000_000;
/// When a bench begins.
const START: u64 = 3600 * SECOND;

/// A scanner that a vendor maintains through `IPsec`, sends its readings to one through a carrier, and shows its pages to
/// one from the open network alone.
const CLINIC: &str = r"
interfaces:
  b0: { access: beta }
  w0: { wan: true }
  w1: { wan: true }
  t0: { wan: true, tunnel: ipsec }
  t1: { wan: true, tunnel: ipsec }
  v0: { wan: true, tunnel: ip-vpn }
segments:
  beta: { subnets: [10.0.2.0/24] }
flows:
  - { name: reads, from: wan, to: 10.0.2.5, services: [tcp/8443] }
vendors:
  maker:
    sources: [203.0.113.5]
    access:
      - { name: repair, to: 10.0.2.5, services: [tcp/22, udp/500], through: ipsec }
      - { name: pages, to: 10.0.2.5, services: [tcp/443], through: direct }
      - { name: reads-first, to: 10.0.2.5, services: [tcp/9443], through: ipsec }
";

fn policy(text: &str) -> Policy {
    let resolved = resolve(vec![SourceFile::new("policy.yaml", text)]);
    let Some(policy) = resolved.policy else { panic!("{:#?}", resolved.diagnostics) };
    policy
}

/// With its rules in one table, and in layers; and with interfaces that have no link layer.
fn benches(policy: &Policy) -> [Bench; 3] {
    let [one, layered] = Bench::both(policy);
    [one, layered, Bench::of_policy(policy).without_link_layer()]
}

fn asks(port: u16, service: u16, flags: u8) -> Vec<u8> {
    tcp("203.0.113.5", "10.0.2.5", (port, service), flags)
}

fn answers(port: u16, service: u16, flags: u8) -> Vec<u8> {
    tcp("10.0.2.5", "203.0.113.5", (service, port), flags)
}

/// An error from `from` to `to`, fragmentation needed, about a frame.
fn error(from: &str, to: &str, about: &[u8]) -> Vec<u8> {
    packet(from, to, ICMP, &[&icmp_header(3, 4, [0, 1400])[..], &about[14..42]].concat())
}

/// Opens a connection through `interface`, to its handshake's end.
fn open(bench: &mut Bench, interface: &str, port: u16, service: u16, rule: &'static str) {
    bench.frame("SYN", interface, &asks(port, service, SYN), pass(Reason::Flow, rule));
    bench.frame("SYN-ACK", "b0", &answers(port, service, SYN | ACK), pass(Reason::Established, rule));
    bench.frame("ACK", interface, &asks(port, service, ACK), pass(Reason::Established, rule));
}

#[test]
fn promise_5_access_through_a_tunnel_is_open_to_what_comes_through_it_alone() {
    for mut bench in benches(&policy(CLINIC)) {
        bench.frame("from the open network", "w0", &asks(1, 22, SYN), drop(Reason::NoFlow));
        bench.frame("through another tunnel", "v0", &asks(1, 22, SYN), drop(Reason::NoFlow));
        bench.frame(
            "through it, somebody else",
            "t0",
            &tcp("203.0.113.6", "10.0.2.5", (1, 22), SYN),
            drop(Reason::NoFlow),
        );
        bench.frame("through it, another service", "t0", &asks(1, 23, SYN), drop(Reason::NoFlow));
        assert_eq!(bench.live(), 0);
        open(&mut bench, "t0", 1, 22, "repair");
        open(&mut bench, "t1", 2, 22, "repair");
        // The other way round.
        bench.frame("pages through a tunnel", "t0", &asks(3, 443, SYN), drop(Reason::NoFlow));
        open(&mut bench, "w1", 3, 443, "pages");
        // What says nothing about the way is open to all of them.
        open(&mut bench, "w0", 4, 8443, "reads");
        open(&mut bench, "v0", 5, 8443, "reads");
    }
}

/// Whoever knows the numbers of a session, and forges its packets on the open network.
#[test]
fn promise_5_forged_packets_of_a_tunnels_session_neither_pass_nor_end_it() {
    for mut bench in benches(&policy(CLINIC)) {
        open(&mut bench, "t0", 1, 22, "repair");
        for (what, flags) in [("data", ACK), ("the end", FIN | ACK), ("a reset", RST), ("a new one", SYN)] {
            for interface in ["w0", "v0"] {
                bench.frame(what, interface, &asks(1, 22, flags), drop(Reason::NoFlow));
            }
        }
        // Named by the error is what the scanner sent: it says that its packet did not arrive.
        let report = error("203.0.113.5", "10.0.2.5", &answers(1, 22, ACK));
        bench.frame("an error from outside", "w0", &report, drop(Reason::NoFlow));
        bench.frame("an error from inside", "t0", &report, pass(Reason::Related, "repair"));
        let report = error("10.0.2.5", "203.0.113.5", &asks(1, 22, ACK));
        bench.frame("an error of the scanner", "b0", &report, pass(Reason::Related, "repair"));
        bench.frame("answers", "b0", &answers(1, 22, ACK), pass(Reason::Established, "repair"));
        bench.frame("it goes on", "t0", &asks(1, 22, ACK), pass(Reason::Established, "repair"));
        bench.frame("also by another end", "t1", &asks(1, 22, ACK), pass(Reason::Established, "repair"));
        bench.frame("its own end", "t0", &asks(1, 22, FIN | ACK), pass(Reason::Established, "repair"));
        bench.frame("and after it", "w0", &asks(1, 22, SYN), drop(Reason::NoFlow));
        assert_eq!(bench.counters().health.connections_revoked, 0);
        // UDP has no handshake to forge.
        let query = udp("203.0.113.5", "10.0.2.5", (9, 500));
        let reply = udp("10.0.2.5", "203.0.113.5", (500, 9));
        bench.frame("query", "t0", &query, pass(Reason::Flow, "repair"));
        bench.frame("forged", "w0", &query, drop(Reason::NoFlow));
        bench.frame("reply", "b0", &reply, pass(Reason::Established, "repair"));
        bench.frame("forged stream", "w1", &query, drop(Reason::NoFlow));
        bench.frame("stream", "t0", &query, pass(Reason::Established, "repair"));
    }
}

#[test]
fn promise_5_nothing_is_taken_up_in_its_middle_outside_its_tunnel() {
    let text = format!("{CLINIC}settings: {{ midstream: true }}\n");
    for mut bench in benches(&policy(&text)) {
        bench.frame("from outside", "w0", &asks(1, 22, ACK), drop(Reason::NoFlow));
        bench.frame("from the scanner", "b0", &answers(1, 22, ACK), drop(Reason::NoFlow));
        bench.frame("through it", "t0", &asks(1, 22, ACK), pass(Reason::MidStream, "repair"));
        bench.frame("answers", "b0", &answers(1, 22, ACK), pass(Reason::Established, "repair"));
        bench.frame("from outside again", "w0", &asks(1, 22, ACK), drop(Reason::NoFlow));
        bench.frame("what has no tunnel", "b0", &answers(2, 8443, ACK), pass(Reason::MidStream, "reads"));
    }
}

/// Time, grant and tunnel together; and the end of the time cuts also what comes through the tunnel.
#[test]
fn promise_5_where_time_and_tunnel_are_wanted_both_must_be() {
    let mut policy = policy(CLINIC);
    policy.conditions = vec![Condition { intervals: vec![(START + 10 * SECOND, START + 20 * SECOND)] }];
    let repair = policy.rules.iter_mut().find(|rule| rule.name == "repair").unwrap();
    repair.condition = Some(0);
    for mut bench in benches(&policy) {
        bench.frame("too early", "t0", &asks(1, 22, SYN), drop(Reason::NoFlow));
        bench.wait(10);
        bench.frame("outside", "w0", &asks(1, 22, SYN), drop(Reason::NoFlow));
        open(&mut bench, "t0", 1, 22, "repair");
        open(&mut bench, "t0", 2, 22, "repair");
        bench.wait(10);
        bench.frame("forged after its end", "w0", &asks(1, 22, ACK), drop(Reason::NoFlow));
        assert_eq!(bench.counters().health.connections_revoked, 0, "it is not the forger's to end");
        bench.frame("its end, for the scanner", "b0", &answers(1, 22, ACK), drop(Reason::Revoked));
        bench.frame("its end, for the vendor", "t0", &asks(2, 22, ACK), drop(Reason::Revoked));
        assert_eq!((bench.live(), bench.counters().health.connections_revoked), (0, 2));
    }
}

/// A rule without a tunnel carries on what may also come otherwise, and a deny goes before all.
#[test]
fn a_rule_without_a_tunnel_stands_beside_one_with_it() {
    let mut policy = policy(CLINIC);
    let services = policy.rules.iter().find(|rule| rule.name == "reads-first").unwrap().services.clone();
    policy.rules.iter_mut().find(|rule| rule.name == "reads").unwrap().services = services;
    // The first that allows is the one that is named.
    policy.rules.sort_by_key(|rule| rule.name != "reads-first");
    for mut bench in benches(&policy) {
        open(&mut bench, "t0", 1, 9443, "reads-first");
        open(&mut bench, "w0", 2, 9443, "reads");
        bench.frame("by another way", "w0", &asks(1, 9443, ACK), pass(Reason::Established, "reads"));
        bench.frame("and back", "t0", &asks(1, 9443, ACK), pass(Reason::Established, "reads-first"));
        bench.frame("answers", "b0", &answers(1, 9443, ACK), pass(Reason::Established, "reads-first"));
    }
    let forbidden = format!("{CLINIC}deny:\n  - {{ name: never, from: 203.0.113.5, services: [tcp/22] }}\n");
    let policy = self::policy(&forbidden);
    for mut bench in benches(&policy) {
        bench.frame("denied", "t0", &asks(1, 22, SYN), drop_by(Reason::Denied, "never"));
    }
}

/// A policy that wants another way cuts what runs, whichever end speaks first; a forged packet before that does not.
#[test]
fn promise_5_another_policy_judges_what_runs_by_where_it_lives() {
    let open_to_all = CLINIC.replace(", through: ipsec", "");
    for speaks_first in [true, false] {
        let mut bench = Bench::of_policy(&policy(&open_to_all));
        open(&mut bench, "t0", 1, 22, "repair");
        open(&mut bench, "w0", 2, 22, "repair");
        bench.swap_policy(&policy(CLINIC));
        bench.frame("forged", "w0", &asks(1, 22, ACK), drop(Reason::NoFlow));
        if speaks_first {
            bench.frame("outside", "w0", &asks(2, 22, ACK), drop(Reason::Revoked));
            bench.frame("inside", "t0", &asks(1, 22, ACK), pass(Reason::Established, "repair"));
        } else {
            bench.frame("outside", "b0", &answers(2, 22, ACK), drop(Reason::Revoked));
            bench.frame("inside", "b0", &answers(1, 22, ACK), pass(Reason::Established, "repair"));
            bench.frame("and again", "b0", &answers(1, 22, ACK), pass(Reason::Established, "repair"));
        }
        bench.frame("still forged", "w0", &asks(1, 22, ACK), drop(Reason::NoFlow));
        // The interface is the end of another tunnel, or of none.
        bench.swap_policy(&policy(&CLINIC.replace("t0: { wan: true, tunnel: ipsec }", "t0: { wan: true }")));
        bench.frame("its tunnel is gone", "t0", &asks(1, 22, ACK), drop(Reason::Revoked));
        assert_eq!(bench.live(), 0);
    }
}

/// Whoever asks for a tunnel that ends nowhere has asked for nothing, and the rules beside it are as they were.
#[test]
fn promise_5_access_through_a_tunnel_that_ends_nowhere_is_closed() {
    let policy = policy(
        &CLINIC
            .replace("t0: { wan: true, tunnel: ipsec }", "t0: { wan: true }")
            .replace("t1: { wan: true, tunnel: ipsec }", "t1: { wan: true }"),
    );
    let closed: Vec<&Rule> = policy.rules.iter().filter(|rule| !rule.is_active()).collect();
    assert_eq!(closed.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["repair", "reads-first"]);
    for mut bench in benches(&policy) {
        for interface in ["t0", "w0", "v0"] {
            bench.frame("closed", interface, &asks(1, 22, SYN), drop(Reason::NoFlow));
        }
        open(&mut bench, "w0", 2, 443, "pages");
    }
}

/// What has no link layer begins with its version: of what is no IP nobody knows anything.
#[test]
fn promise_6_without_a_link_layer_what_is_no_ip_is_dropped() {
    let bench = Bench::of_policy(&policy(CLINIC));
    let sound = asks(1, 22, SYN)[14..].to_vec();
    let passed = bench.packet("t0", &sound);
    assert!(passed.passed() && passed.frame == sound, "it goes on as it came");
    for version in (0..16).filter(|version| *version != 4) {
        let mut packet = sound.clone();
        packet[0] = packet[0] & 0x0f | version << 4;
        assert!(!bench.packet("t0", &packet).passed(), "version {version}");
    }
    for length in 14..sound.len() {
        assert!(!bench.packet("t0", &sound[..length]).passed(), "{length} bytes");
    }
    let counted = bench.counters().pairs;
    let of = |reason| -> u64 {
        let those = counted.iter().filter(|(key, _)| key.reason == reason);
        those.map(|(_, counter)| counter.packets).sum()
    };
    // All versions but 6, which is too short; and all lengths.
    assert_eq!((of(Reason::Flow), of(Reason::UnlistedEtherType)), (1, 14));
    assert_eq!(of(Reason::Truncated) + of(Reason::MalformedIpv6) + of(Reason::MalformedTransport), 1 + 26);
}
