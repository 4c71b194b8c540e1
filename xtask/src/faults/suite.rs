//! The part of the test suite that needs no long run, layer by layer, on the copy.

use std::env;
use std::process::Output;

use anyhow::{Context, Result};

use super::copy::Copy;
use super::fault::Fault;
use super::programs;
use crate::test;

/// Tests that run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Where cargo finds them.
    package: &'static [&'static str],
    /// What cargo calls them.
    arguments: &'static [&'static str],
    /// Left out: by its name, what runs long and looks for other mistakes than wrong decisions.
    without: Option<&'static str>,
    /// They start the controller, which then has to be there.
    runs_controller: bool,
}

const UNIT: Layer = controller("unit", &["--package", "gateway-common", "--lib"]);
const POLICIES: Layer = controller(
    "policies",
    &[
        "--test", "policies", "--test", "assure", "--test", "check", "--test", "plan", "--test", "export",
        "--test", "replay",
    ],
);
const PACKETS: Layer = Layer { without: Some("noise::"), ..whole("packets", &["--test", "packets"]) };
const DIFFERENTIAL: Layer = whole("differential", &["--test", "differential"]);
const DATAPLANE: Layer = whole("dataplane", &["--test", "dataplane"]);
const FORWARDING: Layer = Layer { runs_controller: true, ..whole("forwarding", &["--test", "forwarding"]) };
const NFTABLES: Layer = whole("nftables", &["--test", "nftables"]);

const CONTROLLER: &[&str] = &["--package", "clinigate", "--features", "clinigate/testing"];

const fn controller(name: &'static str, arguments: &'static [&'static str]) -> Layer {
    Layer { name, package: CONTROLLER, arguments, without: None, runs_controller: false }
}

const fn whole(name: &'static str, arguments: &'static [&'static str]) -> Layer {
    Layer { package: &["--package", "clinigate-tests"], ..controller(name, arguments) }
}

/// Every layer, in the order in which they are asked.
pub(crate) const LAYERS: &[Layer] = &[UNIT, POLICIES, PACKETS, DIFFERENTIAL, DATAPLANE, FORWARDING, NFTABLES];
/// Those that show what the programs in the kernel do.
pub(crate) const PROGRAMS: &[Layer] = &[PACKETS, DIFFERENTIAL, DATAPLANE, FORWARDING];

/// How a test that unwraps it shows the error of a program that the kernel does not take (`DataplaneError`).
const REFUSED: &str = "Program { name: \"clinigate";

/// Seconds after which a test program is ended: a fault may make it wait for ever.
const PATIENCE: &str = "600";
/// How `timeout` of the coreutils says that it ended a program.
const TIMED_OUT: &str = "(exit status: 124)";

/// The suite on a copy.
#[derive(Debug)]
pub(crate) struct Suite<'c> {
    copy: &'c Copy,
    /// The copy whose programs the tests take, if not those of their own: then only these are built of each fault.
    programs: Option<&'c Copy>,
    /// The program through which cargo starts tests, and the environment variable that names it.
    variable: String,
    runner: String,
}

/// What the suite said about a fault.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Tests of this layer failed; their names, or what became of the program that should have said them.
    Caught { layer: &'static str, tests: Vec<String> },
    /// Every test passed.
    Missed,
    /// It does not compile: no test had a part in that.
    DoesNotBuild(String),
    /// The kernel does not take the programs: no test had a part in that.
    Refused,
}

/// What failed of some tests.
#[derive(Debug, Default)]
pub(crate) struct Failed {
    /// Names; or in brackets, what became of the program that should have said them.
    pub(crate) tests: Vec<String>,
    /// The kernel did not take the programs: that is not the tests' merit.
    refused: bool,
}

impl<'c> Suite<'c> {
    /// The whole of it, for faults anywhere.
    pub(crate) fn whole(copy: &'c Copy) -> Result<Self> {
        Self::of(copy, None)
    }

    /// What shows faults in the programs in the kernel, which have a copy for themselves.
    pub(crate) fn of_programs(copy: &'c Copy, programs: &'c Copy) -> Result<Self> {
        Self::of(copy, Some(programs))
    }

    fn of(copy: &'c Copy, programs: Option<&'c Copy>) -> Result<Self> {
        let variable = test::runner_variable()?;
        let users = env::var(&variable).unwrap_or_default();
        let runner = format!("timeout --foreground --kill-after 5 {PATIENCE} {users}").trim_end().to_owned();
        Ok(Self { copy, programs, variable, runner })
    }

    /// The layers that it can ask.
    fn layers(&self) -> &'static [Layer] {
        if self.programs.is_some() { PROGRAMS } else { LAYERS }
    }

    /// Asks the tests that should see the fault, then each layer that can, up to the first that does.
    pub(crate) fn examine(&self, fault: &Fault) -> Result<Finding> {
        self.programs.unwrap_or(self.copy).with(fault, || match self.build_programs()? {
            Some(error) => Ok(Finding::DoesNotBuild(error)),
            None => self.ask(fault),
        })
    }

    /// The error, where the programs do not build.
    fn build_programs(&self) -> Result<Option<String>> {
        let Some(programs) = self.programs else { return Ok(None) };
        let mut cargo = programs::cargo(programs.root(), programs.build());
        let output = cargo.output().context("cannot start cargo")?;
        Ok(if output.status.success() { None } else { Some(first_error(&output)) })
    }

    fn ask(&self, fault: &Fault) -> Result<Finding> {
        let mut built = Vec::new();
        for (layer, parts) in self.questions(fault)? {
            if !built.contains(&layer) {
                if let Some(error) = self.build(layer)? {
                    return Ok(Finding::DoesNotBuild(error));
                }
                built.push(layer);
            }
            let Failed { tests, refused } = self.failed(layer, &parts)?;
            if refused {
                return Ok(Finding::Refused);
            }
            if !tests.is_empty() {
                return Ok(Finding::Caught { layer: layer.name, tests });
            }
        }
        Ok(Finding::Missed)
    }

    /// What is asked about a fault, in this order: layers, and the parts of the names of their tests.
    fn questions(&self, fault: &Fault) -> Result<Vec<(Layer, Vec<&'static str>)>> {
        let (name, part) = fault.near;
        let near = *LAYERS
            .iter()
            .find(|layer| layer.name == name)
            .with_context(|| format!("no layer is named {name}"))?;
        let mut questions = vec![(near, [part].into_iter().filter(|part| !part.is_empty()).collect())];
        questions.extend(self.layers().iter().map(|layer| (*layer, Vec::new())));
        Ok(questions)
    }

    /// Builds a layer; the error, where it does not build.
    pub(crate) fn build(&self, layer: Layer) -> Result<Option<String>> {
        let mut output = self.cargo(layer, &["--no-run"], &[])?;
        if output.status.success() && layer.runs_controller {
            let mut cargo = self.copy.cargo();
            output = cargo.arg("build").args(CONTROLLER).output().context("cannot start cargo")?;
        }
        Ok(if output.status.success() { None } else { Some(first_error(&output)) })
    }

    /// The tests of a layer that fail; only those whose names have one of `parts` in them, if there are any.
    pub(crate) fn failed(&self, layer: Layer, parts: &[&str]) -> Result<Failed> {
        let mut to_tests: Vec<&str> = layer.without.iter().flat_map(|name| ["--skip", name]).collect();
        to_tests.extend(parts);
        let ran = self.cargo(layer, &["--no-fail-fast"], &to_tests)?;
        if ran.status.success() {
            return Ok(Failed::default());
        }
        let output = text(&ran.stdout);
        let mut names = failed_names(&output);
        if text(&ran.stderr).contains(TIMED_OUT) {
            names.push(format!("(no end after {PATIENCE} s)"));
        }
        if names.is_empty() {
            names.push(format!("(the test program died: {})", first_error(&ran)));
        }
        Ok(Failed { tests: names, refused: output.contains(REFUSED) })
    }

    fn cargo(&self, layer: Layer, options: &[&str], to_tests: &[&str]) -> Result<Output> {
        let mut cargo = self.copy.cargo();
        cargo.arg("test").args(layer.package).args(layer.arguments).args(options);
        cargo.arg("--").args(to_tests).env(&self.variable, &self.runner);
        if let Some(programs) = self.programs {
            cargo.env(programs::VARIABLE, programs::object(programs.build()));
        }
        // That a random case fails is enough here; the search for a smaller one would take minutes.
        cargo.env("PROPTEST_MAX_SHRINK_ITERS", "0");
        cargo.output().context("cannot start cargo")
    }
}

/// The names in lines such as `test module::name ... FAILED`.
fn failed_names(output: &str) -> Vec<String> {
    let failed = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    output.lines().filter_map(failed).collect()
}

/// The first error that cargo or the compiler reports.
fn first_error(output: &Output) -> String {
    let words = text(&output.stderr);
    words
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("error"))
        .unwrap_or("no error was reported")
        .to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::failed_names;

    #[test]
    fn failed_tests_are_found_by_their_lines() {
        let output = "running 3 tests\n\
            test icmp::errors ... ok\n\
            test places::promise_5_tags ... FAILED\n\
            test decision::promise_2 ... FAILED\n\
            \n\
            failures:\n\
            \n\
            failures:\n    places::promise_5_tags\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(failed_names(output), ["places::promise_5_tags", "decision::promise_2"]);
    }
}
