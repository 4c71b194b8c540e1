//! Components of the Rust toolchain, through rustup.

use std::env;

use anyhow::{Result, bail, ensure};

use super::say;
use crate::process;

/// Brings a component that is a cargo subcommand of almost the same name (`clippy`, `rustfmt`).
pub(super) fn provide(component: &str) -> Result<()> {
    let program = if component == "clippy" { "cargo-clippy" } else { component };
    if process::output(process::command(program).arg("--version")).is_ok() {
        say(component, "present");
        return Ok(());
    }
    if let Err(error) = add(component) {
        bail!("{component} is missing ({error:#}); mend it with: rustup component add {component}");
    }
    say(component, "installed by rustup");
    Ok(())
}

/// Adds a component to the toolchain that runs this program.
pub(super) fn add(component: &str) -> Result<()> {
    ensure!(process::find("rustup").is_some(), "there is no rustup here");
    let mut rustup = process::command("rustup");
    rustup.args(["component", "add", component]);
    // Set by rustup itself for what it starts. Without it, rust-toolchain.toml decides: the same one.
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        rustup.arg("--toolchain").arg(toolchain);
    }
    process::output(&mut rustup).map(drop)
}
