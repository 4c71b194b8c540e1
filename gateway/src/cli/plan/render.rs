//! A difference, for people, for programs and for a merge request.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::connections::Connections;
use crate::assure::difference::words::{Sentence, Vocabulary};
use crate::assure::difference::{Change, Difference, Setup};
use crate::policy::model::{Policy, Rule, RuleKind};

/// Causes of a direction, lines of a cause and words of an end that people are shown. Programs get all.
const CAUSES_SHOWN: usize = 100;
/// See [`CAUSES_SHOWN`].
const LINES_SHOWN: usize = 25;
/// See [`CAUSES_SHOWN`].
const WORDS_SHOWN: usize = 12;

/// What `--format json` prints.
#[derive(Serialize)]
pub(super) struct Answer {
    /// `nothing`, `narrowing`, `widening` or `both`.
    result: &'static str,
    widening: Vec<Cause>,
    narrowing: Vec<Cause>,
    setup: Vec<Setup>,
    connections: Connections,
}

/// A rule, and what it opens or closes.
#[derive(Serialize)]
struct Cause {
    rules: Vec<About>,
    flows: Vec<Sentence>,
}

/// One rule of a cause.
#[derive(Serialize)]
struct About {
    kind: RuleKind,
    name: String,
    /// `added`, `changed`, `removed`, or `as before`.
    how: &'static str,
    /// `old` or `new`: whose file and line follow.
    policy: &'static str,
    file: String,
    line: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

impl Answer {
    pub(super) fn new(old: &Policy, new: &Policy, difference: &Difference, connections: Connections) -> Self {
        Self {
            result: difference.effect().word(),
            widening: causes(
                ["new", "old"],
                [new, old],
                &difference.widening,
                ["added", "removed"],
                difference,
            ),
            narrowing: causes(
                ["old", "new"],
                [old, new],
                &difference.narrowing,
                ["removed", "added"],
                difference,
            ),
            setup: difference.setup.clone(),
            connections,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (title, causes) in self.directions() {
            write(&mut text, format_args!("{title}\n"));
            for cause in causes.iter().take(CAUSES_SHOWN) {
                write(&mut text, format_args!("  {}\n", rules(cause, "")));
                for flow in cause.flows.iter().take(LINES_SHOWN) {
                    write(&mut text, format_args!("    {}\n", line(flow)));
                }
                more(&mut text, "    ", cause.flows.len(), LINES_SHOWN);
            }
            more(&mut text, "  ", causes.len(), CAUSES_SHOWN);
            text.push('\n');
        }
        if !self.setup.is_empty() {
            text += "Besides rules\n";
            for change in self.setup.iter().take(CAUSES_SHOWN) {
                write(&mut text, format_args!("  {}{}\n", change.what, effect(change)));
            }
            more(&mut text, "  ", self.setup.len(), CAUSES_SHOWN);
            text.push('\n');
        }
        text += &self.connections.text();
        write(&mut text, format_args!("result: {}\n", self.result));
        text
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!("**Result: {}**\n", self.result);
        for (title, causes) in self.directions() {
            write(&mut text, format_args!("\n### {title}\n"));
            for cause in causes.iter().take(CAUSES_SHOWN) {
                write(
                    &mut text,
                    format_args!("\n{}\n\n| from | to | services |\n|---|---|---|\n", rules(cause, "`")),
                );
                for flow in cause.flows.iter().take(LINES_SHOWN) {
                    let only = flow.only.map(|only| format!(" ({only} only)")).unwrap_or_default();
                    let cells = [words(&flow.from), words(&flow.to), words(&flow.services) + &only];
                    let cells = cells.map(|cell| cell.replace('|', "\\|"));
                    write(&mut text, format_args!("| {} |\n", cells.join(" | ")));
                }
                if cause.flows.len() > LINES_SHOWN {
                    text.push('\n');
                }
                more(&mut text, "", cause.flows.len(), LINES_SHOWN);
            }
            if causes.len() > CAUSES_SHOWN {
                text.push('\n');
            }
            more(&mut text, "", causes.len(), CAUSES_SHOWN);
        }
        if !self.setup.is_empty() {
            text += "\n### Besides rules\n\n";
            for change in self.setup.iter().take(CAUSES_SHOWN) {
                write(&mut text, format_args!("- {}{}\n", change.what, effect(change)));
            }
            more(&mut text, "- ", self.setup.len(), CAUSES_SHOWN);
        }
        text + &self.connections.markdown()
    }

    fn directions(&self) -> impl Iterator<Item = (&'static str, &[Cause])> {
        let both = [
            ("Widening: may be opened from now on", self.widening.as_slice()),
            ("Narrowing: may not be opened any more", self.narrowing.as_slice()),
        ];
        both.into_iter().filter(|(_, causes)| !causes.is_empty())
    }
}

/// The first policy allows, the second does not: `names` says which is which. A rule that only the
/// first has is called `hows[0]`, one that only the second has `hows[1]`.
fn causes(
    names: [&'static str; 2],
    [here, there]: [&Policy; 2],
    changes: &[Change],
    hows: [&'static str; 2],
    difference: &Difference,
) -> Vec<Cause> {
    let vocabulary = Vocabulary::new(here, &difference.atoms);
    let kinds = |policy: &Policy| -> HashMap<String, RuleKind> {
        policy.rules.iter().map(|rule| (rule.name.clone(), rule.kind)).collect()
    };
    let (in_here, in_there) = (kinds(here), kinds(there));
    let of = |change: &Change| {
        let allow = &here.rules[change.allow];
        let how = match change.allow_is_common {
            true => "as before",
            false if in_there.get(&allow.name) == Some(&allow.kind) => "changed",
            false => hows[0],
        };
        let mut rules = vec![about(allow, how, names[0])];
        if let Some(deny) = change.deny {
            let deny = &there.rules[deny];
            let how = if in_here.get(&deny.name) == Some(&deny.kind) { "changed" } else { hows[1] };
            // Named first where it alone is the cause.
            rules.insert(usize::from(!change.allow_is_common), about(deny, how, names[1]));
        }
        Cause { rules, flows: vocabulary.sentences(change.allow, &change.products) }
    };
    changes.iter().map(of).collect()
}

fn about(rule: &Rule, how: &'static str, policy: &'static str) -> About {
    About {
        kind: rule.kind,
        name: rule.name.clone(),
        how,
        policy,
        file: rule.origin.file.to_string(),
        line: rule.origin.line,
        purpose: rule.purpose.clone(),
        owner: rule.owner.clone(),
    }
}

fn rules(cause: &Cause, quote: &str) -> String {
    let rules = cause.rules.iter().map(|rule| {
        let kind = kind(rule.kind);
        let (name, file) = (&rule.name, &rule.file);
        let old = if rule.policy == "old" { "old " } else { "" };
        format!("{kind} {quote}{name}{quote} {} ({old}{file}:{})", rule.how, rule.line)
    });
    rules.collect::<Vec<String>>().join(", ")
}

/// What people call a kind of rule.
pub(super) fn kind(kind: RuleKind) -> &'static str {
    kind.words()
}

fn line(flow: &Sentence) -> String {
    let only = flow.only.map(|only| format!(" ({only} only)")).unwrap_or_default();
    format!("{} -> {}: {}{only}", words(&flow.from), words(&flow.to), words(&flow.services))
}

fn words(words: &[String]) -> String {
    let shown = words.iter().take(WORDS_SHOWN).map(String::as_str).collect::<Vec<&str>>().join(", ");
    match words.len().checked_sub(WORDS_SHOWN) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

fn effect(change: &Setup) -> &'static str {
    match (change.effect.widens, change.effect.narrows) {
        (false, false) => "",
        (true, false) => " (widening)",
        (false, true) => " (narrowing)",
        (true, true) => " (both)",
    }
}

fn more(text: &mut String, indent: &str, count: usize, shown: usize) {
    if count > shown {
        write(text, format_args!("{indent}and {} more: see --format json\n", count - shown));
    }
}

pub(super) fn write(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("writing to a String does not fail");
}
