//! `cargo xtask bench`: everything that is compared is measured in one run.
//!
//! Data goes to standard output (a table, or JSON), words to standard error.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "measured figures, far within the range of either type"
)]

mod chart;
mod clock;
mod decision;
mod driver;
mod frames;
mod goals;
mod machine;
mod policies;
mod record;
mod report;
mod rulesets;
mod state;
mod statistics;
mod tables;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use clinigate_tests::run::clean_on_exit;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::report::Report;

/// Measures Clinigate beside a baseline.
#[derive(Debug, Parser)]
#[command(name = "clinigate-bench", version)]
struct Arguments {
    /// Fewer sizes and rounds: under a minute
    #[arg(long)]
    quick: bool,
    /// Only this part
    #[arg(long)]
    only: Option<Part>,
    /// Write everything that was measured to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result into this folder of documentation: performance.md, and performance/ beside it
    #[arg(long, value_name = "DIRECTORY")]
    docs: Option<PathBuf>,
    /// CPU to measure on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What a decision costs, and what a policy costs before it is in force
    Decision,
    /// What a policy costs before it is in force, alone
    Policies,
    /// Packets a second through wires, beside others that filter and forward
    Wire,
    /// What a decision costs by rule sets of `ClassBench`, where they are
    RuleSets,
    /// What connections cost by their number
    State,
    /// Round trips, idle and under a flood, and transfers over TCP
    Latency,
}

/// How much is measured.
struct Effort {
    /// Rules of the policies.
    sizes: &'static [usize],
    rounds: usize,
    /// Different packets of a case, a power of two.
    packets: usize,
    /// Measure on one, two, four and so on CPUs, not only on one and all.
    every_cpu_count: bool,
    /// Connections at one time.
    connections: &'static [u32],
    /// Rule sets of 10,000 too, not only those of 1,000.
    large_sets: bool,
}

const FULL: Effort = Effort {
    sizes: &[10, 100, 1000, 10_000, 100_000],
    rounds: 15,
    packets: 1024,
    every_cpu_count: true,
    connections: &[1000, 10_000, 100_000, 1_000_000],
    large_sets: true,
};
const QUICK: Effort = Effort {
    sizes: &[10, 10_000],
    rounds: 3,
    packets: 1024,
    every_cpu_count: false,
    connections: &[1000, 100_000],
    large_sets: false,
};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    clean_on_exit()?;
    // Before it is pinned to one of them.
    cpus();
    pin_to(arguments.cpu)?;
    go_first();
    let effort = if arguments.quick { &QUICK } else { &FULL };
    let mut report = Report::new();
    let mut driver = driver::Driver::load()?;
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    if arguments.only == Some(Part::Policies) {
        report.policies = policies::measure(effort)?;
    }
    if wanted(Part::Decision) {
        let (decision, policies) = decision::measure(&mut driver, effort)?;
        report.decision = Some(decision);
        report.policies = policies;
    }
    if wanted(Part::RuleSets) {
        report.rule_sets = rulesets::measure(&mut driver, effort)?;
    }
    if wanted(Part::State) {
        report.state = Some(state::measure(&mut driver, effort)?);
    }
    if wanted(Part::Wire) {
        report.wire = Some(wire::measure(&mut driver, effort)?);
    }
    if wanted(Part::Latency) && cpus().len() > 1 {
        report.latency = Some(wire::latency::measure(&mut driver, effort)?);
    }
    report.goals = goals::judge(&report);
    if let Some(path) = &arguments.json {
        record::json(&report, path)?;
    }
    if let Some(directory) = &arguments.docs {
        record::docs(&report, directory)?;
    }
    tables::write(&report, &mut std::io::stdout().lock())
}

/// The CPUs that this program may use.
fn cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect()
    })
}

/// Keeps the calling thread on one CPU: per-CPU counters and caches of one that moves would be measured twice.
fn pin_to(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("no CPU {cpu}"))
}

/// Lets others on this machine wait, where that is allowed: what they do would be measured too.
fn go_first() {
    // SAFETY: numbers alone.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } != 0 {
        say("other programs have the same priority as this one: rates are lower for each that runs");
    }
}

/// Nothing else runs on this thread's CPU until the thread ends or waits, where that is allowed. For moments only.
fn alone() {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters outlive the call. Of the calling thread; without the right to do so nothing changes.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) };
}

/// A word for people.
fn say(line: &str) {
    eprintln!("{line}");
}
