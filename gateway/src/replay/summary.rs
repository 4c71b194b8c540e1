//! What a replay came to, in bounded memory.

use std::collections::{BTreeMap, HashMap};

use gateway_common::reason::{Reason, Verdict};

use super::view::{Service, View};
use super::{Judged, Unjudged};
use crate::policy::model::{RuleId, SegmentId};

/// Rows that are told apart; what belongs to further ones is only counted.
pub const ROWS_MAX: usize = 1 << 14;

/// What captures came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Captures.
    pub captures: u64,
    /// Packets, all of them.
    pub packets: u64,
    /// Judged packets by number of their [`Verdict`].
    pub by_verdict: [u64; Verdict::ALL.len()],
    /// Packets that were not judged, by why.
    pub unjudged: BTreeMap<Unjudged, u64>,
    /// Packets with an earlier time than one before them in their capture; they were judged at that one's.
    pub disordered: u64,
    /// Packets that were not allowed and belong to rows beyond [`ROWS_MAX`].
    pub unlisted: u64,
    rows: HashMap<Row, Count>,
}

/// What packets that were not allowed have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Segment that they come from.
    pub source: SegmentId,
    /// Segment that they go to.
    pub destination: SegmentId,
    /// What they carry.
    pub service: Service,
    /// They come from the port of `service`: from its listener, as far as one can tell.
    pub is_reply: bool,
    /// What becomes of them.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The deny, where one forbids them.
    pub rule: Option<RuleId>,
}

/// How many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames on the wire.
    pub bytes: u64,
}

impl Summary {
    /// Adds a packet.
    pub fn add(&mut self, judged: &Judged<'_>) {
        self.packets += 1;
        let decision = match judged.outcome {
            Ok(decision) => decision,
            Err(why) => {
                *self.unjudged.entry(why).or_default() += 1;
                return;
            }
        };
        self.by_verdict[decision.verdict as usize] += 1;
        if decision.verdict == Verdict::Pass {
            return;
        }
        let (service, is_reply) = service_of(&judged.view, decision.reason);
        let row = Row {
            source: decision.source_segment,
            destination: decision.destination_segment,
            service,
            is_reply,
            verdict: decision.verdict,
            reason: decision.reason,
            rule: decision.rule,
        };
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&row) {
            self.unlisted += 1;
            return;
        }
        let count = self.rows.entry(row).or_default();
        count.packets += 1;
        count.bytes += u64::from(judged.packet.length);
    }

    /// Packets that the policy does not allow, whether they would be dropped or not.
    pub fn not_allowed(&self) -> u64 {
        self.by_verdict.iter().sum::<u64>() - self.by_verdict[Verdict::Pass as usize]
    }

    /// What was not allowed: what would be dropped first, then the most packets first.
    pub fn rows(&self) -> Vec<(Row, Count)> {
        let mut rows: Vec<_> = self.rows.iter().map(|(row, count)| (*row, *count)).collect();
        rows.sort_by(|(a, m), (b, n)| {
            b.verdict.cmp(&a.verdict).then(n.packets.cmp(&m.packets)).then(a.cmp(b))
        });
        rows
    }
}

/// The service that a packet is told under. What a rule was asked about has the destination's port.
/// Anything else may come from either end of a connection that was refused or not seen: the lower port
/// is taken for the listener's, so that the ports that clients draw do not each make a row.
fn service_of(view: &View, reason: Reason) -> (Service, bool) {
    let by_rule = matches!(reason, Reason::NoFlow | Reason::Denied);
    match (view.service, view.ports) {
        (Service::Tcp(_), Some((source, destination))) if !by_rule && source < destination => {
            (Service::Tcp(source), true)
        }
        (Service::Udp(_), Some((source, destination))) if !by_rule && source < destination => {
            (Service::Udp(source), true)
        }
        (service, _) => (service, false),
    }
}

#[cfg(test)]
mod tests;
