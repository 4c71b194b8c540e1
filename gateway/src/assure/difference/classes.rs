//! Addresses that the same rules of both policies name.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::model::Ranges;

use super::Family;
use super::rules::{Joint, Meaning};

/// Classes of one family; those that no rule names are left out.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) sources: Vec<Class>,
    pub(super) destinations: Vec<Class>,
}

#[derive(Debug, Default)]
pub(super) struct Class {
    /// Indices into [`Joint::rules`]; sorted.
    pub(super) rules: Vec<usize>,
    /// Sorted, disjoint, merged.
    pub(super) ranges: Vec<(u128, u128)>,
    /// As sources: hosts of these segments that have no address.
    pub(super) nameless: BTreeSet<String>,
    /// As a destination: the gateway, and nothing else.
    pub(super) is_gateway: bool,
}

pub(super) fn classes(joint: &Joint, family: Family) -> Classes {
    let mut sources = swept(joint, |rule| of_family(&rule.from, family));
    for (rules, names) in nameless(joint) {
        match sources.iter_mut().find(|class| class.rules == rules) {
            Some(class) => class.nameless = names,
            None => sources.push(Class { rules, nameless: names, ..Class::default() }),
        }
    }
    let mut destinations = swept(joint, |rule| of_family(&rule.to, family));
    let gateway: Vec<usize> =
        (0..joint.rules.len()).filter(|&rule| joint.rules[rule].meaning.gateway).collect();
    if !gateway.is_empty() {
        destinations.push(Class { rules: gateway, is_gateway: true, ..Class::default() });
    }
    Classes { sources, destinations }
}

fn of_family(ranges: &Ranges, family: Family) -> Vec<(u128, u128)> {
    match family {
        Family::V4 => ranges.v4.iter().map(|&(first, last)| (first.into(), last.into())).collect(),
        Family::V6 => ranges.v6.clone(),
    }
}

/// Segments by the rules that name their hosts without an address.
fn nameless(joint: &Joint) -> BTreeMap<Vec<usize>, BTreeSet<String>> {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, rule) in joint.rules.iter().enumerate() {
        for name in &rule.meaning.nameless {
            by_name.entry(name).or_default().push(number);
        }
    }
    let mut by_rules: BTreeMap<Vec<usize>, BTreeSet<String>> = BTreeMap::new();
    for (name, rules) in by_name {
        by_rules.entry(rules).or_default().insert(name.to_owned());
    }
    by_rules
}

/// A sweep over the address space that keeps the set of rules it is in.
fn swept(joint: &Joint, ranges: impl Fn(&Meaning) -> Vec<(u128, u128)>) -> Vec<Class> {
    let mut edges: Vec<(u128, bool, usize)> = Vec::new();
    for (number, rule) in joint.rules.iter().enumerate() {
        for (first, last) in ranges(&rule.meaning) {
            edges.push((first, true, number));
            edges.extend(last.checked_add(1).map(|after| (after, false, number)));
        }
    }
    edges.sort_unstable();
    let mut classes: BTreeMap<Vec<usize>, Vec<(u128, u128)>> = BTreeMap::new();
    let mut within: BTreeSet<usize> = BTreeSet::new();
    let mut edges = edges.into_iter().peekable();
    while let Some((at, enters, rule)) = edges.next() {
        if enters {
            within.insert(rule)
        } else {
            within.remove(&rule)
        };
        let next = edges.peek().map(|edge| edge.0);
        if next == Some(at) || within.is_empty() {
            continue;
        }
        let last = next.map_or(u128::MAX, |next| next - 1);
        let ranges = classes.entry(within.iter().copied().collect()).or_default();
        ranges.push((at, last));
    }
    let class = |(rules, ranges)| Class { rules, ranges, ..Class::default() };
    classes.into_iter().map(class).collect()
}
