//! `cargo xtask`: the one entry to set-up, build, demo and tests.
//!
//! It is compiled first on a bare machine, before anything is set up: it therefore depends on
//! nothing of the workspace and on few crates.
//!
//! Words go to standard error; standard output carries data alone (the total of the tests, reports).
//! Exit codes: 0 fine, 1 findings (a failed test, a lint), 2 wrong use or environment.

mod bench;
mod build;
mod demo;
mod dist;
mod faults;
mod fuzz;
mod lint;
mod process;
mod setup;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Set up, build, demonstrate and test Clinigate"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring what building, demo and tests need; says what is there already and changes only what is not
    Setup(setup::Arguments),
    /// Build the controller, with the eBPF programs inside it, and the lab
    Build(build::Arguments),
    /// Show a hospital in network namespaces: what passes, what is dropped and why (sets up and builds first)
    Demo(demo::Arguments),
    /// Run all tests, or those whose name contains FILTER (sets up first)
    Test(test::Arguments),
    /// Run the tests on other kernels, in virtual machines (sets up qemu and builds first)
    Vm(vm::Arguments),
    /// Pack a Debian package: a static program, units, manual pages, dashboards, bill of materials, licences
    Dist(dist::Arguments),
    /// Measure what packets cost, beside a baseline, the kernel and nftables (sets up and builds first)
    Bench(bench::Arguments),
    /// Put faults into a copy of the tree, one at a time, and report which test sees each
    Faults(faults::Arguments),
    /// Fuzz the targets one after the other, half an hour each (sets up cargo-fuzz first)
    Fuzz(fuzz::Arguments),
    /// Formatting, clippy, licences and sources of the dependencies, documentation
    Lint,
}

fn main() -> ExitCode {
    let outcome: Result<ExitCode> = match Arguments::parse().command {
        Command::Setup(arguments) => setup::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Build(arguments) => build::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Faults(arguments) => faults::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Vm(arguments) => vm::run(&arguments),
        Command::Lint => lint::run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
