//! What became of each fault, for people, for the documentation and for programs.

use std::fmt::Write as _;

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
    /// An array with an object for each fault
    Json,
}

/// Tests that are named of one fault; how many others failed too is said.
const NAMED: usize = 3;

pub(crate) fn render(results: &[Result], format: Format) -> String {
    match format {
        Format::Text => text(results),
        Format::Markdown => markdown(results),
        Format::Json => json(results),
    }
}

/// One fault, on one line.
pub(crate) fn line(result: &Result) -> String {
    let Result { fault, finding, seconds } = result;
    format!("{:<14} {:<36} {seconds:>4} s  {}", word(finding), fault.name, detail(finding))
}

/// How many were caught of how many.
pub(crate) fn total(results: &[Result]) -> String {
    let caught = results.iter().filter(|result| is_caught(&result.finding)).count();
    let seconds: u64 = results.iter().map(|result| result.seconds).sum();
    format!("{} faults, {caught} caught, {} not, {seconds} s", results.len(), results.len() - caught)
}

pub(crate) fn is_caught(finding: &Finding) -> bool {
    matches!(finding, Finding::Caught { .. })
}

fn text(results: &[Result]) -> String {
    let mut text = String::new();
    for result in results {
        text += &line(result);
        text += "\n";
    }
    text + &total(results) + "\n"
}

fn markdown(results: &[Result]) -> String {
    let mut text = String::from("| Fault | In | What it breaks | Caught by | s |\n|---|---|---|---|---:|\n");
    for Result { fault, finding, seconds } in results {
        let Fault { name, file, breaks, .. } = fault;
        let tests = match finding {
            Finding::Caught { layer, tests } => format!("{layer}: {}", named(tests, "`")),
            other => format!("**{}** {}", word(other), detail(other)),
        };
        writeln!(text, "| {name} | `{file}` | {breaks} | {} | {seconds} |", tests.trim_end())
            .expect("a string takes any text");
    }
    text + "\n" + &total(results) + "\n"
}

fn json(results: &[Result]) -> String {
    let object = |result: &Result| {
        let Result { fault, finding, seconds } = result;
        let (layer, tests) = match finding {
            Finding::Caught { layer, tests } => (string(layer), tests.as_slice()),
            _ => ("null".to_owned(), &[][..]),
        };
        let tests: Vec<String> = tests.iter().map(|test| string(test)).collect();
        format!(
            "  {{\"name\": {}, \"file\": {}, \"breaks\": {}, \"outcome\": {}, \"layer\": {layer}, \"tests\": [{}], \
             \"seconds\": {seconds}}}",
            string(fault.name),
            string(fault.file),
            string(fault.breaks),
            string(word(finding)),
            tests.join(", "),
        )
    };
    let objects: Vec<String> = results.iter().map(object).collect();
    format!("[\n{}\n]\n", objects.join(",\n"))
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
    use super::{Finding, Format, Result, render};
    use crate::faults::fault::Fault;

    static FAULT: Fault = Fault {
        name: "guard-off",
        file: "a.rs",
        right: "a",
        wrong: "b",
        breaks: "Anybody is \"anybody\"",
        near: ("packets", ""),
    };

    fn results() -> Vec<Result> {
        let tests = ["one", "two", "three", "four"].map(str::to_owned).to_vec();
        let of = |finding| Result { fault: &FAULT, finding, seconds: 12 };
        vec![of(Finding::Caught { layer: "packets", tests }), of(Finding::Missed), of(Finding::Refused)]
    }

    #[test]
    fn a_table_for_the_documentation() {
        let table = render(&results(), Format::Markdown);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[2],
            "| guard-off | `a.rs` | Anybody is \"anybody\" | packets: `one`, `two`, `three` and 1 more | 12 |"
        );
        assert_eq!(lines[3], "| guard-off | `a.rs` | Anybody is \"anybody\" | **not caught** | 12 |");
        assert_eq!(lines.last(), Some(&"3 faults, 1 caught, 2 not, 36 s"));
    }

    #[test]
    fn json_for_programs() {
        let json = render(&results()[..1], Format::Json);
        assert_eq!(
            json,
            "[\n  {\"name\": \"guard-off\", \"file\": \"a.rs\", \"breaks\": \"Anybody is \\\"anybody\\\"\", \"outcome\": \
             \"caught\", \"layer\": \"packets\", \"tests\": [\"one\", \"two\", \"three\", \"four\"], \"seconds\": 12}\n]\n"
        );
    }
}
