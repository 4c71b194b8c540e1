//! Rules that change nothing, because several others together have all of them.

use std::collections::BTreeSet;

use super::covered::Coverage;
use super::denied::{Budget, Spent, denied};
use super::rules::Rules;

/// Rules of the same effect that together have all that `rule` means; `None` where something is its own.
///
/// Rules that were `reported` already do not count: whoever removes those must not lose what they had.
pub(super) fn covering(
    rules: &Rules,
    coverage: &Coverage<'_>,
    reported: &[bool],
    rule: usize,
    budget: &mut Budget,
) -> Result<Option<BTreeSet<usize>>, Spent> {
    let term = rules.terms[rule];
    let counts = |other: usize| {
        let it = rules.terms[other];
        other != rule && it.always && it.deny == term.deny && !reported[other]
    };
    // One packet that is its own tells most rules, for less than a comparison with all others.
    for family in rules.families(rule) {
        if !coverage.shares_first_packet(rule, family, counts, budget)? {
            return Ok(None);
        }
    }
    if !budget.spend(rules.terms.len()) {
        return Err(Spent);
    }
    let others: Vec<usize> =
        (0..rules.terms.len()).filter(|&other| counts(other) && rules.overlap(rule, other)).collect();
    denied(rules, &others, rule, budget)
}
