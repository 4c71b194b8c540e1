//! Sets of addresses: each distinct one has one name.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text;
use crate::policy::model::Ranges;

/// Version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The keyword of its header.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// Its name for `meta nfproto`.
    pub(super) fn protocol(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// Its type of a set.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }

    /// What a set's name ends in.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    /// Ranges of this family as nftables writes them.
    pub(super) fn elements(self, ranges: &Ranges) -> Vec<String> {
        match self {
            Self::V4 => ranges.v4.iter().copied().map(text::v4).collect(),
            Self::V6 => ranges.v6.iter().copied().map(text::v6).collect(),
        }
    }
}

/// The sets of a ruleset, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Sets {
    names: BTreeMap<(Family, Vec<String>), String>,
    declarations: String,
}

impl Sets {
    /// What stands after `saddr` or `daddr` for these addresses: one range as it is, else a set that
    /// has them, which is declared as `name` where there is none yet. `None` for no address.
    pub(super) fn reference(&mut self, name: &str, family: Family, ranges: &Ranges) -> Option<String> {
        let elements = family.elements(ranges);
        let known = self.names.get(&(family, elements.clone()));
        match (known, elements.as_slice()) {
            (_, []) => None,
            (Some(name), _) => Some(format!("@{name}")),
            (None, [one]) => Some(one.clone()),
            (None, _) => self.named(name, family, ranges),
        }
    }

    /// A set of these addresses, by name even where there is only one range.
    pub(super) fn named(&mut self, name: &str, family: Family, ranges: &Ranges) -> Option<String> {
        let elements = family.elements(ranges);
        if elements.is_empty() {
            return None;
        }
        if let Some(known) = self.names.get(&(family, elements.clone())) {
            return Some(format!("@{known}"));
        }
        let name = format!("{name}-{}", family.suffix());
        let kind = family.kind();
        write!(
            self.declarations,
            "\tset {name} {{\n\t\ttype {kind}\n\t\tflags interval\n\t\telements = {}\n\t}}\n\n",
            text::elements(&elements)
        )
        .expect("writing to a String does not fail");
        self.names.insert((family, elements), name.clone());
        Some(format!("@{name}"))
    }

    /// Their declarations.
    pub(super) fn declarations(&self) -> &str {
        &self.declarations
    }
}
