//! `cargo xtask faults`: is the suite worth its green?
//!
//! Puts one fault after the other into a copy of the tree, and says which test sees it. A fault that no
//! test sees is a hole in the suite.

mod catalogue;
mod copy;
mod fault;
pub(crate) mod programs;
mod report;
mod suite;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::{setup, test};
use copy::{Copy, Place};
use fault::Fault;
use report::{Format, Reporter};
use suite::{LAYERS, Layer, PROGRAMS, Suite};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Name the faults, and what each breaks, and do nothing
    #[arg(long)]
    list: bool,
    /// Only these faults
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// How many faults in the programs in the kernel are tried at the same time, beside one of the others
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// How the report is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let faults = chosen(&arguments.only)?;
    if arguments.list {
        for fault in faults {
            writeln!(io::stdout(), "{:<36} {:<40} {}", fault.name, fault.file, fault.breaks)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    setup::require_build_chain()?;
    test::require_root("faults")?;
    // All before the first: an hour later is a bad time to learn that a line has moved.
    for fault in &faults {
        fault.texts(crate::process::workspace_root())?;
    }
    let place = &Place::take()?;
    let reporter = Mutex::new(Reporter::new(arguments.format, faults.len()));
    write!(io::stdout(), "{}", report::head(arguments.format))?;
    let (of_programs, others): (Vec<_>, Vec<_>) =
        faults.iter().copied().enumerate().partition(|(_, fault)| fault.is_in_programs());
    // Beside each other: what builds and what waits for its tests take turns on the processors.
    let both = !of_programs.is_empty() && !others.is_empty();
    thread::scope(|scope| {
        let one = scope.spawn(|| in_programs(place, of_programs, arguments.jobs, &reporter));
        let other = scope.spawn(|| elsewhere(place, others, both, &reporter));
        let [one, other] = [one, other].map(|lane| lane.join().expect("what goes wrong is returned"));
        one.and(other)
    })?;
    let reporter = reporter.into_inner().expect("what goes wrong is returned");
    eprint!("{}", report::total(reporter.results()));
    let all_caught = reporter.results().all(|result| report::is_caught(&result.finding));
    Ok(if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A fault with its place in the report.
type Placed = (usize, &'static Fault);

/// Faults in the programs in the kernel: tests that are built once take the programs of several copies.
fn in_programs(place: &Place, faults: Vec<Placed>, jobs: usize, reporter: &Mutex<Reporter>) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let tests = Copy::make(place, "tests")?;
    let copies = (1..=jobs.clamp(1, faults.len()))
        .map(|job| Copy::make(place, &format!("programs-{job}")))
        .collect::<Result<Vec<_>>>()?;
    let suites = copies.iter().map(|copy| Suite::of_programs(&tests, copy)).collect::<Result<Vec<_>>>()?;
    let right = &Suite::whole(&tests)?;
    build(right, PROGRAMS)?;
    let waiting = &Mutex::new(VecDeque::from(faults));
    thread::scope(|scope| {
        // These are the programs that the tests were built with, which no fault gets into.
        let green = scope.spawn(|| are_green(right, PROGRAMS));
        let examine = |suite| scope.spawn(move || examine(suite, waiting, reporter));
        let workers: Vec<_> = suites.iter().map(examine).collect();
        let lanes = workers.into_iter().chain([green]);
        lanes.map(|lane| lane.join().expect("what goes wrong is returned")).fold(Ok(()), Result::and)
    })
}

/// All others: each needs the controller built anew. Where faults in the programs are tried too, what shows
/// those is shown to be green there.
fn elsewhere(place: &Place, faults: Vec<Placed>, both: bool, reporter: &Mutex<Reporter>) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let copy = Copy::make(place, "whole")?;
    let suite = Suite::whole(&copy)?;
    let asked: Vec<Layer> =
        LAYERS.iter().copied().filter(|layer| !both || !PROGRAMS.contains(layer)).collect();
    build(&suite, &asked)?;
    are_green(&suite, &asked)?;
    examine(&suite, &Mutex::new(VecDeque::from(faults)), reporter)
}

/// Examines what waits, one after the other.
fn examine(suite: &Suite<'_>, waiting: &Mutex<VecDeque<Placed>>, reporter: &Mutex<Reporter>) -> Result<()> {
    let next = || waiting.lock().expect("nothing panics while it is held").pop_front();
    while let Some((position, fault)) = next() {
        let begun = Instant::now();
        let finding = suite.examine(fault)?;
        let result = report::Result { fault, finding, seconds: begun.elapsed().as_secs() };
        reporter.lock().expect("nothing panics while it is held").add(position, result)?;
    }
    Ok(())
}

fn chosen(only: &[String]) -> Result<Vec<&'static Fault>> {
    for name in only {
        ensure!(
            catalogue::all().any(|fault| fault.name == name),
            "no fault is named `{name}`; `cargo xtask faults --list` names them"
        );
    }
    let is_chosen = |fault: &&Fault| only.is_empty() || only.iter().any(|name| name == fault.name);
    Ok(catalogue::all().filter(is_chosen).collect())
}

fn build(suite: &Suite<'_>, layers: &[Layer]) -> Result<()> {
    for layer in layers {
        let begun = Instant::now();
        if let Some(error) = suite.build(*layer)? {
            bail!("without a fault, {} does not build: {error}", layer.name);
        }
        eprintln!("no fault: {} builds, {} s", layer.name, begun.elapsed().as_secs());
    }
    Ok(())
}

/// The suite has to be green without a fault: what is red anyway catches nothing. A test that fails is asked
/// again, by itself: on a machine with too much to do, one that waits for something may have waited in vain.
fn are_green(suite: &Suite<'_>, layers: &[Layer]) -> Result<()> {
    for layer in layers {
        let begun = Instant::now();
        let mut failed = suite.failed(*layer, &[])?.tests;
        if !failed.is_empty() {
            eprintln!("no fault: {} fails at first: {}", layer.name, failed.join(", "));
            // What was ended, or died, has no name of its own: then all of them.
            let has_names = failed.iter().all(|name| !name.starts_with('('));
            let again: Vec<&str> = failed.iter().filter(|_| has_names).map(String::as_str).collect();
            failed = suite.failed(*layer, &again)?.tests;
        }
        ensure!(
            failed.is_empty(),
            "without a fault, {} fails in the copy already: {}",
            layer.name,
            failed.join(", ")
        );
        eprintln!("no fault: {} passes, {} s", layer.name, begun.elapsed().as_secs());
    }
    Ok(())
}
