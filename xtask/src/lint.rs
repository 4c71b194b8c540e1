//! `cargo xtask lint`: what must hold of the text before any test runs.

use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::build::EBPF_CRATE;
use crate::process;
use crate::setup::{self, tool};

/// How long the advisory database may take to come.
const DATABASE_PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn run() -> Result<ExitCode> {
    setup::require_build_chain()?;
    tool::CARGO_DENY.require()?;
    // Each runs even when one before it found something: one run shows all findings.
    let findings = [
        ("formatting", formatting()?),
        ("clippy", clippy()?),
        ("clippy for the eBPF target", clippy_ebpf()?),
        ("dependencies", dependencies()?),
        ("advisories", advisories()?),
        ("documentation", documentation()?),
    ];
    let failed: Vec<&str> = findings.iter().filter(|(_, fine)| !fine).map(|(name, _)| *name).collect();
    if failed.is_empty() {
        eprintln!("lint: fine");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("lint: findings in {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn formatting() -> Result<bool> {
    step("formatting", process::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<bool> {
    let mut cargo = process::cargo();
    cargo.args(["clippy", "--workspace", "--exclude", EBPF_CRATE, "--all-targets", "--", "-D", "warnings"]);
    step("clippy", &mut cargo)
}

fn clippy_ebpf() -> Result<bool> {
    let mut cargo = process::cargo();
    cargo.args(["clippy", "--package", EBPF_CRATE, "--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
    // A folder of its own: RUSTC_BOOTSTRAP changes what build scripts of host crates decide, and would make
    // the other steps build everything again.
    cargo.args(["--target-dir", "target/ebpf-lint", "--", "-D", "warnings"]);
    // The stable compiler builds `core` only when told that unstable options are wanted. The code
    // generation flags of gateway/build.rs are absent: clippy generates none.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    step("clippy for the eBPF target", &mut cargo)
}

fn dependencies() -> Result<bool> {
    let mut deny = process::cargo();
    deny.args(["deny", "--all-features", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
    step("dependencies", &mut deny)
}

/// Advisories come from a database on the network. Without it the step is skipped, and says so.
fn advisories() -> Result<bool> {
    let mut fetch = process::cargo();
    fetch.args(["deny", "fetch", "db"]).stdout(Stdio::null()).stderr(Stdio::null());
    // git, which fetches it, asks for names and passwords on the terminal otherwise.
    fetch.env("GIT_TERMINAL_PROMPT", "0");
    if !patient_status(&mut fetch, DATABASE_PATIENCE)?.is_some_and(|status| status.success()) {
        eprintln!("== advisories: skipped, their database cannot be had from here");
        return Ok(true);
    }
    let mut deny = process::cargo();
    deny.args(["deny", "--all-features", "check", "--disable-fetch", "advisories"]);
    step("advisories", &mut deny)
}

fn documentation() -> Result<bool> {
    let mut cargo = process::cargo();
    cargo.args(["doc", "--no-deps", "--workspace", "--exclude", EBPF_CRATE, "--document-private-items"]);
    // It is read by those who work on the code: links to private items lead somewhere.
    cargo.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    step("documentation", &mut cargo)
}

fn step(name: &str, command: &mut Command) -> Result<bool> {
    eprintln!("== {name}");
    let started = Instant::now();
    let fine = process::status(command)?.success();
    let word = if fine { "fine" } else { "FINDINGS" };
    eprintln!("== {name}: {word} ({:.1} s)", started.elapsed().as_secs_f64());
    Ok(fine)
}

/// Waits for a command no longer than this; then ends it and returns `None`.
fn patient_status(command: &mut Command, patience: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    let mut running = command.spawn().context("cannot start cargo deny")?;
    while Instant::now() < deadline {
        if let Some(status) = running.try_wait().context("cannot learn how cargo deny ended")? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(100));
    }
    running.kill().context("cannot end cargo deny")?;
    running.wait().context("cannot learn how cargo deny ended")?;
    Ok(None)
}
