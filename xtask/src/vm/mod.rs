//! `cargo xtask vm`: the tests on other kernels, each in a virtual machine of its own.

mod archive;
mod boot;
mod cards;
mod image;
mod kernels;
mod modules;
mod page;
mod programs;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::boot::{Outcome, Verdict};
use self::kernels::{FLOOR, Kernel, USUAL};
use self::programs::{Programs, SUITES};
use crate::{process, setup};

#[derive(Args)]
pub(crate) struct Arguments {
    /// A kernel: a series of Debian's cloud kernels (6.1, 6.12, 7.3), `trixie-backports` for the newest, or `floor`
    /// for the oldest that is supported; may be given more than once [default: 6.1, 6.12, trixie-backports, 7]
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// A test program of tests/tests to run; may be given more than once [default: those that say something about a kernel]
    #[arg(long = "suite", value_name = "SUITE")]
    suites: Vec<String>,
    /// Only tests whose name contains this; may be given more than once
    #[arg(long = "test", value_name = "FILTER")]
    filters: Vec<String>,
    /// Seconds that one virtual machine may take
    #[arg(long, default_value_t = 1800)]
    limit: u64,
    /// Kernels that run at a time
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    jobs: usize,
    /// Write what was found into kernels.md in this folder; takes a run of all suites
    #[arg(long, value_name = "DIR", conflicts_with_all = ["suites", "filters"])]
    docs: Option<PathBuf>,
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
    for (name, kernel) in asked.iter().zip(kernels::provide(&asked, arguments.fresh)) {
        match kernel {
            Ok(kernel) => match kernels.iter().find(|known: &&Kernel| known.release == kernel.release) {
                Some(known) => eprintln!("vm: kernel {name} is kernel {}: it runs once", known.asked),
                None => kernels.push(kernel),
            },
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
    let began = Instant::now();
    let mut images = Vec::new();
    for kernel in &kernels {
        images.push(Filesystem::build(kernel, &programs, &arguments.filters)?);
    }
    let outcomes = boot_all(&kernels, &images, arguments)?;
    drop(images);
    let matrix: Vec<(&Kernel, Outcome)> = kernels.iter().zip(outcomes).collect();
    tell(&matrix, began.elapsed())?;
    if let Some(directory) = &arguments.docs {
        page::write(&matrix, began.elapsed(), directory)?;
    }
    let passed = matrix.iter().all(|(_, outcome)| outcome.verdict == Verdict::Passed);
    if passed && matrix.iter().all(|(_, outcome)| outcome.ran.iter().all(|ran| ran.total.is_empty())) {
        bail!("no test is named like `{}`", arguments.filters.join("`, `"));
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first filesystem of a guest; its file goes with this.
struct Filesystem(PathBuf);

impl Filesystem {
    fn build(kernel: &Kernel, programs: &Programs, filters: &[String]) -> Result<Self> {
        let filesystem = Self(image::path(kernel));
        let absent = image::build(kernel, programs, filters, &filesystem.0)?;
        if !absent.is_empty() {
            eprintln!("vm: Linux {} has no {}", kernel.release, absent.join(", "));
        }
        Ok(filesystem)
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("vm: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Runs the programs on all kernels, some at a time; what came of each stands in its place.
fn boot_all(kernels: &[Kernel], images: &[Filesystem], arguments: &Arguments) -> Result<Vec<Outcome>> {
    let limit = Duration::from_secs(arguments.limit);
    let waiting = Mutex::new(kernels.iter().zip(images).enumerate());
    let outcomes = thread::scope(|scope| {
        let worker = || {
            let mut outcomes = Vec::new();
            loop {
                let next = waiting.lock().expect("nobody panics while holding it").next();
                let Some((number, (kernel, image))) = next else { return Ok(outcomes) };
                eprintln!("vm: Linux {} boots, emulated on two processors", kernel.release);
                outcomes.push((number, boot::boot(kernel, &image.0, limit)?));
            }
        };
        let workers: Vec<_> = (0..arguments.jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        let done = workers.into_iter().map(|worker| worker.join().expect("workers return their errors"));
        done.collect::<Result<Vec<_>>>()
    })?;
    let mut outcomes: Vec<(usize, Outcome)> = outcomes.into_iter().flatten().collect();
    outcomes.sort_by_key(|(number, _)| *number);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// The matrix, on standard output.
fn tell(matrix: &[(&Kernel, Outcome)], took: Duration) -> Result<()> {
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
    writeln!(out, "{:<32} {:>4} s", "all", took.as_secs())?;
    Ok(())
}
