//! What libFuzzer says, read as it comes, and told in one table.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

/// How often a run shows that it goes on.
const PULSE: Duration = Duration::from_mins(1);

/// What came of fuzzing one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) target: String,
    seconds: u64,
    executions: u64,
    /// libFuzzer's `ft` after the seeds, and at the end.
    features: Option<(u64, u64)>,
    /// libFuzzer's `cov` (edges of the program), likewise.
    edges: Option<(u64, u64)>,
    /// Inputs that were kept.
    corpus: u64,
    /// What broke, and the input that did it.
    pub(super) finding: Option<String>,
}

/// Reads libFuzzer's output to its end. Shows now and then how far it is, and all of it from the first
/// line about a finding on.
pub(super) fn follow(target: &str, output: impl Read) -> io::Result<Run> {
    let mut run = Run { target: target.to_owned(), ..Run::default() };
    let started = Instant::now();
    let mut shown = started;
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        run.learn(text);
        if run.finding.is_some() {
            eprintln!("{target}: {text}");
        } else if shown.elapsed() >= PULSE && text.starts_with('#') {
            shown = Instant::now();
            eprintln!("{target}: {text}");
        }
        line.clear();
    }
    run.seconds = started.elapsed().as_secs();
    Ok(run)
}

impl Run {
    /// Takes in a line such as `#4096 NEW cov: 5 ft: 7 corp: 3/9b lim: 4 exec/s: 512 rss: 60Mb …`.
    fn learn(&mut self, line: &str) {
        if self.finding.is_none() {
            let begins = ["==", "thread '", "SUMMARY:", "ALARM:"].iter().any(|words| line.starts_with(words));
            self.finding = (begins && !line.contains("WARNING")).then(|| line.to_owned());
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            let what = self.finding.get_or_insert_default();
            *what = format!("{path}: {what}");
        }
        let mut words = line.strip_prefix('#').unwrap_or_default().split_whitespace();
        let Some(Ok(number)) = words.next().map(str::parse::<u64>) else { return };
        self.executions = self.executions.max(number);
        while let Some(word) = words.next() {
            let place = match word {
                "cov:" => &mut self.edges,
                "ft:" => &mut self.features,
                "corp:" => {
                    let count = words.next().and_then(|text| text.split('/').next()?.parse().ok());
                    self.corpus = count.unwrap_or(self.corpus);
                    continue;
                }
                _ => continue,
            };
            let Some(Ok(number)) = words.next().map(str::parse) else { continue };
            // Before the seeds are read through, the figures only say how far that is.
            if line.contains("INITED") || place.is_some() {
                *place = Some((place.map_or(number, |(first, _)| first), number));
            }
        }
    }
}

/// The table, on standard output.
pub(super) fn print(runs: &[Run]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<14} {:>8} {:>12} {:>9} {:>15} {:>17} {:>7}  findings",
        "target", "seconds", "executions", "a second", "edges", "features", "corpus"
    )?;
    for run in runs {
        let growth =
            |range: Option<(u64, u64)>| range.map_or("-".to_owned(), |(from, to)| format!("{from} to {to}"));
        writeln!(
            out,
            "{:<14} {:>8} {:>12} {:>9} {:>15} {:>17} {:>7}  {}",
            run.target,
            run.seconds,
            run.executions,
            run.executions / run.seconds.max(1),
            growth(run.edges),
            growth(run.features),
            run.corpus,
            run.finding.as_deref().unwrap_or("none"),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::follow;

    #[test]
    fn libfuzzers_figures_and_findings_are_read() {
        let fine = "INFO: Seed: 1\n\
            #2\tpulse  cov: 3 ft: 4 corp: 1/1b exec/s: 0 rss: 40Mb\n\
            #9\tINITED cov: 10 ft: 20 corp: 5/50b exec/s: 0 rss: 50Mb\n\
            #64\tNEW    cov: 11 ft: 25 corp: 6/60b lim: 4 exec/s: 32 rss: 50Mb L: 4/4 MS: 1 ChangeBit-\n\
            #128\tDONE   cov: 11 ft: 25 corp: 6/60b lim: 4 exec/s: 64 rss: 50Mb\n\
            Done 128 runs in 2 second(s)\n";
        let run = follow("frames", fine.as_bytes()).expect("memory can be read");
        assert_eq!((run.executions, run.corpus), (128, 6));
        assert_eq!((run.edges, run.features), (Some((10, 11)), Some((20, 25))));
        assert_eq!(run.finding, None);

        let broken = "#9\tINITED cov: 10 ft: 20 corp: 5/50b exec/s: 0 rss: 50Mb\n\
            thread '<unnamed>' panicked at fuzz/src/frames.rs:1:1:\n\
            ==77== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='x/'; Test unit written to x/crash-00\n";
        let run = follow("frames", broken.as_bytes()).expect("memory can be read");
        let finding = run.finding.expect("a panic is a finding");
        assert!(finding.starts_with("x/crash-00: thread"), "{finding}");
    }
}
