//! What the demo prints: one line an expectation, as it is found.

use std::io::{self, IsTerminal as _, Write as _};

const WHAT: usize = 58;
const SEEN: usize = 9;
const DECIDED: usize = 38;
const PACKETS: usize = 7;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// What was tried.
    pub(crate) what: &'a str,
    /// Whether it should pass, and whether it did.
    pub(crate) expected: &'a str,
    /// What came of it.
    pub(crate) seen: &'a str,
    /// Rule or reason that decided.
    pub(crate) decided: &'a str,
    /// Packets counted under it.
    pub(crate) packets: String,
    /// What is not as it should be, one line each.
    pub(crate) differences: &'a [String],
}

/// Prints the head of the table.
pub(crate) fn head() -> io::Result<()> {
    let head = Row {
        what: "what",
        expected: "expected",
        seen: "seen",
        decided: "decided by",
        packets: "packets".to_owned(),
        differences: &[],
    };
    say(&format!("    {}", columns(&head)))
}

/// Prints a line between groups of rows.
pub(crate) fn group(title: &str) -> io::Result<()> {
    say(&format!("\n{}", painted("1", title)))
}

/// Prints a row.
pub(crate) fn row(row: &Row<'_>) -> io::Result<()> {
    let mark = if row.differences.is_empty() { painted("32", "ok") } else { painted("31", "NO") };
    say(&format!("{mark}  {}", columns(row)))?;
    row.differences.iter().try_for_each(|difference| say(&format!("      ! {}", painted("31", difference))))
}

/// Prints a line of data.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Prints a line for people, apart from the data.
pub(crate) fn complain(line: &str) {
    // Nobody is left to tell when standard error is gone too.
    let _ = writeln!(io::stderr(), "{line}");
}

fn columns(row: &Row<'_>) -> String {
    let Row { what, expected, seen, decided, packets, .. } = row;
    let columns =
        format!("{what:<WHAT$} {expected:<SEEN$} {seen:<SEEN$} {decided:<DECIDED$} {packets:>PACKETS$}");
    columns.trim_end().to_owned()
}

fn painted(colour: &str, text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some() || !io::stdout().is_terminal();
    if plain { text.to_owned() } else { format!("\x1b[{colour}m{text}\x1b[0m") }
}
