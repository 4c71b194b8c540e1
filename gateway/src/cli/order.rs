//! What the commands for orders share: asking the service, durations, and how orders are shown.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::daemon::control::{Client, Order, Ordered, Reply, Request, Standing};
use crate::duration;

/// A large policy is compiled anew.
const PATIENCE: Duration = Duration::from_mins(2);

/// Has the service carry out an order, and says what came of it.
pub(super) fn carry_out(instance: &Instance, order: Order, format: Format) -> anyhow::Result<Outcome> {
    let done = done(&order);
    match ask(instance, order)? {
        Reply::Ordered { ordered } => {
            match format {
                Format::Json => print_json(&ordered)?,
                Format::Text => print(told(&done, &ordered))?,
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

/// What an order has done, in words.
fn done(order: &Order) -> String {
    let within = |seconds: u64| duration::words(Duration::from_secs(seconds));
    match order {
        Order::QuarantineAdd { target, seconds: Some(seconds), .. } => {
            format!("{target} is in quarantine for {}", within(*seconds))
        }
        Order::QuarantineAdd { target, .. } => {
            format!("{target} is in quarantine until: clinigate quarantine release {target}")
        }
        Order::QuarantineRelease { target } => format!("{target} is released"),
        Order::GrantOpen { vendor, device, seconds, .. } => {
            format!("{vendor} may reach {device} for {}, as far as windows let it", within(*seconds))
        }
        Order::GrantClose { vendor, device } => format!("{vendor} may not reach {device} any more"),
        Order::BreakGlass { segment, seconds, .. } => {
            format!(
                "{segment} IS OPEN for {}; to close it: clinigate break-glass end {segment}",
                within(*seconds)
            )
        }
        Order::BreakGlassEnd { segment } => {
            format!("{segment} is closed; then: clinigate break-glass review {segment} --note WHAT")
        }
        Order::BreakGlassReview { segment, .. } => format!("{segment} is reviewed"),
        Order::List {} | Order::Look { .. } => String::new(),
    }
}

fn told(done: &str, ordered: &Ordered) -> String {
    let Ordered { id, generation, took_ms, warnings } = ordered;
    let mut text = format!("{done}\nnumber {id}, in force after {took_ms} ms, generation {generation}\n");
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
        (true, Some(seconds)) => format!("{} left", duration::words(Duration::from_secs(seconds))),
    }
}

/// Seconds of a span such as `90s`, `15m` or `1h30m`.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    duration::parse(text).map(|span| span.as_secs())
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
