//! Rules, what limits them, and invariants.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{AddressSet, Origin, Tunnel};

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// Allows; from `flows`.
    Flow,
    /// Allows, for a vendor; from `vendors`.
    Vendor,
    /// Forbids, whatever else allows; from `deny`.
    Deny,
    /// Allows also in quarantine, and there alone; from `quarantine`.
    Kept,
    /// Forbids what a flow allows, because one end is in quarantine; never from the text. See [`Rule::isolates`].
    Quarantine,
}

impl RuleKind {
    /// Whether it allows.
    pub fn allows(self) -> bool {
        matches!(self, Self::Flow | Self::Vendor | Self::Kept)
    }

    /// What a rule of this kind is called in sentences.
    pub fn words(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Vendor => "vendor access",
            Self::Deny => "deny",
            Self::Kept => "quarantine flow",
            Self::Quarantine => "quarantine",
        }
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique name; for vendors, `vendor/target` or as the text says.
    pub name: String,
    /// What it does.
    pub kind: RuleKind,
    /// Initiators.
    pub from: AddressSet,
    /// Listeners.
    pub to: AddressSet,
    /// Indices into [`super::Policy::services`].
    pub services: Vec<usize>,
    /// Why it exists.
    pub purpose: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Date (YYYY-MM-DD) by which it is to be looked at again.
    pub review: Option<String>,
    /// Limits in time that the text sets and that nothing enforces yet: the rule is then not
    /// part of what is allowed (fail safe), and `check` says so.
    pub unenforced: bool,
    /// Index into [`super::Policy::conditions`]: when it holds; `None` for always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<usize>,
    /// How what its initiators send must arrive; `None` for whichever way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Tunnel>,
    /// What the text limits it by in time; it takes part in decisions only where somebody lays these limits onto it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Box<Limits>>,
    /// Where it stands.
    pub origin: Origin,
}

impl Rule {
    /// Whether the rule takes part in decisions: not while a limit in time of it would be ignored.
    pub fn is_active(&self) -> bool {
        !self.unenforced
    }

    /// Whether its initiators are in quarantine while it holds, which is more than that they may not open
    /// connections: it is a quarantine, and names them by address. The one for the other direction names segments.
    pub fn isolates(&self) -> bool {
        self.kind == RuleKind::Quarantine && self.is_active() && self.from.segments.is_empty()
    }
}

/// What limits a vendor's access in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The vendor.
    pub vendor: String,
    /// When it may.
    pub window: Option<Window>,
    /// Somebody must open it each time.
    pub grant: bool,
}

/// A weekly window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Days on which it begins; 0 is Monday.
    pub days: BTreeSet<u8>,
    /// Minute of the day at which it begins.
    pub from: u16,
    /// Minute of the day at which it ends, of the next day where that is not after `from`.
    pub to: u16,
    /// Name of the time zone.
    pub timezone: String,
}

/// What must never be possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invariant {
    /// Unique name.
    pub name: String,
    /// Initiators.
    pub from: AddressSet,
    /// Listeners.
    pub to: AddressSet,
    /// Indices into [`super::Policy::services`]; `None` for any.
    pub never: Option<Vec<usize>>,
    /// Where it stands.
    pub origin: Origin,
}
