#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::assure::difference::compare;
use crate::policy::model::{Device, Origin};
use crate::testing::policies;

/// A policy with zones of two segments and more, and devices where its rules name addresses.
fn furnished(mut policy: Policy) -> Policy {
    for (index, segment) in policy.segments.iter_mut().enumerate().skip(4) {
        segment.zone = Some(if index % 2 == 0 { "even" } else { "odd" }.to_owned());
    }
    let addresses: BTreeSet<IpAddr> = policy
        .rules
        .iter()
        .flat_map(|rule| rule.to.ranges.firsts().chain(rule.from.ranges.firsts()))
        .collect();
    let device = |(number, address): (usize, &IpAddr)| Device {
        name: format!("device-{number}"),
        segment: policy.segment_of(*address),
        addresses: vec![*address],
        labels: BTreeMap::new(),
        risk: None,
        origin: Origin { file: "random.yaml".into(), line: 0, column: 1 },
    };
    policy.devices = addresses.iter().take(12).enumerate().map(device).collect();
    policy
}

/// What a word for addresses stands for.
fn meaning(vocabulary: &Vocabulary<'_>, family: Family, word: &str) -> Vec<(u128, u128)> {
    if word == "any" {
        return of(&vocabulary.all, family);
    }
    if let Some((whole, missing)) = word.split_once(" except ") {
        let missing = missing.split(", ").flat_map(|word| meaning(vocabulary, family, word)).collect();
        return difference(&meaning(vocabulary, family, whole), &normalise(missing));
    }
    let named = [&vocabulary.zones, &vocabulary.segments, &vocabulary.devices].into_iter().flatten();
    if let Some((_, ranges)) = named.into_iter().find(|(name, _)| name == word) {
        return of(ranges, family);
    }
    let bits = |text: &str| match text.parse::<IpAddr>().unwrap() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    if let Some((first, length)) = word.split_once('/') {
        let width = if family == Family::V4 { 32 } else { 128 };
        let hosts = u128::MAX.checked_shr(128 - (width - length.parse::<u32>().unwrap())).unwrap_or(0);
        return vec![(bits(first), bits(first) | hosts)];
    }
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    vec![(bits(first), bits(last))]
}

/// Segments of which a word means the hosts without an address, where the gateway is a destination.
fn nameless(policy: &Policy, word: &str) -> BTreeSet<String> {
    let word = word.strip_suffix(" (hosts without an address)").unwrap_or(word);
    let word = word.split(" except ").next().unwrap_or(word);
    let hosts = (0..).zip(&policy.segments).filter(|(id, _)| SegmentId(*id).has_hosts());
    let named = hosts.map(|(_, segment)| segment).filter(|segment| {
        let zone = segment.zone.as_ref().map(|zone| format!("zone/{zone}"));
        word == "any" || segment.name == word || zone.as_deref() == Some(word)
    });
    named.map(|segment| segment.name.clone()).collect()
}

/// What a word for services stands for.
fn carries(vocabulary: &Vocabulary<'_>, of_rule: &Bits, word: &str) -> Bits {
    if let Some((_, missing)) = word.rsplit_once(" except ") {
        let missing = missing.split(", ").map(|word| carries(vocabulary, of_rule, word));
        return missing.fold(of_rule.clone(), |rest, missing| rest.without(&missing));
    }
    if let Some((_, bits)) = vocabulary.services.iter().find(|(name, _)| name == word) {
        return bits.clone();
    }
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        (first.parse::<u16>().unwrap(), last.parse::<u16>().unwrap())
    };
    let (protocol, numbers) = word.split_once('/').unwrap();
    let (to, from) = numbers.split_once(" from port ").unwrap_or((numbers, "0-65535"));
    let (destination, source) = (range(to), range(from));
    let within = |inner: (u16, u16), outer: (u16, u16)| outer.0 <= inner.0 && inner.1 <= outer.1;
    let types = |(first, last): (u8, u8)| (u16::from(first), u16::from(last));
    vocabulary.atoms.which(|atom| match atom {
        ServiceMatch::Tcp { source: s, destination: d } => {
            protocol == "tcp" && within(s, source) && within(d, destination)
        }
        ServiceMatch::Udp { source: s, destination: d } => {
            protocol == "udp" && within(s, source) && within(d, destination)
        }
        ServiceMatch::Icmp(inner) => protocol == "icmp" && within(types(inner), destination),
        ServiceMatch::Icmpv6(inner) => protocol == "icmpv6" && within(types(inner), destination),
        ServiceMatch::Protocol(number) => {
            protocol == "protocol" && within(types((number, number)), destination)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    /// Who reads the words back gets the set, no more and no less.
    #[test]
    fn words_mean_the_set(old in policies::policy(), new in policies::policy()) {
        let (old, new) = (furnished(old), furnished(new));
        let found = compare(&old, &new).unwrap();
        for (policy, changes) in [(&new, &found.widening), (&old, &found.narrowing)] {
            let vocabulary = Vocabulary::new(policy, &found.atoms);
            for change in changes {
                let of_rule = found.atoms.of_services(policy, &policy.rules[change.allow].services);
                for product in &change.products {
                    let family = product.family;
                    let sentences = vocabulary.sentences(change.allow, std::slice::from_ref(product));
                    let [sentence] = sentences.as_slice() else { panic!("one sentence for one product") };
                    let mut from = Vec::new();
                    let mut without = BTreeSet::new();
                    for word in &sentence.from {
                        without.extend(nameless(policy, word));
                        if !word.ends_with(" (hosts without an address)") {
                            from.extend(meaning(&vocabulary, family, word));
                        }
                    }
                    let never = of(&never_sources(), family);
                    prop_assert_eq!(difference(&normalise(from), &never), product.from.ranges.clone(), "{:?}", sentence);
                    if product.to.gateway {
                        prop_assert_eq!(without, product.from.nameless.clone(), "{:?}", sentence);
                    }
                    let to = sentence.to.iter().filter(|word| *word != "gateway");
                    let to = normalise(to.flat_map(|word| meaning(&vocabulary, family, word)).collect());
                    prop_assert_eq!(to, product.to.ranges.clone(), "{:?}", sentence);
                    prop_assert_eq!(sentence.to.iter().any(|word| word == "gateway"), product.to.gateway);
                    let carried = found.atoms.of_family(family);
                    let none = carried.without(&carried);
                    let services = sentence.services.iter().map(|word| carries(&vocabulary, &of_rule, word));
                    let services = services.fold(none, |all, some| all.or(&some)).and(&carried);
                    prop_assert_eq!(services, product.services.clone(), "{:?}", sentence);
                }
            }
        }
    }
}
