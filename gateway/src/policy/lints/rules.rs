//! Rules in the form in which they are compared.

use std::collections::HashMap;

use crate::policy::model::{Policy, Rule, RuleKind};

use super::extent::{Extent, Family, Point, World};
use super::services::{Probe, ServiceSet};

/// What all rules of a policy mean. Equal address sets and equal lists of services are held once,
/// and rules name them by number.
pub(super) struct Rules {
    pub(super) sources: Vec<Extent>,
    pub(super) destinations: Vec<Extent>,
    /// `None` where a set is too intricate to be compared.
    pub(super) services: Vec<Option<ServiceSet>>,
    /// By rule number.
    pub(super) terms: Vec<Term>,
}

/// One rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) services: usize,
    /// Whether it forbids.
    pub(super) deny: bool,
    /// Whether it takes part in decisions about all packets that it means, however they arrive.
    pub(super) always: bool,
}

/// First packets of one family: those from any point of `from` to any of `to` with any of
/// `services`. What the three have of the other family has no meaning.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) family: Family,
    pub(super) from: Extent,
    pub(super) to: Extent,
    pub(super) services: ServiceSet,
}

/// One first packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) from: Point,
    pub(super) to: Point,
    pub(super) service: Probe,
}

impl Rules {
    pub(super) fn new(policy: &Policy, world: &World) -> Self {
        let (mut from, mut to, mut lists) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut rules =
            Self { sources: Vec::new(), destinations: Vec::new(), services: Vec::new(), terms: Vec::new() };
        for rule in &policy.rules {
            let term = Term {
                from: number(&mut from, &rule.from, &mut rules.sources, |set| world.source(set)),
                to: number(&mut to, &rule.to, &mut rules.destinations, |set| world.destination(set)),
                services: number(&mut lists, &rule.services, &mut rules.services, |list: &Vec<usize>| {
                    ServiceSet::new(list.iter().filter_map(|&index| policy.services.get(index)))
                }),
                deny: rule.kind == RuleKind::Deny,
                always: rule.is_active() && rule.through.is_none(),
            };
            rules.terms.push(term);
        }
        rules
    }

    /// What a rule means for one family; `None` where that is nothing, or too intricate.
    pub(super) fn block(&self, rule: usize, family: Family) -> Option<Block> {
        self.sample(rule, family)?;
        let term = self.terms[rule];
        Some(Block {
            family,
            from: self.sources[term.from].clone(),
            to: self.destinations[term.to].clone(),
            services: self.services[term.services].clone()?,
        })
    }

    /// Some packet of `family` that a rule means; `None` likewise.
    pub(super) fn sample(&self, rule: usize, family: Family) -> Option<Sample> {
        let term = self.terms[rule];
        Some(Sample {
            from: self.sources[term.from].first(family)?,
            to: self.destinations[term.to].first(family)?,
            service: self.services[term.services].as_ref()?.first(family)?,
        })
    }

    /// Families of which a rule means any packet at all.
    pub(super) fn families(&self, rule: usize) -> Vec<Family> {
        Family::BOTH.into_iter().filter(|&family| self.sample(rule, family).is_some()).collect()
    }

    /// Whether two rules mean a packet in common. Services that are too intricate have none.
    pub(super) fn overlap(&self, a: usize, b: usize) -> bool {
        let (one, other) = (self.terms[a], self.terms[b]);
        let (from, to) = (&self.sources[one.from], &self.destinations[one.to]);
        let (others_from, others_to) = (&self.sources[other.from], &self.destinations[other.to]);
        if !from.meets(others_from) || !to.meets(others_to) {
            return false;
        }
        let (from, to) = (from.intersection(others_from), to.intersection(others_to));
        let (Some(services), Some(others)) = (&self.services[one.services], &self.services[other.services])
        else {
            return false;
        };
        let services = services.difference(&services.difference(others));
        Family::BOTH.into_iter().any(|family| {
            from.first(family).is_some() && to.first(family).is_some() && services.first(family).is_some()
        })
    }

    /// Whether a rule means a packet.
    pub(super) fn contains(&self, rule: usize, sample: Sample) -> bool {
        let term = self.terms[rule];
        self.destinations[term.to].contains(sample.to)
            && self.sources[term.from].contains(sample.from)
            && self.services[term.services].as_ref().is_some_and(|set| set.contains(sample.service))
    }
}

impl Block {
    /// Some packet of it; `None` where it is empty.
    pub(super) fn sample(&self) -> Option<Sample> {
        Some(Sample {
            from: self.from.first(self.family)?,
            to: self.to.first(self.family)?,
            service: self.services.first(self.family)?,
        })
    }

    /// What is left of it without `cut`, in disjoint parts.
    pub(super) fn difference(&self, cut: &Self) -> impl Iterator<Item = Self> {
        let from = self.from.intersection(&cut.from);
        let to = self.to.intersection(&cut.to);
        let parts = [
            Self { from: self.from.difference(&cut.from), ..self.clone() },
            Self { from: from.clone(), to: self.to.difference(&cut.to), ..self.clone() },
            Self { from, to, services: self.services.difference(&cut.services), ..self.clone() },
        ];
        parts.into_iter().filter(|part| part.sample().is_some())
    }
}

/// How messages call a rule.
pub(super) fn kind(rule: &Rule) -> &'static str {
    rule.kind.words()
}

/// Number of `key` in `values`, which gets the value that `make` makes of it where it is new.
fn number<'a, K: std::hash::Hash + Eq, V>(
    known: &mut HashMap<&'a K, usize>,
    key: &'a K,
    values: &mut Vec<V>,
    make: impl FnOnce(&K) -> V,
) -> usize {
    *known.entry(key).or_insert_with(|| {
        values.push(make(key));
        values.len() - 1
    })
}
