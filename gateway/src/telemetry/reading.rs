//! What one look at the kernel's counters shows, with names instead of numbers.

use gateway_common::connection::State;
use gateway_common::counter::{Counter, Health};
use gateway_common::reason::{Mode, Reason, Verdict};

use crate::policy::model::RuleKind;

/// Everything that a scrape shows, read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The policy in force; `None` where none is.
    pub policy: Option<PolicyReading>,
    /// Traffic by pair of segments; at most one entry for the same pair, verdict and reason.
    pub pairs: Vec<PairTotal>,
    /// Traffic by deciding rule; at most one entry a rule.
    pub rules: Vec<RuleTotal>,
    /// Happenings that are not verdicts.
    pub health: Health,
    /// What the entry program dropped because no generation was in force.
    pub no_policy: Counter,
    /// Live connections by state.
    pub connections: Vec<(State, u64)>,
    /// Connections that the table holds at most.
    pub connections_capacity: u64,
    /// Interfaces that the policy names.
    pub interfaces: Vec<InterfaceReading>,
}

/// The policy in force.
#[derive(Clone, Debug, Default)]
pub struct PolicyReading {
    /// SHA-256 of its text, in hexadecimal.
    pub hash: String,
    /// Commit that its text came from, where that is known.
    pub commit: Option<String>,
    /// Number of the generation.
    pub generation: u32,
    /// Milliseconds since 1970 (UTC) at which it came into force.
    pub applied_at: u64,
    /// Name and mode of each segment, by number.
    pub segments: Vec<(String, Mode)>,
    /// Name and kind of each rule, by number.
    pub rules: Vec<(String, RuleKind)>,
}

/// Traffic from one segment to another, with one verdict for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairTotal {
    /// Name of the source's segment.
    pub source: String,
    /// Name of the destination's segment.
    pub destination: String,
    /// What became of the packets.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// How many.
    pub counter: Counter,
}

/// Traffic that one rule decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTotal {
    /// Name of the rule.
    pub rule: String,
    /// What the rule does.
    pub kind: RuleKind,
    /// How much.
    pub counter: Counter,
}

/// An interface that the policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceReading {
    /// Name in the kernel.
    pub name: String,
    /// Index; `None` while it is missing.
    pub ifindex: Option<u32>,
    /// `native` or `generic`; `None` while nothing is attached to it.
    pub mode: Option<&'static str>,
    /// `tcx` or `clsact`: how our program at its exit is attached; `None` while none is.
    pub exit: Option<&'static str>,
}
