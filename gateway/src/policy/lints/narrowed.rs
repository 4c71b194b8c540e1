//! Flows and denies that contradict each other.

use super::denied::{Budget, denied};
use super::extent::World;
use super::rules::Rules;
use crate::policy::model::{Policy, Rule, RuleKind, SegmentId};

/// Pairs of a flow and a deny that are looked at: a second or two.
const PAIRS: usize = 4_000_000;

/// A flow or vendor access of which denies forbid a part: the rest is allowed.
#[derive(Clone, Debug)]
pub struct Narrowed<'p> {
    /// The flow or vendor access.
    pub rule: &'p Rule,
    /// The denies, in their order.
    pub denies: Vec<&'p Rule>,
}

/// Every rule in force of which denies forbid a part, exactly; those that they forbid wholly are warnings.
/// `None` where there are too many pairs to look at.
pub fn narrowed(policy: &Policy) -> Option<Vec<Narrowed<'_>>> {
    if policy.segments.len() <= usize::from(SegmentId::UNKNOWN.0) {
        return Some(Vec::new());
    }
    let world = World::new(policy);
    let rules = Rules::new(policy, &world);
    let (denies, allows): (Vec<usize>, Vec<usize>) =
        (0..policy.rules.len()).partition(|&rule| policy.rules[rule].kind == RuleKind::Deny);
    if denies.len().saturating_mul(allows.len()) > PAIRS {
        return None;
    }
    let mut budget = Budget(super::BUDGET);
    let mut found = Vec::new();
    for rule in allows.into_iter().filter(|&rule| policy.rules[rule].is_active()) {
        let by: Vec<usize> = denies.iter().copied().filter(|&deny| rules.overlap(rule, deny)).collect();
        if by.is_empty() || denied(&rules, &by, rule, &mut budget).ok()?.is_some() {
            continue;
        }
        let denies = by.into_iter().map(|deny| &policy.rules[deny]).collect();
        found.push(Narrowed { rule: &policy.rules[rule], denies });
    }
    Some(found)
}
