//! The stateless part of a policy as an nftables ruleset: who may open what, from where.
//!
//! One table, `inet clinigate`, hooked in before routing and before address translation, where the
//! XDP programs would sit as far as the kernel goes: the same chain sees what is forwarded and what
//! is for the gateway, and asks what the programs ask. The way of a packet:
//!
//! | Chain | Question |
//! |---|---|
//! | `prerouting` | which segment does it come from? By device; others are not touched |
//! | `from-SEGMENT` | is its source one of that segment? |
//! | `decide` | does it belong to a connection, to the link, to the gateway? |
//! | `forward`, `gateway`, `gateway-nameless` | any deny, then any flow |
//! | `refuse` | what do the modes of both segments make of it? |
//!
//! Every chain ends in a verdict. Counters are named: one for each rule of the policy, each reason
//! and each verdict.

mod addresses;
mod chains;
mod file;
mod limits;
mod places;
mod refusal;
mod rules;
mod services;
mod sets;
mod text;

pub use limits::Limit;

use crate::policy::model::Policy;

/// How packets after the first of a connection pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// By the kernel's connection tracking.
    Tracked,
    /// Not at all: every packet is judged as if it opened a connection. For comparisons, and for
    /// machines that keep state elsewhere.
    None,
}

/// An exported policy.
#[derive(Clone, Debug)]
pub struct Export {
    /// What `nft -f` takes: replaces an earlier export in one transaction.
    pub ruleset: String,
    /// What of the policy it does not do; stands in its heading, too.
    pub limits: Vec<Limit>,
}

/// Writes a policy as an nftables ruleset.
pub fn export(policy: &Policy, state: State) -> Export {
    let places = places::Places::of(policy);
    let limits = limits::limits(policy, &places, state);
    let ruleset = chains::Writer::new(policy, &places, state).write(&limits);
    Export { ruleset, limits }
}
