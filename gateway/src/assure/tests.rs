//! Proofs against the oracle: what is proven must be what the oracle says of every packet.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use gateway_common::reason::Reason;

use super::invariant::prove_image;
use super::packets;
use super::reach::{Question, Reach, Ruling};
use super::space::Space;
use crate::compile::compile;
use crate::oracle::Oracle;
use crate::packet::{Arrival, PacketView, Transport};
use crate::policy::model::{AddressSet, Invariant, Origin, Policy, SegmentId};
use crate::testing::packets::{Edges, draw};
use crate::testing::policies;

/// A policy with one invariant about some of its addresses and services.
fn claimed() -> impl Strategy<Value = Policy> {
    policies::policy().prop_flat_map(|policy| {
        let count = policy.segments.len();
        let services = proptest::option::of(vec(0..policy.services.len(), 1..3));
        let sets = (policies::address_set(count), policies::address_set(count), services);
        (Just(policy), sets).prop_map(|(mut policy, (from, to, never))| {
            let origin = Origin { file: "random.yaml".into(), line: 99, column: 1 };
            policy.invariants = vec![Invariant { name: "claim".to_owned(), from, to, never, origin }];
            policy
        })
    })
}

fn question(invariant: &Invariant) -> Question<'_> {
    Question { from: &invariant.from, to: &invariant.to, services: invariant.never.as_deref() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every packet that is shown is one that oracle and image decide as it says.
    #[test]
    fn samples_are_decided_as_they_are_shown(policy in claimed()) {
        let image = compile(&policy).unwrap();
        let reach = Reach::new(Space::new(&image));
        for (ruling, finding) in reach.rulings(&policy, question(&policy.invariants[0])) {
            let sample = finding.sample;
            let decision = Oracle::new(&policy).decide(sample.arrival, &sample.packet);
            prop_assert_eq!(decision.reason, ruling.reason(), "{}", sample);
            prop_assert_eq!(decision.rule, ruling.rule(), "{}", sample);
            prop_assert_eq!(image.decide(sample.arrival, &sample.packet), Some(decision));
            if let Some(open) = finding.unenforced {
                let decision = Oracle::new(&policy).decide(open.arrival, &open.packet);
                prop_assert!(!decision.reason.passes() && decision.verdict != gateway_common::reason::Verdict::Drop, "{}", open);
            }
        }
    }

    /// No packet escapes a proof: whatever the oracle allows or denies of an invariant's packets, the
    /// proof has seen that ruling.
    #[test]
    fn no_packet_escapes(policy in claimed(), draws in vec(draw(), 300)) {
        let image = compile(&policy).unwrap();
        let invariant = &policy.invariants[0];
        let seen: BTreeSet<Ruling> =
            Reach::new(Space::new(&image)).rulings(&policy, question(invariant)).into_keys().collect();
        let broken = !prove_image(&policy, &image).iter().all(|found| !found.is_error());
        let edges = Edges::of(&policy);
        for draw in &draws {
            let (port, packet) = edges.packet(draw);
            if !is_of_its_family(&packet) {
                continue;
            }
            let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
            let decision = Oracle::new(&policy).decide(arrival, &packet);
            let ruling = match (decision.reason, decision.rule) {
                (Reason::Flow, Some(rule)) => Ruling::Allowed(rule),
                (Reason::Denied, Some(rule)) => Ruling::Denied(rule),
                (Reason::NoFlow, None) => Ruling::NoFlow,
                _ => continue,
            };
            let named = |set: &AddressSet, address| set.contains(address, policy.segment_of(address));
            let nameless = policy.segment_of(packet.source) != decision.source_segment;
            let from = if nameless {
                invariant.from.segments.contains(&decision.source_segment)
            } else {
                named(&invariant.from, packet.source)
            };
            let services = match &invariant.never {
                None => !matches!(packet.transport, Transport::Other(1 | 6 | 17 | 58)),
                Some(list) => list.iter().any(|&service| {
                    policy.services[service]
                        .matches
                        .iter()
                        .any(|it| super::invariant::matches(*it, packet.transport))
                }),
            };
            if from && named(&invariant.to, packet.destination) && services {
                prop_assert!(seen.contains(&ruling), "{:?} {:?}", ruling, packet);
                prop_assert!(broken || decision.reason != Reason::Flow, "{:?}", packet);
            }
        }
    }

    /// Every protocol, port and type of a question is in exactly one class of it.
    #[test]
    fn classes_have_all_packets(policy in policies::policy()) {
        let image = compile(&policy).unwrap();
        let none: Option<Vec<&crate::policy::model::Service>> = None;
        let classes = packets::classes(&image, none);
        let pairs = |ports: &packets::Ports| -> u64 {
            let wide = |(ports, sources): &((u16, u16), Vec<(u16, u16)>)| {
                let count = |range: &(u16, u16)| u64::from(range.1) - u64::from(range.0) + 1;
                count(ports) * sources.iter().map(count).sum::<u64>()
            };
            ports.0.iter().map(wide).sum()
        };
        prop_assert_eq!(classes.values().map(|it| pairs(&it.tcp)).sum::<u64>(), 1 << 32);
        prop_assert_eq!(classes.values().map(|it| pairs(&it.udp)).sum::<u64>(), 1 << 32);
    }
}

/// Draws from a rule may pair ICMP with IPv6 addresses, and the other way round: no frame is read so.
pub(super) fn is_of_its_family(packet: &PacketView) -> bool {
    match packet.transport {
        Transport::Icmp(_) => packet.source.is_ipv4(),
        Transport::Icmpv6(_) => packet.source.is_ipv6(),
        Transport::Tcp { .. } | Transport::Udp { .. } | Transport::Other(_) => true,
    }
}

#[test]
fn random_claims_both_hold_and_break() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut held, mut broken) = (0, 0);
    for _ in 0..60 {
        let policy = claimed().new_tree(&mut runner).unwrap().current();
        let image = compile(&policy).unwrap();
        let reach = Reach::new(Space::new(&image));
        if reach.rulings(&policy, question(&policy.invariants[0])).is_empty() {
            continue;
        }
        let found = prove_image(&policy, &image);
        if found.iter().any(crate::policy::diagnostic::Diagnostic::is_error) {
            broken += 1;
        } else {
            held += 1;
        }
    }
    assert!(held > 5 && broken > 5, "{held} hold, {broken} do not");
}

#[test]
fn the_gateway_is_no_sender() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let policy = policies::policy().new_tree(&mut runner).unwrap().current();
    let image = compile(&policy).unwrap();
    let set = AddressSet { segments: [SegmentId::GATEWAY].into(), ..AddressSet::default() };
    assert!(Space::new(&image).sources(&set).is_empty());
    assert!(!Space::new(&image).destinations(&set).is_empty());
}
