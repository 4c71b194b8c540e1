//! `clinigate test`: what a policy's tests expect of it, held against its tables.

mod junit;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::labels::Labels;
use super::{FormatArgument, Outcome, print, print_json};
use crate::assure::expectation::{Verdict, judge};
use crate::assure::reach::Reach;
use crate::assure::space::Space;
use crate::compile::compile;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::expectation::Expectation;
use crate::policy::model::Policy;
use crate::policy::render::Report;
use crate::policy::{self, SourceFile};

/// Hold a policy against its tests: what must pass, and what must not.
///
/// The tests are the files `tests/*.yaml` beside the policy. Each expectation is proven over all packets
/// that it is about, on the tables that the kernel would get. Exits with 1 if one fails or the policy or
/// its tests have mistakes, with 2 if they cannot be read.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// Directory of the policy's YAML files.
    directory: PathBuf,
    #[command(flatten)]
    labels: Labels,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    expectations: Vec<Result<'a>>,
    passed: usize,
    failed: usize,
    /// Mistakes of the policy or of its tests; nothing was tested where there are any.
    mistakes: Vec<Diagnostic>,
}

/// What became of one expectation.
#[derive(Serialize)]
struct Result<'a> {
    name: &'a str,
    file: &'a str,
    line: u32,
    /// It must pass; else it must not.
    must_pass: bool,
    because: &'a str,
    passed: bool,
    failure: Option<Diagnostic>,
    /// It holds by the rules, but some of it passes: the rollout's modes do not enforce it yet.
    warning: Option<Diagnostic>,
}

impl Test {
    pub(super) fn run(&self, format: FormatArgument) -> anyhow::Result<Outcome> {
        let (loaded, expectations) = policy::load_tests(&self.directory, &self.labels.selection()?)?;
        let expectations = expectations.iter().collect::<Vec<_>>();
        let answer = match &loaded.policy {
            Some(policy) => Answer::new(policy, &expectations)?,
            None => Answer::mistaken(&loaded.diagnostics),
        };
        match format {
            FormatArgument::Json => print_json(&answer)?,
            FormatArgument::Junit => print(junit::render(&answer, &loaded.sources))?,
            FormatArgument::Text => print(text(&answer, &loaded.sources))?,
            FormatArgument::Markdown => anyhow::bail!("--format markdown is for `clinigate plan`"),
        }
        let is_fine = answer.failed == 0 && answer.mistakes.is_empty();
        Ok(if is_fine { Outcome::Fine } else { Outcome::Findings })
    }
}

impl<'a> Answer<'a> {
    fn new(policy: &Policy, expectations: &[&'a Expectation]) -> anyhow::Result<Self> {
        let image = compile(policy).context("the policy does not fit the tables")?;
        let reach = Reach::new(Space::new(&image));
        let expectations: Vec<Result<'_>> = expectations
            .iter()
            .map(|expectation| Result::new(expectation, judge(policy, &reach, expectation)))
            .collect();
        let passed = expectations.iter().filter(|result| result.passed).count();
        Ok(Self { failed: expectations.len() - passed, passed, expectations, mistakes: Vec::new() })
    }

    fn mistaken(diagnostics: &[Diagnostic]) -> Self {
        let mistakes = diagnostics.iter().filter(|found| found.is_error()).cloned().collect();
        Self { expectations: Vec::new(), passed: 0, failed: 0, mistakes }
    }
}

impl<'a> Result<'a> {
    fn new(expectation: &'a Expectation, verdict: Verdict) -> Self {
        Self {
            name: &expectation.name,
            file: &expectation.origin.file,
            line: expectation.origin.line,
            must_pass: expectation.passes,
            because: &expectation.because,
            passed: verdict.failure.is_none(),
            failure: verdict.failure,
            warning: verdict.unenforced,
        }
    }

    fn words(&self) -> &'static str {
        match (self.passed, self.must_pass) {
            (true, true) => "ok    passes",
            (true, false) => "ok    blocked",
            (false, _) => "FAIL",
        }
    }
}

fn text(answer: &Answer<'_>, sources: &[SourceFile]) -> String {
    let report = Report::new(sources, io::stdout().is_terminal());
    let mut text = String::new();
    for result in &answer.expectations {
        writeln!(text, "{:<14} {}", result.words(), result.name).expect("writing to a String does not fail");
    }
    let failures = answer.expectations.iter().filter_map(|result| result.failure.as_ref());
    let warnings = answer.expectations.iter().filter_map(|result| result.warning.as_ref());
    for diagnostic in answer.mistakes.iter().chain(failures).chain(warnings) {
        if !text.is_empty() && !text.ends_with("\n\n") {
            text += "\n";
        }
        text += &report.render(diagnostic);
        text += "\n\n";
    }
    if !answer.mistakes.is_empty() {
        text += "nothing was tested\n";
        return text;
    }
    writeln!(text, "{} passed, {} failed", answer.passed, answer.failed)
        .expect("writing to a String does not fail");
    text
}
