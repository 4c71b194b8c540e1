//! `cargo xtask faults`: is the suite worth its green?
//!
//! Puts one fault after the other into a copy of the tree, and says which test sees it. A fault that no
//! test sees is a hole in the suite.

mod catalogue;
mod copy;
mod fault;
mod programs;
mod report;
mod suite;

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
use suite::Suite;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Name the faults, and what each breaks, and do nothing
    #[arg(long)]
    list: bool,
    /// Only these faults
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
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
    let place = Place::take()?;
    let reporter = Mutex::new(Reporter::new(arguments.format, faults.len()));
    write!(io::stdout(), "{}", report::head(arguments.format))?;
    let (of_programs, others) =
        faults.iter().copied().enumerate().partition(|(_, fault)| fault.is_in_programs());
    let (place, reporter_of_all) = (&place, &reporter);
    // Beside each other: what builds and what waits for its tests take turns on the processors.
    let [one, other] = thread::scope(|scope| {
        let lanes = [(of_programs, true), (others, false)].map(|(faults, programs): (Vec<_>, _)| {
            scope.spawn(move || lane(place, faults, programs, reporter_of_all))
        });
        lanes.map(|lane| lane.join().expect("a lane returns what goes wrong"))
    });
    one.and(other)?;
    let reporter = reporter.into_inner().expect("no lane panicked");
    eprint!("{}", report::total(reporter.results()));
    let all_caught = reporter.results().all(|result| report::is_caught(&result.finding));
    Ok(if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Examines these faults, each with its place in the report, one after the other: all in the programs in the
/// kernel, or others.
fn lane(
    place: &Place,
    faults: Vec<(usize, &'static Fault)>,
    programs: bool,
    reporter: &Mutex<Reporter>,
) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let (copy, alone);
    let suite = if programs {
        (copy, alone) = (Copy::make(place, "tests")?, Copy::make(place, "programs")?);
        Suite::of_programs(&copy, &alone)?
    } else {
        copy = Copy::make(place, "whole")?;
        Suite::whole(&copy)?
    };
    without_a_fault(&suite)?;
    for (position, fault) in faults {
        let begun = Instant::now();
        let finding = suite.examine(fault)?;
        let result = report::Result { fault, finding, seconds: begun.elapsed().as_secs() };
        reporter.lock().expect("no lane panicked").add(position, result)?;
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

/// The suite has to be green here before a fault: what is red anyway catches nothing.
fn without_a_fault(suite: &Suite<'_>) -> Result<()> {
    if let Some(error) = suite.build_programs()? {
        bail!("without a fault, the programs do not build: {error}");
    }
    for layer in suite.layers() {
        let begun = Instant::now();
        if let Some(error) = suite.build(*layer)? {
            bail!("without a fault, {} does not build: {error}", layer.name);
        }
        let built = begun.elapsed().as_secs();
        let failed = suite.failed(*layer, &[])?;
        ensure!(
            failed.is_empty(),
            "without a fault, {} fails in the copy already: {}",
            layer.name,
            failed.join(", ")
        );
        let ran = begun.elapsed().as_secs() - built;
        eprintln!("no fault: {} passes, {built} s to build, {ran} s to run", layer.name);
    }
    Ok(())
}
