//! The oracle by hand: what its documentation says, line by line.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::IpAddr;

use gateway_common::connection::State;
use gateway_common::reason::{Reason, Verdict};

use super::connection::SECOND;
use super::packet::{Flow, Fragment, Packet, Payload, flag};
use super::*;
use crate::policy::model::{
    ANY_PORT, AddressSet, Interface, ModeSetting, Origin, Ranges, Rule, Segment, Service, ServiceClass,
};

const CT: &str = "10.10.40.11";
const PACS: &str = "10.10.30.5";
const GATEWAY: &str = "10.10.40.1";
const WORLD: &str = "203.0.113.9";

fn origin() -> Origin {
    Origin { file: "test.yaml".into(), line: 1, column: 1 }
}

fn segment(name: &str, v4: &[(u32, u32)]) -> Segment {
    Segment {
        name: name.to_owned(),
        vlan: None,
        ranges: Ranges { v4: v4.to_vec(), v6: Vec::new() },
        zone: None,
        mode: ModeSetting::Enforce,
        ethertypes: [].into(),
        routers: false,
        origin: origin(),
    }
}

fn service(name: &str, matches: Vec<ServiceMatch>) -> Service {
    Service {
        name: name.to_owned(),
        matches,
        class: ServiceClass::Clinical,
        phi: false,
        cleartext: false,
        standard: None,
        origin: None,
    }
}

fn set(segment: u16) -> AddressSet {
    AddressSet { segments: [SegmentId(segment)].into(), ranges: Ranges::default() }
}

fn rule(name: &str, kind: RuleKind, from: AddressSet, to: AddressSet, services: Vec<usize>) -> Rule {
    Rule {
        name: name.to_owned(),
        kind,
        from,
        to,
        services,
        purpose: None,
        owner: None,
        review: None,
        unenforced: false,
        condition: None,
        through: None,
        limits: None,
        origin: origin(),
    }
}

const MODALITIES: u16 = 4;
const PACS_SEGMENT: u16 = 5;

/// Modalities store on the PACS (rule 0) and ping it (rule 1), send it UDP 5000 (rule 2), and ask the
/// gateway for addresses (rule 3).
fn policy() -> Policy {
    let mut segments: Vec<Segment> =
        ["wan", "gateway", "multicast", "unknown"].map(|n| segment(n, &[])).into();
    segments[1].ranges.v4 = vec![(0x0a0a_2801, 0x0a0a_2801)];
    segments.push(segment("modalities", &[(0x0a0a_2800, 0x0a0a_28ff)]));
    segments.push(segment("pacs", &[(0x0a0a_1e00, 0x0a0a_1eff)]));
    let port = |number| (number, number);
    let services = vec![
        service("dicom", vec![ServiceMatch::Tcp { source: ANY_PORT, destination: port(104) }]),
        service("ping", vec![ServiceMatch::Icmp((8, 8))]),
        service("stream", vec![ServiceMatch::Udp { source: ANY_PORT, destination: port(5000) }]),
        service("dhcp", vec![ServiceMatch::Udp { source: port(68), destination: port(67) }]),
    ];
    let flow = |name, to, service| rule(name, RuleKind::Flow, set(MODALITIES), set(to), vec![service]);
    let interface = |name: &str, kind| Interface {
        name: name.to_owned(),
        kind,
        routed: false,
        tunnel: None,
        origin: origin(),
    };
    Policy {
        interfaces: vec![
            interface("ct0", InterfaceKind::Access(SegmentId(MODALITIES))),
            interface("pacs0", InterfaceKind::Access(SegmentId(PACS_SEGMENT))),
            interface("wan0", InterfaceKind::Wan),
            interface(
                "trunk0",
                InterfaceKind::Trunk { outer: 0, vlans: [(40, SegmentId(MODALITIES))].into() },
            ),
        ],
        segments,
        services,
        rules: vec![
            flow("store", PACS_SEGMENT, 0),
            flow("ping", PACS_SEGMENT, 1),
            flow("stream", PACS_SEGMENT, 2),
            flow("address", 1, 3),
        ],
        ..Policy::default()
    }
}

fn at(interface: &str) -> Arrival<'_> {
    Arrival { interface, outer: 0, vlan: 0 }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn packet(source: &str, destination: &str, payload: Payload) -> Packet {
    let fragment = Fragment::Whole;
    Packet { source: address(source), destination: address(destination), hop_limit: 64, fragment, payload }
}

/// From the CT's port 50000 to the PACS' DICOM port.
fn there(flags: u8) -> Packet {
    packet(CT, PACS, Payload::Tcp { source: 50000, destination: 104, flags })
}

/// And back.
fn back(flags: u8) -> Packet {
    packet(PACS, CT, Payload::Tcp { source: 104, destination: 50000, flags })
}

/// A gateway and a clock, and what it decided last.
struct Bench {
    gateway: Gateway,
    now: u64,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        Self { gateway: Gateway::new(policy), now: SECOND }
    }

    fn ct(&mut self, packet: &Packet) -> Decision {
        self.gateway.arrives(self.now, at("ct0"), packet)
    }

    fn pacs(&mut self, packet: &Packet) -> Decision {
        self.gateway.arrives(self.now, at("pacs0"), packet)
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
    }

    fn states(&self) -> Vec<State> {
        self.gateway.connections(self.now).map(|connection| connection.state).collect()
    }

    /// A whole handshake.
    fn connect(&mut self) {
        assert_eq!(self.ct(&there(flag::SYN)).reason, Reason::Flow);
        assert_eq!(self.pacs(&back(flag::SYN | flag::ACK)).reason, Reason::Established);
        assert_eq!(self.ct(&there(flag::ACK)).reason, Reason::Established);
        assert_eq!(self.states(), [State::Established]);
    }
}

#[test]
fn a_flow_allows_its_connection_both_ways_and_names_its_rule() {
    let mut bench = Bench::new(policy());
    bench.connect();
    let decision = bench.pacs(&back(flag::ACK));
    assert_eq!((decision.rule, decision.verdict), (Some(RuleId(0)), Verdict::Pass));
    assert_eq!((decision.source_segment.0, decision.destination_segment.0), (PACS_SEGMENT, MODALITIES));
    // The listener opens nothing.
    let opening = packet(PACS, CT, Payload::Tcp { source: 104, destination: 50001, flags: flag::SYN });
    assert_eq!(bench.pacs(&opening).reason, Reason::NoFlow);
}

#[test]
fn tcp_without_a_connection_is_taken_up_only_where_the_policy_says_so() {
    let mut bench = Bench::new(policy());
    assert_eq!(bench.ct(&there(flag::ACK)).reason, Reason::NotInConnection);
    let mut midstream = policy();
    midstream.settings.midstream = true;
    let mut from_initiator = Bench::new(midstream.clone());
    assert_eq!(from_initiator.ct(&there(flag::ACK)).reason, Reason::MidStream);
    assert_eq!(from_initiator.pacs(&back(flag::ACK)).reason, Reason::Established);
    let mut from_listener = Bench::new(midstream);
    assert_eq!(from_listener.pacs(&back(flag::RST)).reason, Reason::NotInConnection);
    assert_eq!(from_listener.pacs(&back(flag::ACK)).reason, Reason::MidStream);
    assert_eq!(from_listener.ct(&there(flag::ACK)).reason, Reason::Established);
}

#[test]
fn connections_close_and_open_again() {
    let mut bench = Bench::new(policy());
    bench.connect();
    bench.ct(&there(flag::FIN | flag::ACK));
    assert_eq!(bench.states(), [State::FinWait]);
    bench.pacs(&back(flag::FIN | flag::ACK));
    assert_eq!(bench.states(), [State::Closing]);
    assert_eq!(bench.ct(&there(flag::SYN)).reason, Reason::Flow);
    assert_eq!(bench.states(), [State::SynSent]);
    bench.pacs(&back(flag::RST | flag::ACK));
    assert_eq!(bench.states(), [State::Reset]);
    bench.wait(10);
    assert_eq!(bench.states(), []);
    assert_eq!(bench.ct(&there(flag::ACK)).reason, Reason::NotInConnection);
}

#[test]
fn udp_lives_as_long_as_its_state_says() {
    let mut bench = Bench::new(policy());
    let ask = packet(CT, PACS, Payload::Udp { source: 40000, destination: 5000 });
    let answer = packet(PACS, CT, Payload::Udp { source: 5000, destination: 40000 });
    assert_eq!(bench.pacs(&answer).reason, Reason::NoFlow);
    assert_eq!(bench.ct(&ask).reason, Reason::Flow);
    bench.wait(59);
    assert_eq!(bench.pacs(&answer).reason, Reason::Established);
    assert_eq!(bench.states(), [State::UdpStream]);
    bench.wait(300);
    assert_eq!(bench.pacs(&answer).reason, Reason::NoFlow);
}

#[test]
fn echo_replies_follow_requests_and_only_those() {
    let mut bench = Bench::new(policy());
    let echo = |request, identifier| Payload::Echo { request, identifier };
    assert_eq!(bench.pacs(&packet(PACS, CT, echo(false, 7))).reason, Reason::NoFlow);
    assert_eq!(bench.ct(&packet(CT, PACS, echo(true, 7))).reason, Reason::Flow);
    assert_eq!(bench.pacs(&packet(PACS, CT, echo(false, 7))).reason, Reason::Established);
    assert_eq!(bench.pacs(&packet(PACS, CT, echo(false, 8))).reason, Reason::NoFlow);
    assert_eq!(bench.pacs(&packet(PACS, CT, echo(true, 7))).reason, Reason::NoFlow);
    // Timestamps have no identifier that counts; an echo connection with identifier 0 is none of theirs.
    assert_eq!(bench.ct(&packet(CT, PACS, echo(true, 0))).reason, Reason::Flow);
    assert_eq!(bench.pacs(&packet(PACS, CT, Payload::Icmp(13))).reason, Reason::NoFlow);
}

#[test]
fn icmp_errors_pass_where_they_quote_a_connection() {
    let mut bench = Bench::new(policy());
    bench.connect();
    let quoted = Flow { source: (address(PACS), 104), destination: (address(CT), 50000), protocol: 6 };
    let error = |to: &str, quotes| packet(CT, to, Payload::Error { kind: 3, quotes });
    let related = bench.ct(&error(PACS, Some(quoted)));
    assert_eq!((related.reason, related.rule), (Reason::Related, Some(RuleId(0))));
    let other = Flow { source: (address(PACS), 105), ..quoted };
    assert_eq!(bench.ct(&error(PACS, Some(other))).reason, Reason::UnrelatedIcmp);
    assert_eq!(bench.ct(&error(PACS, None)).reason, Reason::UnrelatedIcmp);
    assert_eq!(bench.ct(&error(WORLD, Some(quoted))).reason, Reason::UnrelatedIcmp);
}

#[test]
fn later_fragments_follow_their_first() {
    let mut bench = Bench::new(policy());
    let mut first = packet(CT, PACS, Payload::Udp { source: 40000, destination: 5000 });
    first.fragment = Fragment::First(77);
    let mut later = first.clone();
    later.fragment = Fragment::Later(77);
    later.payload = Payload::Udp { source: 0, destination: 0 };
    assert_eq!(bench.ct(&later).reason, Reason::UnknownFragment);
    assert_eq!(bench.ct(&first).reason, Reason::Flow);
    assert_eq!(bench.ct(&later).reason, Reason::Established);
    later.fragment = Fragment::Later(78);
    assert_eq!(bench.ct(&later).reason, Reason::UnknownFragment);
    later.fragment = Fragment::Later(77);
    bench.wait(30);
    assert_eq!(bench.ct(&later).reason, Reason::UnknownFragment);
}

#[test]
fn a_change_of_policy_ends_what_it_no_longer_allows_at_the_next_packet() {
    let mut bench = Bench::new(policy());
    bench.connect();
    bench.gateway.apply(policy());
    assert_eq!(bench.pacs(&back(flag::ACK)).reason, Reason::Established);
    let mut without = policy();
    without.rules[0].unenforced = true;
    bench.gateway.apply(without);
    assert_eq!(bench.pacs(&back(flag::ACK)).reason, Reason::Revoked);
    assert_eq!(bench.ct(&there(flag::ACK)).reason, Reason::NotInConnection);
    assert_eq!(bench.states(), []);
}

#[test]
fn a_deny_that_comes_is_named_by_what_it_revokes() {
    let mut bench = Bench::new(policy());
    bench.connect();
    let mut denying = policy();
    denying.rules.push(rule("stop", RuleKind::Deny, set(MODALITIES), set(PACS_SEGMENT), vec![0]));
    bench.gateway.apply(denying);
    let revoked = bench.ct(&there(flag::ACK));
    assert_eq!((revoked.reason, revoked.rule), (Reason::Revoked, Some(RuleId(4))));
    let again = bench.ct(&there(flag::SYN));
    assert_eq!((again.reason, again.rule), (Reason::Denied, Some(RuleId(4))));
}

#[test]
fn the_gateways_own_connections_get_their_replies_and_outlive_changes() {
    let mut bench = Bench::new(policy());
    let ask = packet(GATEWAY, WORLD, Payload::Udp { source: 123, destination: 123 });
    let answer = packet(WORLD, GATEWAY, Payload::Udp { source: 123, destination: 123 });
    assert_eq!(bench.gateway.arrives(bench.now, at("wan0"), &answer).reason, Reason::NoFlow);
    bench.gateway.sends(bench.now, &ask);
    bench.gateway.apply(policy());
    let decision = bench.gateway.arrives(bench.now, at("wan0"), &answer);
    assert_eq!((decision.reason, decision.rule), (Reason::Established, None));
    // But not its address.
    let mut renumbered = policy();
    renumbered.segments[1].ranges.v4 = vec![(0x0a0a_2802, 0x0a0a_2802)];
    bench.gateway.apply(renumbered);
    let decision = bench.gateway.arrives(bench.now, at("wan0"), &answer);
    assert_eq!((decision.reason, decision.rule), (Reason::Revoked, None));
}

#[test]
fn the_first_who_answers_from_a_link_local_address_is_the_end() {
    let mut bench = Bench::new(policy());
    let ask =
        packet(GATEWAY, "169.254.1.1", Payload::Tcp { source: 40000, destination: 179, flags: flag::SYN });
    let answer =
        packet("169.254.1.1", GATEWAY, Payload::Tcp { source: 179, destination: 40000, flags: flag::ACK });
    bench.gateway.sends(bench.now, &ask);
    assert_eq!(bench.pacs(&answer).reason, Reason::Established);
    assert_eq!(bench.ct(&answer).reason, Reason::NotInConnection);
    assert_eq!(bench.pacs(&answer).reason, Reason::Established);
    // The next policy knows nobody yet.
    bench.gateway.apply(policy());
    assert_eq!(bench.ct(&answer).reason, Reason::Established);
    assert_eq!(bench.pacs(&answer).reason, Reason::NotInConnection);
}

#[test]
fn senders_must_belong_where_they_are() {
    let mut bench = Bench::new(policy());
    let syn = |source: &str, to: &str| {
        packet(source, to, Payload::Tcp { source: 50000, destination: 104, flags: 2 })
    };
    for (source, to, reason) in [
        (PACS, CT, Reason::Spoofed),
        (WORLD, PACS, Reason::Spoofed),
        (GATEWAY, PACS, Reason::Spoofed),
        ("127.0.0.1", PACS, Reason::Martian),
        ("0.0.0.0", PACS, Reason::Martian),
        ("255.255.255.255", PACS, Reason::Martian),
        ("224.0.0.1", PACS, Reason::Martian),
        ("169.254.1.1", PACS, Reason::Martian),
        ("::1", "2001:db8::1", Reason::Martian),
        ("2001:db8::1", "::ffff:10.10.30.5", Reason::Martian),
    ] {
        assert_eq!(bench.ct(&syn(source, to)).reason, reason, "{source} to {to}");
    }
    let discover = packet("0.0.0.0", "255.255.255.255", Payload::Udp { source: 68, destination: 67 });
    let decision = bench.ct(&discover);
    assert_eq!((decision.reason, decision.rule), (Reason::Flow, Some(RuleId(3))));
}

#[test]
fn places_that_the_policy_does_not_name_drop_whatever_the_modes() {
    let mut policy = policy();
    policy.segments.iter_mut().for_each(|segment| segment.mode = ModeSetting::Observe);
    let mut gateway = Gateway::new(policy);
    let mut reason = |interface, outer, vlan| {
        let decision = gateway.arrives(SECOND, Arrival { interface, outer, vlan }, &there(flag::SYN));
        (decision.reason, decision.verdict)
    };
    assert_eq!(reason("mgmt0", 0, 0), (Reason::UnknownInterface, Verdict::Drop));
    assert_eq!(reason("ct0", 0, 40), (Reason::UnknownVlan, Verdict::Drop));
    assert_eq!(reason("trunk0", 0, 41), (Reason::UnknownVlan, Verdict::Drop));
    assert_eq!(reason("trunk0", 7, 40), (Reason::UnknownVlan, Verdict::Drop));
    assert_eq!(reason("trunk0", 0, 40), (Reason::Flow, Verdict::Pass));
}

#[test]
fn the_stricter_of_both_segments_decides_also_on_spoofed_packets() {
    let mut policy = policy();
    policy.segments.iter_mut().for_each(|segment| segment.mode = ModeSetting::Observe);
    let spoofed = packet(WORLD, PACS, Payload::Udp { source: 1, destination: 1 });
    let verdict = |policy: &Policy| Bench::new(policy.clone()).ct(&spoofed).verdict;
    assert_eq!(verdict(&policy), Verdict::Observe);
    policy.segments[usize::from(PACS_SEGMENT)].mode = ModeSetting::Audit;
    assert_eq!(verdict(&policy), Verdict::Audit);
    policy.segments[usize::from(MODALITIES)].mode = ModeSetting::Enforce;
    assert_eq!(verdict(&policy), Verdict::Drop);
    policy.segments[usize::from(MODALITIES)].mode = ModeSetting::Observe;
    policy.segments[usize::from(PACS_SEGMENT)].mode = ModeSetting::Enforce;
    assert_eq!(verdict(&policy), Verdict::Drop);
}

#[test]
fn neighbours_are_heard_within_their_link() {
    let mut policy = policy();
    policy.segments[usize::from(MODALITIES)].ranges.v6 = vec![(0xfd << 120, (0xfd << 120) + 0xffff)];
    let mut bench = Bench::new(policy.clone());
    let hear = |bench: &mut Bench, kind, target: Option<&str>, hop_limit| {
        let payload = Payload::Neighbour { kind, target: target.map(address) };
        bench.ct(&Packet { hop_limit, ..packet("fe80::1", "ff02::1", payload) }).reason
    };
    assert_eq!(hear(&mut bench, 135, Some("fd00::2"), 255), Reason::LinkLocal);
    assert_eq!(hear(&mut bench, 136, Some("fd00::2"), 255), Reason::LinkLocal);
    assert_eq!(hear(&mut bench, 136, Some("fe80::2"), 255), Reason::LinkLocal);
    assert_eq!(hear(&mut bench, 136, Some("2001:db8::1"), 255), Reason::SpoofedNeighbour);
    assert_eq!(hear(&mut bench, 136, Some("fd00::2"), 64), Reason::InvalidNeighbour);
    assert_eq!(hear(&mut bench, 136, None, 255), Reason::InvalidNeighbour);
    assert_eq!(hear(&mut bench, 137, Some("fd00::2"), 255), Reason::InvalidNeighbour);
    assert_eq!(hear(&mut bench, 134, None, 255), Reason::RouterAdvertisement);
    policy.segments[usize::from(MODALITIES)].routers = true;
    assert_eq!(hear(&mut Bench::new(policy), 134, None, 255), Reason::LinkLocal);
    let report = Packet { hop_limit: 1, ..packet(CT, "239.1.1.1", Payload::Other(2)) };
    assert_eq!(bench.ct(&report).reason, Reason::LinkLocal);
}
