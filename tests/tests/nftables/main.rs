//! The nftables ruleset of a policy, loaded into a kernel, against our own readings of it: the oracle, the
//! compiled tables and the XDP program. The same packets, packet by packet whether they pass, and in sum
//! every counter of a rule, a reason and a verdict.
//!
//! `CLINIGATE_POLICIES` says how many random policies, of 400 packets each; the seed is fixed. Needs
//! root and `nft`. Packets stay in a network namespace of the test's own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;
mod expected;
mod fallback;
mod odd;
mod packets;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use clinigate::export::nftables::State;
use clinigate::policy;
use clinigate::policy::model::{InterfaceKind, Policy, Ranges, SegmentId};
use clinigate::testing::packets::Edges;
use clinigate::testing::policies;
use gateway_common::reason::Verdict;
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::bench::{Bench, Seen};
use crate::expected::{Expectation, Readings, is_dropped_before};

/// Packets of one policy. Their serial number has to fit into the identification of IPv4.
const PACKETS: usize = 400;

/// What came out.
#[derive(Debug)]
struct Tally {
    begun: Instant,
    policies: usize,
    packets: usize,
    compared: usize,
    differences: usize,
    /// Packets that were left out, by why.
    left_out: BTreeMap<&'static str, usize>,
    /// Packets that were compared, by reason.
    reasons: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn new() -> Self {
        let (left_out, reasons) = (BTreeMap::new(), BTreeMap::new());
        Self {
            begun: Instant::now(),
            policies: 0,
            packets: 0,
            compared: 0,
            differences: 0,
            left_out,
            reasons,
        }
    }
}

#[test]
fn the_ruleset_decides_as_the_oracle() {
    let count = std::env::var("CLINIGATE_POLICIES").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let mut runner = TestRunner::deterministic();
    let mut bench = Bench::new().unwrap();
    let mut tally = Tally::new();
    for number in 0..count {
        let mut policy = if number % 4 == 3 {
            policies::with_tunnels(policies::policy()).new_tree(&mut runner).unwrap().current()
        } else {
            policies::policy().new_tree(&mut runner).unwrap().current()
        };
        for interface in policy.interfaces.iter_mut().filter(|it| it.kind != InterfaceKind::Wan) {
            interface.tunnel = None;
        }
        // Which the ruleset does not know, as its limits say.
        policy.interfaces.iter_mut().for_each(|interface| interface.routed = false);
        let state = if number % 2 == 0 { State::Tracked } else { State::None };
        // The gateway's addresses: named by the text, or known to the kernel alone.
        let exported = policy.clone();
        let mut local = Vec::new();
        let exported = if number % 4 < 2 {
            exported
        } else {
            local = packets::make_local(&mut policy);
            let mut exported = exported;
            exported.segments[usize::from(SegmentId::GATEWAY.0)].ranges = Ranges::default();
            exported
        };
        bench.give(&local).unwrap();
        run(&mut bench, number, (&exported, &policy), state, &mut runner, &mut tally);
        bench.take(&local).unwrap();
    }
    report(&tally);
    for reason in ["flow", "denied", "no-flow", "spoofed", "martian", "unknown-vlan", "link-local"] {
        assert!(tally.reasons.contains_key(reason), "no packet was {reason}: the comparison is hollow");
    }
}

#[test]
fn the_policies_that_come_with_the_project_too() {
    let mut runner = TestRunner::deterministic();
    let mut tally = Tally::new();
    let mut bench = Bench::new().unwrap();
    let pairs = [("minimal", State::None), ("hospital", State::Tracked), ("vendors", State::Tracked)];
    for (name, state) in pairs {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies").join(name);
        let policy = policy::load(&directory).unwrap().policy.unwrap();
        run(&mut bench, tally.policies, (&policy, &policy), state, &mut runner, &mut tally);
    }
    report(&tally);
}

/// Sends random packets through the ruleset of `exported`; `policy` has what the kernel knows, too.
fn run(
    bench: &mut Bench,
    number: usize,
    (exported, policy): (&Policy, &Policy),
    state: State,
    runner: &mut TestRunner,
    tally: &mut Tally,
) {
    let draws = vec(packets::draw(), PACKETS).new_tree(runner).unwrap().current();
    let edges = Edges::of(policy);
    let mut sent = Vec::new();
    let mut readings = Readings::new(policy, state);
    for draw in &draws {
        tally.packets += 1;
        let (port, packet) = packets::packet(&edges, draw);
        match readings.expected(&port, &packet) {
            Expectation::Decision(decision) => sent.push((port, packet, decision)),
            Expectation::LeftOut(why) => *tally.left_out.entry(why).or_default() += 1,
            Expectation::Quarrel(words) => panic!("policy {number}: {packet:?} at {port:?}: {words}"),
        }
    }
    let on_wire: Vec<_> = sent.iter().map(|(port, packet, _)| (packets::device(port), packet)).collect();
    let seen = bench.run(exported, state, &on_wire).unwrap();
    tally.policies += 1;
    let before = tally.differences;
    let mut counters = BTreeMap::new();
    for ((port, packet, decision), seen) in sent.iter().zip(&seen.packets) {
        let passes = match seen {
            Seen::Nothing => {
                assert!(is_dropped_before(packet), "{packet:?} at {port:?} did not arrive");
                *tally.left_out.entry("dropped by the kernel before any chain").or_default() += 1;
                continue;
            }
            Seen::Dropped => false,
            Seen::Passed => true,
        };
        tally.compared += 1;
        *tally.reasons.entry(decision.reason.name()).or_default() += 1;
        for counter in expected::counters(policy, decision) {
            *counters.entry(counter).or_default() += 1;
        }
        if passes != (decision.verdict != Verdict::Drop) {
            tally.differences += 1;
            eprintln!("policy {number}, {state:?}: {packet:?} at {port:?}: {decision:?}, nftables: {seen:?}");
        }
    }
    let names =
        counters.keys().chain(seen.counters.keys()).cloned().collect::<std::collections::BTreeSet<_>>();
    for name in names {
        let (expected, found) = (counters.get(&name).copied(), seen.counters.get(&name).copied());
        if expected.unwrap_or(0) != found.unwrap_or(0) {
            tally.differences += 1;
            eprintln!("policy {number}, {state:?}: counter {name}: {expected:?}, nftables: {found:?}");
        }
    }
    if tally.differences > before {
        eprintln!("{}", clinigate::export::nftables::export(exported, state).ruleset);
    }
    assert!(tally.differences == before, "see above");
}

fn report(tally: &Tally) {
    eprintln!(
        "{} policies, {} packets, {} compared, {} differences in {:.1} s (fixed seed)",
        tally.policies,
        tally.packets,
        tally.compared,
        tally.differences,
        tally.begun.elapsed().as_secs_f64()
    );
    eprintln!("left out: {:?}", tally.left_out);
    eprintln!("compared, by reason: {:?}", tally.reasons);
}
