//! What a sound policy says that nobody can have meant, or that somebody should look at.
//!
//! Coverage is exact: a rule is called dead or covered only where that holds for every packet.
//! Where comparing would cost too much, it is left out, and the diagnostics say so.

mod covered;
mod dead;
mod denied;
pub(crate) mod extent;
mod joint;
mod narrowed;
mod records;
mod review;
mod rules;
mod segments;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use covered::Coverage;
use denied::{Budget, Spent, denied};
use extent::World;
pub use narrowed::{Narrowed, narrowed};
pub use review::{overdue, unowned, unreviewed};
use rules::{Rules, kind};

use super::diagnostic::{Diagnostic, Place};
use super::model::{Policy, Rule, RuleKind, SegmentId};

/// Memberships that are looked at to compare rules: a second or two.
const BUDGET: u64 = 100_000_000;

/// Diagnostics of one kind that are shown: nobody reads more.
const SHOWN: usize = 200;

/// Every doubt about a policy, in no particular order; of each kind the first few hundred, and how
/// many more there are.
pub fn lint(policy: &Policy) -> Vec<Diagnostic> {
    // Only a policy that was never resolved lacks the built-in segments.
    if policy.segments.len() <= usize::from(SegmentId::UNKNOWN.0) {
        return Vec::new();
    }
    let world = World::new(policy);
    let rules = Rules::new(policy, &world);
    let mut findings = Findings::default();
    segments::lint(policy, &world, &mut findings);
    records::lint(policy, &mut findings);
    compare(policy, &world, &rules, BUDGET, &mut findings);
    findings.finish()
}

/// Rules in force that carry protected health information unencrypted, for the summary of a check.
pub fn cleartext_phi(policy: &Policy) -> impl Iterator<Item = &Rule> {
    let exposed =
        |&index: &usize| policy.services.get(index).is_some_and(|service| service.phi && service.cleartext);
    let allows = |rule: &&Rule| rule.kind != RuleKind::Deny && rule.is_active();
    policy.rules.iter().filter(allows).filter(move |rule| rule.services.iter().any(exposed))
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    shown: Vec<Diagnostic>,
    /// By code: how many there are, and the place of the last.
    counts: BTreeMap<&'static str, (usize, Place)>,
}

impl Findings {
    fn push(&mut self, found: Diagnostic) {
        let (count, place) = self.counts.entry(found.code).or_insert_with(|| (0, found.place.clone()));
        *count += 1;
        place.clone_from(&found.place);
        if *count <= SHOWN {
            self.shown.push(found);
        }
    }

    fn extend(&mut self, found: impl IntoIterator<Item = Diagnostic>) {
        found.into_iter().for_each(|found| self.push(found));
    }

    fn finish(mut self) -> Vec<Diagnostic> {
        for (code, (count, place)) in self.counts {
            if let more @ 1.. = count.saturating_sub(SHOWN) {
                let message =
                    format!("{more} more warnings of the kind `{code}` are not shown; this is the last");
                self.shown.push(Diagnostic::warning("more-warnings", place, message));
            }
        }
        self.shown
    }
}

/// Rules that can never match, that denies undo, or that others cover: one diagnostic for a rule.
fn compare(policy: &Policy, world: &World, rules: &Rules, budget: u64, findings: &mut Findings) {
    let denies: Vec<usize> = (0..policy.rules.len()).filter(|&rule| rules.terms[rule].deny).collect();
    let mut budget = Budget(budget);
    let mut coverage = Coverage::new(rules, &mut budget);
    let mut uncompared = None;
    let mut reported = vec![false; policy.rules.len()];
    for (number, rule) in policy.rules.iter().enumerate() {
        if let Some(found) = dead::never_matches(policy, world, rules, number) {
            findings.push(found);
            reported[number] = true;
            continue;
        }
        if uncompared.is_some() {
            continue;
        }
        let outcome = compare_one(policy, rules, &denies, coverage.as_mut(), number, &mut budget);
        match outcome {
            Ok(found) => {
                reported[number] = found.is_some();
                findings.extend(found);
            }
            Err(Spent) => uncompared = Some(rule),
        }
    }
    for (number, rule) in policy.rules.iter().enumerate() {
        let Some(coverage) = coverage.as_ref().filter(|_| uncompared.is_none() && !reported[number]) else {
            continue;
        };
        match joint::covering(rules, coverage, &reported, number, &mut budget) {
            Ok(None) => {}
            Ok(Some(others)) => {
                findings.push(covered_jointly(policy, rule, &others));
                reported[number] = true;
            }
            Err(Spent) => uncompared = Some(rule),
        }
    }
    if let Some(rule) = uncompared {
        let message = format!(
            "from {} `{}` on, rules were not compared with each other: they overlap too much",
            kind(rule),
            rule.name
        );
        findings.push(Diagnostic::warning("not-compared", &rule.origin, message));
    }
}

fn compare_one(
    policy: &Policy,
    rules: &Rules,
    denies: &[usize],
    coverage: Option<&mut Coverage<'_>>,
    number: usize,
    budget: &mut Budget,
) -> Result<Option<Diagnostic>, Spent> {
    let rule = &policy.rules[number];
    let (kind_of_rule, name) = (kind(rule), &rule.name);
    if !rules.terms[number].deny
        && let Some(denying) = denied(rules, denies, number, budget)?
    {
        let message = format!("{kind_of_rule} `{name}` never allows anything: denies forbid all of it");
        let mut found = Diagnostic::warning("denied-rule", &rule.origin, message);
        for &deny in denying.iter().take(3) {
            let deny = &policy.rules[deny];
            found = found.related(&deny.origin, format!("deny `{}`", deny.name));
        }
        return Ok(Some(found));
    }
    let covering = match coverage {
        Some(coverage) => coverage.of(number, budget)?,
        None => return Err(Spent),
    };
    Ok(covering.map(|other| {
        let other = &policy.rules[other];
        let place = format!("{} `{}`", kind(other), other.name);
        if is_limited(rule) {
            let message = format!("the limits of `{name}` mean nothing: {place} allows all of it always");
            return Diagnostic::warning("limit-without-effect", &rule.origin, message)
                .related(&other.origin, place);
        }
        let message = format!("{kind_of_rule} `{name}` changes nothing: {place} covers all of it");
        Diagnostic::warning("covered-rule", &rule.origin, message).related(&other.origin, place)
    }))
}

/// Whether a time, or the way that packets arrive, limits what a rule says.
fn is_limited(rule: &Rule) -> bool {
    rule.unenforced || rule.through.is_some()
}

fn covered_jointly(policy: &Policy, rule: &Rule, others: &BTreeSet<usize>) -> Diagnostic {
    let count = others.len();
    let (code, message) = if is_limited(rule) {
        let message = format!(
            "the limits of `{}` mean nothing: {count} rules together allow all of it always",
            rule.name
        );
        ("limit-without-effect", message)
    } else {
        let message =
            format!("{} `{}` changes nothing: {count} rules together cover all of it", kind(rule), rule.name);
        ("covered-rule", message)
    };
    others.iter().take(3).fold(Diagnostic::warning(code, &rule.origin, message), |found, &other| {
        let other = &policy.rules[other];
        found.related(&other.origin, format!("{} `{}`", kind(other), other.name))
    })
}

#[cfg(test)]
mod tests;
