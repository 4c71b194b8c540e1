//! `clinigate top`: who is busiest, and who is blocked most, live.

mod screen;
mod text;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use self::screen::Screen;
use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::daemon::control::{Client, ClientError, DEFAULT_WINDOW, Reply, Request};
use crate::daemon::watching::{PairTraffic, RuleTraffic, Traffic};
use crate::duration;
use crate::telemetry::flow::{Flow, FlowFilter};

/// The service may be reading a large connection table just now.
const PATIENCE: Duration = Duration::from_secs(30);
/// Blocked flows of the snapshot; the screen shows what fits.
const BLOCKED_SHOWN: usize = 50;

/// Show the busiest and the most blocked pairs of segments, live.
///
/// Rates are exact: they come from the counters of every packet. Below stand the flows that were blocked
/// lately, with the names of devices. Ctrl-C ends it. Where standard output is no terminal, or with
/// --format json, one snapshot over one interval is written.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// How often it is drawn, and over what time rates are taken.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    instance: Instance,
}

/// What happened between two looks.
#[derive(Debug, Serialize)]
struct Snapshot {
    /// When (RFC 3339, UTC).
    at: String,
    /// Seconds over which rates are taken.
    seconds: f64,
    /// Live connections.
    connections: u64,
    /// Connections that the table holds at most.
    connections_capacity: u64,
    /// Reports of packets lost so far.
    events_lost: u64,
    /// By pair of segments, verdict and reason, the busiest first.
    pairs: Vec<PairRate>,
    /// By rule, the busiest first.
    rules: Vec<RuleRate>,
    /// Flows blocked within the last five minutes, those with most packets first.
    blocked: Vec<Flow>,
}

#[derive(Debug, Serialize)]
struct PairRate {
    source: String,
    destination: String,
    verdict: String,
    reason: String,
    packets_per_second: f64,
    bits_per_second: f64,
}

#[derive(Debug, Serialize)]
struct RuleRate {
    rule: String,
    kind: String,
    packets_per_second: f64,
    bits_per_second: f64,
}

impl Top {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let first = self.traffic()?;
        if format == Format::Json || !io::stdout().is_terminal() {
            std::thread::sleep(self.interval);
            let snapshot = Snapshot::between(&first, self.traffic()?, self.blocked()?);
            match format {
                Format::Json => print_json(&snapshot)?,
                Format::Text => print(text::render(&snapshot, None))?,
            }
            return Ok(Outcome::Fine);
        }
        self.draw(first)
    }

    /// Draws until interrupted.
    fn draw(&self, mut before: Traffic) -> anyhow::Result<Outcome> {
        let screen = Screen::open()?;
        loop {
            std::thread::sleep(self.interval);
            let looked = self.traffic().and_then(|now| Ok((now, self.blocked()?)));
            match looked {
                Ok((now, blocked)) => {
                    let snapshot = Snapshot::between(&before, now.clone(), blocked);
                    screen.show(&text::render(&snapshot, Some(screen.size())))?;
                    before = now;
                }
                // It may be restarting.
                Err(error) if is_gone(&error) => screen.show(&format!("{error:#}; waiting for it\n"))?,
                Err(error) => {
                    drop(screen);
                    return Err(error);
                }
            }
        }
    }

    fn traffic(&self) -> anyhow::Result<Traffic> {
        match self.ask(&Request::Traffic {})? {
            Reply::Traffic { traffic } => Ok(traffic),
            other => bail!("the service gave an answer to another question: {other:?}"),
        }
    }

    fn blocked(&self) -> anyhow::Result<Vec<Flow>> {
        let verdicts = vec!["audit".to_owned(), "drop".to_owned()];
        let filter = FlowFilter { verdicts, ..FlowFilter::default() };
        match self.ask(&Request::Flows { filter, seconds: DEFAULT_WINDOW })? {
            Reply::Flows { flows } => {
                let mut flows = flows.flows;
                flows.sort_by_key(|flow| std::cmp::Reverse(flow.packets));
                flows.truncate(BLOCKED_SHOWN);
                Ok(flows)
            }
            other => bail!("the service gave an answer to another question: {other:?}"),
        }
    }

    fn ask(&self, request: &Request) -> anyhow::Result<Reply> {
        match Client::connect(&self.instance.socket)?.ask(request, PATIENCE)? {
            Reply::Error { message, .. } => bail!("{message}"),
            reply => Ok(reply),
        }
    }
}

impl Snapshot {
    fn between(before: &Traffic, now: Traffic, blocked: Vec<Flow>) -> Self {
        let milliseconds = now.uptime_ms.saturating_sub(before.uptime_ms).max(1);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of an interval")]
        let seconds = milliseconds as f64 / 1000.0;
        #[expect(clippy::cast_precision_loss, reason = "rates for people")]
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let pair_before = |pair: &PairTraffic| {
            let same = |other: &&PairTraffic| {
                (&other.source, &other.destination, &other.verdict, &other.reason)
                    == (&pair.source, &pair.destination, &pair.verdict, &pair.reason)
            };
            before.pairs.iter().find(same).map_or((0, 0), |found| (found.packets, found.bytes))
        };
        let mut pairs: Vec<PairRate> = now
            .pairs
            .into_iter()
            .map(|pair| {
                let (packets, bytes) = pair_before(&pair);
                PairRate {
                    packets_per_second: rate(pair.packets, packets),
                    bits_per_second: 8.0 * rate(pair.bytes, bytes),
                    source: pair.source,
                    destination: pair.destination,
                    verdict: pair.verdict,
                    reason: pair.reason,
                }
            })
            .filter(|pair| pair.packets_per_second > 0.0)
            .collect();
        pairs.sort_by(|a, b| b.packets_per_second.total_cmp(&a.packets_per_second));
        let rule_before = |rule: &RuleTraffic| {
            let found = before.rules.iter().find(|other| other.rule == rule.rule);
            found.map_or((0, 0), |found| (found.packets, found.bytes))
        };
        let mut rules: Vec<RuleRate> = now
            .rules
            .into_iter()
            .map(|rule| {
                let (packets, bytes) = rule_before(&rule);
                RuleRate {
                    packets_per_second: rate(rule.packets, packets),
                    bits_per_second: 8.0 * rate(rule.bytes, bytes),
                    rule: rule.rule,
                    kind: rule.kind,
                }
            })
            .filter(|rule| rule.packets_per_second > 0.0)
            .collect();
        rules.sort_by(|a, b| b.packets_per_second.total_cmp(&a.packets_per_second));
        Self {
            at: now.at,
            seconds,
            connections: now.connections,
            connections_capacity: now.connections_capacity,
            events_lost: now.events_lost,
            pairs,
            rules,
            blocked,
        }
    }
}

fn is_gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::NotRunning(_) | ClientError::Io { .. }))
}

fn interval(text: &str) -> Result<Duration, String> {
    // Shorter ones than other commands know: people look at it.
    let milliseconds = text.strip_suffix("ms").and_then(|number| number.parse().ok());
    let span =
        milliseconds.map_or_else(|| duration::parse(text), |number| Ok(Duration::from_millis(number)))?;
    if !(Duration::from_millis(100)..=Duration::from_hours(1)).contains(&span) {
        return Err("expected 100ms to 1h".to_owned());
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn pair(source: &str, reason: &str, packets: u64) -> PairTraffic {
        PairTraffic {
            source: source.to_owned(),
            destination: "pacs".to_owned(),
            verdict: if reason == "denied" { "drop" } else { "pass" }.to_owned(),
            reason: reason.to_owned(),
            packets,
            bytes: packets * 100,
        }
    }

    #[test]
    fn rates_are_what_grew_between_two_looks() {
        let traffic = |uptime_ms, pairs| Traffic { uptime_ms, pairs, ..Traffic::default() };
        let before = traffic(1000, vec![pair("ct", "flow", 10), pair("mr", "flow", 5)]);
        let now =
            traffic(3000, vec![pair("ct", "flow", 16), pair("mr", "flow", 5), pair("ct", "denied", 20)]);
        let snapshot = Snapshot::between(&before, now, Vec::new());
        let rates: Vec<_> = snapshot
            .pairs
            .iter()
            .map(|pair| {
                (pair.reason.as_str(), pair.packets_per_second.to_string(), pair.bits_per_second.to_string())
            })
            .collect();
        assert_eq!(
            rates,
            [("denied", "10".to_owned(), "8000".to_owned()), ("flow", "3".to_owned(), "2400".to_owned())]
        );
        let page = text::render(&snapshot, None);
        assert!(page.contains("10.0 dropped, 0.0 audited"), "{page}");
        assert!(page.contains("ct -> pacs") && page.contains("denied"), "{page}");
        let small = text::render(&snapshot, Some((10, 30)));
        assert!(
            small.lines().count() <= 10 && small.lines().all(|line| line.chars().count() <= 30),
            "{small}"
        );
    }

    #[test]
    fn intervals_have_bounds() {
        assert_eq!(interval("500ms").unwrap(), Duration::from_millis(500));
        for wrong in ["0s", "2h", "-1s", "x"] {
            interval(wrong).unwrap_err();
        }
    }
}
