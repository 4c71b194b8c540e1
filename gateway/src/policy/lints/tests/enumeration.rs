//! What rules mean together, against all packets of a small world.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::{A, B, policy, rule};
use crate::policy::lints::*;
use crate::policy::model::{AddressSet, Ranges, Rule};

/// One end of a packet of the small world: an address, or a segment's host without one.
type End = (Option<IpAddr>, SegmentId);

fn has(set: &AddressSet, (address, segment): End) -> bool {
    match address {
        Some(address) => set.contains(address, segment),
        None => set.segments.contains(&segment),
    }
}

fn hosts() -> impl Iterator<Item = End> {
    let host = |v4: u32| Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | v4)));
    (0x0100..0x0200)
        .step_by(0x33)
        .map(move |v4| (host(v4), A))
        .chain((0x0200..0x0300).step_by(0x33).map(move |v4| (host(v4), B)))
}

fn sources() -> impl Iterator<Item = End> {
    hosts().chain([(None, A), (None, B)])
}

fn destinations() -> impl Iterator<Item = End> {
    hosts().chain([(None, SegmentId::GATEWAY)])
}

/// All packets (source, destination, port) that a rule means.
fn packets(rule: &Rule) -> BTreeSet<(End, End, usize)> {
    let mut packets = BTreeSet::new();
    for source in sources().filter(|&end| has(&rule.from, end)) {
        for destination in destinations().filter(|&end| has(&rule.to, end)) {
            packets.extend(rule.services.iter().map(|&port| (source, destination, port)));
        }
    }
    packets
}

/// Sets whose ranges begin and end between the hosts of [`hosts`].
fn any_set() -> impl Strategy<Value = AddressSet> {
    let range = (0..12u32, 1..7u32).prop_map(|(first, count)| {
        // The host with number 12 would be the first behind segment `b`.
        let edge = |host: u32| match host {
            0..6 => 0x0100 + host * 0x33,
            6..12 => 0x0200 + (host - 6) * 0x33,
            _ => 0x0300,
        };
        let last = (first + count).min(12);
        (0x0a00_0000 | edge(first), 0x0a00_0000 | (edge(last) - 1))
    });
    let segments = prop::collection::btree_set(prop_oneof![Just(A), Just(B), Just(SegmentId::GATEWAY)], 0..3);
    (segments, prop::collection::vec(range, 0..2)).prop_map(|(segments, ranges)| AddressSet {
        segments,
        ranges: Ranges { v4: crate::policy::ranges::normalise(ranges), v6: Vec::new() },
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let kinds = prop_oneof![Just(RuleKind::Flow), Just(RuleKind::Deny)];
    (kinds, any_set(), any_set(), prop::collection::btree_set(0..4usize, 1..4), prop::bool::weighted(0.1))
        .prop_map(|(kind, from, to, services, unenforced)| {
            let services: Vec<usize> = services.into_iter().collect();
            let unenforced = unenforced && kind != RuleKind::Deny;
            Rule { unenforced, ..rule(kind, from, to, &services) }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Denied and covered mean exactly what enumerating all packets says.
    #[test]
    fn comparison_agrees_with_enumeration(rules in prop::collection::vec(any_rule(), 2..6)) {
        let policy = policy(rules);
        let world = World::new(&policy);
        let terms = Rules::new(&policy, &world);
        let all: Vec<_> = policy.rules.iter().map(packets).collect();
        let denies: Vec<usize> = (0..all.len()).filter(|&rule| terms.terms[rule].deny).collect();
        let mut budget = Budget(u64::MAX);
        let mut coverage = Coverage::new(&terms, &mut budget).unwrap();
        for (number, own) in all.iter().enumerate() {
            let forbidden = |packet| denies.iter().any(|&deny| all[deny].contains(packet));
            let expected = !own.is_empty() && own.iter().all(forbidden);
            let found = denied(&terms, &denies, number, &mut budget).unwrap_or(None);
            prop_assert_eq!(found.is_some(), expected, "denied: rule {} of {:#?}", number, &policy.rules);

            let covers = |other: usize| {
                let (a, b) = (terms.terms[number], terms.terms[other]);
                let equal_and_later = *own == all[other] && other > number && a.always;
                !own.is_empty()
                    && other != number
                    && b.always
                    && a.deny == b.deny
                    && own.is_subset(&all[other])
                    && !equal_and_later
            };
            let found = coverage.of(number, &mut budget).unwrap_or(None);
            let is_right = found.map_or_else(|| !(0..all.len()).any(covers), covers);
            prop_assert!(is_right, "covered: rule {} by {:?} of {:#?}", number, found, &policy.rules);

            let counts = |other: usize| {
                let (a, b) = (terms.terms[number], terms.terms[other]);
                other != number && b.always && a.deny == b.deny
            };
            let others: BTreeSet<_> = (0..all.len()).filter(|&it| counts(it)).flat_map(|it| &all[it]).collect();
            let expected = !own.is_empty() && own.iter().all(|packet| others.contains(packet));
            let nobody = vec![false; all.len()];
            let found = joint::covering(&terms, &coverage, &nobody, number, &mut budget).unwrap_or(None);
            prop_assert_eq!(found.is_some(), expected, "together: rule {} of {:#?}", number, &policy.rules);

            for (other, others) in all.iter().enumerate() {
                let meets = !own.is_disjoint(others);
                prop_assert_eq!(terms.overlap(number, other), meets, "{} and {} of {:#?}", number, other, &policy.rules);
            }
        }
    }
}
