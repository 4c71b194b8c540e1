//! `cargo xtask bench`: everything that is compared is measured in one run.
//!
//! Data goes to standard output (a table, or JSON), words to standard error.

mod clock;
mod decision;
mod driver;
mod frames;
mod machine;
mod policies;
mod report;
mod statistics;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use nix::sched::{CpuSet, sched_setaffinity};
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
    /// CPU to measure on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What a decision costs, and what a policy costs before it is in force
    Decision,
}

/// How much is measured.
struct Effort {
    /// Rules of the policies.
    sizes: &'static [usize],
    rounds: usize,
    /// Different packets of a case, a power of two.
    packets: usize,
}

const FULL: Effort = Effort { sizes: &[10, 100, 1000, 10_000, 100_000], rounds: 30, packets: 1024 };
const QUICK: Effort = Effort { sizes: &[10, 10_000], rounds: 10, packets: 1024 };

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
    let mut cpus = CpuSet::new();
    cpus.set(arguments.cpu)?;
    // Per-CPU counters and caches: a thread that moves would measure both twice.
    sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("no CPU {}", arguments.cpu))?;
    let effort = if arguments.quick { &QUICK } else { &FULL };
    let mut report = Report::new();
    let mut driver = driver::Driver::load()?;
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    if wanted(Part::Decision) {
        let (decision, policies) = decision::measure(&mut driver, effort)?;
        report.decision = Some(decision);
        report.policies = policies;
    }
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    report.print()
}

/// A word for people.
fn say(line: &str) {
    eprintln!("{line}");
}
