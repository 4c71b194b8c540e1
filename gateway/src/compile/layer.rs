//! Rules apart by how much of each side they name.
//!
//! Where many rules name nearly every source and one destination, and many others the reverse, each
//! pair of such has a list of rules of its own: the lists are a cross product. Kept in layers of their own the
//! first kind has few classes of sources, the second few of destinations, and nothing multiplies.

use std::collections::HashMap;

use gateway_common::table::LAYERS;

use crate::policy::model::Policy;

use super::class::Side;
use super::number;

/// Rules that share a pair table.
#[derive(Debug)]
pub(super) struct Layer {
    /// Their numbers, in order.
    pub(super) rules: Vec<usize>,
    /// Classes of sources that these rules tell apart.
    pub(super) sources: Axis,
    /// Classes of destinations that these rules tell apart.
    pub(super) destinations: Axis,
}

impl Layer {
    /// All rules, with the classes of the sides themselves.
    pub(super) fn whole(policy: &Policy, sources: &Side<'_>, destinations: &Side<'_>) -> Self {
        Self {
            rules: (0..policy.rules.len()).collect(),
            sources: Axis::whole(sources),
            destinations: Axis::whole(destinations),
        }
    }

    /// The rules in layers. Inactive ones are in none.
    pub(super) fn apart(policy: &Policy, sources: &Side<'_>, destinations: &Side<'_>) -> [Self; LAYERS] {
        let mut rules: [Vec<usize>; LAYERS] = Default::default();
        for rule in (0..policy.rules.len()).filter(|&rule| policy.rules[rule].is_active()) {
            let layer = match (Width::of(sources, rule), Width::of(destinations, rule)) {
                (Width::Narrow, Width::Narrow) => 0,
                (Width::Most, _) => 1,
                (_, Width::Most | Width::Wide) => 2,
                (Width::Wide, Width::Narrow) => 3,
            };
            rules[layer].push(rule);
        }
        rules.map(|rules| Self {
            sources: Axis::of(sources, &rules),
            destinations: Axis::of(destinations, &rules),
            rules,
        })
    }
}

/// How many of its side's classes a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Narrow,
    /// One in 64 or more.
    Wide,
    /// Half or more.
    Most,
}

impl Width {
    fn of(side: &Side<'_>, rule: usize) -> Self {
        let named = side.classes_of_rule(rule).len();
        if named * 2 >= side.count() {
            Self::Most
        } else if named * 64 >= side.count() && named > 1 {
            Self::Wide
        } else {
            Self::Narrow
        }
    }
}

/// Classes of one side as a layer tells them apart.
#[derive(Debug)]
pub(super) struct Axis {
    /// By class of the side: class of the layer.
    pub(super) class_of: Vec<u32>,
    /// Classes of the layer.
    pub(super) count: usize,
}

impl Axis {
    fn whole(side: &Side<'_>) -> Self {
        Self { class_of: (0..number(side.count())).collect(), count: side.count() }
    }

    fn of(side: &Side<'_>, rules: &[usize]) -> Self {
        let mut numbers = HashMap::new();
        let next = |sets: Vec<u32>| {
            let next = number(numbers.len());
            *numbers.entry(sets).or_insert(next)
        };
        let class_of: Vec<u32> = side.classes_within(rules).into_iter().map(next).collect();
        Self { class_of, count: numbers.len() }
    }

    /// Classes of the layer that a rule names, in order.
    pub(super) fn classes_of_rule(&self, side: &Side<'_>, rule: usize) -> Vec<u32> {
        let mut classes: Vec<u32> =
            side.classes_of_rule(rule).iter().map(|&class| self.class_of[class as usize]).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}
