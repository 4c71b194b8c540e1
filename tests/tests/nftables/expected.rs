//! What is expected of a packet: by the oracle, the compiled tables and the XDP program, which must agree;
//! and which packets cannot be compared.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clinigate::compile::compile;
use clinigate::compile::image::Image;
use clinigate::dataplane::trial::{Buffers, Trial};
use clinigate::export::nftables::State;
use clinigate::oracle::packet::Packet;
use clinigate::oracle::{Gateway, Oracle};
use clinigate::packet::{Arrival, Decision};
use clinigate::policy::model::{Policy, RuleKind};
use clinigate::testing::frames;
use clinigate::testing::packets::Port;
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::TestContext;

use crate::packets::{SENDER, device};

/// Nanoseconds between two packets: no connection lives so long, so each packet is the first of its own.
const PAUSE: u64 = 7 * 24 * 3600 * 1_000_000_000;

pub(crate) enum Expectation {
    Decision(Decision),
    /// The ruleset says that it does otherwise.
    LeftOut(&'static str),
    /// Our own readings of the policy differ.
    Quarrel(String),
}

/// Our own readings of one policy.
pub(crate) struct Readings<'p> {
    policy: &'p Policy,
    state: State,
    gateway: Gateway,
    image: Image,
    interfaces: BTreeMap<String, u32>,
    /// It always has connections.
    program: Option<Trial>,
    buffers: Buffers,
    now: u64,
}

impl<'p> Readings<'p> {
    pub(crate) fn new(policy: &'p Policy, state: State) -> Self {
        let mut image = compile(policy).unwrap();
        image.connections = 4096;
        let names = policy.interfaces.iter().map(|interface| interface.name.clone());
        let interfaces: BTreeMap<String, u32> = names.zip(10..).collect();
        let program = (state == State::Tracked).then(|| Trial::new(&image, &interfaces).unwrap());
        Self {
            policy,
            state,
            gateway: Gateway::new(policy.clone()),
            image,
            interfaces,
            program,
            buffers: Buffers::default(),
            now: PAUSE,
        }
    }

    /// The decision on the first packet that a gateway sees.
    pub(crate) fn expected(&mut self, port: &Port, packet: &Packet) -> Expectation {
        let Some(&ifindex) = self.interfaces.get(&port.interface) else {
            return Expectation::LeftOut("interface that the policy does not name");
        };
        let device = device(port);
        if device.len() > 15 || device.contains('"') {
            return Expectation::LeftOut("device whose name cannot be written");
        }
        if is_ambiguous(self.policy, port) {
            return Expectation::LeftOut("unknown tag, but the name of a known device");
        }
        let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
        let stateless = Oracle::new(self.policy).decide(arrival, &packet.view());
        let tables = self.image.decide(arrival, &packet.view());
        if tables != Some(stateless) {
            return Expectation::Quarrel(format!("oracle: {stateless:?}, tables: {tables:?}"));
        }
        self.now += PAUSE;
        let tracked = self.gateway.arrives(self.now, arrival, packet);
        if let Some(program) = &self.program {
            let context = TestContext { now: self.now, ifindex, reserved: 0 };
            let found =
                program.judge(context, &frames::frame(port, SENDER, packet), &mut self.buffers).unwrap();
            if found != tracked {
                return Expectation::Quarrel(format!("oracle: {tracked:?}, program: {found:?}"));
            }
        }
        match (self.state, tracked.reason) {
            (State::Tracked, Reason::MidStream) if stateless.reason != Reason::Flow => {
                Expectation::LeftOut("mid-stream from the listener")
            }
            (State::Tracked, _)
            | (
                State::None,
                Reason::LinkLocal
                | Reason::InvalidNeighbour
                | Reason::RouterAdvertisement
                | Reason::SpoofedNeighbour,
            ) => Expectation::Decision(tracked),
            (State::None, _) => Expectation::Decision(stateless),
        }
    }
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
pub(crate) fn counters(policy: &Policy, expected: &Decision) -> Vec<String> {
    let rule = expected.rule.map(|id| &policy.rules[id.0 as usize]);
    let by_reason = match rule {
        Some(rule) => {
            let kind = match rule.kind {
                RuleKind::Flow => "flow",
                RuleKind::Vendor => "vendor",
                RuleKind::Deny => "deny",
                RuleKind::Kept => "kept",
                RuleKind::Quarantine => "quarantine",
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
