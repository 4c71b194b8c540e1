//! The real XDP program against the oracle, packet by packet: verdict, reason, rule, segments.
//!
//! `CLINIGATE_POLICIES` says how many random policies, of 150 steps each; the seed is fixed.
//! Needs root. Frames run through `BPF_PROG_TEST_RUN`; no interface is touched.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use clinigate::compile::compile;
use clinigate::dataplane::trial::Trial;
use clinigate::dataplane::{Counters, PairKey};
use clinigate::oracle::Gateway;
use clinigate::packet::{Arrival, Decision};
use clinigate::policy::model::Policy;
use clinigate::testing::script::{self, Event};
use clinigate::testing::{frames, policies};
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::TestContext;
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// What was counted for one packet.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    passed: bool,
    pair: PairKey,
    rule: Option<String>,
}

#[test]
fn the_program_decides_as_the_oracle() {
    let count = std::env::var("CLINIGATE_POLICIES").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let mut runner = TestRunner::deterministic();
    let mut differences = 0;
    let mut seen = BTreeMap::new();
    for number in 0..count {
        let mut policy = policies::policy().new_tree(&mut runner).unwrap().current();
        policy.settings.connections = 4096;
        policy.settings.neighbour_rate = 1_000_000;
        let steps = vec(script::step(), 150).new_tree(&mut runner).unwrap().current();
        if let Some(difference) = first_difference(&policy, &script::events(&policy, &steps), &mut seen) {
            eprintln!("policy {number}: {difference}\n");
            differences += 1;
        }
    }
    let packets: usize = seen.values().sum();
    eprintln!("{count} policies, {packets} packets, {differences} differences: {seen:?}");
    assert_eq!(differences, 0);
    let stateful = [Reason::Established, Reason::Related, Reason::Revoked, Reason::NotInConnection];
    for reason in stateful.into_iter().chain([Reason::Flow, Reason::Denied, Reason::UnknownFragment]) {
        assert!(
            seen.contains_key(&reason),
            "no packet was {}: the comparison is hollow: {seen:?}",
            reason.name()
        );
    }
}

/// Runs the events through both; `seen` counts packets by reason.
fn first_difference(policy: &Policy, events: &[Event], seen: &mut BTreeMap<Reason, usize>) -> Option<String> {
    let interfaces: BTreeMap<String, u32> = policy
        .interfaces
        .iter()
        .zip(10..)
        .map(|(interface, index)| (interface.name.clone(), index))
        .collect();
    let mut policy = policy.clone();
    let mut trial = Trial::new(&compile(&policy).unwrap(), &interfaces).unwrap();
    let mut oracle = Gateway::new(policy.clone());
    let mut before = trial.counters().unwrap();
    let mut now = 1_000_000_000_000;
    let mut history = Vec::new();
    for (event, serial) in events.iter().zip(0u32..) {
        match event {
            Event::Wait(seconds) => now += seconds * 1_000_000_000,
            Event::Change(next) => {
                policy = (**next).clone();
                trial.swap(&compile(&policy).unwrap()).unwrap();
                oracle.apply(policy.clone());
            }
            Event::Packet(port, packet) => {
                let [_, _, high, low] = serial.to_be_bytes();
                let frame = frames::frame(port, [0x02, 0, 0, 0, high, low], packet);
                let ifindex = interfaces.get(&port.interface).copied().unwrap_or(99);
                let outcome = trial.run(TestContext { now, ifindex, reserved: 0 }, &frame).unwrap();
                let after = trial.counters().unwrap();
                let found = difference(&before, &after, outcome.passed());
                before = after;
                let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
                let expected = expected(&policy, oracle.arrives(now, arrival, packet));
                *seen.entry(expected.pair.reason).or_default() += 1;
                history.push(format!("{now}: {port:?} {packet:?}\n    {expected:?}"));
                if found.as_ref() != Some(&expected) {
                    let last = history.len().saturating_sub(6);
                    return Some(format!(
                        "\n  {}\n  oracle: {expected:?}\n  kernel: {found:?}",
                        history[last..].join("\n  ")
                    ));
                }
            }
        }
    }
    None
}

fn expected(policy: &Policy, decision: Decision) -> Finding {
    let name = |id| policy.segment(id).name.clone();
    Finding {
        passed: decision.verdict != Verdict::Drop,
        pair: PairKey {
            source: name(decision.source_segment),
            destination: name(decision.destination_segment),
            verdict: decision.verdict,
            reason: decision.reason,
        },
        rule: decision.rule.map(|rule| policy.rules[rule.0 as usize].name.clone()),
    }
}

/// The one pair counter, and the one rule counter if any, that went up.
fn difference(before: &Counters, after: &Counters, passed: bool) -> Option<Finding> {
    let mut pairs = after.pairs.iter().filter(|(key, counter)| before.pairs.get(key) != Some(counter));
    let mut rules = after.rules.iter().filter(|(name, counter)| before.rules.get(*name) != Some(counter));
    let pair = pairs.next()?.0.clone();
    let rule = rules.next().map(|(name, _)| name.clone());
    (pairs.next().is_none() && rules.next().is_none()).then_some(Finding { passed, pair, rule })
}
