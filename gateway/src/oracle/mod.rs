//! The slow, obvious reading of a policy: what the tables and the datapath are tested against.
//! [`Oracle`] decides the first packet of a connection, [`Gateway`] keeps connections and time.
//!
//! Nothing here is shared with `compile` but the resolved model: every question goes to the rules,
//! one after the other, with [`crate::policy::model::AddressSet::contains`] and [`Policy::segment_of`].
//!
//! The order of a decision on the first packet of a connection:
//! 1. Interface and VLAN tags give the segment *P* it comes from; an unknown place always drops.
//! 2. The destination's segment is looked up for every packet from a known place: also a packet
//!    that is refused for its source counts, by mode, as one between *P* and that segment.
//! 3. The source must be one of *P*: see [`Oracle::admit`].
//! 4. The first deny of the policy that names the packet decides, else for quarantine the first flow that it keeps,
//!    else the first quarantine, else the first flow; of rules that hold only at times those that do now, of those that
//!    want a tunnel those whose packets arrive through it.
//! 5. What does not pass is dropped where one end is in quarantine. Else it is reported where a segment's glass is
//!    broken. Else what does not pass is dropped, reported or observed as the stricter of both segments says.

use std::net::IpAddr;

use gateway_common::reason::{Mode, Reason, Verdict};

use crate::packet::{Arrival, Decision, PacketView, Transport};
use crate::policy::model::{InterfaceKind, Policy, Rule, RuleId, RuleKind, SegmentId, ServiceMatch, Tunnel};

mod condition;
pub mod connection;
mod link;
pub mod packet;
mod session;
mod source;

pub use link::LinkFrame;
pub use session::Gateway;
pub use source::Party;
use source::is_mapped;

/// Decides packets straight from the resolved model.
#[derive(Clone, Copy, Debug)]
pub struct Oracle<'p> {
    policy: &'p Policy,
    now: u64,
    /// How the packet in question arrives; `None` where that is not known.
    way: Option<Tunnel>,
}

impl<'p> Oracle<'p> {
    /// An oracle for this policy, at time 0, and about packets of which nobody knows how they arrive.
    pub fn new(policy: &'p Policy) -> Self {
        Self { policy, now: 0, way: None }
    }

    /// The same at another time, in nanoseconds on the kernel's clock.
    #[must_use]
    pub fn at(self, now: u64) -> Self {
        Self { now, ..self }
    }

    /// The same about packets that arrive this way.
    #[must_use]
    pub(super) fn arriving(self, way: Option<Tunnel>) -> Self {
        Self { way, ..self }
    }

    /// Decides the packet that opens a connection.
    pub fn decide(&self, arrival: Arrival<'_>, packet: &PacketView) -> Decision {
        let here = match self.place(arrival) {
            Ok(segment) => segment,
            Err(reason) => return Decision::unknown_place(reason),
        };
        let destination = self.destination_segment(packet.destination);
        let mut is_quarantined = self.is_quarantined_address(packet.destination);
        let mut from = here;
        let (reason, rule) = match self.admit(here, self.is_routed(arrival), packet) {
            Err(reason) => (reason, None),
            Ok(sender) => {
                from = sender.segment();
                is_quarantined |= self.is_quarantined(sender);
                let oracle = self.arriving(self.way(arrival.interface));
                match self.confine(sender, destination) {
                    Err(reason) => (reason, None),
                    Ok(()) => oracle.rule(sender, self.party(packet.destination), packet.transport),
                }
            }
        };
        self.settle(reason, rule, [from, destination], is_quarantined)
    }

    /// Whether a router stands there that forwards between segments.
    pub(super) fn is_routed(&self, arrival: Arrival<'_>) -> bool {
        self.policy.interfaces.iter().any(|interface| interface.name == arrival.interface && interface.routed)
    }

    /// Segment of the place where a frame arrives.
    pub fn place(&self, arrival: Arrival<'_>) -> Result<SegmentId, Reason> {
        let mut named = false;
        for interface in &self.policy.interfaces {
            if interface.name != arrival.interface {
                continue;
            }
            named = true;
            let segment = match &interface.kind {
                InterfaceKind::Access(segment) if (arrival.outer, arrival.vlan) == (0, 0) => Some(*segment),
                InterfaceKind::Wan if (arrival.outer, arrival.vlan) == (0, 0) => Some(SegmentId::WAN),
                InterfaceKind::Trunk { outer, vlans } if *outer == arrival.outer => {
                    vlans.get(&arrival.vlan).copied()
                }
                _ => None,
            };
            if let Some(segment) = segment {
                return Ok(segment);
            }
        }
        Err(if named { Reason::UnknownVlan } else { Reason::UnknownInterface })
    }

    /// Segment in which a packet ends; an IPv4-mapped address is in none.
    pub fn destination_segment(&self, destination: IpAddr) -> SegmentId {
        if is_mapped(destination) { SegmentId::UNKNOWN } else { self.policy.segment_of(destination) }
    }

    /// The rule that decides on a packet that `from` sends to `to` to open a connection.
    pub fn rule(&self, from: Party, to: Party, transport: Transport) -> (Reason, Option<RuleId>) {
        self.strongest(from, to, transport, |rule| self.holds(rule))
            .map_or((Reason::NoFlow, None), |(_, reason, rule)| (reason, Some(rule)))
    }

    /// The strongest of the rules that are `asked`: how strong its kind is, what it says, and which it is.
    fn strongest(
        &self,
        from: Party,
        to: Party,
        transport: Transport,
        asked: impl Fn(&Rule) -> bool,
    ) -> Option<(usize, Reason, RuleId)> {
        let first = |kinds: &[RuleKind]| {
            let named = (0..).zip(&self.policy.rules).find(|(_, rule)| {
                rule.is_active()
                    && kinds.contains(&rule.kind)
                    && asked(rule)
                    && from.is_in(&rule.from)
                    && to.is_in(&rule.to)
                    && rule.services.iter().any(|&service| self.is_of_service(service, transport))
            });
            named.map(|(index, _)| RuleId(index))
        };
        let strongest_first: [(&[RuleKind], Reason); 4] = [
            (&[RuleKind::Deny], Reason::Denied),
            (&[RuleKind::Kept], Reason::Flow),
            (&[RuleKind::Quarantine], Reason::Denied),
            (&[RuleKind::Flow, RuleKind::Vendor], Reason::Flow),
        ];
        let mut found = (0..).zip(strongest_first);
        found.find_map(|(strength, (kinds, reason))| first(kinds).map(|rule| (strength, reason, rule)))
    }

    fn is_of_service(self, service: usize, transport: Transport) -> bool {
        self.policy.services[service].matches.iter().any(|matches| is_match(*matches, transport))
    }

    /// What becomes of a packet between two segments, by their modes.
    pub fn verdict(&self, reason: Reason, source: SegmentId, destination: SegmentId) -> Verdict {
        if reason.passes() {
            return Verdict::Pass;
        }
        if let Some(verdict) = reason.settled() {
            return verdict;
        }
        if source == SegmentId::UNKNOWN {
            return Verdict::Drop;
        }
        let mode = |segment: SegmentId| match segment {
            SegmentId::UNKNOWN => Mode::Observe,
            segment => self.policy.segment(segment).mode.into(),
        };
        let modes = [mode(source), mode(destination)];
        if modes.contains(&Mode::Enforce) {
            Verdict::Drop
        } else if modes.contains(&Mode::Audit) {
            Verdict::Audit
        } else {
            Verdict::Observe
        }
    }
}

fn is_match(matches: ServiceMatch, transport: Transport) -> bool {
    let within = |range: (u16, u16), port: u16| range.0 <= port && port <= range.1;
    match (matches, transport) {
        (ServiceMatch::Tcp { source, destination }, Transport::Tcp { source: from, destination: to })
        | (ServiceMatch::Udp { source, destination }, Transport::Udp { source: from, destination: to }) => {
            within(source, from) && within(destination, to)
        }
        (ServiceMatch::Icmp(types), Transport::Icmp(kind))
        | (ServiceMatch::Icmpv6(types), Transport::Icmpv6(kind)) => types.0 <= kind && kind <= types.1,
        (ServiceMatch::Protocol(named), Transport::Other(protocol)) => named == protocol,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
