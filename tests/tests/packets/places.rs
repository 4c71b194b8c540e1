//! Promise 5: interface and tag give the segment, and a source belongs to its segment. Promise 11:
//! the gateway is a segment, and others reach it only by a flow.

use gateway_common::reason::Reason;

use crate::bench::{Bench, WARD, drop, pass, pass_unruled};
use crate::frame::SENDER;
use crate::frame::{ACK, FIN, SERVICE_VLAN, SYN, VLAN, arp, ethernet, tagged, tcp, udp};

#[test]
fn promise_5_interface_and_tag_give_the_segment() {
    let mut bench = Bench::ward();
    let store = tcp("10.0.1.5", "10.0.2.5", (40_000, 104), SYN);
    let from_trunk = tcp("10.0.3.5", "10.0.2.5", (40_000, 104), SYN);
    let stacked = tcp("10.0.4.5", "10.0.2.5", (40_000, 104), SYN);

    bench.frame_between("access port", "a0", &store, pass(Reason::Flow, "store"), ("alpha", "beta"));
    bench.frame("tag on an access port", "a0", &tagged(VLAN, 10, &store), drop(Reason::UnknownVlan));
    bench.frame(
        "priority tag on an access port",
        "a0",
        &tagged(VLAN, 0xe000, &store),
        pass(Reason::Established, "store"),
    );
    bench.frame(
        "interface without a policy",
        "nowhere",
        &tcp("10.0.1.5", "10.0.2.5", (1, 104), SYN),
        drop(Reason::UnknownInterface),
    );

    bench.frame("no tag on a trunk", "t0", &from_trunk, drop(Reason::UnknownVlan));
    bench.frame("tag of the trunk", "t0", &tagged(VLAN, 30, &from_trunk), pass(Reason::Flow, "from-trunk"));
    bench.frame("another tag on the trunk", "t0", &tagged(VLAN, 31, &from_trunk), drop(Reason::UnknownVlan));
    bench.frame("tag of a VLAN of another port", "t0", &tagged(VLAN, 10, &store), drop(Reason::UnknownVlan));

    let both = tagged(SERVICE_VLAN, 100, &tagged(VLAN, 40, &stacked));
    bench.frame("two tags as named", "q0", &both, pass(Reason::Flow, "from-trunk"));
    bench.frame("inner tag alone", "q0", &tagged(VLAN, 40, &stacked), drop(Reason::UnknownVlan));
    let wrong_outer = tagged(SERVICE_VLAN, 101, &tagged(VLAN, 40, &stacked));
    bench.frame("another outer tag", "q0", &wrong_outer, drop(Reason::UnknownVlan));
    let on_plain_trunk = tagged(SERVICE_VLAN, 30, &tagged(VLAN, 30, &from_trunk));
    bench.frame("two tags on a plain trunk", "t0", &on_plain_trunk, drop(Reason::UnknownVlan));
    let priority_outer = tagged(VLAN, 0, &tagged(VLAN, 30, &from_trunk));
    bench.frame("priority tag around a tag", "t0", &priority_outer, drop(Reason::UnknownVlan));
    let three = tagged(VLAN, 30, &tagged(VLAN, 30, &tagged(VLAN, 30, &from_trunk)));
    bench.frame("three tags", "t0", &three, drop(Reason::UnknownVlan));
}

/// A bump in the wire sees what the router behind it forwards: with the tag of the next segment, and the sender's address.
#[test]
fn promise_5_behind_a_router_a_sender_is_of_its_addresss_segment() {
    let mut bench = Bench::new(&WARD.replace("b0: { access: 20 }", "b0: { access: 20, routed: true }"));
    let syn = tcp("10.0.1.5", "10.0.2.5", (40_000, 104), SYN);
    let ack = tcp("10.0.1.5", "10.0.2.5", (40_000, 104), ACK);
    let answer = tcp("10.0.2.5", "10.0.1.5", (104, 40_000), SYN | ACK);
    let store = ("alpha", "beta");
    bench.frame_between("on its way to the router", "a0", &syn, pass(Reason::Flow, "store"), store);
    bench.frame_between("coming from it", "b0", &syn, pass(Reason::Established, "store"), store);
    bench.frame("the answer", "b0", &answer, pass(Reason::Established, "store"));
    for interface in ["a0", "b0", "a0", "b0"] {
        bench.frame_between(
            "both ways, each time",
            interface,
            &ack,
            pass(Reason::Established, "store"),
            store,
        );
    }
    bench.frame("forged before the router", "a0", &answer, drop(Reason::Spoofed));
    let other = tcp("10.0.1.5", "10.0.2.5", (40_001, 104), SYN);
    bench.frame_between("seen behind the router alone", "b0", &other, pass(Reason::Flow, "store"), store);
    let forbidden = tcp("10.0.1.5", "10.0.2.5", (1, 445), SYN);
    bench.frame_between("what no flow allows", "b0", &forbidden, drop(Reason::NoFlow), store);
    let world = udp("203.0.113.9", "10.0.2.5", (1, 53));
    bench.frame_between("the world", "b0", &world, drop(Reason::NoFlow), ("wan", "beta"));
    bench.frame("the gateway's own", "b0", &udp("10.0.1.1", "10.0.2.5", (1, 53)), drop(Reason::Spoofed));
    bench.frame("nobody's", "b0", &udp("127.0.0.1", "10.0.2.5", (1, 53)), drop(Reason::Martian));
    bench.frame(
        "ARP for another segment",
        "b0",
        &arp(1, SENDER, "10.0.1.5", "10.0.2.5"),
        drop(Reason::SpoofedNeighbour),
    );
}

#[test]
fn promise_5_a_source_belongs_to_its_segment() {
    let mut bench = Bench::ward();
    let cases = [
        ("another segment's IPv4", "a0", tcp("10.0.2.9", "10.0.2.5", (1, 104), SYN), Reason::Spoofed),
        ("another segment's IPv6", "a0", tcp("fd00:2::9", "fd00:2::5", (1, 104), SYN), Reason::Spoofed),
        ("the world's address inside", "a0", udp("203.0.113.9", "10.0.2.5", (1, 53)), Reason::Spoofed),
        ("an inside address from the WAN", "w0", tcp("10.0.1.5", "10.0.2.5", (1, 104), SYN), Reason::Spoofed),
        ("the gateway's own address", "a0", udp("10.0.1.1", "10.0.2.5", (1, 53)), Reason::Spoofed),
        ("just below the subnet", "a0", udp("10.0.0.255", "10.0.2.5", (1, 53)), Reason::Spoofed),
        ("loopback", "a0", udp("127.0.0.1", "10.0.2.5", (1, 53)), Reason::Martian),
        ("multicast", "a0", udp("224.0.0.1", "10.0.2.5", (1, 53)), Reason::Martian),
        ("broadcast", "a0", udp("255.255.255.255", "10.0.2.5", (1, 53)), Reason::Martian),
        ("this network", "a0", udp("0.0.0.9", "10.0.2.5", (1, 53)), Reason::Martian),
        ("IPv6 loopback", "a0", udp("::1", "fd00:2::5", (1, 53)), Reason::Martian),
        ("IPv6 multicast", "a0", udp("ff02::1", "fd00:2::5", (1, 53)), Reason::Martian),
        ("IPv4 in IPv6", "a0", udp("::ffff:10.0.1.5", "fd00:2::5", (1, 53)), Reason::Martian),
        ("IPv4 in IPv6 as destination", "a0", udp("fd00:1::5", "::ffff:10.0.2.5", (1, 53)), Reason::Martian),
        ("no address yet", "a0", udp("0.0.0.0", "10.0.2.5", (68, 67)), Reason::Martian),
        ("no address, not DHCP", "a0", udp("0.0.0.0", "255.255.255.255", (68, 69)), Reason::Martian),
        ("link-local to another segment", "a0", udp("fe80::5", "fd00:2::5", (1, 53)), Reason::Martian),
    ];
    for (what, interface, frame, reason) in cases {
        bench.frame(what, interface, &frame, drop(reason));
    }
    bench.frame("lowest host", "a0", &udp("10.0.1.0", "10.0.2.5", (1, 53)), pass(Reason::Flow, "ask"));
    bench.frame("highest host", "a0", &udp("10.0.1.255", "10.0.2.5", (1, 53)), pass(Reason::Flow, "ask"));
}

#[test]
fn promise_11_the_gateway_is_reached_only_by_a_flow() {
    let mut bench = Bench::ward();
    let administer = tcp("10.0.1.5", "10.0.1.1", (1, 22), SYN);
    bench.frame_between(
        "a flow to it",
        "a0",
        &administer,
        pass(Reason::Flow, "administer"),
        ("alpha", "gateway"),
    );
    bench.frame("no flow to it", "b0", &tcp("10.0.2.5", "10.0.2.1", (1, 22), SYN), drop(Reason::NoFlow));
    bench.frame(
        "a prefix does not open it",
        "a0",
        &tcp("10.0.1.5", "10.0.2.1", (1, 104), SYN),
        drop(Reason::NoFlow),
    );
    bench.frame(
        "from the WAN",
        "w0",
        &tcp("203.0.113.9", "198.51.100.1", (1, 22), SYN),
        drop(Reason::NoFlow),
    );
    // It has loopback addresses too, whatever a flow to the world says.
    let mut open = Bench::new(
        &WARD.replace("flows:", "flows:\n  - { name: out, from: [alpha], to: [wan], services: [tcp/443] }"),
    );
    let out = |to: &str| tcp(if to.contains(':') { "fd00:1::5" } else { "10.0.1.5" }, to, (1, 443), SYN);
    open.frame("the world", "a0", &out("198.51.100.9"), pass(Reason::Flow, "out"));
    open.frame_between("loopback", "a0", &out("127.0.0.1"), drop(Reason::NoFlow), ("alpha", "gateway"));
    open.frame_between("IPv6 loopback", "a0", &out("::1"), drop(Reason::NoFlow), ("alpha", "gateway"));
    let discover = udp("0.0.0.0", "255.255.255.255", (68, 67));
    bench.frame("DHCP before an address", "a0", &discover, pass(Reason::Flow, "lease"));
    bench.frame("DHCP without a flow", "b0", &discover, drop(Reason::NoFlow));
}

#[test]
fn promise_11_replies_to_the_gateway_pass() {
    let mut bench = Bench::ward();
    // The egress program reads the kernel's clock.
    bench.now = coarse_now();
    let reply = tcp("10.0.2.5", "10.0.2.1", (443, 50_000), SYN | ACK);
    bench.frame("a reply to nothing", "b0", &reply, drop(Reason::NotInConnection));
    bench.sends("a SYN", &tcp("10.0.2.1", "10.0.2.5", (50_000, 443), SYN));
    bench.frame_between("its reply", "b0", &reply, pass_unruled(Reason::Established), ("beta", "gateway"));
    bench.frame("from elsewhere", "a0", &reply, drop(Reason::Spoofed));
    bench.sends("a query", &udp("fd00:1::1", "fd00:1::5", (50_001, 53)));
    bench.frame(
        "its answer",
        "a0",
        &udp("fd00:1::5", "fd00:1::1", (53, 50_001)),
        pass_unruled(Reason::Established),
    );
    bench.frame("another port's", "a0", &udp("fd00:1::5", "fd00:1::1", (54, 50_001)), drop(Reason::NoFlow));
    bench.sends("an answer", &tcp("10.0.2.1", "10.0.2.9", (22, 50_002), SYN | ACK));
    bench.sends("and data", &tcp("10.0.2.1", "10.0.2.9", (22, 50_002), ACK));
    let more = tcp("10.0.2.9", "10.0.2.1", (50_002, 22), ACK);
    bench.frame("an answer opens nothing", "b0", &more, drop(Reason::NotInConnection));
    bench.sends("a multicast", &udp("10.0.1.1", "239.1.1.1", (5353, 5353)));
    bench.frame(
        "as if the group answered",
        "a0",
        &udp("239.1.1.1", "10.0.1.1", (5353, 5353)),
        drop(Reason::Martian),
    );
}

#[test]
fn promise_8_an_address_that_the_gateway_loses_takes_its_connections_along() {
    let mut bench = Bench::ward();
    bench.now = coarse_now();
    let reply = tcp("203.0.113.9", "198.51.100.1", (443, 50_000), ACK);
    bench.sends("a SYN", &tcp("198.51.100.1", "203.0.113.9", (50_000, 443), SYN));
    bench.frame("its reply", "w0", &reply, pass_unruled(Reason::Established));
    bench.swap(&format!("{WARD}\n"));
    bench.frame("under another policy", "w0", &reply, pass_unruled(Reason::Established));
    bench.swap(&WARD.replace("198.51.100.1", "198.51.100.2"));
    bench.frame("to somebody else by now", "w0", &reply, drop(Reason::Revoked));
    bench.frame("again", "w0", &reply, drop(Reason::NotInConnection));
}

#[test]
fn promise_8_what_the_gateway_still_sends_revives_nothing() {
    for (settings, refused) in
        [("", Reason::NotInConnection), ("\nsettings: { midstream: true }\n", Reason::NoFlow)]
    {
        let mut bench = Bench::new(&format!("{WARD}{settings}"));
        bench.now = coarse_now();
        let ports = (50_000, 22);
        let from_client = |flags| tcp("10.0.1.5", "10.0.1.1", ports, flags);
        let from_gateway = |flags| tcp("10.0.1.1", "10.0.1.5", (ports.1, ports.0), flags);
        bench.frame("SYN", "a0", &from_client(SYN), pass(Reason::Flow, "administer"));
        bench.sends("a SYN-ACK", &from_gateway(SYN | ACK));
        bench.frame("ACK", "a0", &from_client(ACK), pass(Reason::Established, "administer"));
        let without: Vec<_> = WARD.lines().filter(|line| !line.contains("name: administer,")).collect();
        bench.swap(&format!("{}{settings}", without.join("\n")));
        bench.sends("data under the new policy", &from_gateway(ACK));
        bench.frame("its acknowledgement", "a0", &from_client(ACK), drop(Reason::Revoked));
        for flags in [ACK, FIN | ACK, SYN | ACK] {
            bench.sends("it again", &from_gateway(flags));
            bench.frame("acknowledged", "a0", &from_client(ACK), drop(refused));
        }
        assert_eq!(bench.live(), 0);
    }
}

#[test]
fn promise_5_a_link_local_address_is_one_host_in_each_segment() {
    let mut bench = Bench::ward();
    let segment = |flags| tcp("fe80::5", "fe80::1", (50_000, 22), flags);
    bench.frame("of alpha", "a0", &segment(SYN), pass(Reason::Flow, "administer"));
    bench.frame("its namesake in beta", "b0", &segment(ACK), drop(Reason::NotInConnection));
    bench.frame("which may not open one", "b0", &segment(SYN), drop(Reason::NoFlow));
    bench.frame("undisturbed", "a0", &segment(ACK), pass(Reason::Established, "administer"));
    bench.swap(&format!("{WARD}\n"));
    bench.frame("under another generation", "b0", &segment(ACK), drop(Reason::NotInConnection));
    bench.frame("neither", "a0", &segment(ACK), pass(Reason::Established, "administer"));
}

/// Programs of a bond run on its links, and see those.
#[test]
fn promise_5_a_bond_s_links_are_the_bond() {
    let mut bench = Bench::bonded(WARD);
    let syn = tagged(VLAN, 30, &tcp("10.0.3.5", "10.0.2.5", (40_000, 104), SYN));
    let ack = tagged(VLAN, 30, &tcp("10.0.3.5", "10.0.2.5", (40_000, 104), ACK));
    let answer = tcp("10.0.2.5", "10.0.3.5", (104, 40_000), SYN | ACK);
    let spoofed = tagged(VLAN, 30, &tcp("10.0.1.5", "10.0.2.5", (40_000, 104), SYN));
    bench.frame("by a link", "t0-link1", &syn, pass(Reason::Flow, "from-trunk"));
    bench.frame("answered by another bond's", "b0-link2", &answer, pass(Reason::Established, "from-trunk"));
    bench.frame("on by the other link", "t0-link2", &ack, pass(Reason::Established, "from-trunk"));
    bench.frame("by the bond, in generic mode", "t0", &ack, pass(Reason::Established, "from-trunk"));
    bench.frame("spoofed by a link", "t0-link2", &spoofed, drop(Reason::Spoofed));
    bench.frame("unknown tag by a link", "t0-link1", &tagged(VLAN, 31, &syn), drop(Reason::UnknownVlan));
}

/// LACP is between the two ends of a link, below the policy.
#[test]
fn the_links_of_a_bond_agree_with_their_peers() {
    let mut bench = Bench::bonded(WARD);
    let mut lacp = ethernet(0x8809, &[1; 110]);
    lacp[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0x02]);
    let mut elsewhere = lacp.clone();
    elsewhere[5] = 0x03;
    for (what, port, other) in
        [("on a trunk", "t0", Reason::UnknownVlan), ("on an access port", "a0", Reason::UnlistedEtherType)]
    {
        for link in ["link1", "link2"] {
            bench.frame(what, &format!("{port}-{link}"), &lacp, pass_unruled(Reason::EtherType));
        }
        bench.frame("not on the bond itself", port, &lacp, drop(other));
        bench.frame("to another group", &format!("{port}-link1"), &elsewhere, drop(other));
    }
    bench.frame("with a tag", "t0-link1", &tagged(VLAN, 30, &lacp), drop(Reason::UnlistedEtherType));
    bench.frame("with an unknown tag", "t0-link1", &tagged(VLAN, 31, &lacp), drop(Reason::UnknownVlan));
}

#[test]
fn promise_6_other_ethertypes_pass_only_where_listed() {
    let mut bench = Bench::ward();
    let lldp = ethernet(0x88cc, &[0; 46]);
    let spanning_tree = ethernet(38, &[0x42; 46]);
    bench.frame("listed", "t0", &tagged(VLAN, 30, &lldp), pass_unruled(Reason::EtherType));
    bench.frame("listed as LLC", "t0", &tagged(VLAN, 30, &spanning_tree), pass_unruled(Reason::EtherType));
    bench.frame("not listed", "a0", &lldp, drop(Reason::UnlistedEtherType));
    bench.frame("LLC not listed", "a0", &spanning_tree, drop(Reason::UnlistedEtherType));
    bench.frame(
        "ARP needs no listing",
        "a0",
        &arp(1, SENDER, "10.0.1.5", "10.0.1.1"),
        pass_unruled(Reason::LinkLocal),
    );
}

/// Nanoseconds of the clock that the egress program reads.
fn coarse_now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}
