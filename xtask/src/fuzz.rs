//! `cargo xtask fuzz`: the fuzz targets under libFuzzer, for as long as it is told.

mod report;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::report::{Run, follow};
use crate::setup::{self, tool};
use crate::{build, process};

/// Where inputs are collected that reach something new; kept from run to run, not committed.
const CORPUS: &str = "fuzz/corpus";
/// Where inputs that broke something are put.
const ARTIFACTS: &str = "fuzz/artifacts";
/// A folder of its own: everything in it is instrumented.
const TARGET_DIR: &str = "fuzz/target";
/// The target that loads programs into the kernel.
const KERNEL: &str = "frames_kernel";
/// Seconds that one input may take. Instrumented and on a busy machine, an input takes many times
/// what it takes in the product.
const PATIENCE: u32 = 30;
/// MiB that one input may take: tables of two policies at most (`clinigate::compile::TABLE_BYTES`),
/// and what the instrumentation adds.
const MEMORY: u32 = 3072;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only these targets
    targets: Vec<String>,
    /// For how long each target runs
    #[arg(long, default_value_t = 30, value_name = "N")]
    minutes: u64,
    /// The same in seconds
    #[arg(long, conflicts_with = "minutes", value_name = "N")]
    seconds: Option<u64>,
    /// Targets that run at once
    #[arg(long, default_value_t = 1, value_name = "N")]
    jobs: usize,
}

/// A fuzz target, and the longest input that it takes in bytes.
struct Target {
    name: String,
    most: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::require_build_chain()?;
    ensure!(process::find("c++").is_some(), "libFuzzer needs a C++ compiler (on Debian: g++)");
    tool::CARGO_FUZZ.provide()?;
    let mut targets = seeds(&arguments.targets)?;
    if !process::is_root() {
        // The programs are loaded into the kernel for it, though attached to nothing.
        ensure!(!arguments.targets.iter().any(|name| name == KERNEL), "{KERNEL} needs root");
        eprintln!("fuzz: {KERNEL} is left out: it needs root");
        targets.retain(|target| target.name != KERNEL);
    }
    build_targets(&targets)?;
    let seconds = arguments.seconds.unwrap_or(arguments.minutes * 60);
    let runs = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.clamp(1, targets.len()) {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = fuzz(target, seconds);
                    runs.lock().expect("no thread panics with it").push(run);
                }
            });
        }
    });
    let runs: Vec<Run> =
        runs.into_inner().expect("no thread panics with it").into_iter().collect::<Result<_>>()?;
    report::print(&runs)?;
    let is_fine = runs.iter().all(|run| run.finding.is_none());
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes the seeds of the targets that were asked for, and says which those are.
fn seeds(names: &[String]) -> Result<Vec<Target>> {
    let mut cargo = process::cargo();
    cargo.args(["run", "--quiet", "--package", "clinigate-fuzz", "--example", "seeds", "--", CORPUS]);
    let output = process::output(cargo.args(names))?;
    let targets: Vec<Target> = output
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, most)| Target { name: name.to_owned(), most: most.to_owned() })
        .collect();
    if let Some(unknown) = names.iter().find(|name| targets.iter().all(|target| target.name != **name)) {
        bail!("no fuzz target is named {unknown}; the targets are those of fuzz/fuzz_targets");
    }
    Ok(targets)
}

fn build_targets(targets: &[Target]) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args([
        "fuzz",
        "build",
        "--fuzz-dir",
        "fuzz",
        "--target-dir",
        TARGET_DIR,
        "--features",
        "libfuzzer",
    ]);
    // Overflows and broken invariants are findings, too.
    cargo.arg("--debug-assertions");
    if let [only] = targets {
        cargo.arg(&only.name);
    }
    // Sanitizers are for compilers that take unstable options.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    // Optimised once for all targets, and not for each as a whole: minutes for each, and little faster.
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "off");
    process::run(&mut cargo)
}

fn fuzz(target: &Target, seconds: u64) -> Result<Run> {
    let Target { name, most } = target;
    let artifacts = Path::new(ARTIFACTS).join(name);
    fs::create_dir_all(process::workspace_root().join(&artifacts))
        .context("cannot make a folder for findings")?;
    let mut command = process::command(program(name)?);
    command.arg(Path::new(CORPUS).join(name));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(format!("-dict={CORPUS}/{name}.dict"));
    command.args([format!("-max_total_time={seconds}"), format!("-max_len={most}")]);
    command.args([
        format!("-timeout={PATIENCE}"),
        format!("-rss_limit_mb={MEMORY}"),
        "-print_final_stats=1".to_owned(),
    ]);
    if name.starts_with("frames") {
        // What is compared with becomes part of what is sought: addresses and ports of a policy.
        command.arg("-use_value_profile=1");
    }
    // The sanitizer notes no stack for each allocation: a finding is run again to learn more.
    command.env("ASAN_OPTIONS", "malloc_context_size=0:quarantine_size_mb=16");
    let mut running = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start the fuzz target {name}"))?;
    let output = running.stderr.take().expect("it was asked for above");
    let mut run = follow(name, output).context("cannot read what libFuzzer says")?;
    let ended = running.wait().context("cannot learn how libFuzzer ended")?;
    if !ended.success() {
        run.finding.get_or_insert_with(|| format!("ended unexpectedly ({ended})"));
    }
    Ok(run)
}

/// Where cargo-fuzz built a target.
fn program(name: &str) -> Result<PathBuf> {
    let host = build::host()?;
    Ok(process::workspace_root().join(TARGET_DIR).join(host).join("release").join(name))
}
