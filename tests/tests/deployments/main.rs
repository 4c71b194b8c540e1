//! The deployments that people have, each with the reference hospital's policy, real programs, and the expectations
//! of the demo: `cargo xtask vm --suite deployments`. A kernel without bridges and VLAN devices skips them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; a skipped test says so")]

mod changes;
mod files;
mod isolation;
mod nics;
mod offloads;
mod pair;
mod routers;
mod site;
mod wires;
mod witness;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clinigate_tests::hospital;

/// Where a guest of `cargo xtask vm` has its plan.
const GUEST: &str = "/guest/plan";

/// One deployment at a time: attempts are timed.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for the turn of a test; `None` where this kernel lacks what deployments take.
fn turn() -> Option<MutexGuard<'static, ()>> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if hospital::is_possible().unwrap() {
        return Some(turn);
    }
    assert!(!Path::new(GUEST).exists(), "a guest's kernel has both");
    println!(
        "skipped: this kernel has no bridges or VLAN devices; `cargo xtask vm --suite deployments` brings one"
    );
    None
}

/// Runs the whole demo. Its table goes to the console as it comes.
fn demo(arguments: &[&str]) {
    println!("demo {}", arguments.join(" "));
    let mut lab = Command::new(env!("CARGO_BIN_EXE_clinigate-lab"));
    let status = lab.arg("demo").args(arguments).status().unwrap();
    assert!(status.success(), "demo {}: see its table", arguments.join(" "));
}
