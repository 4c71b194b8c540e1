//! What became of each fault, for people, for the documentation and for programs.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::iter;

use clap::ValueEnum;

use super::fault::Fault;
use super::suite::Finding;

/// A fault, what the suite said, and how long that took.
#[derive(Debug)]
pub(crate) struct Result {
    pub(crate) fault: &'static Fault,
    pub(crate) finding: Finding,
    pub(crate) seconds: u64,
}

/// How the report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for a terminal
    Text,
    /// A table for the documentation
    Markdown,
    /// An object for each fault, on a line of its own
    Json,
}

/// Tests that are named of one fault; how many others failed too is said.
const NAMED: usize = 3;

/// What stands before the first fault.
pub(crate) fn head(format: Format) -> &'static str {
    match format {
        Format::Text | Format::Json => "",
        Format::Markdown => "| Fault | In | What it breaks | Caught by | s |\n|---|---|---|---|---:|\n",
    }
}

/// One fault.
pub(crate) fn row(result: &Result, format: Format) -> String {
    match format {
        Format::Text => text(result),
        Format::Markdown => markdown(result),
        Format::Json => json(result),
    }
}

/// How many were caught of how many, and the seconds that went into them.
pub(crate) fn total<'r>(results: impl Iterator<Item = &'r Result>) -> String {
    let (mut count, mut caught, mut seconds) = (0, 0, 0);
    for result in results {
        count += 1;
        caught += usize::from(is_caught(&result.finding));
        seconds += result.seconds;
    }
    format!("{count} faults, {caught} caught, {} not, {seconds} s\n", count - caught)
}

/// Writes results as they come, a table in the order of its rows: the whole takes its time, and a run that is
/// broken off has said what it knows.
#[derive(Debug)]
pub(crate) struct Reporter {
    format: Format,
    results: Vec<Option<Result>>,
    /// Rows of a table that are written.
    written: usize,
}

impl Reporter {
    pub(crate) fn new(format: Format, count: usize) -> Self {
        Self { format, results: iter::repeat_with(|| None).take(count).collect(), written: 0 }
    }

    /// The results so far.
    pub(crate) fn results(&self) -> impl Iterator<Item = &Result> {
        self.results.iter().flatten()
    }

    /// Takes the result of the fault at `position`.
    pub(crate) fn add(&mut self, position: usize, result: Result) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.format == Format::Markdown {
            eprint!("{}", text(&result));
        } else {
            write!(out, "{}", row(&result, self.format))?;
        }
        self.results[position] = Some(result);
        while self.format == Format::Markdown
            && let Some(Some(next)) = self.results.get(self.written)
        {
            write!(out, "{}", row(next, self.format))?;
            self.written += 1;
        }
        out.flush()
    }
}

pub(crate) fn is_caught(finding: &Finding) -> bool {
    matches!(finding, Finding::Caught { .. })
}

fn text(Result { fault, finding, seconds }: &Result) -> String {
    format!("{:<14} {:<36} {seconds:>4} s  {}\n", word(finding), fault.name, detail(finding))
}

fn markdown(Result { fault, finding, seconds }: &Result) -> String {
    let Fault { name, file, breaks, .. } = fault;
    let by = match finding {
        Finding::Caught { layer, tests } => format!("{layer}: {}", named(tests, "`")),
        Finding::Missed => format!("**{}**", word(finding)),
        Finding::DoesNotBuild(_) | Finding::Refused => format!("**{}**: {}", word(finding), detail(finding)),
    };
    format!("| {name} | `{file}` | {breaks} | {by} | {seconds} |\n")
}

fn json(Result { fault, finding, seconds }: &Result) -> String {
    let (layer, tests) = match finding {
        Finding::Caught { layer, tests } => (string(layer), tests.as_slice()),
        _ => ("null".to_owned(), &[][..]),
    };
    let tests: Vec<String> = tests.iter().map(|test| string(test)).collect();
    format!(
        "{{\"name\": {}, \"file\": {}, \"breaks\": {}, \"outcome\": {}, \"layer\": {layer}, \"tests\": [{}], \
         \"seconds\": {seconds}}}\n",
        string(fault.name),
        string(fault.file),
        string(fault.breaks),
        string(word(finding)),
        tests.join(", "),
    )
}

fn word(finding: &Finding) -> &'static str {
    match finding {
        Finding::Caught { .. } => "caught",
        Finding::Missed => "not caught",
        Finding::DoesNotBuild(_) => "does not build",
        Finding::Refused => "not loaded",
    }
}

fn detail(finding: &Finding) -> String {
    match finding {
        Finding::Caught { layer, tests } => format!("{layer}: {}", named(tests, "")),
        Finding::Missed => String::new(),
        Finding::DoesNotBuild(error) => error.clone(),
        Finding::Refused => "the kernel refuses the programs".to_owned(),
    }
}

fn named(tests: &[String], quote: &str) -> String {
    let first: Vec<String> = tests.iter().take(NAMED).map(|test| format!("{quote}{test}{quote}")).collect();
    let rest = tests.len().saturating_sub(NAMED);
    first.join(", ") + &if rest == 0 { String::new() } else { format!(" and {rest} more") }
}

/// A string of JSON (RFC 8259, 7).
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\u{0}'..='\u{1f}' => {
                write!(quoted, "\\u{:04x}", u32::from(character)).expect("a string takes any text");
            }
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::{Finding, Format, Result, row, total};
    use crate::faults::fault::Fault;

    static FAULT: Fault = Fault {
        name: "guard-off",
        file: "a.rs",
        right: "a",
        wrong: "b",
        breaks: "Anybody is \"anybody\"",
        near: ("packets", ""),
    };

    fn result(finding: Finding) -> Result {
        Result { fault: &FAULT, finding, seconds: 12 }
    }

    fn caught() -> Result {
        let tests = ["one", "two", "three", "four"].map(str::to_owned).to_vec();
        result(Finding::Caught { layer: "packets", tests })
    }

    #[test]
    fn a_table_for_the_documentation() {
        assert_eq!(
            row(&caught(), Format::Markdown),
            "| guard-off | `a.rs` | Anybody is \"anybody\" | packets: `one`, `two`, `three` and 1 more | 12 |\n"
        );
        assert_eq!(
            row(&result(Finding::Missed), Format::Markdown),
            "| guard-off | `a.rs` | Anybody is \"anybody\" | **not caught** | 12 |\n"
        );
    }

    #[test]
    fn json_for_programs() {
        assert_eq!(
            row(&caught(), Format::Json),
            "{\"name\": \"guard-off\", \"file\": \"a.rs\", \"breaks\": \"Anybody is \\\"anybody\\\"\", \"outcome\": \
             \"caught\", \"layer\": \"packets\", \"tests\": [\"one\", \"two\", \"three\", \"four\"], \"seconds\": 12}\n"
        );
    }

    #[test]
    fn only_a_test_catches() {
        let broken = result(Finding::DoesNotBuild("error: no".to_owned()));
        let results = [caught(), result(Finding::Missed), result(Finding::Refused), broken];
        assert_eq!(total(results.iter()), "4 faults, 1 caught, 3 not, 48 s\n");
    }
}
