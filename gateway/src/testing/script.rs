//! Random sequences of events at a gateway: packets that open connections, their answers, their
//! ends, fragments, ICMP errors, time that passes, and changes of the policy.

use proptest::prelude::*;
use proptest::sample::Index;

use super::packets::{self, Draw, Edges, Port};
use crate::oracle::Gateway;
use crate::oracle::packet::{Flow, Fragment, Packet, Payload, flag};
use crate::packet::{Arrival, PacketView, Transport};
use crate::policy::model::{Policy, RuleKind};

/// A random choice of what happens next.
#[derive(Clone, Debug)]
pub struct Step {
    kind: Kind,
    draw: Draw,
    earlier: Index,
    number: Index,
    flags: u8,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Fresh,
    Again,
    Answer,
    Error,
    Fragment,
    Wait,
    Change,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A packet arrives.
    Packet(Port, Packet),
    /// So many seconds pass.
    Wait(u64),
    /// This policy is put in force.
    Change(Box<Policy>),
}

/// A random choice of what happens next.
pub fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        6 => Just(Kind::Fresh),
        4 => Just(Kind::Again),
        6 => Just(Kind::Answer),
        1 => Just(Kind::Error),
        2 => Just(Kind::Fragment),
        1 => Just(Kind::Wait),
        1 => Just(Kind::Change),
    ];
    let sane = [
        flag::SYN,
        flag::SYN | flag::ACK,
        flag::ACK,
        flag::ACK,
        flag::FIN | flag::ACK,
        flag::RST,
        flag::RST | flag::ACK,
    ];
    let parts = (kind, packets::draw(), any::<Index>(), any::<Index>(), prop::sample::select(sane.to_vec()));
    parts.prop_map(|(kind, draw, earlier, number, flags)| Step { kind, draw, earlier, number, flags })
}

/// The events that `steps` mean from `policy` on.
pub fn events(policy: &Policy, steps: &[Step]) -> Vec<Event> {
    let mut policy = policy.clone();
    let mut gateway = Gateway::new(policy.clone());
    let mut now = 0;
    // Those that were allowed: what follows on a refused packet is seldom interesting.
    let mut packets: Vec<Packet> = Vec::new();
    let mut events = Vec::new();
    for step in steps {
        let edges = Edges::of(&policy);
        let earlier = (!packets.is_empty()).then(|| step.earlier.get(&packets).clone());
        let (place, fresh) = edges.packet(&step.draw);
        let (port, packet) = match (step.kind, earlier) {
            (Kind::Wait, _) => {
                // Not within a second of a timeout: there the datapath may be early.
                let seconds = [2, 7, 31, 63, 303, 603][step.number.index(6)];
                now += seconds * 1_000_000_000;
                events.push(Event::Wait(seconds));
                continue;
            }
            (Kind::Change, _) if !policy.rules.is_empty() => {
                change(&mut policy, step);
                gateway.apply(policy.clone());
                events.push(Event::Change(Box::new(policy.clone())));
                continue;
            }
            (Kind::Again, Some(earlier)) => again(&edges, step, earlier),
            (Kind::Answer, Some(earlier)) => again(&edges, step, answer(earlier)),
            (Kind::Error, Some(earlier)) => again(&edges, step, error(&earlier, step)),
            (Kind::Fragment, Some(earlier)) => again(&edges, step, fragment(earlier, step)),
            _ => (place.clone(), opening(&fresh, step)),
        };
        let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
        if gateway.arrives(now, arrival, &packet).reason.passes() {
            packets.push(packet.clone());
        }
        events.push(Event::Packet(port, packet));
    }
    events
}

/// Switches a rule off or on, or turns it around.
fn change(policy: &mut Policy, step: &Step) {
    let index = step.number.index(policy.rules.len());
    let rule = &mut policy.rules[index];
    match (step.flags & flag::ACK != 0, rule.kind) {
        (true, _) => rule.unenforced = !rule.unenforced,
        (false, RuleKind::Deny) => rule.kind = RuleKind::Flow,
        (false, _) => rule.kind = RuleKind::Deny,
    }
}

/// The packet, mostly where its source is at home.
fn again(edges: &Edges<'_>, step: &Step, mut packet: Packet) -> (Port, Packet) {
    if let Payload::Tcp { flags, .. } = &mut packet.payload {
        *flags = step.flags;
    }
    let port = edges.place_of(&step.draw, packet.source).clone();
    (port, packet)
}

fn opening(view: &PacketView, step: &Step) -> Packet {
    let mostly_syn = if step.number.index(4) == 0 { step.flags } else { flag::SYN };
    let payload = match view.transport {
        Transport::Tcp { source, destination } => Payload::Tcp { source, destination, flags: mostly_syn },
        Transport::Udp { source, destination } => Payload::Udp { source, destination },
        Transport::Icmp(kind @ (0 | 8)) | Transport::Icmpv6(kind @ (128 | 129)) => {
            let identifier = [0, 7, 0x1234][step.number.index(3)];
            Payload::Echo { request: matches!(kind, 8 | 128), identifier }
        }
        Transport::Icmp(kind @ (3 | 11 | 12)) | Transport::Icmpv6(kind @ 1..=4) => {
            Payload::Error { kind, quotes: None }
        }
        Transport::Icmpv6(kind @ 133..=137) => Payload::Neighbour { kind, target: Some(view.source) },
        Transport::Icmp(kind) | Transport::Icmpv6(kind) => Payload::Icmp(kind),
        // Numbers of IPv6 extension headers are no protocols there.
        Transport::Other(0 | 51) if view.source.is_ipv6() => Payload::Other(47),
        Transport::Other(protocol) => Payload::Other(protocol),
    };
    let hop_limit = [1, 64, 255][step.number.index(3)];
    let fragment = Fragment::Whole;
    Packet { source: view.source, destination: view.destination, hop_limit, fragment, payload }
}

fn answer(packet: Packet) -> Packet {
    let payload = match packet.payload {
        Payload::Tcp { source, destination, flags } => {
            Payload::Tcp { source: destination, destination: source, flags }
        }
        Payload::Udp { source, destination } => Payload::Udp { source: destination, destination: source },
        Payload::Echo { request, identifier } => Payload::Echo { request: !request, identifier },
        payload => payload,
    };
    Packet { source: packet.destination, destination: packet.source, payload, ..packet }
}

/// An error about an earlier packet, from its destination or from somebody else.
fn error(about: &Packet, step: &Step) -> Packet {
    let quotes = if about.is_later() { None } else { about.flow() };
    let astray = |flow: &Flow| matches!(flow.protocol, 6 | 17) && step.number.index(4) == 0;
    let quotes =
        quotes.map(|flow| if astray(&flow) { Flow { source: (flow.source.0, 9), ..flow } } else { flow });
    let kind = if about.source.is_ipv4() { 3 } else { 1 };
    let quotable = quotes.filter(|_| !matches!(about.payload, Payload::Other(_)) || about.source.is_ipv4());
    Packet {
        source: about.destination,
        destination: about.source,
        hop_limit: 64,
        fragment: Fragment::Whole,
        payload: Payload::Error { kind, quotes: quotable },
    }
}

fn fragment(packet: Packet, step: &Step) -> Packet {
    let identification = u32::try_from(step.number.index(3)).expect("small");
    let fragment = if step.flags & flag::SYN != 0 {
        Fragment::First(identification)
    } else {
        Fragment::Later(identification)
    };
    // A fragmented neighbour or error message is nobody's.
    if matches!(packet.payload, Payload::Neighbour { .. } | Payload::Error { .. }) {
        packet
    } else {
        Packet { fragment, ..packet }
    }
}
