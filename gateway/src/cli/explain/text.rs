//! Explanations as people read them.

use std::fmt::Write as _;

use crate::assure::explain::{Answer, Named, Refusal};
use crate::policy::expectation::Words;

use super::packet::quoted;
use super::{Explained, Judged};

/// The flow that would allow something, as policy text.
pub(super) fn flow(from: &[String], to: &[String], services: &[String]) -> String {
    let list = |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
    format!(
        "flows:\n  - name: NAME\n    from: [{}]\n    to: [{}]\n    services: [{}]\n    purpose: WHY\n    owner: WHO\n",
        list(from),
        list(to),
        list(services)
    )
}

pub(super) fn sets(words: &Words, explained: &Explained) -> String {
    let explanation = &explained.explanation;
    let answer = match explanation.answer {
        Answer::All => "allowed",
        Answer::Part => "allowed in part",
        Answer::None => "not allowed",
        Answer::Impossible => "impossible: no packet can come and go like this",
    };
    let (from, to, services) = (words.from.join(", "), words.to.join(", "), words.services.join(", "));
    let mut text = format!("{from} -> {to}, {services}: {answer}\n");
    for part in &explanation.parts {
        let decides = match (&part.rule, part.allowed) {
            (Some(rule), true) => format!("allowed by {}", named(rule)),
            (Some(rule), false) => format!("forbidden by {}", named(rule)),
            (None, _) => "no flow allows".to_owned(),
        };
        line(&mut text, format_args!("\n{decides}"));
        for block in &part.packets {
            let (from, to) = (block.from.join(", "), block.to.join(", "));
            line(&mut text, format_args!("  {from} -> {to}: {}", block.services));
        }
        line(&mut text, format_args!("  such as {}", part.example));
    }
    let denied = explanation.parts.iter().any(|part| !part.allowed && part.rule.is_some());
    let isolated = explanation.parts.iter().filter_map(|part| part.rule.as_ref()).any(Named::isolates);
    about(&mut text, explanation.refusal.as_ref(), explained.needed.as_deref(), denied, isolated);
    text
}

pub(super) fn packet(judged: &Judged) -> String {
    let Judged { packet, verdict, reason, source_segment, destination_segment, .. } = judged;
    let answer = if judged.allowed { "allowed" } else { "not allowed" };
    let mut text = format!("{packet}: {answer}\n");
    line(
        &mut text,
        format_args!("\nfrom {source_segment} to {destination_segment}: {verdict}, reason {reason}"),
    );
    if let Some(rule) = &judged.rule {
        line(&mut text, format_args!("decided by {}", named(rule)));
    }
    let isolated = judged.rule.as_ref().is_some_and(Named::isolates);
    about(&mut text, judged.refusal.as_ref(), judged.needed.as_deref(), judged.rule.is_some(), isolated);
    text
}

fn about(text: &mut String, refusal: Option<&Refusal>, needed: Option<&str>, denied: bool, isolated: bool) {
    if let Some(refusal) = refusal {
        if let Some(nearest) = &refusal.nearest {
            let rule = named(&nearest.rule);
            if nearest.fails.is_empty() {
                line(text, format_args!("\nwithout that, it would be allowed by {rule}"));
            } else {
                line(text, format_args!("\nnearest: {rule}: {}", nearest.fails.join("; ")));
            }
        }
        for invariant in &refusal.invariants {
            line(text, format_args!("\ninvariant `{invariant}` says that this must never be possible"));
        }
    }
    if isolated {
        line(text, format_args!("\nto allow it, let it go: clinigate quarantine release"));
    } else if let Some(needed) = needed {
        let denies = if denied { ", and narrow what forbids it" } else { "" };
        line(text, format_args!("\nto allow all of it, write a flow{denies}:\n\n{}", needed.trim_end()));
    }
}

/// A rule, where it stands and why.
pub(in crate::cli) fn named(rule: &Named) -> String {
    let Named { name, kind, origin, purpose, through } = rule;
    let purpose = purpose.as_ref().map(|purpose| format!(" ({purpose})")).unwrap_or_default();
    let way = through.map(|way| format!(", if packets {}", way.words())).unwrap_or_default();
    if rule.is_ordered() {
        return format!("`{name}`, ordered at the gateway{purpose}{way}");
    }
    format!("{kind} `{name}` at {}:{}{purpose}{way}", origin.file, origin.line)
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("writing to a String does not fail");
}
