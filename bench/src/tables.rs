//! The result as tables for people (Markdown).

use std::io::Write;

use anyhow::Result;

use crate::decision::{Cost, Decision, Kind};
use crate::goals::Goal;
use crate::machine::Machine;
use crate::policies::Applied;
use crate::report::Report;
use crate::rulesets::RuleSet;
use crate::state::Connections;
use crate::statistics::Summary;
use crate::wire::latency::Latency;
use crate::wire::{Rate, Rates, Reporting};

/// Everything that was measured; the goals come first.
pub(crate) fn write(report: &Report, out: &mut impl Write) -> Result<()> {
    let Machine { processor, cpus, hypervisor, kernel, commit, load } = &report.machine;
    let machine = if *hypervisor { ", virtual" } else { "" };
    writeln!(out, "{processor}, {cpus} CPUs{machine}; Linux {kernel}; commit {commit}; load {load}")?;
    goals(out, &report.goals)?;
    if !report.policies.is_empty() {
        policies(out, &report.policies)?;
    }
    if let Some(decision) = &report.decision {
        costs(out, decision)?;
    }
    if !report.rule_sets.is_empty() {
        rule_sets(out, &report.rule_sets)?;
    }
    if let Some(state) = &report.state {
        connections(out, state)?;
    }
    if let Some(wire) = &report.wire {
        rates(out, wire)?;
        events(out, &wire.events)?;
    }
    if let Some(latency) = &report.latency {
        round_trips(out, latency)?;
    }
    Ok(())
}

fn heading(out: &mut impl Write, text: &str) -> Result<()> {
    Ok(writeln!(out, "\n### {text}")?)
}

fn goals(out: &mut impl Write, goals: &[Goal]) -> Result<()> {
    heading(out, "Goals")?;
    writeln!(
        out,
        "By medians; where a goal is about several cases the best and the worst are given, and the worst decides.\n"
    )?;
    writeln!(out, "| Goal | Wanted | Measured | Verdict |\n|---|---|---|---|")?;
    for goal in goals {
        writeln!(out, "{}", goal.row())?;
    }
    Ok(())
}

fn rule_sets(out: &mut impl Write, sets: &[RuleSet]) -> Result<()> {
    heading(out, "Rule sets of ClassBench")?;
    writeln!(out, "Nanoseconds over the baseline: median and quartiles.\n")?;
    writeln!(
        out,
        "| Set | Filters | Read | Compile | Load | Tables | Denied | First, allowed |\n|---|---|---|---|---|---|---|---|"
    )?;
    for RuleSet { name, filters, outcome } in sets {
        match outcome {
            Ok(it) => writeln!(
                out,
                "| {name} | {filters} | {:.0} ms | {:.0} ms | {:.0} ms | {} | {} | {} |",
                it.resolve.cpu,
                it.compile.cpu,
                it.load.cpu,
                mebibytes(it.table_bytes),
                it.denied.map_or_else(String::new, nanoseconds),
                it.first.map_or_else(String::new, nanoseconds)
            )?,
            Err(error) => writeln!(out, "| {name} | {filters} | | refused: {error} | | | | |")?,
        }
    }
    Ok(())
}

fn nanoseconds(it: Summary) -> String {
    format!("{:.0} ({:.0} to {:.0})", it.median, it.low, it.high)
}

fn policies(out: &mut impl Write, policies: &[Applied]) -> Result<()> {
    heading(out, "Policies")?;
    writeln!(
        out,
        "\n| Rules | Segments | Devices | Text | Read | Compile | Load | Peak memory | Tables | Judge: instructions | bytes | verifier steps |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
    for applied in policies {
        let Applied {
            rules,
            segments,
            devices,
            text_bytes,
            resolve,
            compile,
            load,
            peak_bytes,
            table_bytes,
            programs,
        } = applied;
        write!(
            out,
            "| {rules} | {segments} | {devices} | {} | {:.0} ms | {:.0} ms | {:.0} ms | {} | {} |",
            mebibytes(*text_bytes as u64),
            resolve.cpu,
            compile.cpu,
            load.cpu,
            mebibytes(*peak_bytes),
            mebibytes(*table_bytes),
        )?;
        if let Some(judge) = programs.iter().find(|program| program.name == "judge") {
            write!(out, " {} | {} | {} |", judge.instructions, judge.machine_code, judge.verified)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes * 10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn costs(out: &mut impl Write, decision: &Decision) -> Result<()> {
    heading(out, "Decisions")?;
    writeln!(
        out,
        "Nanoseconds over the baseline: median of {} rounds, its quartiles, and the least of the gateway's \
         rounds less the least of the baseline's. The harness costs {:.1}, left out of the baseline.\n",
        decision.rounds, decision.floor.median
    )?;
    let mut sizes: Vec<usize> = decision.costs.iter().map(|cost| cost.rules).collect();
    sizes.dedup();
    write!(out, "| Packet | | Connections | Baseline |")?;
    for size in &sizes {
        write!(out, " {size} rules |")?;
    }
    writeln!(out, "\n|---|---|---|---|{}", "---|".repeat(sizes.len()))?;
    let of_first = decision.costs.iter().filter(|cost| cost.rules == sizes[0]);
    for first in of_first {
        let same = |cost: &&Cost| {
            (cost.kind, cost.ipv6, cost.tagged, cost.packets)
                == (first.kind, first.ipv6, first.tagged, first.packets)
        };
        let family = if first.ipv6 { "IPv6" } else { "IPv4" };
        let tag = if first.tagged { ", tagged" } else { "" };
        let baseline = first.baseline.median - decision.floor.median;
        write!(out, "| {} | {family}{tag} | {} | {baseline:.1} |", name(first.kind), first.packets)?;
        for cost in decision.costs.iter().filter(same) {
            let over = cost.over;
            write!(out, " {:.0} ({:.0} to {:.0}; {:.0}) |", over.median, over.low, over.high, cost.least)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

pub(crate) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::EstablishedTcp => "established TCP",
        Kind::EstablishedUdp => "established UDP",
        Kind::FirstAllowed => "first, allowed",
        Kind::Denied => "denied",
        Kind::Spoofed => "spoofed",
    }
}

fn rates(out: &mut impl Write, wire: &Rates) -> Result<()> {
    for (what, of_what, rates) in
        [("Denied packets", "ceiling", &wire.denied), ("Forwarded packets", "nftables", &wire.forwarded)]
    {
        heading(out, what)?;
        writeln!(out, "Million a second, median of {} rounds and quartiles.\n", wire.rounds)?;
        writeln!(out, "| By | Rules | CPUs | Mpps | Of {of_what} | Arrived |\n|---|---|---|---|---|---|")?;
        for Rate { judge, rules, cpus, mpps, share, arrived } in rates {
            writeln!(
                out,
                "| {} | {rules} | {cpus} | {:.2} ({:.2} to {:.2}) | {:.2} ({:.2} to {:.2}) | {:.0} % |",
                judge.name(),
                mpps.median,
                mpps.low,
                mpps.high,
                share.median,
                share.low,
                share.high,
                arrived * 100.0
            )?;
        }
    }
    Ok(())
}

fn events(out: &mut impl Write, lines: &[Reporting]) -> Result<()> {
    heading(out, "Events")?;
    writeln!(out, "Denied packets on one CPU, some of which are reported.\n")?;
    writeln!(
        out,
        "| Reports a second at most | Mpps | Of the first | Reported, of packets |\n|---|---|---|---|"
    )?;
    for Reporting { limit, mpps, share, reported, packets } in lines {
        writeln!(
            out,
            "| {limit} | {:.2} ({:.2} to {:.2}) | {:.2} ({:.2} to {:.2}) | {reported} of {packets} |",
            mpps.median, mpps.low, mpps.high, share.median, share.low, share.high
        )?;
    }
    Ok(())
}

fn round_trips(out: &mut impl Write, latency: &Latency) -> Result<()> {
    heading(out, "Latency")?;
    writeln!(out, "Round trips in microseconds: median of {} rounds and quartiles.\n", latency.rounds)?;
    writeln!(
        out,
        "| Through | Median | 99.9th percentile | Under a flood of | Median | 99.9th percentile | Of idle |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    let spread = |it: Summary| format!("{:.1} ({:.1} to {:.1})", it.median, it.low, it.high);
    for trips in &latency.trips {
        write!(
            out,
            "| {} | {} | {} |",
            trips.judge.name(),
            spread(trips.idle.median),
            spread(trips.idle.late)
        )?;
        if let Some(flood) = &trips.flood {
            let [median, late] = [flood.trips.median, flood.trips.late].map(spread);
            write!(out, " {:.1} Mpps | {median} | {late} | {} |", flood.mpps.median, spread(flood.share))?;
        } else {
            write!(out, " | | | |")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "\n| Through | TCP, Gbit/s | Of the kernel |\n|---|---|---|")?;
    for transfer in &latency.transfers {
        let (judge, rate, share) = (transfer.judge.name(), spread(transfer.gigabits), spread(transfer.share));
        writeln!(out, "| {judge} | {rate} | {share} |")?;
    }
    Ok(())
}

fn connections(out: &mut impl Write, state: &Connections) -> Result<()> {
    heading(out, "Connections")?;
    writeln!(
        out,
        "Nanoseconds over the baseline: median of {} rounds and quartiles. {:.0} bytes a connection.\n",
        state.rounds, state.bytes_each
    )?;
    writeln!(out, "| Connections | Held | Insertion | Over ended ones | Lookup | Of the fewest | Listing |")?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for size in &state.sizes {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {:.1} | {:.0} ms |",
            size.connections,
            size.held,
            nanoseconds(size.insertion),
            nanoseconds(size.over_ended),
            nanoseconds(size.lookup),
            size.share.median,
            size.listing.cpu
        )?;
    }
    Ok(())
}
