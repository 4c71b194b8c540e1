//! What the commands for orders share: asking the service, durations, and how orders are shown.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::daemon::control::{Client, Order, Ordered, Reply, Request, Standing};

/// A large policy is compiled anew.
const PATIENCE: Duration = Duration::from_mins(2);

/// Has the service carry out an order, and says what came of it.
pub(super) fn carry_out(instance: &Instance, order: Order, format: Format) -> anyhow::Result<Outcome> {
    match ask(instance, order)? {
        Reply::Ordered { ordered } => {
            match format {
                Format::Json => print_json(&ordered)?,
                Format::Text => print(told(&ordered))?,
            }
            Ok(if ordered.warnings.is_empty() { Outcome::Fine } else { Outcome::Findings })
        }
        other => bail!("the service gave an answer to another question: {other:?}"),
    }
}

/// Shows what stands of one kind.
pub(super) fn list(instance: &Instance, kind: &str, format: Format) -> anyhow::Result<Outcome> {
    let Reply::Orders { mut orders } = ask(instance, Order::List {})? else {
        bail!("the service gave an answer to another question");
    };
    orders.retain(|order| order.kind == kind);
    match format {
        Format::Json => print_json(&orders)?,
        Format::Text if orders.is_empty() => print("none\n")?,
        Format::Text => print(orders.iter().map(row).collect::<String>())?,
    }
    Ok(Outcome::Fine)
}

/// Asks the service.
pub(super) fn ask(instance: &Instance, order: Order) -> anyhow::Result<Reply> {
    match Client::connect(&instance.socket)?.ask(&Request::Order { order }, PATIENCE)? {
        Reply::Error { message, .. } => bail!("{message}"),
        reply => Ok(reply),
    }
}

fn told(ordered: &Ordered) -> String {
    let Ordered { id, generation, took_ms, warnings } = ordered;
    let mut text = format!("number {id}, in force after {took_ms} ms (generation {generation})\n");
    for warning in warnings {
        writeln!(text, "warning: {warning}").expect("writing to a String does not fail");
    }
    text
}

/// One order on a line, with what somebody must know below.
pub(super) fn row(order: &Standing) -> String {
    let Standing { subject, vendor, addresses, reason, by, .. } = order;
    let what = vendor.as_ref().map_or_else(|| subject.clone(), |vendor| format!("{vendor} -> {subject}"));
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let addresses = if addresses.is_empty() { String::new() } else { format!(" ({})", addresses.join(", ")) };
    format!("{:>4}  {what}{addresses}: {}\n      {reason}, by {by}\n", order.id, left(order))
}

/// How long an order holds still.
pub(super) fn left(order: &Standing) -> String {
    match (order.open, order.remaining_s) {
        (false, _) => "over, waits for its review".to_owned(),
        (true, None) => "until it is released".to_owned(),
        (true, Some(seconds)) => format!("{} left", duration(seconds)),
    }
}

fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

/// Seconds of a duration such as `90s`, `15m`, `2h` or `7d`.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wanted =
        || format!("`{text}` is no duration: expected one such as 90s, 15m, 2h or 7d, of 1s to 365d");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wanted()),
    };
    let number: u64 = digits.parse().map_err(|_| wanted())?;
    number.checked_mul(unit).filter(|seconds| (1..=365 * 86_400).contains(seconds)).ok_or_else(wanted)
}

/// A text that says something.
pub(super) fn words(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("say it in words".to_owned()) } else { Ok(text.to_owned()) }
}

/// Asks on the terminal for a word; false where it is another, or there is no terminal.
pub(super) fn confirmed(word: &str) -> anyhow::Result<bool> {
    use std::io::{IsTerminal as _, Write as _};
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    write!(std::io::stderr(), "type `{word}` to go on: ")?;
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("cannot read the answer")?;
    Ok(line.trim() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        let read = ["90s", "15m", "2h", "7d"].map(seconds);
        assert_eq!(read, [Ok(90), Ok(900), Ok(7200), Ok(604_800)]);
        for text in ["", "5", "m", "0s", "-1h", "1w", "366d", "1h30m", "99999999999999999999d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!([59, 61, 7260].map(duration), ["59s", "1m 1s", "2h 1m"]);
    }
}
