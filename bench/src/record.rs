//! The result as files: data, and the documentation with its charts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::chart::{Bar, draw};
use crate::decision::{Decision, Kind};
use crate::report::Report;
use crate::tables;
use crate::wire::Rate;

/// What was measured stands between these lines of the documentation.
const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

/// Writes everything that was measured.
pub(crate) fn json(report: &Report, path: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// Replaces what the documentation in this folder says was measured.
pub(crate) fn docs(report: &Report, directory: &Path) -> Result<()> {
    let page = directory.join("performance.md");
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.with_context(|| format!("{} does not say where", page.display()))?;
    let folder = directory.join("performance");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut measured = Vec::new();
    tables::write(report, &mut measured)?;
    let mut measured = String::from_utf8(measured)?;
    for (name, what, svg) in charts(report) {
        let path = folder.join(name);
        fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
        write!(measured, "\n![{what}](performance/{name})\n")?;
    }
    json(report, &folder.join("measured.json"))?;
    fs::write(&page, [before, BEGIN, &measured, END, after].concat())
        .with_context(|| format!("cannot write {}", page.display()))
}

/// File, what it shows, and the chart.
fn charts(report: &Report) -> Vec<(&'static str, &'static str, String)> {
    let mut charts = Vec::new();
    if let Some(decision) = &report.decision {
        charts.push(("decision.svg", "Cost of a decision", decisions(decision)));
    }
    if let Some(wire) = &report.wire {
        let denied = bars(&wire.denied);
        let forwarded = bars(&wire.forwarded);
        charts.push(("denied.svg", "Denied packets", draw("Denied packets, one CPU", "Mpps", &denied, None)));
        let chart = draw("Forwarded packets of known connections, one CPU", "Mpps", &forwarded, None);
        charts.push(("forwarded.svg", "Forwarded packets", chart));
    }
    charts
}

fn decisions(decision: &Decision) -> String {
    let shown = decision.costs.iter().filter(|cost| {
        !cost.ipv6
            && !cost.tagged
            && matches!(cost.kind, Kind::EstablishedTcp | Kind::Denied | Kind::FirstAllowed)
    });
    let bars = shown.map(|cost| Bar {
        label: format!("{}, {} rules", tables::name(cost.kind), cost.rules),
        value: cost.over,
        ours: true,
    });
    let mut bars: Vec<Bar> = bars.collect();
    // By kind, then by size, which is their order already.
    bars.sort_by_key(|bar| bar.label.split(',').next().map(str::to_owned));
    draw("A decision over the baseline, IPv4", "ns", &bars, Some((35.0, "goal: established")))
}

fn bars(rates: &[Rate]) -> Vec<Bar> {
    let bars = rates.iter().filter(|rate| rate.cpus == 1).map(|rate| Bar {
        label: format!("{}, {} rules", rate.judge.name(), rate.rules),
        value: rate.mpps,
        ours: rate.judge.is_ours(),
    });
    bars.collect()
}
