//! Chains as people read them.

use std::fmt::{self, Write as _};

use crate::assure::hops::{Chain, Hop, Landed, Spread};

use super::super::explain::named;
use super::Answer;

pub(super) fn text(answer: &Answer<'_>) -> String {
    let mut text = String::new();
    match (&answer.spread, &answer.chain) {
        (Some(spread), _) => everything(&mut text, answer, spread),
        (None, Some(chain)) => hops(&mut text, answer, chain),
        (None, None) => line(&mut text, format_args!("{}: not reachable{}", asked(answer), within(answer))),
    }
    text
}

fn hops(text: &mut String, answer: &Answer<'_>, chain: &Chain<'_>) {
    let count = chain.hops.len();
    line(text, format_args!("{}: reachable in {}", asked(answer), counted(count, "hop")));
    for (number, Hop { from, to, permits, example }) in (1..).zip(&chain.hops) {
        line(text, format_args!("\n{number}. {} -> {}", from.join(", "), to.join(", ")));
        for permit in permits {
            line(text, format_args!("   {}: {}", named(&permit.rule), permit.services));
        }
        match example {
            Some(example) => line(text, format_args!("   such as {example}")),
            None => line(text, format_args!("   within the segment, past the gateway")),
        }
    }
}

fn everything(text: &mut String, answer: &Answer<'_>, spread: &Spread) {
    let from = answer.from.join(", ");
    if spread.rounds.is_empty() {
        line(text, format_args!("{from} reaches nothing{}", using(answer)));
    } else {
        line(text, format_args!("{from} reaches{}{}", using(answer), within(answer)));
    }
    for round in &spread.rounds {
        line(text, format_args!("\nin {}", counted(round.hops, "hop")));
        for Landed { segment, to, from, rules } in &round.landed {
            let place =
                if to.len() == 1 && to[0] == *segment { String::new() } else { format!(" (in {segment})") };
            line(text, format_args!("  {}{place} from {}", to.join(", "), from.join(", ")));
            for rule in rules {
                line(text, format_args!("    {}", named(rule)));
            }
            if rules.is_empty() {
                line(text, format_args!("    within the segment, past the gateway"));
            }
        }
    }
    let gateway = |landed: &Landed| landed.segment == "gateway";
    if spread.rounds.iter().any(|round| round.landed.iter().any(gateway)) {
        line(
            text,
            format_args!(
                "\nwhoever takes the gateway over is held by no rule: nothing is counted from there on"
            ),
        );
    }
    if !spread.not_reached.is_empty() {
        line(text, format_args!("\nnot reached: {}", spread.not_reached.join(", ")));
    }
}

fn asked(answer: &Answer<'_>) -> String {
    format!("{} -> {}{}", answer.from.join(", "), answer.to.join(", "), using(answer))
}

fn using(answer: &Answer<'_>) -> String {
    if answer.services == ["any"] { String::new() } else { format!(" over {}", answer.services.join(", ")) }
}

fn within(answer: &Answer<'_>) -> String {
    let limit = answer.max_hops.map(|limit| limit as usize);
    limit.map(|limit| format!(" within {}", counted(limit, "hop"))).unwrap_or_default()
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn line(text: &mut String, words: fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("writing to a String does not fail");
}
