//! `cargo xtask test`.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build::{self, EBPF_CRATE};
use crate::{process, setup};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this
    filter: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::run(&setup::Arguments::default())?;
    require_root("test")?;
    // The lab's tests run the controller; `cargo test` alone would not build it as a program.
    build::programs()?;
    let mut cargo = process::cargo();
    // Without --no-fail-fast the total would leave out what comes after the first failure.
    cargo.args(["test", "--workspace", "--exclude", EBPF_CRATE, "--no-fail-fast"]);
    cargo.args(&arguments.filter);
    let mut running = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = running.stdout.take().expect("it was asked for a line above");
    let total =
        pass_on_and_count(stdout, &mut io::stdout().lock()).context("cannot pass the tests' output on")?;
    let ended = running.wait().context("cannot learn how cargo ended")?;
    writeln!(io::stdout(), "{} passed, {} failed, {} skipped", total.passed, total.failed, total.ignored)?;
    if let (Some(filter), 0) = (&arguments.filter, total.passed + total.failed) {
        bail!("no test is named like `{filter}`");
    }
    Ok(if ended.success() && total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests build network namespaces and load programs. Cargo itself needs no root, and what it
/// writes should stay the user's: the sentence therefore asks for root for the test programs alone.
pub(crate) fn require_root(subcommand: &str) -> Result<()> {
    let runner = runner_variable()?;
    if process::is_root() || env::var_os(&runner).is_some() {
        return Ok(());
    }
    bail!(
        "the tests need root for their network namespaces; run: {runner}='sudo -E' cargo xtask {subcommand}"
    )
}

/// The environment variable that holds the program through which cargo starts tests.
pub(crate) fn runner_variable() -> Result<String> {
    Ok(format!("CARGO_TARGET_{}_RUNNER", build::host()?.to_uppercase().replace('-', "_")))
}

/// Tests by how they ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

/// Copies the output as it comes, and sums the result lines of all test programs in it.
fn pass_on_and_count(from: impl io::Read, to: &mut impl Write) -> io::Result<Total> {
    let mut total = Total::default();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        total.add(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(total)
}

impl Total {
    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed == 0
    }

    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; …`;
    /// any other line counts nothing.
    pub(crate) fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split(';') {
            let mut words = count.split_whitespace();
            let (Some(Ok(number)), Some(kind)) = (words.next().map(str::parse::<u64>), words.next()) else {
                continue;
            };
            match kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Total, pass_on_and_count};

    #[test]
    fn sums_the_results_of_all_programs_and_passes_every_byte_on() {
        let output = "running 4 tests\n\
            test a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.10s\n\
            a test prints: 9 passed; 9 failed\n\
            test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n\
            no newline at the end";
        let mut copy = Vec::new();
        let total = pass_on_and_count(output.as_bytes(), &mut copy).expect("memory takes any byte");
        assert_eq!(copy, output.as_bytes());
        assert_eq!(total, Total { passed: 13, failed: 2, ignored: 1 });
    }
}
