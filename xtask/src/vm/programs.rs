//! The programs that guests run, as cargo builds them for this machine.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::build::{self, EBPF_CRATE};
use crate::{dist, process};

/// What every kernel has to pass, in this order: what says most about a kernel first.
pub(super) const SUITES: [&str; 5] = ["packets", "instructions", "dataplane", "lab", "staying_power"];

/// Suites that load programs themselves and start no controller.
const WITHOUT_CONTROLLER: [&str; 3] = ["packets", "instructions", "dataplane"];

/// What guests run.
pub(super) struct Programs {
    /// The first program of a guest.
    pub(super) guest: PathBuf,
    /// The controller, which tests call: the static one that is shipped, where one does.
    pub(super) controller: PathBuf,
    /// Where tests look for it.
    pub(super) controller_there: PathBuf,
    /// The lab, which tests call.
    pub(super) lab: PathBuf,
    /// Test programs by the name of their suite.
    pub(super) tests: Vec<(String, PathBuf)>,
}

/// Builds them, with the features that `cargo xtask test` builds them with: nothing is built twice.
pub(super) fn build(suites: &[String]) -> Result<Programs> {
    let folder = build::programs()?;
    let mut cargo = process::cargo();
    cargo.args(["test", "--workspace", "--exclude", EBPF_CRATE, "--no-run"]);
    cargo.args(suites.iter().flat_map(|suite| ["--test", suite]));
    cargo.env("CARGO_TERM_COLOR", "never").stderr(Stdio::piped());
    let output = cargo.output().context("cannot start cargo")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the tests do not build:\n{words}");
    let tests = suites.iter().map(|suite| {
        let path = executable(&words, suite);
        let path = path.with_context(|| format!("there is no test program {suite} in tests/tests"))?;
        Ok((suite.clone(), process::workspace_root().join(path)))
    });
    let controller_there = folder.join("clinigate");
    let is_started = suites.iter().any(|suite| !WITHOUT_CONTROLLER.contains(&suite.as_str()));
    Ok(Programs {
        guest: folder.join("clinigate-guest"),
        controller: if is_started { dist::binary::build()? } else { controller_there.clone() },
        controller_there,
        lab: folder.join("clinigate-lab"),
        tests: tests.collect::<Result<_>>()?,
    })
}

/// The program of a suite, as cargo names it: `Executable tests/lab.rs (target/debug/deps/lab-0123)`, or
/// `tests/packets/main.rs`.
fn executable<'a>(words: &'a str, suite: &str) -> Option<&'a str> {
    let sources = [format!("tests/{suite}.rs"), format!("tests/{suite}/main.rs")];
    words.lines().find_map(|line| {
        let (source, path) = line.trim().strip_prefix("Executable ")?.split_once(" (")?;
        sources.iter().any(|wanted| wanted == source).then(|| path.trim_end_matches(')'))
    })
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn programs_are_found_by_their_suite() {
        let words = "    Finished `test` profile in 0.1s\n\
                     \x20 Executable unittests src/lib.rs (target/debug/deps/clinigate-12)\n\
                     \x20 Executable tests/lab.rs (target/debug/deps/lab-34)\n\
                     \x20 Executable tests/packets/main.rs (target/debug/deps/packets-56)\n";
        assert_eq!(executable(words, "packets"), Some("target/debug/deps/packets-56"));
        assert_eq!(executable(words, "lab"), Some("target/debug/deps/lab-34"));
        assert_eq!(executable(words, "nothing"), None);
    }
}
