//! Pairs of address classes to rows, rows to cells.
//!
//! Rules are added in the order of their numbers. A pair remembers the list of rules that name
//! it as a node of a tree whose edges are rules, so that pairs with equal lists share everything.

use std::collections::{BTreeMap, HashMap};
use std::slice;

use gateway_common::condition::Choice;
use gateway_common::table::{Cell, LAYERS, Lanes};

use crate::policy::model::{Policy, RuleKind};

use super::block::Blocks;
use super::class::Side;
use super::condition::{Choices, Numbers};
use super::error::{Budget, CompileError, TABLE_BYTES};
use super::layer::Layer;
use super::service::Services;
use super::{Layering, number};

/// The pair table and the verdict table.
#[derive(Debug)]
pub(super) struct Verdicts {
    /// `source class * destinations + destination class` to row; in layers each layer's.
    pub(super) pairs: Vec<u32>,
    /// By source class, in layers.
    pub(super) sources: Vec<Lanes>,
    /// By destination class, in layers.
    pub(super) destinations: Vec<Lanes>,
    /// `row * services + service class` to cell.
    pub(super) cells: Vec<u32>,
    /// What cells that depend on the time lead to.
    pub(super) choices: Vec<Choice>,
}

const WORD_BYTES: u64 = size_of::<u32>() as u64;
const LANES_BYTES: u64 = size_of::<Lanes>() as u64;

pub(super) fn compile(
    policy: &Policy,
    sources: &Side<'_>,
    destinations: &Side<'_>,
    services: &Services,
    conditions: &Numbers,
    layering: Layering,
    budget: &mut Budget,
) -> Result<Verdicts, CompileError> {
    let tables = Tables { policy, sources, destinations, services, conditions };
    if layering == Layering::BySize {
        let mut alone = budget.clone();
        let layer = Layer::whole(policy, sources, destinations);
        if let Ok(Filled { pairs, cells, choices }) =
            tables.fill(slice::from_ref(&layer), ONE_LAYER, &mut alone)
        {
            *budget = alone;
            return Ok(Verdicts { pairs, sources: Vec::new(), destinations: Vec::new(), cells, choices });
        }
    }
    let layers = Layer::apart(policy, sources, destinations);
    let lanes = (sources.count() + destinations.count()) as u64 * LANES_BYTES;
    budget.take("pairs of address classes", lanes)?;
    let Filled { pairs, cells, choices } = tables.fill(&layers, ALL_LAYERS, budget)?;
    let (sources, destinations) = lanes_of(&layers);
    Ok(Verdicts { pairs, sources, destinations, cells, choices })
}

/// Where each class stands in the pair tables of the layers.
fn lanes_of(layers: &[Layer; LAYERS]) -> (Vec<Lanes>, Vec<Lanes>) {
    let mut sources = vec![[0; LAYERS]; layers[0].sources.class_of.len()];
    let mut destinations = vec![[0; LAYERS]; layers[0].destinations.class_of.len()];
    let mut start = 0;
    for (index, layer) in layers.iter().enumerate() {
        let width = number(layer.destinations.count);
        for (lanes, class) in sources.iter_mut().zip(&layer.sources.class_of) {
            lanes[index] = start + class * width;
        }
        for (lanes, class) in destinations.iter_mut().zip(&layer.destinations.class_of) {
            lanes[index] = *class;
        }
        start += number(layer.sources.count) * width;
    }
    (sources, destinations)
}

/// What the tables are made from.
struct Tables<'a, 'p> {
    policy: &'a Policy,
    sources: &'a Side<'p>,
    destinations: &'a Side<'p>,
    services: &'a Services,
    conditions: &'a Numbers,
}

impl Tables<'_, '_> {
    /// The pair tables of some layers, one after the other, and the verdict table that they share.
    fn fill(&self, layers: &[Layer], limits: Limits, budget: &mut Budget) -> Result<Filled, CompileError> {
        let mut pairs = Vec::new();
        let mut rows = Rows::new(self.policy, self.services, self.conditions);
        for layer in layers {
            let count = layer.sources.count * layer.destinations.count;
            budget.take("pairs of address classes", count as u64 * WORD_BYTES)?;
            let room = budget.narrowed(limits.cell_bytes);
            let start = pairs.len();
            pairs.resize(start + count, Lists::EMPTY);
            let lists = self.lists(layer, &mut pairs[start..], limits.lists)?;
            let mut row_of_list = vec![None; lists.nodes.len()];
            for pair in &mut pairs[start..] {
                let row = &mut row_of_list[*pair as usize];
                *pair = match *row {
                    Some(known) => known,
                    None => *row.insert(rows.row(&lists.rules(*pair), &room)?),
                };
            }
        }
        budget.take(Rows::TABLE, rows.blocks.bytes())?;
        let choices = rows.choices.into_table();
        budget.take("choices by time", choices.len() as u64 * size_of::<Choice>() as u64)?;
        Ok(Filled { pairs, cells: rows.blocks.into_words(), choices })
    }

    /// The list of rules that name each pair of a layer.
    fn lists(&self, layer: &Layer, pairs: &mut [u32], limit: usize) -> Result<Lists, CompileError> {
        let width = layer.destinations.count;
        let mut lists = Lists::new();
        for &rule in &layer.rules {
            lists.check(limit)?;
            let mut step = Step { rule: number(rule), lists: &mut lists, known: HashMap::new(), last: None };
            let destinations = layer.destinations.classes_of_rule(self.destinations, rule);
            for source in layer.sources.classes_of_rule(self.sources, rule) {
                let row = &mut pairs[source as usize * width..][..width];
                for &destination in &destinations {
                    let list = &mut row[destination as usize];
                    *list = step.append(*list);
                }
            }
        }
        Ok(lists)
    }
}

/// Tables, filled.
struct Filled {
    pairs: Vec<u32>,
    cells: Vec<u32>,
    choices: Vec<Choice>,
}

/// What may be spent on pairs and rows, beside the budget of all tables.
#[derive(Clone, Copy)]
struct Limits {
    /// Lists of rules that are kept while compiling, of 8 bytes each.
    lists: usize,
    /// Bytes of rows.
    cell_bytes: u64,
}

/// Beyond this, layers are tried: a decision then reads four pairs and four cells instead of one, of tables that
/// fit caches better.
const ONE_LAYER: Limits = Limits { lists: 4 << 20, cell_bytes: 64 << 20 };

/// As much memory for lists as the tables may take. Where wide rules of one side cross wide rules of the other, nearly
/// every pair has a list of its own, after every rule.
const ALL_LAYERS: Limits = Limits { lists: 32 << 20, cell_bytes: TABLE_BYTES };

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
    conditions: &'a Numbers,
    blocks: Blocks,
    choices: Choices,
}

impl<'a> Rows<'a> {
    const TABLE: &'static str = "verdicts";

    fn new(policy: &'a Policy, services: &'a Services, conditions: &'a Numbers) -> Self {
        let blocks = Blocks::new(services.classes as usize);
        Self { policy, services, conditions, blocks, choices: Choices::default() }
    }

    /// The row that these rules, in the order of their numbers, make.
    fn row(&mut self, rules: &[u32], budget: &Budget) -> Result<u32, CompileError> {
        let mut cells = vec![Cell::NO_RULE; self.services.classes as usize];
        let mut at_times: BTreeMap<u16, Vec<Choice>> = BTreeMap::new();
        for &index in rules {
            let rule = &self.policy.rules[index as usize];
            let named = of_rule(rule.kind, index);
            for class in rule.services.iter().flat_map(|&service| self.services.classes_of(service)) {
                let cell = &mut cells[usize::from(*class)];
                match self.conditions.of(rule) {
                    None => *cell = (*cell).min(named),
                    Some(condition) => {
                        at_times.entry(*class).or_default().push(Choice { cell: named.0, condition });
                    }
                }
            }
        }
        for (class, choices) in at_times {
            let cell = &mut cells[usize::from(class)];
            *cell = self.choices.cell(choices, *cell)?;
        }
        let words: Vec<u32> = cells.into_iter().map(|cell| cell.0).collect();
        let row = self.blocks.intern(&words);
        budget.allow(Self::TABLE, self.blocks.bytes())?;
        Ok(row)
    }
}

/// What one rule says.
fn of_rule(kind: RuleKind, rule: u32) -> Cell {
    match kind {
        RuleKind::Deny => Cell::deny(rule),
        RuleKind::Kept => Cell::kept(rule),
        RuleKind::Quarantine => Cell::quarantine(rule),
        RuleKind::Flow | RuleKind::Vendor => Cell::allow(rule),
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
