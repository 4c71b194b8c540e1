//! Rule sets that nobody here wrote: those of `ClassBench`, as policies. They are looked for beside the checkout,
//! in `../shared/data/classbench`, and left out where they are not.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clinigate::compile::compile;
use clinigate::dataplane::trial::Trial;
use clinigate::policy::{SourceFile, resolve};
use clinigate::testing::classbench::{self, Filter};
use clinigate::testing::hospital::Flow;
use serde::Serialize;

use crate::clock::{Begun, Time};
use crate::driver::{Driver, Run};
use crate::frames::{Segment, frame};
use crate::statistics::Summary;
use crate::{Effort, say};

const TCP: u8 = 6;
/// How often a round sends each packet that is denied.
const PASSES: u32 = 16;
/// Packets that are drawn for one that is as wanted, at most.
const TRIES: usize = 50;

/// What came of a rule set.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RuleSet {
    /// As `acl1_10k`.
    pub(crate) name: String,
    /// Without those from everywhere to everywhere, which allow everything.
    pub(crate) filters: usize,
    /// Or why it was not compiled.
    pub(crate) outcome: Result<Outcome, String>,
}

/// A rule set in force.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) resolve: Time,
    pub(crate) compile: Time,
    pub(crate) load: Time,
    pub(crate) table_bytes: u64,
    /// Nanoseconds over the baseline of packets between addresses and on ports that filters name, together not
    /// allowed: the decision alone. Where there are such packets.
    pub(crate) denied: Option<Summary>,
    /// Likewise of those that a filter allows: the decision, and the connection that it opens.
    pub(crate) first: Option<Summary>,
}

pub(crate) fn measure(driver: &mut Driver, effort: &Effort) -> Result<Vec<RuleSet>> {
    let mut sets = Vec::new();
    for path in files().into_iter().filter(|path| effort.large_sets || name(path).ends_with("1k")) {
        let name = name(&path);
        let everywhere = (0, u32::MAX);
        let mut filters = classbench::read(&path);
        filters.retain(|filter| (filter.source, filter.destination) != (everywhere, everywhere));
        let outcome = outcome(driver, effort, &filters)?;
        say(&format!("rule set {name}"));
        sets.push(RuleSet { name, filters: filters.len(), outcome });
    }
    if sets.is_empty() {
        say("rule sets: left out, there are none in ../shared/data/classbench");
    }
    Ok(sets)
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/classbench");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.to_string_lossy().ends_with(".rules.gz")).collect();
    // Small ones first.
    paths.sort_by_key(|path| (name(path).ends_with("10k"), path.clone()));
    paths
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".rules.gz").to_owned()
}

fn outcome(driver: &mut Driver, effort: &Effort, filters: &[Filter]) -> Result<Result<Outcome, String>> {
    let begun = Begun::now()?;
    let resolved = resolve(vec![SourceFile::new("classbench.yaml", classbench::policy(filters))]);
    let resolve = begun.time()?;
    let Some(policy) = resolved.policy else { bail!("a mistake: {:?}", resolved.diagnostics.first()) };
    let begun = Begun::now()?;
    let image = match compile(&policy) {
        Ok(image) => image,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let compile = begun.time()?;
    let begun = Begun::now()?;
    let trial = Trial::as_attached(&image, &BTreeMap::from([(classbench::INTERFACE.to_owned(), 1)]))?;
    let load = begun.time()?;

    driver.clear();
    let mut keep = |allowed| {
        let packets = packets(filters, effort.packets, allowed);
        (!packets.is_empty()).then(|| driver.keep(&packets)).transpose()
    };
    let (denied, allowed) = (keep(false)?, keep(true)?);
    let syn = frame(0, Segment::Syn)?;
    let (mut of_denied, mut of_first) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        for (flows, passes, costs) in [(denied, PASSES, &mut of_denied), (allowed, 1, &mut of_first)] {
            let Some(flows) = flows else { continue };
            trial.forget_connections()?;
            let run = Run { frame: &syn, flows, shape: 0, port_offset: 0, turns: flows.count * passes };
            let baseline = driver.baseline(run)?;
            costs.push(driver.subject(trial.entry(), run)? - baseline);
        }
    }
    let table_bytes = image.manifest.table_bytes;
    let [denied, first] = [of_denied, of_first].map(|costs| (!costs.is_empty()).then(|| Summary::of(costs)));
    Ok(Ok(Outcome { resolve, compile, load, table_bytes, denied, first }))
}

/// TCP packets between addresses and on ports that filters name, always the same ones: from those of one filter to
/// those of another where they shall be denied. None where there are none to be found.
fn packets(filters: &[Filter], count: usize, allowed: bool) -> Vec<Flow> {
    let mut dice = Dice(count as u64);
    let usable: Vec<&Filter> =
        filters.iter().filter(|filter| filter.protocol.is_none_or(|protocol| protocol == TCP)).collect();
    let mut flows = Vec::with_capacity(count);
    for _ in 0..count * TRIES {
        if flows.len() == count {
            return flows;
        }
        let filter = usable[dice.within((0, usable.len() as u32 - 1)) as usize];
        let other = if allowed { filter } else { usable[dice.within((0, usable.len() as u32 - 1)) as usize] };
        let (source, destination) = (dice.within(filter.source), dice.within(other.destination));
        let (from, to) = (dice.port(filter.source_ports), dice.port(other.destination_ports));
        let is_allowed = filters.iter().any(|filter| filter.allows_tcp((source, from), (destination, to)));
        let [source, destination] = [source, destination].map(Ipv4Addr::from_bits);
        if is_allowed == allowed && is_host(source) && is_host(destination) {
            flows.push(Flow {
                source: source.into(),
                destination: destination.into(),
                source_port: from,
                destination_port: to,
                vlan: 0,
                back_vlan: 0,
            });
        }
    }
    // The same ones again.
    let found = flows.len();
    if found > 0 {
        flows.extend((found..count).map(|number| flows[number % found]).collect::<Vec<_>>());
    }
    flows
}

/// Addresses that a host of the world has.
fn is_host(address: Ipv4Addr) -> bool {
    !matches!(address.octets(), [0 | 127 | 224.., ..] | [169, 254, ..])
}

/// Numbers that look random and are the same in every run (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn within(&mut self, (first, last): (u32, u32)) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let span = u64::from(last - first) + 1;
        first + ((mixed ^ mixed >> 31) % span) as u32
    }

    fn port(&mut self, (first, last): (u16, u16)) -> u16 {
        self.within((first.into(), last.into())) as u16
    }
}
