//! What holds only at times: rules, quarantine, break-glass. And what holds only for one way to arrive.

use std::net::IpAddr;

use gateway_common::reason::{Reason, Verdict};

use super::Oracle;
use super::source::{Party, is_mapped};
use crate::packet::{Decision, Transport};
use crate::policy::model::{Interface, Rule, RuleId, SegmentId, Tunnel};

impl Oracle<'_> {
    /// Whether a rule holds now, for packets that arrive as these do.
    pub(super) fn holds(&self, rule: &Rule) -> bool {
        rule.condition.is_none_or(|condition| self.policy.conditions[condition].holds(self.now))
            && rule.through.is_none_or(|way| self.way == Some(way))
    }

    /// Whether the time, or the way that its packets arrive, has a say in what a packet that opens a connection meets: a
    /// rule that holds at times, or for one way, goes before what always decides.
    pub(super) fn is_bound(&self, from: Party, to: Party, transport: Transport) -> bool {
        let strongest = |bound: bool| {
            let is_asked = |rule: &Rule| (rule.condition.is_some() || rule.through.is_some()) == bound;
            let found = self.strongest(from, to, transport, is_asked);
            found.map(|(strength, _, rule)| (strength, rule))
        };
        strongest(true).is_some_and(|at_times| strongest(false).is_none_or(|always| at_times < always))
    }

    /// How packets arrive at an interface.
    pub(super) fn way(&self, interface: &str) -> Option<Tunnel> {
        let mut interfaces = self.policy.interfaces.iter();
        interfaces.find(|it| it.name == interface).map(Interface::way)
    }

    /// Whether an end is in quarantine now.
    pub(super) fn is_quarantined(&self, party: Party) -> bool {
        let mut rules = self.policy.rules.iter();
        rules.any(|rule| rule.isolates() && party.is_in(&rule.from) && self.holds(rule))
    }

    /// Whether the host with an address is in quarantine now; an IPv4-mapped one is nobody's.
    pub(super) fn is_quarantined_address(&self, address: IpAddr) -> bool {
        !is_mapped(address) && self.is_quarantined(self.party(address))
    }

    /// A decision on a packet between two segments, one end of which may be in quarantine.
    pub(super) fn settle(
        &self,
        reason: Reason,
        rule: Option<RuleId>,
        [source_segment, destination_segment]: [SegmentId; 2],
        is_quarantined: bool,
    ) -> Decision {
        let by_modes = self.verdict(reason, source_segment, destination_segment);
        let reason = if reason.passes() {
            reason
        } else if is_quarantined {
            Reason::Quarantined
        } else if by_modes == Verdict::Drop && self.is_open([source_segment, destination_segment]) {
            Reason::BreakGlass
        } else {
            reason
        };
        let verdict = self.verdict(reason, source_segment, destination_segment);
        Decision { reason, rule, source_segment, destination_segment, verdict }
    }

    /// Whether the glass of one of two segments is broken now, for packets between them.
    fn is_open(&self, ends: [SegmentId; 2]) -> bool {
        let broken =
            |end: &SegmentId| self.policy.break_glass.get(end).is_some_and(|until| *until > self.now);
        !ends.contains(&SegmentId::WAN) && !ends.contains(&SegmentId::GATEWAY) && ends.iter().any(broken)
    }
}
