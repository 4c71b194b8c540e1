//! What a page of metrics says, and what changed between two of them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::namespace::Namespace;
use crate::slowness::unhurried;

/// Longest page that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// A page of metrics in the Prometheus text format.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    text: String,
    samples: BTreeMap<String, Vec<(Labels, f64)>>,
}

/// Labels of a sample.
pub type Labels = BTreeMap<String, String>;

/// Asks for `path` from inside a namespace; returns status and body.
pub fn get(namespace: &Namespace, server: SocketAddr, path: &str) -> Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n");
    let ask = move || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(unhurried(Duration::from_secs(5))))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.take(LONGEST).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = namespace.run(ask)?.with_context(|| format!("no answer from http://{server}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without end of head")?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without status")?;
    ensure!(
        !head.to_ascii_lowercase().contains("transfer-encoding: chunked"),
        "a chunked answer to HTTP/1.0"
    );
    Ok((status, body.to_owned()))
}

impl Metrics {
    /// Reads `/metrics` from inside a namespace.
    pub fn read(namespace: &Namespace, server: SocketAddr) -> Result<Self> {
        let (status, body) = get(namespace, server, "/metrics")?;
        ensure!(status == 200, "/metrics answers {status}");
        Self::parse(body)
    }

    /// Takes a page apart.
    pub fn parse(text: String) -> Result<Self> {
        let mut samples: BTreeMap<String, Vec<(Labels, f64)>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, labels, value) = sample(line).with_context(|| format!("not a sample: {line}"))?;
            samples.entry(name).or_default().push((labels, value));
        }
        Ok(Self { text, samples })
    }

    /// The page as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Sum of the samples of `name` whose labels include all of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matching = |found: &Labels| {
            labels.iter().all(|(label, value)| found.get(*label).is_some_and(|found| found == value))
        };
        let samples = self.samples.get(name).map_or(&[][..], Vec::as_slice);
        // Not `sum`: that of nothing is -0.
        samples.iter().filter(|(found, _)| matching(found)).fold(0.0, |sum, (_, value)| sum + value)
    }

    /// How much every sample of `name` grew since `earlier`; only those that did.
    pub fn growth(&self, earlier: &Self, name: &str) -> Vec<(Labels, u64)> {
        let before: BTreeMap<_, _> =
            earlier.samples.get(name).into_iter().flatten().map(|(labels, value)| (labels, *value)).collect();
        let samples = self.samples.get(name).into_iter().flatten();
        let grown = samples.map(|(labels, value)| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "counts, clamped at 0"
            )]
            let growth = (value - before.get(labels).copied().unwrap_or(0.0)).max(0.0) as u64;
            (labels.clone(), growth)
        });
        grown.filter(|(_, growth)| *growth > 0).collect()
    }
}

fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let Some(open) = line.find('{') else {
        let mut words = line.split_ascii_whitespace();
        return Some((words.next()?.to_owned(), Labels::new(), words.next()?.parse().ok()?));
    };
    let (mut labels, mut rest) = (Labels::new(), &line[open + 1..]);
    while !rest.starts_with('}') {
        let (label, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.insert(label.trim_start_matches(',').to_owned(), value);
        rest = after;
    }
    let value = rest[1..].split_ascii_whitespace().next()?.parse().ok()?;
    Some((line[..open].to_owned(), labels, value))
}

/// A label's value up to its closing quote, and what follows that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (position, character) in text.char_indices() {
        match (escaped, character) {
            (true, 'n') => value.push('\n'),
            (false, '"') => return Some((value, &text[position + 1..])),
            (false, '\\') => {}
            (_, other) => value.push(other),
        }
        escaped = !escaped && character == '\\';
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn samples_are_read_with_escaped_labels_and_summed_by_any_of_them() {
        let text = "# HELP a b\na{x=\"1\",y=\"q\\\"}\\\\\"} 2\na{x=\"1\",y=\"other\"} 3 1700000000\nb 4e1\n";
        let metrics = Metrics::parse(text.to_owned()).unwrap();
        let sums =
            [metrics.sum("a", &[("x", "1")]), metrics.sum("a", &[("y", "q\"}\\")]), metrics.sum("b", &[])];
        assert_eq!(sums.map(|sum| sum.to_string()), ["5", "2", "40"]);
        assert!(Metrics::parse("a{x=\"1} 2".to_owned()).is_err());
    }

    #[test]
    fn growth_is_counted_from_nothing_for_a_new_sample() {
        let page = |text: &str| Metrics::parse(text.to_owned()).unwrap();
        let grown = page("a{x=\"1\"} 5\na{x=\"2\"} 7\n").growth(&page("a{x=\"1\"} 5\n"), "a");
        assert_eq!(grown, [(Labels::from([("x".to_owned(), "2".to_owned())]), 7)]);
    }
}
