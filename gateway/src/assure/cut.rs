//! Which running connections a change of policy would cut.
//!
//! A connection is judged as the datapath judges the next packet of each of its ends: its place, the
//! source guard, then the rules, asked about what the initiator opened. The tables that answer are those
//! that the kernel would get, so one connection costs a few loads, however many rules there are.
//!
//! A connection counts as cut where the policy in force lets it go on and the new one drops a packet of
//! either end. One that the policy in force would end itself is not the change's doing.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use gateway_common::connection::State;
use gateway_common::place::{Place, PlaceKey, SEGMENT_GATEWAY, SEGMENT_UNKNOWN};
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::{Atom, NO_RULE};

use crate::compile::image::{Image, NamedPlace};
use crate::packet::{Arrival, Transport};
use crate::policy::model::{RuleId, SegmentId};

/// A running connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// Address and port of the end that opened it. Echo: the identifier stands for both ports; protocols
    /// without ports: 0.
    pub initiator: (IpAddr, u16),
    /// Address and port of the other end.
    pub responder: (IpAddr, u16),
    /// IP protocol number.
    pub protocol: u8,
    /// Its state.
    pub state: State,
    /// Where packets of the initiator and of the responder arrive, as far as known.
    pub places: [Option<Arrival<'a>>; 2],
    /// The gateway itself opened it.
    pub of_gateway: bool,
    /// Seconds since its last packet, give or take one; where known.
    pub idle: Option<u64>,
}

/// What becomes of a connection, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fate {
    /// [`Reason::Established`] where it goes on.
    pub reason: Reason,
    /// What becomes of the packet: a connection that is not allowed goes on where no segment enforces.
    pub verdict: Verdict,
    /// The rule that allows it, or the deny that forbids it.
    pub rule: Option<RuleId>,
    /// Segments of initiator and responder.
    pub segments: [SegmentId; 2],
}

/// What a change of policy does to the running connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cuts {
    /// Connections that were looked at.
    pub examined: u64,
    /// Those that would be cut.
    pub cut: u64,
    /// Those that no rule would allow any more, and that go on because no segment of theirs enforces.
    pub unenforced: u64,
    /// Those that would be cut, the largest group first.
    pub groups: Vec<Group>,
}

/// Connections that one rule admitted between two segments, and that are cut for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What the policy in force says: rule and segments.
    pub before: Fate,
    /// What the new one says.
    pub after: Fate,
    /// How many there are.
    pub count: u64,
    /// How many of them are in each state.
    pub states: BTreeMap<State, u64>,
    /// Some of them, those with the latest packets first.
    pub examples: Vec<Example>,
}

/// A connection of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// See [`Connection::initiator`].
    pub initiator: (IpAddr, u16),
    /// See [`Connection::responder`].
    pub responder: (IpAddr, u16),
    /// What the packet that opened it carried.
    pub transport: Transport,
    /// See [`Connection::state`].
    pub state: State,
    /// See [`Connection::idle`].
    pub idle: Option<u64>,
}

/// Looks at connections, one after the other; what it remembers does not grow with their number.
#[derive(Debug)]
pub struct Survey<'i> {
    old: Judge<'i>,
    new: Judge<'i>,
    /// Examples of a group that are kept.
    examples: usize,
    cuts: Cuts,
    groups: BTreeMap<(Fate, Fate), Group>,
}

impl<'i> Survey<'i> {
    /// A survey of a change from the tables in force to those of another policy.
    pub fn new(old: &'i Image, new: &'i Image, examples: usize) -> Self {
        let cuts = Cuts { examined: 0, cut: 0, unenforced: 0, groups: Vec::new() };
        Self { old: Judge::new(old), new: Judge::new(new), examples, cuts, groups: BTreeMap::new() }
    }

    /// Counts a connection in.
    pub fn add(&mut self, connection: &Connection<'_>) {
        self.cuts.examined += 1;
        let after = self.new.fate(connection);
        if after.reason == Reason::Established {
            return;
        }
        let before = self.old.fate(connection);
        if before.reason != Reason::Established {
            return;
        }
        if after.verdict != Verdict::Drop {
            self.cuts.unenforced += 1;
            return;
        }
        self.cuts.cut += 1;
        let new = Group { before, after, count: 0, states: BTreeMap::new(), examples: Vec::new() };
        let group = self.groups.entry((before, after)).or_insert(new);
        group.count += 1;
        *group.states.entry(connection.state).or_default() += 1;
        let Connection { initiator, responder, state, idle, .. } = *connection;
        let transport = transport(connection);
        group.examples.push(Example { initiator, responder, transport, state, idle });
        // Now and then, so that sorting costs little and the list stays short.
        if group.examples.len() >= self.examples.saturating_mul(2).saturating_add(64) {
            shorten(&mut group.examples, self.examples);
        }
    }

    /// What it found.
    pub fn finish(self) -> Cuts {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        for group in &mut groups {
            shorten(&mut group.examples, self.examples);
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        Cuts { groups, ..self.cuts }
    }
}

/// Keeps the `most` connections with the latest packets.
fn shorten(examples: &mut Vec<Example>, most: usize) {
    examples.sort_by_key(|example| (example.idle.unwrap_or(u64::MAX), example.initiator, example.responder));
    examples.truncate(most);
}

/// Judges connections by one policy's tables.
#[derive(Debug)]
struct Judge<'i> {
    image: &'i Image,
    places: HashMap<Arrival<'i>, Place>,
}

impl<'i> Judge<'i> {
    fn new(image: &'i Image) -> Self {
        let places = image.places.iter().map(|named| {
            let NamedPlace { interface, outer, vlan, place } = named;
            (Arrival { interface, outer: *outer, vlan: *vlan }, *place)
        });
        Self { image, places: places.collect() }
    }

    /// What becomes of a connection at the next packet of either end.
    fn fate(&self, connection: &Connection<'_>) -> Fate {
        // Images that the compiler makes have no holes.
        self.try_fate(connection).unwrap_or(Fate {
            reason: Reason::Internal,
            verdict: Verdict::Drop,
            rule: None,
            segments: [SegmentId::UNKNOWN; 2],
        })
    }

    fn try_fate(&self, connection: &Connection<'_>) -> Option<Fate> {
        let image = self.image;
        let addresses = [connection.initiator.0, connection.responder.0];
        let [mut source, destination] = [image.atom(addresses[0])?, image.atom(addresses[1])?];
        let mut is_touched = false;
        let mut refused = None;
        for end in 0..2 {
            let arrives = connection.places[end].map_or(Arrives::Somewhere, |arrival| self.arrives(arrival));
            is_touched |= !matches!(arrives, Arrives::Untouched);
            let [own, other] = if end == 0 { [source, destination] } else { [destination, source] };
            let reason = match arrives {
                Arrives::At(place) => admit(place, own),
                Arrives::UnknownVlan => Some(Reason::UnknownVlan),
                Arrives::Somewhere | Arrives::Untouched => None,
            };
            let from = match arrives {
                Arrives::At(place) => place.segment,
                _ => SEGMENT_UNKNOWN,
            };
            if let Some(reason) = reason {
                let verdict = image.manifest.verdict(from, other.segment, reason);
                refused = Some(strictest(refused, (reason, verdict, None)));
            }
        }
        // An address that the gateway loses takes its connections along; one that nobody has answered yet may be new.
        if connection.of_gateway && connection.places[1].is_some() && source.segment != SEGMENT_GATEWAY {
            let verdict = image.manifest.verdict(destination.segment, source.segment, Reason::Revoked);
            refused = Some(strictest(refused, (Reason::Revoked, verdict, None)));
        }
        // The gateway's own are not judged by rules; nor is what no interface of the policy sees.
        let mut rule = None;
        if !connection.of_gateway && is_touched {
            let place = connection.places[0].and_then(|arrival| self.places.get(&arrival));
            let link = place.and_then(|place| image.atoms.get(place.link_atom as usize).copied());
            let is_nameless = source.flags & NAMELESS != 0;
            source = if is_nameless { link.unwrap_or(source) } else { source };
            // Where the initiator sends from is where the connection lives.
            let way = place.map_or(0, Place::way);
            let cell = image.lookup(way, source, destination, transport(connection))?;
            rule = (cell.rule() != NO_RULE).then(|| RuleId(cell.rule()));
            if !cell.is_allow() || (is_nameless && link.is_none()) {
                let from = place.map_or(source.segment, |place| place.segment);
                let verdict = image.manifest.verdict(from, destination.segment, Reason::Revoked);
                refused = Some(strictest(refused, (Reason::Revoked, verdict, rule)));
            }
        }
        let (reason, verdict, rule) = refused.unwrap_or((Reason::Established, Verdict::Pass, rule));
        let segments = [source.segment, destination.segment].map(SegmentId);
        Some(Fate { reason, verdict, rule, segments })
    }

    fn arrives(&self, arrival: Arrival<'_>) -> Arrives {
        let PlaceKey { outer, vlan, .. } = PlaceKey::interface(0);
        match self.places.get(&arrival) {
            Some(place) => Arrives::At(*place),
            None if self.places.contains_key(&Arrival { outer, vlan, ..arrival }) => Arrives::UnknownVlan,
            None => Arrives::Untouched,
        }
    }
}

/// The source guard on one end of a connection, which was let in once.
fn admit(place: Place, own: Atom) -> Option<Reason> {
    match own.flags {
        flags if flags & NAMELESS != 0 => None,
        flags if flags & Atom::NEVER_SOURCE != 0 => Some(Reason::Martian),
        _ => (own.segment != place.segment).then_some(Reason::Spoofed),
    }
}

/// Where packets of an end arrive, by a policy.
enum Arrives {
    At(Place),
    /// On an interface of the policy, with a tag that it does not name.
    UnknownVlan,
    /// On an interface that the policy leaves alone.
    Untouched,
    /// Nobody knows yet.
    Somewhere,
}

/// Senders without an address of their segment.
const NAMELESS: u16 = Atom::LINK_LOCAL | Atom::UNSPECIFIED;

type Refusal = (Reason, Verdict, Option<RuleId>);

/// The refusal that drops, the earlier one of equals.
fn strictest(one: Option<Refusal>, other: Refusal) -> Refusal {
    match one {
        Some(one) if one.1 == Verdict::Drop || other.1 != Verdict::Drop => one,
        _ => other,
    }
}

/// What the packet that opened a connection carried.
fn transport(connection: &Connection<'_>) -> Transport {
    let (source, destination) = (connection.initiator.1, connection.responder.1);
    // Of ICMP, only echo has connections (RFC 792, RFC 4443: types 8 and 128).
    match connection.protocol {
        6 => Transport::Tcp { source, destination },
        17 => Transport::Udp { source, destination },
        1 => Transport::Icmp(8),
        58 => Transport::Icmpv6(128),
        other => Transport::Other(other),
    }
}

#[cfg(test)]
mod tests;
