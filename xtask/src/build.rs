//! `cargo xtask build`.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::{process, setup};

/// The crate whose only target is the kernel; the controller's build script builds it.
pub(crate) const EBPF_CRATE: &str = "gateway-ebpf";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Optimised, as it is shipped
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::require_build_chain()?;
    let mut cargo = process::cargo();
    cargo.args(["build", "--workspace", "--exclude", EBPF_CRATE]);
    if arguments.release {
        cargo.arg("--release");
    }
    let built = process::status(&mut cargo)?;
    Ok(if built.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where cargo puts the programs of the `dev` profile: this one is among them.
pub(crate) fn dev_programs() -> Result<PathBuf> {
    let this = env::current_exe().context("cannot tell where this program is")?;
    Ok(this.parent().expect("a program is in a folder").to_owned())
}
