//! `cargo xtask setup`: brings what building, demo and tests need, and changes nothing that is there.
//!
//! Every step says what it found or did on one line. Steps that an ordinary user can take are taken first;
//! the one that needs root then fails with the command for it.

mod component;
mod core_source;
pub(crate) mod debian;
mod packages;
mod sysroot;
pub(crate) mod tool;

use std::fmt::Display;

use anyhow::{Result, bail};
use clap::Args;

use self::sysroot::Sysroot;

#[derive(Args, Default)]
pub(crate) struct Arguments {
    /// Also what only .ci/run uses: rustfmt, clippy, cargo-deny
    #[arg(long)]
    pub(crate) ci: bool,
    /// Also what `cargo xtask vm` uses: qemu
    #[arg(long)]
    pub(crate) vm: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    core_source::provide(&Sysroot::of_the_compiler()?)?;
    tool::BPF_LINKER.provide()?;
    if arguments.ci {
        component::provide("rustfmt")?;
        component::provide("clippy")?;
        tool::CARGO_DENY.provide()?;
    }
    packages::provide(arguments.vm)
}

/// Checks what a build needs, so that what is missing is one sentence and not a build script's complaint.
pub(crate) fn require_build_chain() -> Result<()> {
    if !Sysroot::of_the_compiler()?.has_core_source() {
        bail!("the source of Rust's `core` is missing; mend it with: cargo xtask setup");
    }
    tool::BPF_LINKER.require()
}

/// One line about one step.
fn say(step: impl Display, words: impl Display) {
    eprintln!("setup: {step}: {words}");
}
