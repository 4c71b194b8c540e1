//! Counters: per-CPU values summed, numbers turned into names.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use aya::maps::MapData;
use gateway_common::counter::{
    Counter, Health, PAIRS_PER_ELEMENT, PairRow, RULES_PER_ELEMENT, RuleCounters, pair_elements,
};
use gateway_common::reason::{Reason, Verdict};

use super::error::DataplaneError;
use super::shared::Shared;
use super::sys::{self, Plain};
use crate::compile::image::Manifest;

/// Everything that was counted, over all generations, across restarts of the controller.
/// Segments and rules are named as they were when the packet was judged. What never happened
/// is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By pair of segments, verdict and reason.
    pub pairs: BTreeMap<PairKey, Counter>,
    /// By the name of the deciding rule.
    pub rules: BTreeMap<String, Counter>,
    /// Happenings that are not verdicts, since the shared maps were made.
    pub health: Health,
    /// Dropped for want of a policy, since the shared maps were made.
    pub no_policy: Counter,
}

/// What a pair counter counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairKey {
    /// Segment of the source, by name.
    pub source: String,
    /// Segment of the destination, by name.
    pub destination: String,
    /// What became of the packets, by the modes of their generation: a later change of modes
    /// does not rewrite what was.
    pub verdict: Verdict,
    /// Why the packets passed or did not.
    pub reason: Reason,
}

/// The counters that belong to generations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) pairs: BTreeMap<PairKey, Counter>,
    pub(super) rules: BTreeMap<String, Counter>,
}

impl Counts {
    /// Adds what another generation counted.
    pub(super) fn add(&mut self, other: Self) {
        for (key, counter) in other.pairs {
            add(self.pairs.entry(key).or_default(), counter);
        }
        for (rule, counter) in other.rules {
            add(self.rules.entry(rule).or_default(), counter);
        }
    }

    /// Completes the counters with those that generations share.
    pub(super) fn with_shared(self, shared: &Shared) -> Result<Counters, DataplaneError> {
        let mut health = Health::default();
        each_cpu::<Health>(&shared.health, |_, cpu| add_health(&mut health, cpu))?;
        let mut no_policy = Counter::default();
        each_cpu::<Counter>(&shared.no_policy, |_, cpu| add(&mut no_policy, cpu))?;
        Ok(Counters { pairs: self.pairs, rules: self.rules, health, no_policy })
    }
}

/// Sums the counters of one generation. Without a manifest, numbers stand for names (`#4`).
pub(super) fn read_generation(
    pairs: &MapData,
    rules: &MapData,
    manifest: Option<&Manifest>,
) -> Result<Counts, DataplaneError> {
    let mut by_pair: BTreeMap<(u32, usize), Counter> = BTreeMap::new();
    let elements = each_cpu::<PairRow>(pairs, |index, cpu| {
        for (pair, counters) in (index * PAIRS_PER_ELEMENT..).zip(&cpu.by_destination) {
            let counted = counters.by_reason.iter().enumerate().filter(|(_, counter)| counter.packets > 0);
            for (reason, counter) in counted {
                add(by_pair.entry((pair, reason)).or_default(), *counter);
            }
        }
    })?;
    let mut by_rule: BTreeMap<usize, Counter> = BTreeMap::new();
    each_cpu::<RuleCounters>(rules, |index, cpu| {
        for (slot, counter) in cpu.by_rule.iter().enumerate().filter(|(_, counter)| counter.packets > 0) {
            add(by_rule.entry(index as usize * RULES_PER_ELEMENT + slot).or_default(), *counter);
        }
    })?;

    // Each number of segments takes another number of elements.
    let segments = (1..=elements).find(|&count| count * pair_elements(count) >= elements);
    let row = pair_elements(segments.unwrap_or(1)) * PAIRS_PER_ELEMENT;
    let segment = |number: u32| {
        let entry = manifest.and_then(|manifest| manifest.segments.get(number as usize));
        entry.map_or_else(|| format!("#{number}"), |entry| entry.name.clone())
    };
    let rule = |number: usize| {
        let entry = manifest.and_then(|manifest| manifest.rules.get(number));
        entry.map_or_else(|| format!("#{number}"), |entry| entry.name.clone())
    };
    let mut counts = Counts::default();
    for ((pair, reason), counter) in by_pair {
        let Some(&reason) = Reason::ALL.get(reason) else { continue };
        let (source, destination) = (pair / row, pair % row);
        let key = PairKey {
            source: segment(source),
            destination: segment(destination),
            verdict: verdict(manifest, source, destination, reason),
            reason,
        };
        add(counts.pairs.entry(key).or_default(), counter);
    }
    for (number, counter) in by_rule {
        add(counts.rules.entry(rule(number)).or_default(), counter);
    }
    Ok(counts)
}

/// Without a manifest nothing is known of modes: what does not pass by itself counts as dropped.
fn verdict(manifest: Option<&Manifest>, source: u32, destination: u32, reason: Reason) -> Verdict {
    match (manifest, u16::try_from(source), u16::try_from(destination)) {
        (Some(manifest), Ok(source), Ok(destination)) => manifest.verdict(source, destination, reason),
        _ if reason.passes() => Verdict::Pass,
        _ => Verdict::Drop,
    }
}

/// Visits every CPU's value of every element of a per-CPU array, but for those in which nothing was counted; returns how
/// many elements it has.
fn each_cpu<T: Plain>(map: &MapData, mut visit: impl FnMut(u32, T)) -> Result<u32, DataplaneError> {
    let failed = |error: io::Error| DataplaneError::bpf("cannot read counters")(error);
    let info = map.info().map_err(|error| failed(io::Error::other(error)))?;
    // The kernel writes values of its size, whatever we have room for.
    if info.value_size() as usize != size_of::<T>() {
        return Err(failed(io::Error::other("they are of another layout")));
    }
    let entries = info.max_entries();
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| failed(error))?;
    // The kernel pads each CPU's value to 8 bytes.
    let stride = size_of::<T>().next_multiple_of(8);
    // Most pairs of segments never talk.
    let nothing = vec![0; stride];
    let each = |index, element: &[u8]| {
        for value in element.chunks_exact(stride).filter(|value| *value != nothing).filter_map(sys::read) {
            visit(index, value);
        }
    };
    sys::read_array(map.fd().as_fd(), entries, stride * cpus, each).map_err(failed)?;
    Ok(entries)
}

fn add(to: &mut Counter, counter: Counter) {
    to.packets = to.packets.wrapping_add(counter.packets);
    to.bytes = to.bytes.wrapping_add(counter.bytes);
}

fn add_health(to: &mut Health, cpu: Health) {
    to.events_lost += cpu.events_lost;
    to.events_suppressed += cpu.events_suppressed;
    to.connections_inserted += cpu.connections_inserted;
    to.connections_refused += cpu.connections_refused;
    to.connections_revalidated += cpu.connections_revalidated;
    to.connections_revoked += cpu.connections_revoked;
    to.fragments_recorded += cpu.fragments_recorded;
    to.fragments_refused += cpu.fragments_refused;
    to.forwarded += cpu.forwarded;
    to.handed_over += cpu.handed_over;
    to.untagged += cpu.untagged;
}
