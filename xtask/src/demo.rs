//! `cargo xtask demo`.

use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{build, process, setup};

const LAB: &str = "clinigate-lab";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Passed on to the lab: `--keep` leaves the hospital running to look around in
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    lab: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::run(&setup::Arguments::default())?;
    let lab = build::programs()?.join(LAB);
    if !process::is_root() {
        bail!(
            "the demo needs root for its network namespaces; run: sudo {} demo {}",
            lab.display(),
            arguments.lab.join(" ")
        );
    }
    // In place of this process, so that signals reach the lab and it can take its namespaces down.
    let failure = process::command(&lab).arg("demo").args(&arguments.lab).stdin(Stdio::inherit()).exec();
    Err(failure).with_context(|| format!("cannot start {}", lab.display()))
}
