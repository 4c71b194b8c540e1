//! Address classes of one side, sources or destinations: addresses that the same rules name.

use std::collections::HashMap;

use crate::policy::model::{AddressSet, Policy, Ranges, Rule, SegmentId};

use super::number;

/// The address sets that the active rules name on one side, and the classes that they make.
#[derive(Debug)]
pub(super) struct Side<'p> {
    /// Distinct sets: rules that name the same set share its number.
    sets: Vec<&'p AddressSet>,
    /// By rule; `None` for inactive ones.
    set_of_rule: Vec<Option<u32>>,
    /// By segment: sets that name all of it, sorted.
    whole: Vec<Vec<u32>>,
    /// By segment: classes of the sets whose ranges have the address.
    by_ranges: Vec<HashMap<Vec<u32>, u32>>,
    /// Sorted sets that have the address, to class.
    by_sets: HashMap<Vec<u32>, u32>,
    /// By set: its classes.
    members: Vec<Vec<u32>>,
}

impl<'p> Side<'p> {
    /// The side that `end` takes out of a rule.
    pub(super) fn new(policy: &'p Policy, end: impl Fn(&'p Rule) -> &'p AddressSet) -> Self {
        let mut sets = Vec::new();
        let mut numbers = HashMap::new();
        let mut set_of_rule = Vec::with_capacity(policy.rules.len());
        for rule in &policy.rules {
            set_of_rule.push(rule.is_active().then(|| {
                *numbers.entry(end(rule)).or_insert_with_key(|set| {
                    sets.push(*set);
                    number(sets.len() - 1)
                })
            }));
        }
        let mut whole = vec![Vec::new(); policy.segments.len()];
        for (set, index) in sets.iter().zip(0..) {
            for segment in &set.segments {
                whole[usize::from(segment.0)].push(index);
            }
        }
        Self {
            members: vec![Vec::new(); sets.len()],
            by_ranges: vec![HashMap::new(); policy.segments.len()],
            by_sets: HashMap::new(),
            sets,
            set_of_rule,
            whole,
        }
    }

    /// The ranges of every set, with the set's number.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u32, &'p Ranges)> {
        self.sets.iter().zip(0..).map(|(set, index)| (index, &set.ranges))
    }

    /// Class of the addresses of `segment` that lie in ranges of exactly the sets `ranged` (sorted).
    pub(super) fn class(&mut self, segment: SegmentId, ranged: &[u32]) -> u32 {
        // Ranges do not name the gateway's own addresses: `AddressSet::contains`.
        let ranged = if segment == SegmentId::GATEWAY { &[] } else { ranged };
        let index = usize::from(segment.0);
        if let Some(&class) = self.by_ranges[index].get(ranged) {
            return class;
        }
        let mut sets = [&self.whole[index], ranged].concat();
        sets.sort_unstable();
        sets.dedup();
        let class = self.class_of_sets(sets);
        self.by_ranges[index].insert(ranged.to_vec(), class);
        class
    }

    fn class_of_sets(&mut self, sets: Vec<u32>) -> u32 {
        let next = number(self.by_sets.len());
        if let Some(&class) = self.by_sets.get(&sets) {
            return class;
        }
        for &set in &sets {
            self.members[set as usize].push(next);
        }
        self.by_sets.insert(sets, next);
        next
    }

    /// Classes that the rule names.
    pub(super) fn classes_of_rule(&self, rule: usize) -> &[u32] {
        self.set_of_rule[rule].map_or(&[], |set| &self.members[set as usize])
    }

    /// By class: those of its sets that these rules name, sorted.
    pub(super) fn classes_within(&self, rules: &[usize]) -> Vec<Vec<u32>> {
        let mut named = vec![false; self.sets.len()];
        for set in rules.iter().filter_map(|&rule| self.set_of_rule[rule]) {
            named[set as usize] = true;
        }
        let mut within = vec![Vec::new(); self.count()];
        for (sets, &class) in &self.by_sets {
            within[class as usize] = sets.iter().copied().filter(|&set| named[set as usize]).collect();
        }
        within
    }

    /// How many classes there are.
    pub(super) fn count(&self) -> usize {
        self.by_sets.len()
    }
}
