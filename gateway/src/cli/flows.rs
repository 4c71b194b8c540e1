//! `clinigate flows`: what passes and what is blocked, now.

pub(super) mod text;

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::instance::Instance;
use super::{Format, Outcome, print};
use crate::daemon::control::{Client, ClientError, Reply, Request};
use crate::duration;
use crate::telemetry::flow::{Flow, FlowFilter, FlowList};
use crate::telemetry::recent::MEMORY;

/// The service may be reading a large connection table just now.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a follower looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Show what passes and what is blocked, now: who, to whom, which service, and why.
///
/// Passing flows are the live connections; blocked ones are what the programs reported lately (at most a
/// quarter of an hour back). Both are summed by source, destination, service and reason. Everything that
/// is set must hold; a segment, device or address may be at either end. With --format json, one JSON
/// object a line.
#[derive(Debug, Args)]
pub(super) struct Flows {
    /// Only what was dropped, or would have been where a segment audits.
    #[arg(long, conflicts_with = "verdict")]
    blocked: bool,
    /// Only what has this verdict; may be repeated.
    #[arg(long, value_enum, value_name = "VERDICT")]
    verdict: Vec<VerdictArgument>,
    /// Only from or to this segment.
    #[arg(long, value_name = "NAME")]
    segment: Option<String>,
    /// Only from or to this device of the policy.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Only from or to this address, or an address in this prefix.
    #[arg(long, value_name = "ADDRESS|PREFIX", value_parser = network)]
    address: Option<IpNet>,
    /// Only this service: its name, or such as tcp/445.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only what this rule decided.
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// How far back blocked flows are shown, such as 90s or 5m.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = span)]
    since: Duration,
    /// Go on: show what is new, and how much more was blocked, until interrupted.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    instance: Instance,
}

/// See [`gateway_common::reason::Verdict`]. Packets that segments merely observe are counted, not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum VerdictArgument {
    /// Allowed.
    Pass,
    /// Would have been dropped.
    Audit,
    /// Dropped.
    Drop,
}

impl Flows {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let list = self.ask()?;
        let mut table = text::Table::default();
        show(&mut table, &list.flows, format)?;
        if list.flows.is_empty() && !self.follow {
            writeln!(io::stderr(), "no such flow: nothing was blocked since, and no such connection lives")?;
        }
        if list.more > 0 {
            writeln!(io::stderr(), "and {} more that are not listed: ask for less of them", list.more)?;
        }
        if self.follow {
            self.go_on(table, list, format)?;
        }
        Ok(Outcome::Fine)
    }

    /// Shows what is new, until interrupted.
    fn go_on(&self, mut table: text::Table, list: FlowList, format: Format) -> anyhow::Result<()> {
        let amounts = |list: FlowList| -> HashMap<_, _> {
            list.flows.into_iter().map(|flow| (flow.identity(), amount(&flow))).collect()
        };
        let mut known = amounts(list);
        let mut gone = false;
        loop {
            std::thread::sleep(PERIOD);
            let list = match self.ask() {
                Ok(list) => list,
                // It may be restarting.
                Err(error) if is_gone(&error) => {
                    if !std::mem::replace(&mut gone, true) {
                        writeln!(io::stderr(), "{error:#}; waiting for it")?;
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            gone = false;
            let mut news: Vec<Flow> = list.flows.clone();
            news.retain_mut(|flow| match known.get(&flow.identity()) {
                Some(before) => keep_growth(flow, *before),
                None => true,
            });
            news.reverse();
            show(&mut table, &news, format)?;
            known = amounts(list);
        }
    }

    fn ask(&self) -> anyhow::Result<FlowList> {
        let request = Request::Flows { filter: self.filter(), seconds: self.since.as_secs() };
        match Client::connect(&self.instance.socket)?.ask(&request, PATIENCE)? {
            Reply::Flows { flows } => Ok(flows),
            Reply::Error { message, .. } => bail!("{message}"),
            other => bail!("the service gave an answer to another question: {other:?}"),
        }
    }

    fn filter(&self) -> FlowFilter {
        let verdicts: &[VerdictArgument] =
            if self.blocked { &[VerdictArgument::Audit, VerdictArgument::Drop] } else { &self.verdict };
        let name = |verdict: &VerdictArgument| match verdict {
            VerdictArgument::Pass => "pass".to_owned(),
            VerdictArgument::Audit => "audit".to_owned(),
            VerdictArgument::Drop => "drop".to_owned(),
        };
        FlowFilter {
            verdicts: verdicts.iter().map(name).collect(),
            segment: self.segment.clone(),
            device: self.device.clone(),
            address: self.address,
            service: self.service.clone(),
            rule: self.rule.clone(),
        }
    }
}

/// Packets where they are known, else connections.
fn amount(flow: &Flow) -> u64 {
    flow.packets.or(flow.connections).unwrap_or_default()
}

/// Leaves of a flow what it has more than before; false where that is nothing.
fn keep_growth(flow: &mut Flow, before: u64) -> bool {
    let Some(packets) = flow.packets else { return amount(flow) > before };
    // A service that was started anew counts anew.
    let grown = packets.checked_sub(before).unwrap_or(packets);
    flow.packets = Some(grown);
    grown > 0
}

fn is_gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::NotRunning(_) | ClientError::Io { .. }))
}

fn show(table: &mut text::Table, flows: &[Flow], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Text => print(table.render(flows)),
        Format::Json => flows.iter().try_for_each(|flow| print(serde_json::to_string(flow)? + "\n")),
    }
}

/// An address is a prefix of its full length.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<std::net::IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| "neither an address nor a prefix".to_owned())
}

/// A length of time, up to the time that the service remembers.
fn span(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        span if span > MEMORY => {
            let minutes = MEMORY.as_secs() / 60;
            Err(format!(
                "blocked flows are remembered for {minutes} minutes; the log of blocked flows has older ones"
            ))
        }
        span => Ok(span),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn times_and_addresses_are_read_or_refused() {
        assert_eq!(span("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(span("5m").unwrap(), Duration::from_mins(5));
        for wrong in ["", "5", "-5m", "16m", "soon"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert_eq!(network("10.10.40.11").unwrap().to_string(), "10.10.40.11/32");
        assert_eq!(network("fd00:40::/64").unwrap().to_string(), "fd00:40::/64");
        assert!(network("ct-1").is_err());
    }

    #[test]
    fn a_follower_sees_growth_and_a_service_that_began_anew() {
        let blocked = |packets| Flow { packets: Some(packets), ..Flow::default() };
        for (packets, before, shown) in [(7, 5, Some(2)), (5, 5, None), (2, 5, Some(2))] {
            let mut flow = blocked(packets);
            let grew = keep_growth(&mut flow, before);
            assert_eq!(grew.then_some(flow.packets.unwrap()), shown);
        }
        let mut passing = Flow { connections: Some(2), ..Flow::default() };
        assert!(keep_growth(&mut passing, 1) && !keep_growth(&mut passing, 2));
    }
}
