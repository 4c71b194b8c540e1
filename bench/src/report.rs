//! All that was measured, as data.

use serde::Serialize;

use crate::decision::Decision;
use crate::goals::Goal;
use crate::machine::Machine;
use crate::policies::Applied;
use crate::rulesets::RuleSet;
use crate::state::Connections;
use crate::wire::Rates;
use crate::wire::latency::Latency;

/// All that was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// What is wanted, and how far from it the run was.
    pub(crate) goals: Vec<Goal>,
    pub(crate) policies: Vec<Applied>,
    pub(crate) decision: Option<Decision>,
    pub(crate) rule_sets: Vec<RuleSet>,
    pub(crate) state: Option<Connections>,
    pub(crate) wire: Option<Rates>,
    pub(crate) latency: Option<Latency>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            machine: Machine::this(),
            goals: Vec::new(),
            policies: Vec::new(),
            decision: None,
            rule_sets: Vec::new(),
            state: None,
            wire: None,
            latency: None,
        }
    }
}
