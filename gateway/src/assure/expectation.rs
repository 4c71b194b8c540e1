//! Expectations of a policy's tests, held against its image.

use std::collections::BTreeMap;

use crate::policy::diagnostic::Diagnostic;
use crate::policy::expectation::Expectation;
use crate::policy::model::{Policy, RuleId};

use super::invariant::kind;
use super::reach::{Finding, Question, Reach, Ruling};

/// What became of an expectation.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Why it does not hold; `None` where it does.
    pub failure: Option<Diagnostic>,
    /// The rules hold it, but some of what must not pass still does: neither of its segments enforces.
    pub unenforced: Option<Diagnostic>,
}

/// Holds an expectation against a policy: over all packets that it is about.
pub fn judge(policy: &Policy, reach: &Reach<'_>, expectation: &Expectation) -> Verdict {
    let inquiry = &expectation.inquiry;
    let question = Question { from: &inquiry.from, to: &inquiry.to, services: Some(&inquiry.services) };
    let rulings = reach.rulings(policy, question);
    let failure = failure(policy, expectation, &rulings);
    let open = rulings.values().find_map(|finding| finding.unenforced);
    let unenforced = open.filter(|_| failure.is_none() && !expectation.passes).map(|sample| {
        let message =
            format!("`{}` holds by the rules, but is not enforced yet: {sample} passes", expectation.name);
        Diagnostic::warning("expectation-not-enforced", &expectation.origin, message)
    });
    Verdict { failure, unenforced }
}

fn failure(
    policy: &Policy,
    expectation: &Expectation,
    rulings: &BTreeMap<Ruling, Finding<'_>>,
) -> Option<Diagnostic> {
    let name = &expectation.name;
    let failed = |message: String| Diagnostic::error("expectation-failed", &expectation.origin, message);
    if rulings.is_empty() {
        let message = format!("`{name}` says nothing: no packet can come and go as it says");
        return Some(failed(message).help("look at the interfaces, the IP versions and the services"));
    }
    let wrong = rulings.iter().find(|(ruling, _)| matches!(ruling, Ruling::Allowed(_)) != expectation.passes);
    if let Some((&ruling, finding)) = wrong {
        let sample = finding.sample;
        let diagnostic = match ruling {
            Ruling::Allowed(_) => failed(format!("`{name}` fails: {sample} is allowed")),
            Ruling::Denied(_) => failed(format!("`{name}` fails: {sample} is denied")),
            Ruling::NoFlow => failed(format!("`{name}` fails: no flow allows {sample}")),
        };
        return Some(at_rule(policy, diagnostic, ruling.rule()));
    }
    let expected = expectation.rule?;
    let (&ruling, finding) = rulings.iter().find(|(ruling, _)| ruling.rule() != Some(expected))?;
    let rule = &policy.rules[expected.0 as usize];
    let sample = finding.sample;
    let message = match ruling.rule() {
        Some(_) => format!("`{name}` fails: another rule than `{}` decides {sample}", rule.name),
        None => format!("`{name}` fails: no rule decides {sample}, where `{}` was expected to", rule.name),
    };
    Some(at_rule(policy, failed(message), ruling.rule()))
}

fn at_rule(policy: &Policy, diagnostic: Diagnostic, rule: Option<RuleId>) -> Diagnostic {
    match rule.map(|id| &policy.rules[id.0 as usize]) {
        Some(rule) => diagnostic.related(&rule.origin, format!("{} `{}` decides it", kind(rule), rule.name)),
        None => diagnostic,
    }
}
