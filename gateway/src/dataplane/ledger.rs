//! What retired generations counted, kept on disk so that totals survive them exactly.
//!
//! A generation's counters are added once it is out of force and its last packet is through; the
//! file then names it as counted, in the same write. Only then are its pins removed. A crash before
//! the write leaves pins that are counted later; a crash after it leaves pins that are only removed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gateway_common::counter::Counter;
use gateway_common::reason::{Reason, Verdict};
use serde::{Deserialize, Serialize};

use super::counters::{Counts, PairKey};
use super::error::DataplaneError;
use super::state::replace;

/// The totals of retired generations.
pub(super) struct Ledger {
    path: PathBuf,
    counts: Counts,
    counted: BTreeSet<u32>,
    running: Option<u32>,
}

#[derive(Default, Serialize, Deserialize)]
struct Stored {
    /// Generation in force when this was written; its counters are still in the kernel.
    running: Option<u32>,
    /// Generations that are in the totals: those still pinned, and the last one.
    counted: BTreeSet<u32>,
    pairs: Vec<StoredPair>,
    rules: Vec<StoredRule>,
}

#[derive(Serialize, Deserialize)]
struct StoredPair {
    source: String,
    destination: String,
    verdict: String,
    reason: String,
    packets: u64,
    bytes: u64,
}

impl StoredPair {
    /// `None` for what another version of the programs knew.
    fn into_count(self) -> Option<(PairKey, Counter)> {
        let reason = *Reason::ALL.iter().find(|reason| reason.name() == self.reason)?;
        let verdict = *Verdict::ALL.iter().find(|verdict| verdict.name() == self.verdict)?;
        let key = PairKey { source: self.source, destination: self.destination, verdict, reason };
        Some((key, Counter { packets: self.packets, bytes: self.bytes }))
    }
}

#[derive(Serialize, Deserialize)]
struct StoredRule {
    rule: String,
    packets: u64,
    bytes: u64,
}

impl Ledger {
    /// Reads the totals. Where they cannot be read, or where the counters of the generation that
    /// they say is running are lost (a reboot), all begin at zero again, together: a total that
    /// fell only in part would look like traffic.
    pub(super) fn open(state: &Path, pinned: &[u32]) -> Self {
        let path = state.join("totals.json");
        let stored = read(&path);
        let lost =
            stored.running.filter(|running| !stored.counted.contains(running) && !pinned.contains(running));
        let mut counts = Counts::default();
        if let Some(generation) = lost {
            tracing::info!(generation, "counters of the last generation are gone: totals begin anew");
        } else {
            counts.pairs.extend(stored.pairs.into_iter().filter_map(StoredPair::into_count));
            let rules = stored.rules.into_iter();
            counts.rules.extend(rules.map(|it| (it.rule, Counter { packets: it.packets, bytes: it.bytes })));
        }
        Self { path, counts, counted: stored.counted, running: stored.running }
    }

    /// A number that no generation has had, as far as anybody remembers.
    pub(super) fn next_number(&self, pinned: &[u32]) -> u32 {
        let known = pinned.iter().chain(&self.counted).chain(&self.running).copied();
        known.max().unwrap_or(0) + 1
    }

    /// Whether a generation is in the totals.
    pub(super) fn has(&self, generation: u32) -> bool {
        self.counted.contains(&generation)
    }

    /// The totals.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Notes which generation is in force.
    pub(super) fn run(&mut self, generation: Option<u32>) -> Result<(), DataplaneError> {
        if self.running == generation {
            return Ok(());
        }
        self.running = generation;
        self.write()
    }

    /// Adds the last counts of a generation that is out of force. On an error they are not added.
    pub(super) fn retire(
        &mut self,
        generation: u32,
        counts: Counts,
        pinned: &[u32],
    ) -> Result<(), DataplaneError> {
        let before = (self.counts.clone(), self.counted.clone());
        self.counts.add(counts);
        // Numbers never come again, so those that nobody can find any more need not be kept.
        let last = self.counted.last().copied();
        self.counted.retain(|counted| pinned.contains(counted) || Some(*counted) == last);
        self.counted.insert(generation);
        let written = self.write();
        if written.is_err() {
            (self.counts, self.counted) = before;
        }
        written
    }

    fn write(&self) -> Result<(), DataplaneError> {
        let pairs = self.counts.pairs.iter().map(|(key, counter)| StoredPair {
            source: key.source.clone(),
            destination: key.destination.clone(),
            verdict: key.verdict.name().to_owned(),
            reason: key.reason.name().to_owned(),
            packets: counter.packets,
            bytes: counter.bytes,
        });
        let rules = self.counts.rules.iter();
        let rules = rules.map(|(rule, counter)| StoredRule {
            rule: rule.clone(),
            packets: counter.packets,
            bytes: counter.bytes,
        });
        let stored = Stored {
            running: self.running,
            counted: self.counted.clone(),
            pairs: pairs.collect(),
            rules: rules.collect(),
        };
        let text = serde_json::to_vec(&stored).map_err(io::Error::from);
        text.and_then(|text| replace(&self.path, &text))
            .map_err(DataplaneError::io("cannot write", &self.path))
    }
}

fn read(path: &Path) -> Stored {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Stored::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "totals begin anew");
            return Stored::default();
        }
    };
    let parsed = serde_json::from_slice(&text);
    parsed
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "totals begin anew"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn counts(packets: u64) -> Counts {
        let mut counts = Counts::default();
        counts.rules.insert("r".to_owned(), Counter { packets, bytes: packets * 60 });
        let (source, destination) = ("a".to_owned(), "b".to_owned());
        let key = PairKey { source, destination, verdict: Verdict::Audit, reason: Reason::NoFlow };
        counts.pairs.insert(key, Counter { packets, bytes: packets * 60 });
        counts
    }

    #[test]
    fn totals_are_read_back_as_they_were() {
        let state = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(state.path(), &[]);
        ledger.retire(1, counts(5), &[1, 2]).unwrap();
        ledger.run(Some(2)).unwrap();
        ledger.retire(2, counts(7), &[2]).unwrap();
        ledger.run(Some(3)).unwrap();

        let ledger = Ledger::open(state.path(), &[3]);
        assert_eq!(*ledger.counts(), counts(12));
        assert!(ledger.has(2) && !ledger.has(3));
        assert_eq!(ledger.next_number(&[3]), 4);
    }

    #[test]
    fn totals_begin_anew_where_live_counters_are_lost() {
        let state = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(state.path(), &[]);
        ledger.retire(1, counts(5), &[1]).unwrap();
        ledger.run(Some(2)).unwrap();

        let ledger = Ledger::open(state.path(), &[]);
        assert_eq!(*ledger.counts(), Counts::default());
        assert_eq!(ledger.next_number(&[]), 3, "a number is never used again");
    }

    #[test]
    fn what_is_no_totals_file_is_no_reason_to_stop() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("totals.json"), b"{\"counted\":7").unwrap();
        assert_eq!(*Ledger::open(state.path(), &[]).counts(), Counts::default());
    }
}
