//! Flows that can never allow anything, because denies cover all of them.

use std::collections::BTreeSet;

use super::rules::{Block, Rules};

/// Denies that are subtracted from one flow, at most; a flow that needs more counts as alive.
const CUT_LIMIT: usize = 128;

/// What may still be spent on the comparison of rules, in memberships looked at.
pub(super) struct Budget(pub(super) u64);

impl Budget {
    /// Takes `cost`; `false` when there is not enough.
    pub(super) fn spend(&mut self, cost: usize) -> bool {
        let rest = self.0.checked_sub(cost as u64);
        self.0 = rest.unwrap_or(0);
        rest.is_some()
    }
}

/// The budget is spent.
pub(super) struct Spent;

/// The denies that together forbid all that `rule` allows; `None` where something is left of it.
///
/// Exact: a packet of the rule is taken, a deny that forbids it is looked for, all that this deny
/// forbids is taken away, and so on until nothing is left or a packet is found that no deny forbids.
pub(super) fn denied(
    rules: &Rules,
    denies: &[usize],
    rule: usize,
    budget: &mut Budget,
) -> Result<Option<BTreeSet<usize>>, Spent> {
    let mut used = BTreeSet::new();
    let families = rules.families(rule);
    for &family in &families {
        // Most rules end here: looking at one packet is cheap, taking sets apart is not.
        let Some(sample) = rules.sample(rule, family) else { continue };
        if !budget.spend(denies.len()) {
            return Err(Spent);
        }
        if !denies.iter().any(|&deny| rules.contains(deny, sample)) {
            return Ok(None);
        }
    }
    let mut rest: Vec<Block> = families.iter().filter_map(|&family| rules.block(rule, family)).collect();
    let mut cuts = 0;
    while let Some(block) = rest.pop() {
        let Some(sample) = block.sample() else { continue };
        cuts += 1;
        if !budget.spend(denies.len()) {
            return Err(Spent);
        }
        let deny = denies.iter().copied().find(|&deny| rules.contains(deny, sample));
        let Some((deny, cut)) = deny.and_then(|deny| Some((deny, rules.block(deny, block.family)?))) else {
            return Ok(None);
        };
        if cuts > CUT_LIMIT {
            return Ok(None);
        }
        rest.extend(block.difference(&cut));
        used.insert(deny);
    }
    Ok((!used.is_empty()).then_some(used))
}
