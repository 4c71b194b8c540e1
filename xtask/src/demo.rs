//! `cargo xtask demo`.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{build, process, setup};

const LAB: &str = "clinigate-lab";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Passed on to the lab: `--keep` leaves the hospital running to look around in, `--watch` keeps it at work beside
    /// Prometheus and Grafana
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    lab: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::run(&setup::Arguments::default())?;
    let lab = build::programs()?.join(LAB);
    let mut demo = process::command(&lab);
    // Paths among the arguments are meant from where the user is.
    demo.current_dir(env::current_dir().context("cannot tell where we are")?);
    demo.arg("demo").args(&arguments.lab).stdin(Stdio::inherit());
    if !process::is_root() {
        let line: Vec<&str> = ["demo"].into_iter().chain(arguments.lab.iter().map(String::as_str)).collect();
        bail!(
            "the demo needs root for its network namespaces; run: sudo {} {}",
            lab.display(),
            line.join(" ")
        );
    }
    // In place of this process, so that signals reach the lab and it can take its namespaces down.
    Err(demo.exec()).with_context(|| format!("cannot start {}", lab.display()))
}
