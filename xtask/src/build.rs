//! `cargo xtask build`.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::bench::BENCH_CRATE;
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
    // The benchmark would give the controller the features that it needs for itself.
    cargo.args(["build", "--workspace", "--exclude", EBPF_CRATE, "--exclude", BENCH_CRATE]);
    if arguments.release {
        cargo.arg("--release");
    }
    let built = process::status(&mut cargo)?;
    Ok(if built.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The compiler's own target.
pub(crate) fn host() -> Result<String> {
    let version = process::output(process::command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// Builds the controller and the lab, and returns the folder that they are in.
///
/// Unoptimised: the fast path is the eBPF object, which is optimised in every profile, and building is most
/// of the time to the first result.
pub(crate) fn programs() -> Result<PathBuf> {
    let mut cargo = process::cargo();
    cargo.args(["build", "--package", "clinigate", "--package", "clinigate-tests", "--bins"]);
    process::run(&mut cargo)?;
    // Where cargo put this program too.
    let this = env::current_exe().context("cannot tell where this program is")?;
    Ok(this.parent().expect("a program is in a folder").to_owned())
}
