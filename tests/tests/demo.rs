//! The demo as a whole: its table is right, and it is wrong where the policy is.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use clinigate_tests::policy;

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clinigate-lab")).arg("demo").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn changed(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    policy::copy(&policy::hospital(), directory.path()).unwrap();
    change(directory.path());
    directory
}

/// What stops a packet in the demo is Clinigate, and nothing else.
#[test]
fn an_unprotected_hospital_lets_everything_pass() {
    let output = demo(&["--without"]);
    assert!(output.status.success(), "{}", text(&output));
}

/// Promises 1 (default deny), 3 (stateful), 5 (place), 6 (what cannot be parsed) and 11 (the
/// gateway's own segment), with real programs.
#[test]
fn the_hospital_is_protected_and_works() {
    let output = demo(&[]);
    assert!(output.status.success(), "{}", text(&output));
}

/// The same, and a second building behind a trunk, with forwarding in XDP.
#[test]
fn the_hospital_works_where_xdp_forwards() {
    let output = demo(&["--forwarding", "xdp"]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_flow_that_is_missing_shows_in_the_table() {
    let policy = changed(|directory| policy::remove_flow(directory, "store-studies").unwrap());
    let output = demo(&["--policy", policy.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let lines: Vec<_> =
        text(&output).lines().filter(|line| line.starts_with("NO")).map(str::to_owned).collect();
    let wanted = ["C-ECHO", "C-STORE"].iter().all(|what| lines.iter().any(|line| line.contains(what)));
    assert!(wanted && lines.iter().all(|line| line.contains("no-flow")), "{}", text(&output));
}
