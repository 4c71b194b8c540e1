//! What a sound policy says that nobody can have meant, or that somebody should look at.
//!
//! Coverage is exact: a rule is called dead or covered only where that holds for every packet.
//! Where comparing would cost too much, it is left out, and the diagnostics say so.

mod covered;
mod dead;
mod denied;
mod extent;
mod records;
mod rules;
mod segments;
mod services;

use covered::Coverage;
use denied::{Budget, Spent, denied};
use extent::World;
use rules::{Rules, kind};

use super::diagnostic::Diagnostic;
use super::model::{Policy, Rule, RuleKind, SegmentId};

/// Memberships that are looked at to compare rules: a second or two.
const BUDGET: u64 = 100_000_000;

/// Every doubt about a policy, in no particular order.
pub fn lint(policy: &Policy) -> Vec<Diagnostic> {
    // Only a policy that was never resolved lacks the built-in segments.
    if policy.segments.len() <= usize::from(SegmentId::UNKNOWN.0) {
        return Vec::new();
    }
    let world = World::new(policy);
    let rules = Rules::new(policy, &world);
    let mut diagnostics = Vec::new();
    segments::lint(policy, &world, &mut diagnostics);
    records::lint(policy, &mut diagnostics);
    compare(policy, &world, &rules, BUDGET, &mut diagnostics);
    diagnostics
}

/// Rules in force that carry protected health information unencrypted, for the summary of a check.
pub fn cleartext_phi(policy: &Policy) -> impl Iterator<Item = &Rule> {
    let exposed =
        |&index: &usize| policy.services.get(index).is_some_and(|service| service.phi && service.cleartext);
    let allows = |rule: &&Rule| rule.kind != RuleKind::Deny && rule.is_active();
    policy.rules.iter().filter(allows).filter(move |rule| rule.services.iter().any(exposed))
}

/// Rules that can never match, that denies undo, or that others cover: one diagnostic for a rule.
fn compare(policy: &Policy, world: &World, rules: &Rules, budget: u64, diagnostics: &mut Vec<Diagnostic>) {
    let denies: Vec<usize> = (0..policy.rules.len()).filter(|&rule| rules.terms[rule].deny).collect();
    let mut budget = Budget(budget);
    let mut coverage = Coverage::new(rules, &mut budget);
    let mut uncompared = None;
    for (number, rule) in policy.rules.iter().enumerate() {
        if let Some(found) = dead::never_matches(policy, world, rules, number) {
            diagnostics.push(found);
            continue;
        }
        if uncompared.is_some() {
            continue;
        }
        let outcome = compare_one(policy, rules, &denies, coverage.as_mut(), number, &mut budget);
        match outcome {
            Ok(found) => diagnostics.extend(found),
            Err(Spent) => uncompared = Some(rule),
        }
    }
    if let Some(rule) = uncompared {
        let message = format!(
            "from {} `{}` on, rules were not compared with each other: they overlap too much",
            kind(rule),
            rule.name
        );
        diagnostics.push(Diagnostic::warning("not-compared", &rule.origin, message));
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
        if rule.unenforced {
            let message =
                format!("the limits in time of `{name}` mean nothing: {place} allows all of it always");
            return Diagnostic::warning("limit-without-effect", &rule.origin, message)
                .related(&other.origin, place);
        }
        let message = format!("{kind_of_rule} `{name}` changes nothing: {place} covers all of it");
        Diagnostic::warning("covered-rule", &rule.origin, message).related(&other.origin, place)
    }))
}

#[cfg(test)]
mod tests;
