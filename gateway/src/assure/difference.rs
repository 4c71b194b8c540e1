//! What a change of policy changes in what is allowed: exactly, as sets, by the rule that causes it.
//!
//! Both policies' rules are resolved to addresses and to atoms of services ([`services`]). Every
//! address falls into a class: those that the same rules of both policies name ([`classes`]). A pair
//! of classes is decided once, by its rules; pairs without a changed rule cannot differ and are not
//! looked at. What differs is merged back into few products ([`merge`]). [`setup`] compares what is
//! not a rule: interfaces, segments, modes, settings.
//!
//! What is allowed does not depend on interfaces here: a source is taken to arrive where its segment
//! is. The gateway's own addresses are known to a running gateway only; here it is one destination.

mod classes;
mod merge;
mod rules;
pub mod services;
pub mod setup;
pub mod words;
pub mod zones;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::policy::model::{Policy, RuleKind};

use classes::{Class, Classes};
use rules::{Decided, Joint};
use services::{Atoms, Bits};
use setup::Names;
pub use setup::{Effect, Setup};

/// Pairs of address classes that are looked at: some seconds.
const PAIR_LIMIT: u64 = 50_000_000;

/// What differs between two policies.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What the new policy allows and the old one does not.
    pub widening: Vec<Change>,
    /// What the old policy allows and the new one does not.
    pub narrowing: Vec<Change>,
    /// Interfaces, segments, modes, settings, invariants.
    pub setup: Vec<Setup>,
    /// What services are made of, in both policies.
    pub atoms: Atoms,
}

impl Difference {
    /// In which directions the change goes.
    pub fn effect(&self) -> Effect {
        let flows = Effect { widens: !self.widening.is_empty(), narrows: !self.narrowing.is_empty() };
        self.setup.iter().fold(flows, |effect, change| effect.and(change.effect))
    }
}

/// What one cause opens or closes.
#[derive(Clone, Debug)]
pub struct Change {
    /// Index of the rule that allows it: of the new policy in a widening, of the old one in a narrowing.
    pub allow: usize,
    /// Whether the other policy has the same rule.
    pub allow_is_common: bool,
    /// Index of the deny that forbids it in the other policy, where one does.
    pub deny: Option<usize>,
    /// What it is. The products are disjoint.
    pub products: Vec<Product>,
}

/// Every source with every destination and every service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// Version of the addresses.
    pub family: Family,
    /// Initiators.
    pub from: Sources,
    /// Listeners.
    pub to: Destinations,
    /// Atoms of services.
    pub services: Bits,
}

/// Initiators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Addresses, as numbers: sorted, disjoint, merged.
    pub ranges: Vec<(u128, u128)>,
    /// Segments whose hosts without an address of it are meant: they reach the gateway only.
    pub nameless: BTreeSet<String>,
}

/// Listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// Addresses, as numbers: sorted, disjoint, merged.
    pub ranges: Vec<(u128, u128)>,
    /// The gateway itself.
    pub gateway: bool,
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The policies cannot be compared.
#[derive(Debug, thiserror::Error)]
#[error(
    "the policies differ in too much to be compared: more than {PAIR_LIMIT} pairs of sources and destinations"
)]
pub struct TooLarge;

/// Compares two policies.
///
/// # Errors
/// Policies so large and so different that comparing them would take minutes are refused.
pub fn compare(old: &Policy, new: &Policy) -> Result<Difference, TooLarge> {
    let names = Names::of(old, new);
    let atoms = Atoms::of(old, new);
    let joint = Joint::of(old, new, &names, &atoms);
    let mut budget = PAIR_LIMIT;
    let mut found = BTreeMap::new();
    for family in [Family::V4, Family::V6] {
        differences(&joint, family, &atoms, &mut budget, &mut found)?;
    }
    let mut widening = Vec::new();
    let mut narrowing = Vec::new();
    for (cause, products) in found {
        let change = Change {
            allow: joint.rules[cause.allow].index,
            allow_is_common: joint.rules[cause.allow].is_common,
            deny: cause.deny.map(|deny| joint.rules[deny].index),
            products,
        };
        if joint.rules[cause.allow].is_new { widening.push(change) } else { narrowing.push(change) }
    }
    Ok(Difference { widening, narrowing, setup: setup::compare(old, new, &names), atoms })
}

/// The rule that allows in one policy, and the deny that forbids in the other: indices into
/// [`Joint::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    allow: usize,
    deny: Option<usize>,
}

fn differences(
    joint: &Joint,
    family: Family,
    atoms: &Atoms,
    budget: &mut u64,
    found: &mut BTreeMap<Cause, Vec<Product>>,
) -> Result<(), TooLarge> {
    let Classes { sources, destinations } = classes::classes(joint, family);
    let carried = atoms.of_family(family);
    // By rule: the classes of destinations that it names.
    let mut reached: Vec<Vec<usize>> = vec![Vec::new(); joint.rules.len()];
    for (number, class) in destinations.iter().enumerate() {
        for &rule in &class.rules {
            reached[rule].push(number);
        }
    }
    // Pairs under the same rules are decided once.
    let mut known: HashMap<Vec<usize>, Vec<(Cause, Bits)>> = HashMap::new();
    let mut cells: BTreeMap<Cause, Vec<(usize, usize, Bits)>> = BTreeMap::new();
    for (source_number, source) in sources.iter().enumerate() {
        let changed = source.rules.iter().filter(|&&rule| !joint.rules[rule].is_common);
        let touched: BTreeSet<usize> = changed.flat_map(|&rule| reached[rule].iter().copied()).collect();
        *budget = budget.checked_sub(touched.len() as u64).ok_or(TooLarge)?;
        for destination_number in touched {
            let destination = &destinations[destination_number];
            if source.ranges.is_empty() && !destination.is_gateway {
                continue;
            }
            let rules = both(source, destination);
            let causes = known.entry(rules).or_insert_with_key(|rules| decide(joint, rules, &carried));
            for (cause, services) in causes {
                let cell = (source_number, destination_number, services.clone());
                cells.entry(*cause).or_default().push(cell);
            }
        }
    }
    for (cause, cells) in cells {
        let products = merge::products(family, &sources, &destinations, cells);
        found.entry(cause).or_default().extend(products);
    }
    Ok(())
}

/// The rules that name both, sorted.
fn both(source: &Class, destination: &Class) -> Vec<usize> {
    let mut rules = source.rules.clone();
    rules.retain(|rule| destination.rules.binary_search(rule).is_ok());
    rules
}

/// What differs for packets that exactly these rules name.
fn decide(joint: &Joint, rules: &[usize], carried: &Bits) -> Vec<(Cause, Bits)> {
    let of = |is_new: bool| {
        let rules = rules.iter().copied().filter(move |&rule| joint.rules[rule].is_new == is_new);
        Decided::by(joint, rules, carried)
    };
    let (old, new) = (of(false), of(true));
    let mut causes = Vec::new();
    for (here, there) in [(&new, &old), (&old, &new)] {
        for (allow, services) in &here.allowed {
            let mut rest = services.without(&there.all_allowed());
            for (deny, denied) in &there.denied {
                let services = rest.and(denied);
                rest = rest.without(denied);
                if !services.is_empty() {
                    causes.push((Cause { allow: *allow, deny: Some(*deny) }, services));
                }
            }
            if !rest.is_empty() {
                causes.push((Cause { allow: *allow, deny: None }, rest));
            }
        }
    }
    causes
}

/// Whether a rule forbids.
fn is_deny(kind: RuleKind) -> bool {
    kind == RuleKind::Deny
}

#[cfg(test)]
mod tests;
