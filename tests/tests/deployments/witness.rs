//! What is known of a deployment at the moment in which its test fails.

use std::fs;
use std::thread;

use clinigate_tests::namespace::{Namespace, tool};
use clinigate_tests::service::Setting;

/// What is asked in each namespace: whether frames came, where a switch knows stations, who answers for whom.
const QUESTIONS: [(&str, &[&str]); 6] = [
    ("ip", &["-statistics", "-oneline", "link", "show", "up"]),
    ("ip", &["-brief", "address"]),
    ("ip", &["neigh", "show"]),
    ("ip", &["route", "show", "table", "all", "type", "unicast"]),
    ("bridge", &["fdb", "show"]),
    ("bridge", &["-details", "link", "show"]),
];

/// Lines of the service's log that are shown.
const LINES: usize = 60;

/// Tells what it sees when a panic drops it. It comes first in what it watches, and so goes first.
pub(crate) struct Witness {
    settings: Vec<Setting>,
    namespaces: Vec<Namespace>,
}

impl Witness {
    /// For services, and the namespaces to look into.
    pub(crate) fn new(
        settings: impl IntoIterator<Item = Setting>,
        namespaces: impl IntoIterator<Item = Namespace>,
    ) -> Self {
        Self { settings: settings.into_iter().collect(), namespaces: namespaces.into_iter().collect() }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for namespace in &self.namespaces {
            println!("=== {}", namespace.name());
            for (program, arguments) in QUESTIONS {
                let seen = tool(namespace.command(program).args(arguments));
                let seen = seen.unwrap_or_else(|error| format!("{error:#}"));
                println!("--- {program} {}\n{}", arguments.join(" "), seen.trim_end());
            }
        }
        for setting in &self.settings {
            println!("=== {}", setting.log().display());
            let metrics = setting.metrics().map(|metrics| metrics.text().to_owned());
            let metrics = metrics.unwrap_or_else(|error| format!("no metrics: {error:#}"));
            metrics.lines().filter(|line| counts(line)).for_each(|line| println!("{line}"));
            let log = fs::read_to_string(setting.log()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(LINES)..].join("\n"));
        }
    }
}

/// Whether a line of the metrics says that something was counted.
fn counts(line: &str) -> bool {
    line.starts_with("clinigate_") && !line.contains("_seconds") && !line.ends_with(" 0")
}
