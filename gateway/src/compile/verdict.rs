//! Pairs of address classes to rows, rows to cells.
//!
//! Rules are added in the order of their numbers. A pair remembers the list of rules that name
//! it as a node of a tree whose edges are rules, so that pairs with equal lists share everything.

use std::collections::HashMap;

use gateway_common::table::Cell;

use crate::policy::model::{Policy, RuleKind};

use super::block::Blocks;
use super::class::Side;
use super::error::{Budget, CompileError};
use super::number;
use super::service::Services;

/// The pair table and the verdict table.
#[derive(Debug)]
pub(super) struct Verdicts {
    /// `source class * destinations + destination class` to row.
    pub(super) pairs: Vec<u32>,
    /// `row * services + service class` to cell.
    pub(super) cells: Vec<u32>,
}

const WORD_BYTES: u64 = size_of::<u32>() as u64;

pub(super) fn compile(
    policy: &Policy,
    sources: &Side<'_>,
    destinations: &Side<'_>,
    services: &Services,
    budget: &mut Budget,
) -> Result<Verdicts, CompileError> {
    let width = destinations.count();
    budget.take("pairs of address classes", sources.count() as u64 * width as u64 * WORD_BYTES)?;
    let mut pairs = vec![Lists::EMPTY; sources.count() * width];
    let mut lists = Lists::new();
    for (rule, index) in (0..policy.rules.len()).zip(0u32..) {
        lists.check(LIST_LIMIT)?;
        let mut step = Step { rule: index, lists: &mut lists, known: HashMap::new(), last: None };
        for &source in sources.classes_of_rule(rule) {
            let row = &mut pairs[source as usize * width..][..width];
            for &destination in destinations.classes_of_rule(rule) {
                let list = &mut row[destination as usize];
                *list = step.append(*list);
            }
        }
    }

    let mut rows = Rows::new(policy, services);
    let mut row_of_list = vec![None; lists.nodes.len()];
    for pair in &mut pairs {
        let row = &mut row_of_list[*pair as usize];
        *pair = match *row {
            Some(known) => known,
            None => *row.insert(rows.row(&lists.rules(*pair), budget)?),
        };
    }
    budget.take(Rows::TABLE, rows.blocks.bytes())?;
    Ok(Verdicts { pairs, cells: rows.blocks.into_words() })
}

/// Lists of rules that are kept while compiling, of 8 bytes each: as much memory as the tables may take. Where wide
/// rules of one side cross wide rules of the other, nearly every pair has a list of its own, after every rule.
const LIST_LIMIT: usize = 32 << 20;

/// Lists of rules, as a tree: a node is its parent's list and one rule more.
struct Lists {
    nodes: Vec<(u32, u32)>,
}

impl Lists {
    const EMPTY: u32 = 0;

    fn new() -> Self {
        Self { nodes: vec![(Self::EMPTY, u32::MAX)] }
    }

    /// Refuses to go on where memory would go to lists rather than to tables.
    fn check(&self, limit: usize) -> Result<(), CompileError> {
        let count = self.nodes.len();
        if count > limit { Err(CompileError::Overlaps { count, limit }) } else { Ok(()) }
    }

    fn rules(&self, mut list: u32) -> Vec<u32> {
        let mut rules = Vec::new();
        while list != Self::EMPTY {
            let (parent, rule) = self.nodes[list as usize];
            rules.push(rule);
            list = parent;
        }
        rules.reverse();
        rules
    }
}

/// Adds one rule to many lists.
struct Step<'a> {
    rule: u32,
    lists: &'a mut Lists,
    known: HashMap<u32, u32>,
    last: Option<(u32, u32)>,
}

impl Step<'_> {
    fn append(&mut self, list: u32) -> u32 {
        if let Some((before, after)) = self.last
            && before == list
        {
            return after;
        }
        let nodes = &mut self.lists.nodes;
        let after = *self.known.entry(list).or_insert_with(|| {
            nodes.push((list, self.rule));
            number(nodes.len() - 1)
        });
        self.last = Some((list, after));
        after
    }
}

/// Rows of cells, one cell for each service class.
struct Rows<'a> {
    policy: &'a Policy,
    services: &'a Services,
    blocks: Blocks,
}

impl<'a> Rows<'a> {
    const TABLE: &'static str = "verdicts";

    fn new(policy: &'a Policy, services: &'a Services) -> Self {
        Self { policy, services, blocks: Blocks::new(services.classes as usize) }
    }

    /// The row that these rules, in the order of their numbers, make.
    fn row(&mut self, rules: &[u32], budget: &Budget) -> Result<u32, CompileError> {
        let mut cells = vec![Cell::NO_RULE; self.services.classes as usize];
        for &index in rules {
            let rule = &self.policy.rules[index as usize];
            for class in rule.services.iter().flat_map(|&service| self.services.classes_of(service)) {
                let cell = &mut cells[usize::from(*class)];
                *cell = decide(*cell, rule.kind, index);
            }
        }
        let words: Vec<u32> = cells.into_iter().map(|cell| cell.0).collect();
        let row = self.blocks.intern(&words);
        budget.allow(Self::TABLE, self.blocks.bytes())?;
        Ok(row)
    }
}

/// The cell once a rule of a higher number is added: the first deny decides, else the first allow.
fn decide(cell: Cell, kind: RuleKind, rule: u32) -> Cell {
    match kind {
        RuleKind::Deny if cell == Cell::NO_RULE || cell.is_allow() => Cell::deny(rule),
        RuleKind::Flow | RuleKind::Vendor if cell == Cell::NO_RULE => Cell::allow(rule),
        RuleKind::Deny | RuleKind::Flow | RuleKind::Vendor => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_may_reach_the_limit_and_not_go_beyond() {
        let mut lists = Lists::new();
        assert_eq!(lists.check(1), Ok(()));
        Step { rule: 0, lists: &mut lists, known: HashMap::new(), last: None }.append(Lists::EMPTY);
        assert_eq!(lists.check(2), Ok(()));
        assert_eq!(lists.check(1), Err(CompileError::Overlaps { count: 2, limit: 1 }));
    }
}
