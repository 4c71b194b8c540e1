//! The rules of both policies, resolved to what they name.

use std::collections::{BTreeSet, HashSet};

use crate::policy::lints::extent::{World, never_sources};
use crate::policy::model::{AddressSet, Policy, Ranges, SegmentId};

use super::is_deny;
use super::services::{Atoms, Bits};
use super::setup::Names;

/// The active rules of the old policy, then those of the new one.
#[derive(Debug)]
pub(super) struct Joint {
    pub(super) rules: Vec<Named>,
}

/// A rule, as far as it decides.
#[derive(Debug)]
pub(super) struct Named {
    /// Of the new policy.
    pub(super) is_new: bool,
    /// Index in its policy.
    pub(super) index: usize,
    /// The other policy has the same.
    pub(super) is_common: bool,
    pub(super) meaning: Meaning,
}

/// What a rule says, whatever it is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Meaning {
    pub(super) deny: bool,
    pub(super) from: Ranges,
    /// Segments whose hosts without an address it names.
    pub(super) nameless: BTreeSet<String>,
    pub(super) to: Ranges,
    pub(super) gateway: bool,
    pub(super) services: Bits,
}

impl Joint {
    pub(super) fn of(old: &Policy, new: &Policy, names: &Names, atoms: &Atoms) -> Self {
        let mut rules = Vec::new();
        for (policy, names, is_new) in [(old, &names.old, false), (new, &names.new, true)] {
            let world = World::new(policy);
            for (index, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| rule.is_active()) {
                let to = world.destination(&rule.to);
                let meaning = Meaning {
                    deny: is_deny(rule.kind),
                    from: world.destination(&rule.from).ranges.difference(&never_sources()),
                    nameless: nameless(&rule.from, names),
                    to: to.ranges,
                    gateway: to.atoms.contains(&SegmentId::GATEWAY),
                    services: atoms.of_services(policy, &rule.services),
                };
                rules.push(Named { is_new, index, is_common: false, meaning });
            }
        }
        let common = {
            let side = |is_new| -> HashSet<&Meaning> {
                rules.iter().filter(|rule| rule.is_new == is_new).map(|rule| &rule.meaning).collect()
            };
            let (old, new) = (side(false), side(true));
            let is_common = |rule: &Named| old.contains(&rule.meaning) && new.contains(&rule.meaning);
            rules.iter().map(is_common).collect::<Vec<bool>>()
        };
        for (rule, is_common) in rules.iter_mut().zip(common) {
            rule.is_common = is_common;
        }
        Self { rules }
    }
}

fn nameless(set: &AddressSet, names: &[String]) -> BTreeSet<String> {
    let places = set.segments.iter().filter(|&&id| id.has_hosts());
    places.map(|id| names[usize::from(id.0)].clone()).collect()
}

/// What the rules of one policy do with each service, for packets that they all name.
#[derive(Debug)]
pub(super) struct Decided {
    /// The deny that decides and what it decides: disjoint.
    pub(super) denied: Vec<(usize, Bits)>,
    /// The rule that allows and what it allows: disjoint, and nothing of it denied.
    pub(super) allowed: Vec<(usize, Bits)>,
    none: Bits,
}

impl Decided {
    /// `rules` are sorted: of several the first decides.
    pub(super) fn by(joint: &Joint, rules: impl Iterator<Item = usize>, carried: &Bits) -> Self {
        let (denies, allows): (Vec<usize>, Vec<usize>) =
            rules.partition(|&rule| joint.rules[rule].meaning.deny);
        let mut left = carried.clone();
        let mut take = |rules: Vec<usize>| {
            let mut taken = Vec::new();
            for rule in rules {
                let services = left.and(&joint.rules[rule].meaning.services);
                left = left.without(&services);
                if !services.is_empty() {
                    taken.push((rule, services));
                }
            }
            taken
        };
        let denied = take(denies);
        let allowed = take(allows);
        Self { denied, allowed, none: carried.without(carried) }
    }

    pub(super) fn all_allowed(&self) -> Bits {
        self.allowed.iter().fold(self.none.clone(), |all, (_, services)| all.or(services))
    }
}
