//! The gateway with its memory: connections, fragments, generations.
//!
//! The order of a decision, for a packet that could be parsed:
//! 1. Its place: [`Oracle::place`]. IPv4-mapped addresses are refused as the header is read.
//! 2. A later fragment takes its first's ports; where that is not known it is dropped
//!    (`unknown-fragment`).
//! 3. The source guard: [`Oracle::admit`].
//! 4. Its connection, but for what comes by another way than the connection lives in and is not allowed, and for a sender that [`Oracle::confine`] stops. One that another generation judged
//!    is judged again by its first packet since: it stays, or it ends here (`revoked`). The gateway's own
//!    stay for as long as it has their address.
//! 5. Neighbour discovery and group membership, which never leave the link.
//! 6. [`Oracle::confine`].
//! 7. ICMP errors: allowed where the packet they quote is of a live connection and was sent by
//!    the error's destination.
//! 8. Later fragments of TCP and ICMP whose connection is gone are dropped.
//! 9. TCP other than a plain SYN: `not-in-connection`, unless the policy takes connections up in
//!    their middle, from either side; never by a reset.
//! 10. The rules.
//!
//! Only allowed packets leave state behind. Groups (multicast, broadcast) and ICMP other than
//! echo requests get none: each of their packets is judged by itself. A first fragment is
//! remembered where a rule allows it or its connection has it; of ICMP only with a connection, for its
//! later fragments do not say their type.
//!
//! Not modelled: the limited room of the connection table (but see [`Gateway::refuse`]), and the budget for
//! neighbour discovery.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use gateway_common::fragment::LIFETIME;
use gateway_common::reason::Reason;

use crate::packet::{Arrival, Decision, Transport};
use crate::policy::model::{Policy, RuleId, SegmentId, Tunnel};

use super::Oracle;
use super::connection::{Connection, SECOND, first_state, lifetime};
use super::packet::{Flow, Fragment, Packet, Payload, echo_type, flag};
use super::source::{Party, is_link_local, is_mapped, is_never_source};

/// A gateway in user space. Time is in nanoseconds and never goes back.
#[derive(Clone, Debug)]
pub struct Gateway {
    policy: Policy,
    generation: u32,
    /// By both ends in order.
    connections: HashMap<Flow, Connection>,
    /// First fragments, with their end.
    fragments: HashMap<FragmentKey, (u64, Payload)>,
    /// What the last first fragment took the place of.
    replaced: Option<(u64, Payload)>,
}

/// Source, destination, identification, protocol.
type FragmentKey = (IpAddr, IpAddr, u32, u8);

/// Who sends the packet that opens a connection.
#[derive(Clone, Copy)]
enum Sender<'a> {
    /// The initiator, from here.
    Initiator(Arrival<'a>),
    /// The other end: the connection is taken up in its middle.
    Responder(Party),
}

/// What becomes known of a packet's ends while it is judged.
struct Known<'a> {
    /// Segment of the destination: where it was heard, if only that tells.
    destination_segment: &'a mut SegmentId,
    /// The sender, once it is known to belong where it sends from.
    sender: Option<Party>,
}

/// Why, and the rule that decided.
type Finding = (Reason, Option<RuleId>);

impl Gateway {
    /// A gateway that enforces this policy and has seen nothing yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, generation: 1, connections: HashMap::new(), fragments: HashMap::new(), replaced: None }
    }

    /// Puts another policy in force.
    pub fn apply(&mut self, policy: Policy) {
        self.policy = policy;
        self.generation += 1;
    }

    /// The connections that live at `now`.
    pub fn connections(&self, now: u64) -> impl Iterator<Item = &Connection> {
        self.connections.values().filter(move |connection| connection.expires > now)
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes back the connection that `packet` has just opened, because the table had no room for
    /// it; false where there is none.
    pub fn refuse(&mut self, packet: &Packet) -> bool {
        if let Fragment::First(identification) = packet.fragment {
            let key = fragment_key(packet, identification);
            match self.replaced.take() {
                Some(earlier) => self.fragments.insert(key, earlier),
                None => self.fragments.remove(&key),
            };
        }
        packet.flow().and_then(|flow| self.connections.remove(&unordered(flow))).is_some()
    }

    /// What a decision that lets a frame pass becomes where a limit, which is not modelled, is reached for `reason`.
    /// `packet` is what the frame carries, unless it is no IP.
    pub fn limited(&self, now: u64, decision: Decision, packet: Option<&Packet>, reason: Reason) -> Decision {
        let oracle = Oracle::new(&self.policy).at(now);
        let ends = [decision.source_segment, decision.destination_segment];
        let is_quarantined = packet.is_some_and(|packet| {
            let sender = oracle.admit(ends[0], false, &packet.view());
            oracle.is_quarantined_address(packet.destination)
                || sender.is_ok_and(|sender| oracle.is_quarantined(sender))
        });
        oracle.settle(reason, decision.rule, ends, is_quarantined)
    }

    /// Decides a packet that arrives.
    pub fn arrives(&mut self, now: u64, arrival: Arrival<'_>, packet: &Packet) -> Decision {
        let oracle = Oracle::new(&self.policy).at(now);
        let here = match oracle.place(arrival) {
            Ok(here) => here,
            Err(reason) => return Decision::unknown_place(reason),
        };
        let mut destination_segment = oracle.destination_segment(packet.destination);
        let mut is_quarantined = oracle.is_quarantined_address(packet.destination);
        let mut known = Known { destination_segment: &mut destination_segment, sender: None };
        let (reason, rule) = match self.judge(now, arrival, here, packet, &mut known) {
            Ok(finding) => finding,
            Err(reason) => (reason, None),
        };
        let sender = known.sender;
        let oracle = Oracle::new(&self.policy).at(now);
        is_quarantined |= sender.is_some_and(|sender| oracle.is_quarantined(sender));
        let from = sender.map_or(here, Party::segment);
        oracle.settle(reason, rule, [from, destination_segment], is_quarantined)
    }

    /// Notes a packet that the gateway itself sends: its connections get their replies.
    pub fn sends(&mut self, now: u64, packet: &Packet) {
        let is_stray = is_mapped(packet.source) || is_mapped(packet.destination);
        if packet.is_later() || is_stray || is_group(packet.destination) {
            return;
        }
        let Some(flow) = packet.flow() else { return };
        if let Some(connection) = self.connections.get_mut(&unordered(flow))
            && connection.expires > now
            && connection.has(packet)
            && !connection.is_reopened_by(packet)
        {
            connection.advance(packet, now, &self.policy.settings);
            return;
        }
        let opens = match packet.payload {
            // In its middle the gateway may be the listener.
            Payload::Tcp { .. } => packet.is_opening(),
            Payload::Echo { request, .. } => request,
            // Group membership is no connection.
            Payload::Other(protocol) => protocol != 2,
            _ => true,
        };
        if opens {
            let initiator = Oracle::new(&self.policy).party(packet.source);
            let connection = self.opened(now, flow, initiator, packet, None);
            self.connections
                .insert(unordered(flow), Connection { generation: 0, of_gateway: true, ..connection });
        }
    }

    /// Judges a packet, and says what became known of its ends.
    fn judge(
        &mut self,
        now: u64,
        arrival: Arrival<'_>,
        here: SegmentId,
        packet: &Packet,
        known: &mut Known<'_>,
    ) -> Result<Finding, Reason> {
        if is_mapped(packet.source) || is_mapped(packet.destination) {
            return Err(Reason::Martian);
        }
        let resolved = match packet.fragment {
            Fragment::Later(identification) => self.resolve(now, packet, identification),
            Fragment::Whole | Fragment::First(_) => Some(packet.clone()),
        };
        let Some(packet) = &resolved else {
            return Err(Reason::UnknownFragment);
        };
        let oracle = Oracle::new(&self.policy);
        let sender = oracle.admit(here, oracle.is_routed(arrival), &packet.view())?;
        known.sender = Some(sender);
        let destination = self.policy.segment_of(packet.destination);
        if let Some(flow) = packet.flow()
            && let Some(connection) = self.connection(now, flow)
            && oracle.confine(sender, destination).is_ok()
            && connection.has(packet)
            && !connection.is_reopened_by(packet)
        {
            let from_initiator = connection.is_from_initiator(packet);
            // Whoever else bears the address is not asked for the way of this connection.
            let is_asked = connection.bound || connection.generation != self.generation;
            let is_own = !(is_asked && from_initiator && self.is_elsewhere(connection, sender));
            let way = Oracle::new(&self.policy).way(arrival.interface).filter(|_| from_initiator);
            let finding = if is_own { self.revalidate(now, flow, way) } else { (Reason::Established, None) };
            if finding.0 != Reason::Established {
                return Ok(finding);
            }
            let settings = &self.policy.settings;
            let connection = self.connections.get_mut(&unordered(flow)).expect("it was kept");
            // A host of another segment may bear the same link-local address; and what the gateway itself
            // sends never arrives.
            let is_its_end = if from_initiator {
                !connection.of_gateway && connection.initiator == sender
            } else {
                connection.responder.is_none_or(|responder| responder == sender)
            };
            if is_own && is_its_end {
                if from_initiator {
                    connection.place = Some(place_of(arrival));
                } else {
                    connection.responder = Some(sender);
                }
                let other = if from_initiator { connection.responder } else { Some(connection.initiator) };
                if let Some(Party::Nameless(segment)) = other {
                    *known.destination_segment = segment;
                }
                connection.advance(packet, now, settings);
                self.remember(now, packet);
                return Ok(finding);
            }
        }
        let oracle = Oracle::new(&self.policy);
        // What a router has passed on is none of this link.
        if sender.segment() == here
            && let Some(finding) = self.link_control(here, packet)
        {
            return finding;
        }
        oracle.confine(sender, destination)?;
        match packet.payload {
            Payload::Error { quotes, .. } if !packet.is_later() => self.related(now, arrival, packet, quotes),
            _ => self.first(now, arrival, sender, packet),
        }
    }

    /// Whether the initiator's address is good in every segment, and it was seen in another one than this sender.
    fn is_elsewhere(&self, connection: &Connection, sender: Party) -> bool {
        let Party::Nameless(segment) = sender else { return false };
        let oracle = Oracle::new(&self.policy);
        let seen = connection.seen().and_then(|seen| oracle.place(seen).ok());
        self.policy.asks_for_ways() && seen.is_some_and(|seen| seen != segment)
    }

    /// The live connection of these ends.
    fn connection(&self, now: u64, flow: Flow) -> Option<&Connection> {
        self.connections.get(&unordered(flow)).filter(|connection| connection.expires > now)
    }

    /// Has the generation in force judge a connection, unless it has; where the time or the way has a say, by each
    /// packet. `arrives` is how the packet came, if it is from the initiator's side.
    fn revalidate(&mut self, now: u64, flow: Flow, arrives: Option<Tunnel>) -> Finding {
        let key = unordered(flow);
        let connection = self.connections.get_mut(&key).expect("the caller has found it");
        // An address that the gateway has lost may be anybody's by now. One that it has just got may not have
        // come into force yet.
        if connection.of_gateway
            && ![0, self.generation].contains(&connection.generation)
            && self.policy.segment_of(connection.flow.source.0) != SegmentId::GATEWAY
        {
            self.connections.remove(&key);
            return (Reason::Revoked, None);
        }
        let is_new = connection.generation != self.generation;
        if (connection.bound || is_new) && !connection.of_gateway {
            let oracle = Oracle::new(&self.policy).at(now);
            let seen = connection.seen().and_then(|seen| Some((seen, oracle.place(seen).ok()?)));
            let own = seen.and_then(|(seen, _)| oracle.way(seen.interface));
            let oracle = oracle.arriving(arrives.or(own));
            // Whoever has no address of a segment is of the segment that is now where it was seen.
            let address = connection.flow.source.0;
            let initiator = if address.is_unspecified() || is_link_local(address) {
                // It reaches no further than the gateway, which may have lost the address that this was opened to.
                let to_gateway = self.policy.segment_of(connection.flow.destination.0) == SegmentId::GATEWAY;
                seen.filter(|_| to_gateway).map(|(_, segment)| Party::Nameless(segment))
            } else {
                Some(oracle.party(address))
            };
            let responder = oracle.party(connection.flow.destination.0);
            let transport = first_transport(&connection.flow);
            let judged = initiator.map(|initiator| (initiator, oracle.rule(initiator, responder, transport)));
            match judged {
                Some((initiator, (Reason::Flow, rule))) => {
                    connection.initiator = initiator;
                    connection.rule = rule;
                    connection.bound = oracle.is_bound(initiator, responder, transport);
                    let keeps_place = connection.bound && self.policy.asks_for_ways();
                    if is_new && !keeps_place && matches!(initiator, Party::Host(..)) {
                        connection.place = None;
                    }
                }
                // It came by another way than the connection lives in.
                Some((_, refused))
                    if self.policy.asks_for_ways()
                        && arrives.is_some()
                        && own.is_some()
                        && own != arrives =>
                {
                    return refused;
                }
                refused => {
                    self.connections.remove(&key);
                    return (Reason::Revoked, refused.and_then(|(_, (_, rule))| rule));
                }
            }
        }
        if connection.generation != self.generation {
            connection.responder = None;
        }
        connection.generation = self.generation;
        (Reason::Established, connection.rule)
    }

    fn related(
        &mut self,
        now: u64,
        arrival: Arrival<'_>,
        packet: &Packet,
        quotes: Option<Flow>,
    ) -> Result<Finding, Reason> {
        // No such packet can have been sent.
        if quotes.is_some_and(|quoted| is_mapped(quoted.source.0) || is_mapped(quoted.destination.0)) {
            return Err(Reason::MalformedTransport);
        }
        let quoted = quotes.filter(|quoted| quoted.source.0 == packet.destination);
        let quoted = quoted.filter(|quoted| self.connection(now, *quoted).is_some());
        let quoted = quoted.ok_or(Reason::UnrelatedIcmp)?;
        let connection = self.connection(now, quoted).ok_or(Reason::UnrelatedIcmp)?;
        // An error about what the responder sent comes from the initiator's side.
        let is_of_responder = quoted.source != connection.flow.source;
        let way = Oracle::new(&self.policy).way(arrival.interface).filter(|_| is_of_responder);
        match self.revalidate(now, quoted, way) {
            (Reason::Established, rule) => Ok((Reason::Related, rule)),
            revoked => Ok(revoked),
        }
    }

    /// A packet that belongs to no connection.
    fn first(
        &mut self,
        now: u64,
        arrival: Arrival<'_>,
        sender: Party,
        packet: &Packet,
    ) -> Result<Finding, Reason> {
        // Its first was of a connection that is gone. What it was, a SYN or an echo, only that one said.
        if packet.is_later() {
            match packet.protocol() {
                1 | 58 => return Err(Reason::UnknownFragment),
                6 => return Err(Reason::NotInConnection),
                _ => {}
            }
        }
        let is_middle = matches!(packet.payload, Payload::Tcp { .. }) && !packet.is_opening();
        let is_reset = matches!(packet.payload, Payload::Tcp { flags, .. } if flags & flag::RST != 0);
        if is_middle && (is_reset || !self.policy.settings.midstream) {
            return Err(Reason::NotInConnection);
        }
        let oracle = Oracle::new(&self.policy).at(now);
        let receiver = oracle.party(packet.destination);
        let view = packet.view();
        let arriving = oracle.arriving(oracle.way(arrival.interface));
        let (reason, rule) = arriving.rule(sender, receiver, view.transport);
        if reason == Reason::Flow {
            return Ok(self.admitted(now, packet, sender, rule, Sender::Initiator(arrival)));
        }
        // What never sends has not opened it: a group, for one.
        let has_opener = is_middle && !is_never_source(packet.destination);
        if has_opener && let Transport::Tcp { source, destination } = view.transport {
            let back = Transport::Tcp { source: destination, destination: source };
            if let (Reason::Flow, rule) = oracle.rule(receiver, sender, back) {
                return Ok(self.admitted(now, packet, receiver, rule, Sender::Responder(sender)));
            }
        }
        Ok((reason, rule))
    }

    /// An allowed packet opens its connection, where it has one.
    fn admitted(
        &mut self,
        now: u64,
        packet: &Packet,
        initiator: Party,
        rule: Option<RuleId>,
        sender: Sender<'_>,
    ) -> Finding {
        let is_echo_reply = matches!(packet.payload, Payload::Echo { request: false, .. });
        let Some(flow) = packet.flow().filter(|_| !is_group(packet.destination) && !is_echo_reply) else {
            if !matches!(packet.protocol(), 1 | 58) {
                self.remember(now, packet);
            }
            return (Reason::Flow, rule);
        };
        let is_middle = matches!(packet.payload, Payload::Tcp { .. }) && !packet.is_opening();
        let (forward, place, responder) = match sender {
            Sender::Initiator(arrival) => (flow, Some(place_of(arrival)), None),
            Sender::Responder(party) => (reversed(flow), None, Some(party)),
        };
        let connection = self.opened(now, forward, initiator, packet, rule);
        let oracle = Oracle::new(&self.policy);
        let other = responder.unwrap_or_else(|| oracle.party(forward.destination.0));
        let bound = oracle.is_bound(initiator, other, first_transport(&forward));
        let midstream = is_middle;
        let seen = Connection { place, responder, bound, midstream, ..connection };
        self.connections.insert(unordered(flow), seen);
        self.remember(now, packet);
        (if is_middle { Reason::MidStream } else { Reason::Flow }, rule)
    }

    fn opened(
        &self,
        now: u64,
        flow: Flow,
        initiator: Party,
        packet: &Packet,
        rule: Option<RuleId>,
    ) -> Connection {
        let state = first_state(packet, packet.flow() == Some(flow));
        Connection {
            flow,
            initiator,
            place: None,
            responder: None,
            state,
            expires: now + lifetime(state, &self.policy.settings),
            generation: self.generation,
            rule,
            of_gateway: false,
            bound: false,
            midstream: false,
            fin: [false; 2],
        }
    }

    fn remember(&mut self, now: u64, packet: &Packet) {
        if let Fragment::First(identification) = packet.fragment {
            let key = fragment_key(packet, identification);
            self.replaced =
                self.fragments.insert(key, (now + u64::from(LIFETIME) * SECOND, packet.payload.clone()));
        }
    }

    /// A later fragment with what its first carries.
    fn resolve(&self, now: u64, packet: &Packet, identification: u32) -> Option<Packet> {
        let key = fragment_key(packet, identification);
        let (expires, payload) = self.fragments.get(&key)?;
        (*expires > now).then(|| Packet { payload: payload.clone(), ..packet.clone() })
    }

    /// Neighbour discovery (RFC 4861) and group membership (RFC 3376, RFC 3810).
    fn link_control(&self, here: SegmentId, packet: &Packet) -> Option<Result<Finding, Reason>> {
        let fine = Some(Ok((Reason::LinkLocal, None)));
        let to_group = is_group(packet.destination) && packet.hop_limit == 1;
        let destination = self.policy.segment_of(packet.destination);
        let on_link = destination == SegmentId::GATEWAY || destination == here;
        let (kind, target) = match packet.payload {
            Payload::Icmp(130..=132 | 143) if packet.source.is_ipv6() && to_group => return fine,
            Payload::Other(2) if to_group => return fine,
            Payload::Neighbour { kind, target } if on_link => (kind, target),
            _ => return None,
        };
        let refused = |reason| Some(Err(reason));
        if packet.hop_limit != 255 || packet.fragment != Fragment::Whole {
            return refused(Reason::InvalidNeighbour);
        }
        match (kind, target) {
            (134, _) if !self.policy.segment(here).routers => refused(Reason::RouterAdvertisement),
            (135 | 136, None) | (137, _) => refused(Reason::InvalidNeighbour),
            (136, Some(target)) if !Oracle::new(&self.policy).may_claim(here, target) => {
                refused(Reason::SpoofedNeighbour)
            }
            _ => fine,
        }
    }
}

/// The key under which both directions find a connection.
fn unordered(flow: Flow) -> Flow {
    if flow.source <= flow.destination { flow } else { reversed(flow) }
}

fn place_of(arrival: Arrival<'_>) -> (String, u16, u16) {
    (arrival.interface.to_owned(), arrival.outer, arrival.vlan)
}

fn fragment_key(packet: &Packet, identification: u32) -> FragmentKey {
    (packet.source, packet.destination, identification, packet.protocol())
}

fn reversed(flow: Flow) -> Flow {
    Flow { source: flow.destination, destination: flow.source, ..flow }
}

/// What the packet that opened a connection was to a rule.
fn first_transport(flow: &Flow) -> Transport {
    let (source, destination) = (flow.source.1, flow.destination.1);
    match flow.protocol {
        6 => Transport::Tcp { source, destination },
        17 => Transport::Udp { source, destination },
        1 => Transport::Icmp(echo_type(true, true)),
        58 => Transport::Icmpv6(echo_type(false, true)),
        other => Transport::Other(other),
    }
}

fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}
