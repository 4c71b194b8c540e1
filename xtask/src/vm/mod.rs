//! `cargo xtask vm`: the tests on other kernels, each in a virtual machine of its own.

mod archive;
mod boot;
mod image;
mod kernels;
mod modules;
mod programs;

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::boot::{Outcome, Verdict};
use self::kernels::{FLOOR, Kernel, USUAL};
use self::programs::{Programs, SUITES};
use crate::{process, setup};

#[derive(Args)]
pub(crate) struct Arguments {
    /// A kernel: a series of Debian's cloud kernels (6.1, 6.12, 7.3), `trixie-backports` for the newest, or `floor`
    /// for the oldest that is supported; may be given more than once [default: 6.1, 6.12, trixie-backports]
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// A test program of tests/tests to run; may be given more than once [default: those that say something about a kernel]
    #[arg(long = "suite", value_name = "SUITE")]
    suites: Vec<String>,
    /// Only tests whose name contains this
    #[arg(long = "test", value_name = "FILTER")]
    filter: Option<String>,
    /// Seconds that one virtual machine may take
    #[arg(long, default_value_t = 900)]
    limit: u64,
    /// Ask the archive for newer kernels than those that were fetched earlier
    #[arg(long)]
    fresh: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::run(&setup::Arguments { vm: true, ..setup::Arguments::default() })?;
    let folder = process::workspace_root().join("target/vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let named: Vec<String> = arguments
        .kernels
        .iter()
        .map(|name| if name == "floor" { FLOOR.into() } else { name.clone() })
        .collect();
    let asked = if named.is_empty() { USUAL.map(str::to_owned).to_vec() } else { named.clone() };
    let mut kernels = Vec::new();
    for (name, kernel) in asked.iter().zip(kernels::provide(&asked, arguments.fresh)?) {
        match kernel {
            Ok(kernel) => kernels.push(kernel),
            Err(error) if named.is_empty() => eprintln!("vm: without kernel {name}: {error:#}"),
            Err(error) => return Err(error.context(format!("kernel {name} is not to be had"))),
        }
    }
    if kernels.is_empty() {
        bail!("none of the kernels is to be had");
    }
    let suites = if arguments.suites.is_empty() {
        SUITES.map(str::to_owned).to_vec()
    } else {
        arguments.suites.clone()
    };
    let programs = programs::build(&suites)?;
    let mut outcomes = Vec::new();
    for kernel in &kernels {
        outcomes.push(on(kernel, &programs, arguments)?);
    }
    let matrix: Vec<(&Kernel, Outcome)> = kernels.iter().zip(outcomes).collect();
    tell(&matrix)?;
    let passed = matrix.iter().all(|(_, outcome)| outcome.verdict == Verdict::Passed);
    if passed && matrix.iter().all(|(_, outcome)| outcome.ran.iter().all(|ran| ran.total.is_empty())) {
        bail!("no test is named like `{}`", arguments.filter.as_deref().unwrap_or_default());
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the programs on one kernel.
fn on(kernel: &Kernel, programs: &Programs, arguments: &Arguments) -> Result<Outcome> {
    let filesystem = image::path(kernel);
    let filter: Vec<String> = arguments.filter.iter().cloned().collect();
    let absent = image::build(kernel, programs, &filter, &filesystem)?;
    eprintln!("vm: Linux {} boots, emulated on two processors", kernel.release);
    if !absent.is_empty() {
        eprintln!("vm: this kernel has no {}", absent.join(", "));
    }
    let outcome = boot::boot(kernel, &filesystem, Duration::from_secs(arguments.limit));
    fs::remove_file(&filesystem).with_context(|| format!("cannot remove {}", filesystem.display()))?;
    outcome
}

/// The matrix, on standard output.
fn tell(matrix: &[(&Kernel, Outcome)]) -> Result<()> {
    let mut out = io::stdout();
    for (kernel, outcome) in matrix {
        let words = match outcome.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::Broken => "FAILED: it ended before its tests did; its console is above",
            Verdict::TimedOut => "FAILED: it took too long and was ended; its console is above",
        };
        writeln!(out, "{:<32} {:>4} s  {words}", kernel.release, outcome.duration.as_secs())?;
        for ran in &outcome.ran {
            let total = &ran.total;
            writeln!(
                out,
                "  {:<30} {:>4.0} s  {} passed, {} failed, {} skipped{}",
                ran.suite,
                ran.seconds,
                total.passed,
                total.failed,
                total.ignored,
                if ran.success { "" } else { " FAILED" }
            )?;
        }
    }
    Ok(())
}
