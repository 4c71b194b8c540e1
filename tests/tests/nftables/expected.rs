//! What the oracle expects of a packet, and which packets cannot be compared.

use std::net::IpAddr;

use clinigate::export::nftables::State;
use clinigate::oracle::packet::Packet;
use clinigate::oracle::{Gateway, Oracle};
use clinigate::packet::{Arrival, Decision};
use clinigate::policy::model::{Policy, RuleId, RuleKind};
use clinigate::testing::packets::Port;
use gateway_common::reason::{Reason, Verdict};

/// What is to become of a packet.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) passes: bool,
    pub(crate) reason: Reason,
    verdict: Verdict,
    rule: Option<RuleId>,
}

pub(crate) enum Expectation {
    Decision(Expected),
    /// The ruleset says that it does otherwise.
    LeftOut(&'static str),
}

/// The oracle's decision on the first packet that a gateway sees.
pub(crate) fn expected(policy: &Policy, state: State, port: &Port, packet: &Packet) -> Expectation {
    if policy.interfaces.iter().all(|interface| interface.name != port.interface) {
        return Expectation::LeftOut("interface that the policy does not name");
    }
    if is_ambiguous(policy, port) {
        return Expectation::LeftOut("unknown tag, but the name of a known device");
    }
    let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
    let stateless = Oracle::new(policy).decide(arrival, &packet.view());
    let tracked = Gateway::new(policy.clone()).arrives(0, arrival, packet);
    let decision = match (state, tracked.reason) {
        (State::Tracked, Reason::MidStream) if stateless.reason != Reason::Flow => {
            return Expectation::LeftOut("mid-stream from the listener");
        }
        (State::Tracked, _)
        | (
            State::None,
            Reason::LinkLocal
            | Reason::InvalidNeighbour
            | Reason::RouterAdvertisement
            | Reason::SpoofedNeighbour,
        ) => tracked,
        (State::None, _) => stateless,
    };
    let Decision { reason, rule, verdict, .. } = decision;
    Expectation::Decision(Expected { passes: verdict != Verdict::Drop, reason, verdict, rule })
}

/// Whether a place is unknown to the policy, but its device has the name of a known one's.
fn is_ambiguous(policy: &Policy, port: &Port) -> bool {
    let place = |port: &Port| {
        let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
        Oracle::new(policy).place(arrival)
    };
    let twin = Port { outer: port.vlan, vlan: port.outer, ..port.clone() };
    (port.outer == 0 || port.vlan == 0) && place(port) != place(&twin) && place(port).is_err()
}

/// Names of the counters that count a packet.
pub(crate) fn counters(policy: &Policy, expected: &Expected) -> Vec<String> {
    let rule = expected.rule.map(|id| &policy.rules[id.0 as usize]);
    let by_reason = match rule {
        Some(rule) => {
            let kind = match rule.kind {
                RuleKind::Flow => "flow",
                RuleKind::Vendor => "vendor",
                RuleKind::Deny => "deny",
            };
            format!("{kind}-{}", rule.name)
        }
        None => expected.reason.name().to_owned(),
    };
    let by_verdict = match expected.verdict {
        Verdict::Pass => None,
        Verdict::Drop => Some("dropped"),
        Verdict::Audit => Some("audited"),
        Verdict::Observe => Some("observed"),
    };
    [by_reason].into_iter().chain(by_verdict.map(str::to_owned)).collect()
}

/// Whether `ipv6_rcv` (Linux, `net/ipv6/ip6_input.c`) refuses a packet before any chain sees it: for
/// what it is from or to.
pub(crate) fn is_dropped_before(packet: &Packet) -> bool {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (packet.source, packet.destination) else {
        return false;
    };
    let scope = destination.segments()[0] & 0xf;
    source.is_loopback()
        || destination.is_loopback()
        || source.is_multicast()
        || source.to_ipv4_mapped().is_some()
        || destination.to_ipv4_mapped().is_some()
        || (destination.is_multicast() && scope <= 1)
}
