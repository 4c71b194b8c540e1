//! What happened in a run, so that a hollow one is seen.

use std::collections::BTreeMap;
use std::fmt;

use gateway_common::reason::Reason;

/// Counts of a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Frames judged in the kernel, and by the oracle, by reason.
    pub(crate) reasons: BTreeMap<Reason, u64>,
    /// Of these, frames that the image was asked about too.
    pub(crate) read_in_image: u64,
    /// Of these, packets that came without a link layer.
    pub(crate) bare: u64,
    /// Frames that the gateway itself sent.
    pub(crate) sent: u64,
    /// Changes of policy.
    pub(crate) changes: u64,
    /// Policies compiled, and of these in layers.
    pub(crate) compiled: [u64; 2],
    /// Connections compared, field by field.
    pub(crate) connections: u64,
    /// Counters compared.
    pub(crate) counters: u64,
}

impl Tally {
    /// Frames judged.
    pub(crate) fn packets(&self) -> u64 {
        self.reasons.values().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (reason, count) in &other.reasons {
            *self.reasons.entry(*reason).or_default() += count;
        }
        self.read_in_image += other.read_in_image;
        self.bare += other.bare;
        self.sent += other.sent;
        self.changes += other.changes;
        self.compiled[0] += other.compiled[0];
        self.compiled[1] += other.compiled[1];
        self.connections += other.connections;
        self.counters += other.counters;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} packets ({} read in the image too, {} without a link layer), {} sent by the gateway, {} changes of policy, {} of {} in layers,",
            self.packets(),
            self.read_in_image,
            self.bare,
            self.sent,
            self.changes,
            self.compiled[1],
            self.compiled[0]
        )?;
        writeln!(
            f,
            "{} connections and {} counters compared; packets by reason:",
            self.connections, self.counters
        )?;
        for reason in Reason::ALL {
            writeln!(f, "{:>10} {}", self.reasons.get(reason).copied().unwrap_or_default(), reason.name())?;
        }
        Ok(())
    }
}
