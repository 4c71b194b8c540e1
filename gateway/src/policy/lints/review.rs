//! Rules that nobody looked at again when they said that somebody would.

use jiff::civil::Date;

use super::Findings;
use super::rules::kind;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::model::{Policy, Rule};

/// Rules whose date of review is before `today`.
pub fn overdue(policy: &Policy, today: Date) -> Vec<Diagnostic> {
    let mut findings = Findings::default();
    findings.extend(policy.rules.iter().filter_map(|rule| {
        let review = date(rule).filter(|review| *review < today)?;
        let message = format!("{} `{}` was to be reviewed by {review}", kind(rule), rule.name);
        let help = "ask its owner whether it is still needed; then set the next date, or remove it";
        Some(Diagnostic::warning("review-overdue", &rule.origin, message).help(help))
    }));
    findings.finish()
}

/// Rules without a date of review, for the summary of a check.
pub fn unreviewed(policy: &Policy) -> impl Iterator<Item = &Rule> {
    policy.rules.iter().filter(|rule| date(rule).is_none())
}

/// Rules without an owner, likewise.
pub fn unowned(policy: &Policy) -> impl Iterator<Item = &Rule> {
    let is_blank = |owner: &str| owner.trim().is_empty();
    policy.rules.iter().filter(move |rule| rule.owner.as_deref().is_none_or(is_blank))
}

/// The resolver has refused what is no date.
fn date(rule: &Rule) -> Option<Date> {
    rule.review.as_deref()?.parse().ok()
}
