//! Rule sets of `ClassBench` as policies: what the tables, the oracle and the programs in the kernel
//! decide is what a linear search through the filters finds, rule for rule.
//!
//! Each set has filters from nearly everywhere to nearly everywhere, which allow every packet: it is compared as it
//! stands, for the rule that decides, and without those, for the verdict.
//!
//! The sets are looked for in `../shared/data/classbench` beside the checkout; without them there is
//! nothing to compare. Needs root. Frames run through `BPF_PROG_TEST_RUN`; no interface is touched.
//! All of it: `cargo test --release -p clinigate-tests --test classbench -- --ignored --nocapture`; the sets whose names
//! end with `CLINIGATE_CLASSBENCH` alone, such as `fw1_1k`, where that is set.
#![allow(clippy::unwrap_used, reason = "tests")]

mod corners;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clinigate::compile::compile;
use clinigate::compile::image::Image;
use clinigate::dataplane::trial::{Buffers, Trial};
use clinigate::oracle::Oracle;
use clinigate::oracle::packet::Packet;
use clinigate::packet::{Arrival, Decision, PacketView};
use clinigate::policy::model::{Policy, RuleId};
use clinigate::policy::{self, SourceFile};
use clinigate::testing::classbench::{self as rules, Filter, INTERFACE};
use clinigate::testing::frames;
use clinigate::testing::packets::Port;
use corners::Corners;
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::{Lanes, TestContext};

const IFINDEX: u32 = 7;

#[test]
fn small_sets_are_decided_as_a_linear_search_does() {
    for path in sets("_1k.rules.gz") {
        compare_both(&path, 2_000);
    }
}

#[test]
#[ignore = "minutes; wants a release build"]
fn every_set_is_decided_as_a_linear_search_does() {
    let wanted = std::env::var("CLINIGATE_CLASSBENCH").unwrap_or_default();
    for path in sets(&format!("{wanted}.rules.gz")) {
        compare_both(&path, 100_000);
    }
}

/// The sets whose names end so.
fn sets(ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/classbench");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: there is no {}", folder.display());
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.to_str().is_some_and(|it| it.ends_with(ending))).collect();
    found.sort();
    assert!(!found.is_empty(), "{} has no {ending}", folder.display());
    found
}

/// A set as it stands, and without the filters that name a /8 or more at both ends.
fn compare_both(path: &Path, count: usize) {
    let name = path.file_name().unwrap().to_str().unwrap().trim_end_matches(".rules.gz");
    let filters = rules::read(path);
    let is_wide = |(first, last): (u32, u32)| last - first >= (1 << 24) - 1;
    let narrow: Vec<Filter> =
        filters.iter().copied().filter(|it| !(is_wide(it.source) && is_wide(it.destination))).collect();
    assert!(narrow.len() < filters.len(), "{name}: allowed, all of it, for another reason?");
    compare(name, &filters, count, |allowed| allowed == count);
    let mixed = |allowed| (count / 5..count * 49 / 50).contains(&allowed);
    compare(&format!("{name} without {} such", filters.len() - narrow.len()), &narrow, count, mixed);
}

/// Compares so many packets that the filters decide; those of senders or to listeners that no filter
/// can name come on top.
fn compare(name: &str, filters: &[Filter], count: usize, plausible: impl Fn(usize) -> bool) {
    let begin = Instant::now();
    let policy = resolve(&rules::policy(filters));
    let resolved = begin.elapsed();
    let begin = Instant::now();
    let image = compile(&policy).unwrap_or_else(|error| panic!("{name}: {error}"));
    describe(name, filters, &image, resolved, begin.elapsed());

    let begin = Instant::now();
    let mut judge = Judge::new(&image);
    let loaded = begin.elapsed();
    let (mut decided, mut refused, mut allowed) = (0, 0, 0);
    for packet in Corners::new(filters, 1) {
        let view = packet.view();
        let expected = expected(filters, &view);
        let readings = [
            ("tables", image.decide(arrival(), &view).expect("tables have no holes")),
            ("oracle", Oracle::new(&policy).decide(arrival(), &view)),
            ("kernel", judge.judge(&packet)),
        ];
        for (reading, found) in readings {
            assert!(expected.is(found), "{name}, {reading}: {found:?} where {expected:?} of {packet:?}");
        }
        match expected {
            Expected::Refused => refused += 1,
            Expected::Decided(rule) => {
                decided += 1;
                allowed += usize::from(rule.is_some());
            }
        }
        if decided == count {
            break;
        }
    }
    eprintln!(
        "    loaded in {loaded:.1?}; {decided} packets ({allowed} allowed) and {refused} impossible ones alike in \
         {:.1?}",
        begin.elapsed()
    );
    assert!(plausible(allowed), "{name}: {allowed} allowed packets make a hollow comparison");
}

fn resolve(text: &str) -> Policy {
    let resolved = policy::resolve(vec![SourceFile::new("classbench.yaml", text)]);
    assert!(resolved.diagnostics.is_empty(), "{:?}", resolved.diagnostics.first());
    resolved.policy.expect("it has no mistake")
}

fn describe(name: &str, filters: &[Filter], image: &Image, resolved: Duration, compiled: Duration) {
    let tables = [
        ("v4", image.v4.len() * 4),
        ("atoms", image.atoms.len() * 12),
        ("services", (image.services.len() + image.source_ports.len() + image.matrix.len()) * 2),
        ("pairs", image.pairs.len() * 4),
        ("lanes", (image.layer_sources.len() + image.layer_destinations.len()) * size_of::<Lanes>()),
        ("verdicts", image.verdicts.len() * 4),
    ];
    let tables: Vec<String> =
        tables.iter().map(|(name, bytes)| format!("{name} {} KiB", bytes >> 10)).collect();
    eprintln!(
        "{name}: {} filters, read in {resolved:.2?}, compiled in {compiled:.2?}, {} KiB of tables ({})",
        filters.len(),
        image.manifest.table_bytes >> 10,
        tables.join(", ")
    );
}

fn arrival() -> Arrival<'static> {
    Arrival { interface: INTERFACE, outer: 0, vlan: 0 }
}

/// What the filters say of a packet.
#[derive(Debug)]
enum Expected {
    /// Its sender cannot be one, or it ends at the gateway, which no prefix names.
    Refused,
    /// The first filter decides, or none does.
    Decided(Option<usize>),
}

impl Expected {
    fn is(&self, found: Decision) -> bool {
        let rule = found.rule.map(|RuleId(rule)| rule as usize);
        match self {
            Self::Refused => rule.is_none() && found.verdict == Verdict::Drop,
            Self::Decided(Some(filter)) => found.reason == Reason::Flow && rule == Some(*filter),
            Self::Decided(None) => found.reason == Reason::NoFlow && rule.is_none(),
        }
    }
}

fn expected(filters: &[Filter], packet: &PacketView) -> Expected {
    let (source, destination) = rules::addresses(packet);
    let (source, destination) = (Ipv4Addr::from_bits(source), Ipv4Addr::from_bits(destination));
    let never_source = matches!(source.octets(), [0 | 127 | 224.., ..] | [169, 254, ..]);
    let at_gateway = destination.is_broadcast()
        || matches!(destination.octets(), [0, 0, 0, 0] | [127, ..] | [169, 254, ..] | [224, 0, 0, _]);
    if never_source || at_gateway {
        return Expected::Refused;
    }
    Expected::Decided(rules::search(filters, packet))
}

/// The programs in the kernel.
struct Judge {
    trial: Trial,
    buffers: Buffers,
    now: u64,
}

impl Judge {
    fn new(image: &Image) -> Self {
        let interfaces = BTreeMap::from([(INTERFACE.to_owned(), IFINDEX)]);
        let trial = Trial::new(image, &interfaces).unwrap();
        Self { trial, buffers: Buffers::default(), now: 1_000_000_000_000 }
    }

    /// Judges a packet as the first of its connection: all earlier ones have ended long ago.
    fn judge(&mut self, packet: &Packet) -> Decision {
        self.now += 3600 * 1_000_000_000;
        let port = Port { interface: INTERFACE.to_owned(), outer: 0, vlan: 0 };
        let frame = frames::frame(&port, [0x02, 0, 0, 0, 0, 2], packet);
        let context = TestContext { now: self.now, ifindex: IFINDEX, reserved: 0 };
        self.trial.judge(context, &frame, &mut self.buffers).unwrap()
    }
}
