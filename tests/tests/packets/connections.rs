//! Promise 3: a flow allows the connection that its initiator opens, in both directions.

use gateway_common::reason::Reason;

use crate::bench::{Bench, WARD, drop, drop_by, pass};
use crate::frame::{ACK, FIN, RST, SYN, VLAN, echo, packet, tagged, tcp, udp};

const CLIENT: &str = "10.0.1.5";
const SERVER: &str = "10.0.2.5";
const PORTS: (u16, u16) = (40_000, 104);
const BACK: (u16, u16) = (104, 40_000);

fn from_client(flags: u8) -> Vec<u8> {
    tcp(CLIENT, SERVER, PORTS, flags)
}

fn from_server(flags: u8) -> Vec<u8> {
    tcp(SERVER, CLIENT, BACK, flags)
}

fn established() -> Bench {
    let mut bench = Bench::ward();
    bench.frame("SYN", "a0", &from_client(SYN), pass(Reason::Flow, "store"));
    bench.frame("SYN-ACK", "b0", &from_server(SYN | ACK), pass(Reason::Established, "store"));
    bench.frame("ACK", "a0", &from_client(ACK), pass(Reason::Established, "store"));
    bench
}

#[test]
fn promise_3_both_directions_of_a_tcp_connection() {
    let mut bench = established();
    bench.frame_between(
        "data",
        "a0",
        &from_client(ACK | 8),
        pass(Reason::Established, "store"),
        ("alpha", "beta"),
    );
    bench.frame_between(
        "answer",
        "b0",
        &from_server(ACK | 8),
        pass(Reason::Established, "store"),
        ("beta", "alpha"),
    );
    bench.frame(
        "another port of the server",
        "b0",
        &tcp(SERVER, CLIENT, (105, 40_000), ACK),
        drop(Reason::NotInConnection),
    );
    bench.frame(
        "another port of the client",
        "b0",
        &tcp(SERVER, CLIENT, (104, 40_001), ACK),
        drop(Reason::NotInConnection),
    );
    bench.frame("a SYN back", "b0", &tcp(SERVER, CLIENT, (40_000, 104), SYN), drop(Reason::NoFlow));
    bench.frame("UDP on its ports", "b0", &udp(SERVER, CLIENT, BACK), drop(Reason::NoFlow));
    assert_eq!(bench.live(), 1);
}

#[test]
fn promise_3_the_other_end_opens_nothing_on_the_same_ports() {
    let mut bench = established();
    bench.frame("SYN of the listener", "b0", &from_server(SYN), drop(Reason::NoFlow));
    bench.frame("which disturbs nothing", "b0", &from_server(ACK), pass(Reason::Established, "store"));
    bench.frame("SYN of the initiator", "a0", &from_client(SYN), pass(Reason::Established, "store"));
    // Both ends open at once (RFC 9293, 3.5).
    let mut bench = Bench::ward();
    bench.frame("SYN", "a0", &from_client(SYN), pass(Reason::Flow, "store"));
    bench.frame("SYN of the other end", "b0", &from_server(SYN), pass(Reason::Established, "store"));
}

#[test]
fn promise_3_a_tcp_packet_without_a_connection_is_dropped() {
    let mut bench = Bench::ward();
    for flags in [ACK, SYN | ACK, FIN | ACK, RST, RST | ACK] {
        let what = format!("flags {flags:#x}");
        bench.frame(&what, "a0", &from_client(flags), drop(Reason::NotInConnection));
    }
    assert_eq!(bench.live(), 0);
}

#[test]
fn promise_3_midstream_pickup_where_the_policy_turns_it_on() {
    let mut bench = Bench::new(&format!("{WARD}\nsettings: {{ midstream: true }}\n"));
    bench.frame("a reset takes nothing up", "a0", &from_client(RST), drop(Reason::NotInConnection));
    bench.frame("taken up by the listener", "b0", &from_server(ACK), pass(Reason::MidStream, "store"));
    bench.frame("goes on", "a0", &from_client(ACK), pass(Reason::Established, "store"));
    bench.frame("and on", "b0", &from_server(ACK), pass(Reason::Established, "store"));
    let other = tcp("10.0.1.6", SERVER, PORTS, ACK);
    bench.frame("taken up by the initiator", "a0", &other, pass(Reason::MidStream, "store"));
    bench.frame("no flow, no pickup", "a0", &tcp(CLIENT, SERVER, (1, 105), ACK), drop(Reason::NoFlow));
    let denied = tcp("10.0.1.66", SERVER, PORTS, ACK);
    bench.frame("denied, no pickup", "a0", &denied, drop_by(Reason::Denied, "lost-device"));
    bench.frame("listener of a denied one", "b0", &tcp(SERVER, "10.0.1.66", BACK, ACK), drop(Reason::NoFlow));
}

#[test]
fn promise_3_closing() {
    let mut bench = established();
    bench.frame("FIN", "a0", &from_client(FIN | ACK), pass(Reason::Established, "store"));
    bench.frame("its ACK", "b0", &from_server(ACK), pass(Reason::Established, "store"));
    bench.wait(100);
    bench.frame("half open still carries", "b0", &from_server(ACK | 8), pass(Reason::Established, "store"));
    bench.frame("FIN back", "b0", &from_server(FIN | ACK), pass(Reason::Established, "store"));
    bench.frame("last ACK", "a0", &from_client(ACK), pass(Reason::Established, "store"));
    bench.wait(61);
    assert_eq!(bench.live(), 0);
    bench.frame("too late", "b0", &from_server(ACK), drop(Reason::NotInConnection));
}

/// Whichever end it is that sends all that it has with its first words.
#[test]
fn a_connection_that_is_closed_in_its_handshake_does_not_stay_for_a_day() {
    let mut bench = Bench::ward();
    bench.frame("SYN", "a0", &from_client(SYN), pass(Reason::Flow, "store"));
    bench.frame("SYN-ACK", "b0", &from_server(SYN | ACK), pass(Reason::Established, "store"));
    bench.frame("FIN with the ACK", "a0", &from_client(FIN | ACK), pass(Reason::Established, "store"));
    bench.frame("its ACK", "b0", &from_server(ACK), pass(Reason::Established, "store"));
    bench.wait(3_600);
    assert_eq!(bench.live(), 0);

    let mut bench = Bench::ward();
    bench.frame("SYN", "a0", &from_client(SYN), pass(Reason::Flow, "store"));
    bench.frame("SYN-ACK", "b0", &from_server(SYN | ACK), pass(Reason::Established, "store"));
    bench.frame("FIN", "b0", &from_server(FIN | ACK), pass(Reason::Established, "store"));
    bench.frame("its ACK", "a0", &from_client(ACK), pass(Reason::Established, "store"));
    bench.frame("and more", "a0", &from_client(ACK), pass(Reason::Established, "store"));
    bench.wait(3_600);
    assert_eq!(bench.live(), 0);
}

#[test]
fn promise_3_the_ports_of_a_closed_connection_can_be_used_again() {
    let mut bench = established();
    bench.frame("RST", "b0", &from_server(RST | ACK), pass(Reason::Established, "store"));
    bench.frame("SYN again", "a0", &from_client(SYN), pass(Reason::Flow, "store"));
    bench.frame("SYN-ACK again", "b0", &from_server(SYN | ACK), pass(Reason::Established, "store"));
    assert_eq!(bench.live(), 1, "it takes the place of the old one");
    bench.frame("RST", "b0", &from_server(RST | ACK), pass(Reason::Established, "store"));
    let mut turned = from_server(SYN);
    turned[36..38].copy_from_slice(&40_000_u16.to_be_bytes());
    bench.frame("a SYN the other way is judged by its own", "b0", &turned, drop(Reason::NoFlow));
}

#[test]
fn promise_3_a_forged_reset_does_not_end_a_connection() {
    let mut bench = established();
    bench.frame("RST", "b0", &from_server(RST), pass(Reason::Established, "store"));
    bench.wait(5);
    bench.frame("the ends go on", "a0", &from_client(ACK), pass(Reason::Established, "store"));
    bench.wait(3_600);
    bench.frame("and on", "b0", &from_server(ACK), pass(Reason::Established, "store"));
}

#[test]
fn nobody_fills_the_table_for_a_day_by_himself() {
    let mut bench = Bench::ward();
    bench.frame("SYN", "a0", &from_client(SYN), pass(Reason::Flow, "store"));
    bench.frame("RST", "a0", &from_client(RST), pass(Reason::Established, "store"));
    bench.frame("SYN again", "a0", &from_client(SYN), pass(Reason::Established, "store"));
    bench.frame("ACK", "a0", &from_client(ACK), pass(Reason::Established, "store"));
    bench.wait(61);
    assert_eq!(bench.live(), 0);

    // Nor where connections are taken up in their middle.
    let mut bench = Bench::new(&format!("{WARD}\nsettings: {{ midstream: true }}\n"));
    bench.frame("ACK", "a0", &from_client(ACK), pass(Reason::MidStream, "store"));
    bench.frame("ACK again", "a0", &from_client(ACK), pass(Reason::Established, "store"));
    bench.wait(61);
    assert_eq!(bench.live(), 0);
    bench.frame("of the listener", "b0", &from_server(ACK), pass(Reason::MidStream, "store"));
    bench.frame("again", "b0", &from_server(ACK), pass(Reason::Established, "store"));
    bench.wait(61);
    assert_eq!(bench.live(), 0);
    bench.frame("of one end", "a0", &from_client(ACK), pass(Reason::MidStream, "store"));
    bench.frame("and of the other", "b0", &from_server(ACK), pass(Reason::Established, "store"));
    bench.wait(24 * 3_600 - 2);
    bench.frame("a quiet day", "b0", &from_server(ACK), pass(Reason::Established, "store"));
}

#[test]
fn timeouts_depend_on_the_state() {
    // State, seconds it lives (gateway_common::connection::State::default_timeout).
    let mut bench = Bench::ward();
    bench.frame("SYN", "a0", &from_client(SYN), pass(Reason::Flow, "store"));
    bench.wait(59);
    bench.frame("in time", "b0", &from_server(SYN | ACK), pass(Reason::Established, "store"));
    bench.wait(61);
    bench.frame("handshake too slow", "a0", &from_client(ACK), drop(Reason::NotInConnection));

    let mut bench = established();
    bench.wait(24 * 3_600 - 2);
    bench.frame("a quiet day", "a0", &from_client(ACK), pass(Reason::Established, "store"));
    bench.wait(3_600);
    bench.frame("which it was not quite", "b0", &from_server(ACK), pass(Reason::Established, "store"));
    bench.wait(24 * 3_600 + 1);
    bench.frame("a longer one", "a0", &from_client(ACK), drop(Reason::NotInConnection));

    let mut bench = Bench::ward();
    let query = udp(CLIENT, SERVER, (5_000, 53));
    let answer = udp(SERVER, CLIENT, (53, 5_000));
    bench.frame("query", "a0", &query, pass(Reason::Flow, "ask"));
    bench.wait(61);
    bench.frame("answer too late", "b0", &answer, drop(Reason::NoFlow));
    bench.frame("query", "a0", &query, pass(Reason::Flow, "ask"));
    bench.frame("query, again", "a0", &query, pass(Reason::Established, "ask"));
    bench.wait(61);
    bench.frame("who asks twice waits no longer", "b0", &answer, drop(Reason::NoFlow));
    bench.frame("query", "a0", &query, pass(Reason::Flow, "ask"));
    bench.frame("answer", "b0", &answer, pass(Reason::Established, "ask"));
    bench.wait(290);
    bench.frame("a stream lives longer", "b0", &answer, pass(Reason::Established, "ask"));

    let mut bench = Bench::new(&format!("{WARD}\nsettings: {{ timeouts: {{ udp-new: 5s }} }}\n"));
    bench.frame("query", "a0", &query, pass(Reason::Flow, "ask"));
    bench.wait(6);
    bench.frame("the policy's own timeout", "b0", &answer, drop(Reason::NoFlow));
}

#[test]
fn promise_3_udp_echo_and_other_protocols() {
    let mut bench = Bench::ward();
    bench.frame("answer to nothing", "b0", &udp(SERVER, CLIENT, (53, 5_000)), drop(Reason::NoFlow));
    bench.frame("echo", "a0", &echo(CLIENT, SERVER, 8, 77), pass(Reason::Flow, "reach"));
    bench.frame("reply", "b0", &echo(SERVER, CLIENT, 0, 77), pass(Reason::Established, "reach"));
    bench.frame("a reply from who asked", "a0", &echo(CLIENT, SERVER, 0, 77), drop(Reason::NoFlow));
    bench.frame("a question from who answers", "b0", &echo(SERVER, CLIENT, 8, 77), drop(Reason::NoFlow));
    bench.frame("another's reply", "b0", &echo(SERVER, CLIENT, 0, 78), drop(Reason::NoFlow));
    bench.frame("echo over IPv6", "a0", &echo("fd00:1::5", "fd00:2::5", 128, 9), pass(Reason::Flow, "reach"));
    bench.frame(
        "its reply",
        "b0",
        &echo("fd00:2::5", "fd00:1::5", 129, 9),
        pass(Reason::Established, "reach"),
    );
    bench.frame("ESP back before", "b0", &packet(SERVER, CLIENT, 50, &[0; 16]), drop(Reason::NoFlow));
    bench.frame("ESP", "a0", &packet(CLIENT, SERVER, 50, &[0; 16]), pass(Reason::Flow, "tunnel"));
    bench.frame("ESP back", "b0", &packet(SERVER, CLIENT, 50, &[0; 16]), pass(Reason::Established, "tunnel"));
}

#[test]
fn what_goes_to_a_group_takes_no_room() {
    let mut bench = Bench::ward();
    let probe = udp(CLIENT, "239.255.255.250", (3_702, 3_702));
    for what in ["a probe", "another"] {
        bench.frame(what, "a0", &probe, pass(Reason::Flow, "discover"));
    }
    assert_eq!(bench.live(), 0, "nobody answers from a group's address");
}

#[test]
fn promise_5_a_connection_stays_with_the_places_of_its_ends() {
    let mut bench = established();
    bench.frame("the client's address from elsewhere", "b0", &from_client(ACK), drop(Reason::Spoofed));
    bench.frame("the server's from elsewhere", "w0", &from_server(ACK), drop(Reason::Spoofed));
    bench.frame("on a trunk", "t0", &tagged(VLAN, 30, &from_client(ACK)), drop(Reason::Spoofed));
    bench.frame("undisturbed", "a0", &from_client(ACK), pass(Reason::Established, "store"));
}
