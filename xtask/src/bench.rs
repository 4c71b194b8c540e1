//! `cargo xtask bench`.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{process, setup};

/// The crate that measures, and its program.
pub(crate) const BENCH_CRATE: &str = "clinigate-bench";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Passed on: `--quick` for less than a minute, `--only PART`, `--json FILE`, `--docs docs` to write the result
    /// into the documentation
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    bench: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::run(&setup::Arguments::default())?;
    // By itself: beside other crates it would give the controller the features that it needs for itself.
    process::run(process::cargo().args(["build", "--release", "--package", BENCH_CRATE]))?;
    let this = env::current_exe().context("cannot tell where this program is")?;
    let target = this.parent().and_then(Path::parent).context("a program is in a profile's folder")?;
    let program = target.join("release").join(BENCH_CRATE);
    if !process::is_root() {
        bail!(
            "measuring needs root, to load programs; run: sudo {} {}",
            program.display(),
            arguments.bench.join(" ")
        );
    }
    let mut bench = process::command(&program);
    // Paths among the arguments are meant from where the user is.
    bench.current_dir(env::current_dir().context("cannot tell where we are")?);
    Err(bench.args(&arguments.bench).exec()).with_context(|| format!("cannot start {}", program.display()))
}
