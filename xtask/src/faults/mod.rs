//! `cargo xtask faults`: is the suite worth its green?
//!
//! Puts one fault after the other into a copy of the tree, and says which test sees it. A fault that no
//! test sees is a hole in the suite.

mod catalogue;
mod copy;
mod fault;
mod report;
mod suite;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;

use crate::{setup, test};
use copy::Copy;
use fault::Fault;
use report::Format;
use suite::{LAYERS, Suite};

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
    let copy = Copy::make()?;
    // All before the first: an hour later is a bad time to learn that a line has moved.
    for fault in &faults {
        fault.texts(crate::process::workspace_root())?;
    }
    let suite = Suite::of(&copy)?;
    without_a_fault(&suite)?;
    write!(io::stdout(), "{}", report::head(arguments.format))?;
    let mut results = Vec::new();
    for fault in faults {
        let begun = Instant::now();
        let finding = copy.with(fault, || suite.examine(fault))?;
        let result = report::Result { fault, finding, seconds: begun.elapsed().as_secs() };
        // At once: the whole takes its time, and a run that is broken off has said what it knows.
        write!(io::stdout(), "{}", report::row(&result, arguments.format))?;
        io::stdout().flush()?;
        results.push(result);
    }
    eprint!("{}", report::total(&results));
    let all_caught = results.iter().all(|result| report::is_caught(&result.finding));
    Ok(if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
    for layer in LAYERS {
        let begun = Instant::now();
        let failed = suite.failed(*layer, &[])?;
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
