//! What is wanted of the programs, and how far what was measured is from it.

use serde::Serialize;

use crate::chart::number;
use crate::decision::{Cost, Decision, Kind};
use crate::report::Report;
use crate::rulesets::RuleSet;
use crate::wire::{Judge, Rate};

/// Bytes that tables may take.
const TABLES_MAX: f64 = 128.0;

/// A goal and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) wanted: Wanted,
    /// The best and the worst of the cases that it is about.
    pub(crate) measured: [f64; 2],
    pub(crate) unit: &'static str,
    /// Whether the worst case is as wanted.
    pub(crate) met: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wanted {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    /// None where nothing was measured that it is about.
    fn of(
        what: impl Into<String>,
        wanted: Wanted,
        unit: &'static str,
        cases: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        let cases: Vec<f64> = cases.into_iter().collect();
        let (least, most) =
            (cases.iter().copied().reduce(f64::min)?, cases.iter().copied().reduce(f64::max)?);
        let (measured, met) = match wanted {
            Wanted::AtMost(limit) => ([least, most], most <= limit),
            Wanted::AtLeast(limit) => ([most, least], least >= limit),
        };
        Some(Self { what: what.into(), wanted, measured, unit, met })
    }

    /// A row: goal, wanted, measured, verdict.
    pub(crate) fn row(&self) -> String {
        let Self { what, unit, measured: [best, worst], met, .. } = self;
        let (wanted, distance) = match self.wanted {
            Wanted::AtMost(limit) if *unit == "times" => {
                (format!("at most {}", number(limit)), format!("{} times too much", number(worst / limit)))
            }
            Wanted::AtMost(limit) => {
                (format!("at most {}", number(limit)), format!("{} {unit} too many", number(worst - limit)))
            }
            Wanted::AtLeast(limit) => (
                format!("at least {}", number(limit)),
                format!("{} of what is wanted", number(worst / limit)),
            ),
        };
        let verdict = if *met { "met".to_owned() } else { format!("not met: {distance}") };
        let (best, worst) = (number(*best), number(*worst));
        let measured = if best == worst { worst } else { format!("{best} to {worst}") };
        format!("| {what} | {wanted} {unit} | {measured} | {verdict} |")
    }
}

/// All goals about which something was measured.
pub(crate) fn judge(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    if let Some(decision) = &report.decision {
        goals.extend(decisions(decision));
    }
    goals.extend(rule_sets(&report.rule_sets));
    if let Some(rates) = &report.wire {
        goals.extend(denied(&rates.denied));
        let forwarded = |judge| one_cpu(&rates.forwarded, judge);
        let (ours, theirs) = (forwarded(Judge::ClinigateXdp), forwarded(Judge::Conntrack));
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        goals.extend(Goal::of(
            "forwarded packets, against nftables with conntrack",
            Wanted::AtLeast(2.5),
            "times",
            ratios,
        ));
    }
    if let Some(largest) = report.policies.iter().max_by_key(|policy| policy.rules) {
        let what = format!("compile and apply {} rules", largest.rules);
        goals.extend(Goal::of(what, Wanted::AtMost(1.0), "s", [largest.in_force() / 1e3]));
    }
    if let Some(state) = &report.state {
        if let Some(most) = state.sizes.last() {
            let what = format!("lookup among {} connections, against one among the fewest", most.connections);
            goals.extend(Goal::of(what, Wanted::AtMost(2.0), "times", [most.share.median]));
        }
        goals.extend(Goal::of("memory of a connection", Wanted::AtMost(128.0), "bytes", [state.bytes_each]));
    }
    if let Some(latency) = &report.latency {
        let ours = latency.trips.iter().filter(|trips| trips.judge.is_ours());
        let shares = ours.filter_map(|trips| Some(trips.flood.as_ref()?.share.median));
        let what = "99.9th percentile of round trips during a flood, against idle";
        goals.extend(Goal::of(what, Wanted::AtMost(2.0), "times", shares));
    }
    goals
}

fn decisions(decision: &Decision) -> Vec<Goal> {
    // Those of the wide case go through more connections than the goals are about.
    let least = decision.costs.iter().map(|cost| cost.packets).min().unwrap_or_default();
    let costs = || decision.costs.iter().filter(move |cost| cost.packets == least);
    let of = |kinds: &'static [Kind], ipv6: bool| {
        costs()
            .filter(move |cost| kinds.contains(&cost.kind) && cost.ipv6 == ipv6)
            .map(|cost| cost.over.median)
    };
    let established =
        || [false, true].into_iter().flat_map(|ipv6| of(&[Kind::EstablishedTcp, Kind::EstablishedUdp], ipv6));
    let first = &[Kind::FirstAllowed];
    let denied = &[Kind::Denied, Kind::Spoofed];
    let (few, many) = (
        decision.costs.iter().map(|cost| cost.rules).min().unwrap_or_default(),
        decision.costs.iter().map(|cost| cost.rules).max().unwrap_or_default(),
    );
    let growth = costs().filter(|cost| cost.rules == many).filter_map(|cost| {
        let same = |other: &&Cost| {
            (other.rules, other.kind, other.ipv6, other.tagged) == (few, cost.kind, cost.ipv6, cost.tagged)
        };
        Some(cost.over.median / costs().find(same)?.over.median)
    });
    let goals = [
        Goal::of("established packet, over the baseline", Wanted::AtMost(35.0), "ns", established()),
        Goal::of("denied packet, IPv4, over the baseline", Wanted::AtMost(60.0), "ns", of(denied, false)),
        Goal::of("denied packet, IPv6, over the baseline", Wanted::AtMost(90.0), "ns", of(denied, true)),
        Goal::of(
            "first packet, allowed, IPv4, over the baseline",
            Wanted::AtMost(60.0),
            "ns",
            of(first, false),
        ),
        Goal::of(
            "first packet, allowed, IPv6, over the baseline",
            Wanted::AtMost(90.0),
            "ns",
            of(first, true),
        ),
        Goal::of(format!("cost at {many} rules, against {few}"), Wanted::AtMost(1.25), "times", growth),
    ];
    goals.into_iter().flatten().collect()
}

fn rule_sets(sets: &[RuleSet]) -> Vec<Goal> {
    let large = || sets.iter().filter(|set| set.name.ends_with("10k"));
    let tried = || large().filter_map(|set| set.outcome.as_ref().ok());
    let goals = [
        Goal::of(
            "ClassBench, 10 k: decision, over the baseline",
            Wanted::AtMost(100.0),
            "ns",
            tried().filter_map(|it| Some(it.denied?.median)),
        ),
        Goal::of(
            "ClassBench, 10 k: compile",
            Wanted::AtMost(5.0),
            "s",
            tried().map(|it| it.compile.cpu / 1e3),
        ),
        Goal::of(
            "ClassBench, 10 k: tables",
            Wanted::AtMost(TABLES_MAX),
            "MiB",
            tried().map(|it| it.table_bytes as f64 / f64::from(1 << 20)),
        ),
    ];
    let compiled = Goal::of(
        "ClassBench, 10 k: sets that compile",
        Wanted::AtLeast(large().count() as f64),
        "sets",
        (large().count() > 0).then(|| tried().count() as f64),
    );
    goals.into_iter().chain([compiled]).flatten().collect()
}

fn denied(rates: &[Rate]) -> Vec<Goal> {
    let against = |judge| {
        let theirs = one_cpu(rates, judge).first().copied();
        let ours = one_cpu(rates, Judge::ClinigateXdp);
        theirs
            .map_or_else(Vec::new, |theirs| ours.into_iter().map(|ours| ours / theirs).collect::<Vec<f64>>())
    };
    let goals = [
        Goal::of("denied packets, against the ceiling", Wanted::AtLeast(0.65), "times", against(Judge::Sink)),
        Goal::of(
            "denied packets, against nftables with a set",
            Wanted::AtLeast(2.0),
            "times",
            against(Judge::Set),
        ),
        Goal::of(
            "denied packets, against nftables with 1,000 lines",
            Wanted::AtLeast(50.0),
            "times",
            against(Judge::Chain),
        ),
    ];
    goals.into_iter().flatten().collect()
}

/// Shares of the reference, on one CPU.
fn one_cpu(rates: &[Rate], judge: Judge) -> Vec<f64> {
    rates.iter().filter(|rate| rate.judge == judge && rate.cpus == 1).map(|rate| rate.share.median).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_worst_case_decides() {
        let goal = Goal::of("cost", Wanted::AtMost(35.0), "ns", [20.0, 41.0, 34.0]).unwrap();
        assert_eq!(goal.row(), "| cost | at most 35.0 ns | 20.0 to 41.0 | not met: 6.00 ns too many |");
        let goal = Goal::of("rate", Wanted::AtLeast(2.0), "times", [3.0, 2.0]).unwrap();
        assert_eq!(goal.row(), "| rate | at least 2.00 times | 3.00 to 2.00 | met |");
        let goal = Goal::of("rate", Wanted::AtLeast(2.0), "times", [1.0]).unwrap();
        assert_eq!(goal.row(), "| rate | at least 2.00 times | 1.00 | not met: 0.50 of what is wanted |");
        assert_eq!(Goal::of("nothing", Wanted::AtMost(1.0), "ns", []), None);
    }
}
