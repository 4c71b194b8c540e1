//! Random sequences of events at a gateway: packets that open connections, their answers, their
//! ends, fragments, ICMP errors, what links need, what cannot be parsed, what the gateway itself sends,
//! time that passes, and changes of the policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_common::fragment::LIFETIME;
use proptest::prelude::*;
use proptest::sample::Index;

mod courses;

use super::changes::{against, change};
use super::defects::Defect;
use super::packets::{self, Draw, Edges, Port};
use super::policies;
use crate::oracle::packet::{Flow, Fragment, Packet, Payload, flag};
use crate::oracle::{Gateway, LinkFrame};
use crate::packet::{PacketView, Transport};
use crate::policy::model::{Policy, SegmentId};

/// A random choice of what happens next.
#[derive(Clone, Debug)]
pub struct Step {
    kind: Kind,
    draw: Draw,
    earlier: Index,
    /// For choices by the way.
    numbers: [Index; 3],
    flags: u8,
    dress: u8,
    ethertype: u16,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Fresh,
    Again,
    Answer,
    Course,
    Error,
    Fragment,
    Datagram,
    Nearby,
    Neighbour,
    Link,
    Defect,
    Send,
    Wait,
    Change,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A packet arrives.
    Packet {
        /// Where.
        port: Port,
        /// The last two bytes of the sender's Ethernet address.
        sender: u16,
        /// What its frame carries besides: see [`super::frames::dress`].
        dress: u8,
        /// The packet.
        packet: Packet,
    },
    /// A frame arrives that carries no IP.
    Link {
        /// Where.
        port: Port,
        /// As above.
        sender: u16,
        /// The frame.
        frame: LinkFrame,
    },
    /// A packet arrives that cannot be parsed.
    Defect {
        /// Where.
        port: Port,
        /// What is wrong with it.
        defect: Defect,
        /// What it would be.
        packet: Packet,
    },
    /// The gateway itself sends a packet.
    Send(Packet),
    /// So many nanoseconds pass.
    Wait(u64),
    /// This policy is put in force.
    Change(Box<Policy>),
}

/// A random choice of what happens next. One in a few hundred changes the policy.
pub fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        240 => Just(Kind::Fresh),
        110 => Just(Kind::Again),
        170 => Just(Kind::Answer),
        40 => Just(Kind::Course),
        60 => Just(Kind::Error),
        70 => Just(Kind::Fragment),
        20 => Just(Kind::Datagram),
        20 => Just(Kind::Nearby),
        30 => Just(Kind::Neighbour),
        20 => Just(Kind::Link),
        20 => Just(Kind::Defect),
        40 => Just(Kind::Send),
        25 => Just(Kind::Wait),
        2 => Just(Kind::Change),
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
    let dress = prop_oneof![2 => Just(0u8), 1 => any::<u8>()];
    let numbers = (any::<Index>(), any::<[Index; 3]>());
    let bytes = (prop::sample::select(sane.to_vec()), dress, policies::ethertype());
    (kind, packets::draw(), numbers, bytes).prop_map(
        |(kind, draw, (earlier, numbers), (flags, dress, ethertype))| Step {
            kind,
            draw,
            earlier,
            numbers,
            flags,
            dress,
            ethertype,
        },
    )
}

/// The events that `steps` mean from `policy` on.
pub fn events(policy: &Policy, steps: &[Step]) -> Vec<Event> {
    let mut policy = policy.clone();
    let mut scribe = Scribe {
        gateway: Gateway::new(policy.clone()),
        now: 0,
        packets: Vec::new(),
        fragments: Vec::new(),
        events: Vec::new(),
    };
    let mut steps = steps.iter();
    let mut changed = None;
    loop {
        let edges = Edges::of(&policy);
        if let Some(step) = changed {
            scribe.revisit(&edges, step);
        }
        let Some(step) = steps.by_ref().find(|step| !scribe.note(&edges, step)) else {
            return scribe.events;
        };
        let next = match scribe.rule_in_use(step) {
            Some(rule) => against(&policy, rule, step.flags),
            None => change(&policy, step.numbers[0], step.earlier, step.flags),
        };
        scribe.gateway.apply(next.clone());
        scribe.events.push(Event::Change(Box::new(next.clone())));
        policy = next;
        changed = Some(step);
    }
}

/// Writes down events, and keeps in mind what they lead to.
struct Scribe {
    gateway: Gateway,
    now: u64,
    /// Those that were allowed: what follows on a refused packet is seldom interesting.
    packets: Vec<Packet>,
    /// When first fragments are forgotten.
    fragments: Vec<u64>,
    events: Vec<Event>,
}

impl Scribe {
    /// Writes down what a step means; false where it asks for another policy.
    fn note(&mut self, edges: &Edges<'_>, step: &Step) -> bool {
        let earlier = self.earlier(step);
        match (step.kind, earlier) {
            (Kind::Change, _) => return false,
            (Kind::Wait, _) => self.wait(edges, step),
            (Kind::Link, _) => self.link(edges, step),
            (Kind::Neighbour, _) => self.neighbour(edges, step),
            (Kind::Send, _) => self.send(edges, step),
            (Kind::Defect, earlier) => self.defect(edges, step, earlier),
            (Kind::Course, _) => self.course(edges, step),
            (Kind::Nearby, _) => self.nearby(edges, step),
            (Kind::Datagram, Some(earlier)) => self.datagram(edges, step, earlier),
            (Kind::Again, Some(earlier)) => self.again(edges, step, with_flags(earlier, step.flags)),
            (Kind::Answer, Some(earlier)) => {
                self.again(edges, step, with_flags(answer(earlier), step.flags));
            }
            (Kind::Error, Some(earlier)) => {
                let error = error(edges, &earlier, step);
                self.again(edges, step, error);
            }
            (Kind::Fragment, Some(earlier)) => self.again(edges, step, fragment(earlier, step)),
            _ => {
                let (port, fresh) = edges.packet(&step.draw);
                self.arrive(port.clone(), step, opening(&fresh, step));
            }
        }
        true
    }

    /// A packet that was allowed, mostly not long ago.
    fn earlier(&self, step: &Step) -> Option<Packet> {
        let recent = if step.numbers[2].index(3) == 0 { 0 } else { self.packets.len().saturating_sub(24) };
        let packets = &self.packets[recent..];
        (!packets.is_empty()).then(|| step.earlier.get(packets).clone())
    }

    fn arrive(&mut self, port: Port, step: &Step, packet: Packet) {
        let passed = self.gateway.arrives(self.now, port.arrival(), &packet).reason.passes();
        if passed {
            if matches!(packet.fragment, Fragment::First(_)) {
                self.fragments.push(self.now + u64::from(LIFETIME) * 1_000_000_000);
            }
            self.packets.push(packet.clone());
        }
        let sender = self.sender(step);
        self.events.push(Event::Packet { port, sender, dress: step.dress, packet });
    }

    /// Few senders where their rate is limited, else each its own.
    fn sender(&self, step: &Step) -> u16 {
        if self.gateway.policy().settings.neighbour_rate < 1000 {
            step.dress.into()
        } else {
            u16::try_from(self.events.len() & 0xffff).expect("it has 16 bits")
        }
    }

    /// The packet, mostly where its source is at home: the gateway's own leave it.
    fn again(&mut self, edges: &Edges<'_>, step: &Step, packet: Packet) {
        let is_own = self.gateway.policy().segment_of(packet.source) == SegmentId::GATEWAY;
        if is_own && step.numbers[2].index(8) != 0 {
            self.leave(packet);
        } else {
            let port = edges.place_of(&step.draw, packet.source).clone();
            self.arrive(port, step, packet);
        }
    }

    /// Time passes: a little, much, or to just where something ends.
    fn wait(&mut self, edges: &Edges<'_>, step: &Step) {
        const SECOND: u64 = 1_000_000_000;
        let some = [
            1,
            SECOND / 3,
            SECOND,
            SECOND + 1,
            2 * SECOND,
            7 * SECOND,
            31 * SECOND,
            63 * SECOND,
            303 * SECOND,
        ];
        let mut ends: Vec<(u64, Option<Flow>)> = self
            .gateway
            .connections(self.now)
            .map(|connection| (connection.expires, Some(connection.flow)))
            .collect();
        ends.extend(self.fragments.iter().filter(|end| **end > self.now).map(|end| (*end, None)));
        ends.sort_unstable();
        if ends.is_empty() || step.numbers[0].index(3) == 0 {
            self.pass(*step.numbers[1].get(&some));
            return;
        }
        // Mostly the next end: waiting for the last one ends all others.
        let next = if step.numbers[0].index(3) == 1 { ends.len() } else { ends.len().min(3) };
        let (end, flow) = ends[step.earlier.index(next)];
        self.pass((end - self.now + step.numbers[1].index(3) as u64).saturating_sub(1).max(1));
        if let Some(flow) = flow {
            let packet = packet_of(&flow);
            let packet = if step.numbers[2].index(2) == 0 { packet } else { answer(packet) };
            self.again(edges, step, with_flags(packet, step.flags));
        }
    }

    fn pass(&mut self, nanoseconds: u64) {
        self.now += nanoseconds;
        self.fragments.retain(|end| *end > self.now);
        self.events.push(Event::Wait(nanoseconds));
    }

    /// A frame that carries no IP.
    fn link(&mut self, edges: &Edges<'_>, step: &Step) {
        let (port, fresh) = edges.packet(&step.draw);
        let [number, which, _] = step.numbers;
        let frame = match (fresh.source, number.index(6)) {
            (_, 0) => LinkFrame::MalformedArp,
            (IpAddr::V4(sender), 1..=4) => {
                let sender = if which.index(9) == 0 { Ipv4Addr::UNSPECIFIED } else { sender };
                LinkFrame::Arp { request: step.flags & flag::ACK == 0, sender, is_own: which.index(7) != 0 }
            }
            _ => LinkFrame::Other(self.ethertype(step)),
        };
        let event = Event::Link { port: port.clone(), sender: self.sender(step), frame };
        self.events.push(event);
    }

    /// An EtherType that is no protocol of its own, often one that some segment lists.
    fn ethertype(&self, step: &Step) -> u16 {
        let listed: Vec<u16> =
            self.gateway.policy().segments.iter().flat_map(|segment| &segment.ethertypes).copied().collect();
        let ethertype = match step.numbers[1].index(2) {
            0 if !listed.is_empty() => *step.earlier.get(&listed),
            _ => step.ethertype,
        };
        match ethertype {
            1..0x0600 | 0x0800 | 0x0806 | 0x8100 | 0x86dd | 0x88a8 => 0,
            other => other,
        }
    }

    /// Neighbour discovery, or group membership.
    fn neighbour(&mut self, edges: &Edges<'_>, step: &Step) {
        let (port, fresh) = edges.packet(&step.draw);
        let [number, which, hops] = step.numbers;
        let of_link = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 5);
        let source = match (fresh.source, which.index(4)) {
            (IpAddr::V6(_), 0) => of_link.into(),
            (IpAddr::V6(_), 1) => Ipv6Addr::UNSPECIFIED.into(),
            (source, _) => source,
        };
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let (destination, payload) = match (fresh.destination, number.index(10)) {
            (IpAddr::V4(_), kind) => {
                let group = Ipv4Addr::new(224, 0, 0, 22).into();
                (if kind < 8 { group } else { fresh.destination }, Payload::Other(2))
            }
            (destination, kind @ 0..=6) => {
                let target = [Some(source), Some(destination), Some(of_link.into()), None];
                let target = *step.earlier.get(&target);
                let to = if hops.index(3) == 0 { destination } else { all_nodes.into() };
                let kind = [133, 134, 135, 135, 136, 136, 137][kind];
                (to, Payload::Neighbour { kind, target })
            }
            (destination, kind) => {
                let kind = [130, 132, 143][kind - 7];
                (if hops.index(3) == 0 { destination } else { all_nodes.into() }, Payload::Icmp(kind))
            }
        };
        let nearby = if matches!(payload, Payload::Neighbour { .. }) { 255 } else { 1 };
        let hop_limit = if hops.index(8) == 7 { 64 } else { nearby };
        let packet = Packet { source, destination, hop_limit, fragment: Fragment::Whole, payload };
        let port = if which.index(4) < 2 { port.clone() } else { edges.place_of(&step.draw, source).clone() };
        self.arrive(port, step, packet);
    }

    /// The gateway opens a connection, or tries to.
    fn send(&mut self, edges: &Edges<'_>, step: &Step) {
        let (_, mut view) = edges.packet(&step.draw);
        let own = &self.gateway.policy().segment(SegmentId::GATEWAY).ranges;
        view.source = match view.destination {
            IpAddr::V4(_) if own.v4.is_empty() => view.source,
            IpAddr::V6(_) if own.v6.is_empty() => view.source,
            IpAddr::V4(_) => Ipv4Addr::from_bits(step.earlier.get(&own.v4).0).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(step.earlier.get(&own.v6).0).into(),
        };
        let mut packet = opening(&view, step);
        if step.numbers[1].index(8) == 0 {
            packet = fragment(packet, step);
        }
        self.leave(packet);
    }

    /// The gateway sends the packet.
    fn leave(&mut self, packet: Packet) {
        self.gateway.sends(self.now, &packet);
        self.packets.push(packet.clone());
        self.events.push(Event::Send(packet));
    }

    /// A packet that cannot be parsed, mostly one that would be allowed.
    fn defect(&mut self, edges: &Edges<'_>, step: &Step, earlier: Option<Packet>) {
        let (_, fresh) = edges.packet(&step.draw);
        let mut packet = earlier.unwrap_or_else(|| opening(&fresh, step));
        if step.numbers[1].index(3) == 0 {
            packet = fragment(packet, step);
        }
        let possible: Vec<Defect> =
            Defect::ALL.into_iter().filter(|defect| defect.reason(&packet).is_some()).collect();
        let port = edges.place_of(&step.draw, packet.source).clone();
        self.events.push(Event::Defect { port, defect: *step.numbers[0].get(&possible), packet });
    }
}

fn with_flags(mut packet: Packet, new: u8) -> Packet {
    if let Payload::Tcp { flags, .. } = &mut packet.payload {
        *flags = new;
    }
    packet
}

fn opening(view: &PacketView, step: &Step) -> Packet {
    let [number, which, hops] = step.numbers;
    let mostly_syn = if which.index(4) == 0 { step.flags } else { flag::SYN };
    let payload = match view.transport {
        Transport::Tcp { source, destination } => Payload::Tcp { source, destination, flags: mostly_syn },
        Transport::Udp { source, destination } => Payload::Udp { source, destination },
        Transport::Icmp(kind) | Transport::Icmpv6(kind) => icmp(kind, view.source, number),
        // Numbers of IPv6 extension headers are no protocols there.
        Transport::Other(0 | 43 | 44 | 51 | 60) if view.source.is_ipv6() => Payload::Other(47),
        Transport::Other(protocol) => Payload::Other(protocol),
    };
    let hop_limit = [1, 64, 255][hops.index(3)];
    let fragment = Fragment::Whole;
    Packet { source: view.source, destination: view.destination, hop_limit, fragment, payload }
}

/// An ICMP message, by the family of its source.
fn icmp(kind: u8, source: IpAddr, number: Index) -> Payload {
    let identifier = [0, 7, 0x1234][number.index(3)];
    match (source.is_ipv4(), kind) {
        (true, 0 | 8) | (false, 128 | 129) => Payload::Echo { request: matches!(kind, 8 | 128), identifier },
        (true, 3 | 11 | 12) | (false, 1..=4) => Payload::Error { kind, quotes: None },
        (false, 133..=137) => Payload::Neighbour { kind, target: Some(source) },
        _ => Payload::Icmp(kind),
    }
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

/// A packet of a connection, from its initiator.
fn packet_of(flow: &Flow) -> Packet {
    let (source, destination) = (flow.source.1, flow.destination.1);
    let payload = match flow.protocol {
        6 => Payload::Tcp { source, destination, flags: flag::ACK },
        17 => Payload::Udp { source, destination },
        1 | 58 => Payload::Echo { request: true, identifier: source },
        other => Payload::Other(other),
    };
    let (source, destination) = (flow.source.0, flow.destination.0);
    Packet { source, destination, hop_limit: 64, fragment: Fragment::Whole, payload }
}

/// An error about an earlier packet, from its destination or from somebody else on the way; it may quote
/// what nobody sent, or the packet the wrong way round.
fn error(edges: &Edges<'_>, about: &Packet, step: &Step) -> Packet {
    let [number, which, other] = step.numbers;
    let quotes = if about.is_later() { None } else { about.flow() };
    let quotes = quotes.map(|flow| match which.index(8) {
        0 if matches!(flow.protocol, 6 | 17) => Flow { source: (flow.source.0, 9), ..flow },
        1 => Flow { source: flow.destination, destination: flow.source, ..flow },
        _ => flow,
    });
    let is_v4 = about.source.is_ipv4();
    let kind = if is_v4 { [3, 11, 12][number.index(3)] } else { [1, 2, 3, 4][number.index(4)] };
    let (_, elsewhere) = edges.packet(&step.draw);
    let from_elsewhere = other.index(3) == 0 && elsewhere.source.is_ipv4() == is_v4;
    Packet {
        source: if from_elsewhere { elsewhere.source } else { about.destination },
        destination: about.source,
        hop_limit: 64,
        fragment: Fragment::Whole,
        payload: Payload::Error { kind, quotes },
    }
}

fn fragment(packet: Packet, step: &Step) -> Packet {
    let identification = u32::try_from(step.numbers[0].index(3)).expect("small");
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
