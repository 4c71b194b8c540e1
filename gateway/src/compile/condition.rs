//! Rules that hold only at times, or only for what arrives through a tunnel: conditions, and the choices between rules
//! that they make.

use std::collections::{BTreeMap, HashMap};

use gateway_common::condition::{ALWAYS, CHOICES, Choice, Condition, EDGES, NONE};
use gateway_common::table::Cell;
use gateway_common::tunnel;

use crate::policy::model::{self, Policy, Rule, Tunnel};

use super::class::Side;
use super::error::CompileError;
use super::number;

/// Numbers in the table, whose first always holds, of all that rules wait for: a time, a way to arrive, or both.
#[derive(Debug, Default)]
pub(super) struct Numbers(BTreeMap<(Option<usize>, Option<Tunnel>), u32>);

impl Numbers {
    pub(super) fn new(policy: &Policy) -> Self {
        let mut numbers = BTreeMap::new();
        for rule in policy.rules.iter().filter(|rule| is_limited(rule)) {
            numbers.insert((rule.condition, rule.through), 0);
        }
        for (value, next) in numbers.values_mut().zip(1..) {
            *value = next;
        }
        Self(numbers)
    }

    /// Of what a rule waits for; none where it always holds.
    pub(super) fn of(&self, rule: &Rule) -> Option<u32> {
        self.0.get(&(rule.condition, rule.through)).copied()
    }
}

/// Whether a rule holds only at times, or for what arrives in one way.
pub(super) fn is_limited(rule: &Rule) -> bool {
    rule.condition.is_some() || rule.through.is_some()
}

/// The bit of a way.
pub(super) const fn way(tunnel: Tunnel) -> u16 {
    match tunnel {
        Tunnel::Direct => tunnel::DIRECT,
        Tunnel::Ipsec => tunnel::IPSEC,
        Tunnel::Wireguard => tunnel::WIREGUARD,
        Tunnel::Openvpn => tunnel::OPENVPN,
        Tunnel::IpVpn => tunnel::IP_VPN,
    }
}

/// The conditions, and which of them puts each class of sources into quarantine.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) table: Vec<Condition>,
    /// Empty where there is no quarantine.
    pub(super) quarantines: Vec<u32>,
}

pub(super) fn compile(policy: &Policy, sources: &Side<'_>, numbers: &Numbers) -> Conditions {
    let mut table = vec![Condition::ALWAYS];
    table.extend(numbers.0.keys().map(|(condition, through)| Condition {
        tunnels: through.map_or(tunnel::ANY, way).into(),
        ..condition.map_or(Condition::ALWAYS, |condition| edges(&policy.conditions[condition]))
    }));
    let mut by_class: HashMap<u32, Vec<(u64, u64)>> = HashMap::new();
    let always = model::Condition { intervals: vec![(0, Condition::NEVER)] };
    for (index, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| rule.isolates()) {
        let condition = rule.condition.map_or(&always, |condition| &policy.conditions[condition]);
        for class in sources.classes_of_rule(index) {
            by_class.entry(*class).or_default().extend(&condition.intervals);
        }
    }
    let mut quarantines = Vec::new();
    if !by_class.is_empty() {
        quarantines = vec![NONE; sources.count()];
        let mut numbers: HashMap<model::Condition, u32> = HashMap::new();
        for (class, intervals) in by_class {
            let united = united(intervals);
            quarantines[class as usize] = *numbers.entry(united).or_insert_with_key(|condition| {
                table.push(edges(condition));
                number(table.len() - 1)
            });
        }
    }
    Conditions { table, quarantines }
}

/// The first intervals that there is room for.
fn edges(condition: &model::Condition) -> Condition {
    let mut edges = [Condition::NEVER; EDGES];
    for (place, &(from, until)) in edges.chunks_exact_mut(2).zip(&condition.intervals) {
        place.copy_from_slice(&[from.min(Condition::NEVER), until.min(Condition::NEVER)]);
    }
    Condition { edges, ..Condition::ALWAYS }
}

/// Intervals in order and apart.
fn united(mut intervals: Vec<(u64, u64)>) -> model::Condition {
    intervals.sort_unstable();
    let mut united: Vec<(u64, u64)> = Vec::new();
    for (from, until) in intervals {
        match united.last_mut() {
            Some(last) if last.1 >= from => last.1 = last.1.max(until),
            _ => united.push((from, until)),
        }
    }
    model::Condition { intervals: united }
}

/// Lists of choices, equal ones stored once.
#[derive(Debug, Default)]
pub(super) struct Choices {
    table: Vec<Choice>,
    known: HashMap<Vec<Choice>, u32>,
}

impl Choices {
    /// The cell that stands for some choices, in any order, before `otherwise`.
    pub(super) fn cell(&mut self, mut choices: Vec<Choice>, otherwise: Cell) -> Result<Cell, CompileError> {
        choices.retain(|choice| choice.cell < otherwise.0);
        if choices.is_empty() {
            return Ok(otherwise);
        }
        choices.sort_unstable_by_key(|choice| (choice.cell, choice.condition));
        choices.dedup();
        choices.push(Choice { cell: otherwise.0, condition: ALWAYS });
        if choices.len() > CHOICES {
            return Err(CompileError::Choices { count: choices.len() - 1, limit: CHOICES - 1 });
        }
        let next = number(self.table.len());
        let table = &mut self.table;
        let first = *self.known.entry(choices).or_insert_with_key(|choices| {
            table.extend(choices);
            next
        });
        if first < Cell::LIMIT {
            Ok(Cell::conditional(first))
        } else {
            Err(CompileError::Choices { count: first as usize, limit: Cell::LIMIT as usize })
        }
    }

    /// All of them, one list after the other.
    pub(super) fn into_table(self) -> Vec<Choice> {
        self.table
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn choices_are_ordered_by_strength_and_end_where_something_always_holds() {
        let mut lists = Choices::default();
        let choice = |cell: Cell, condition| Choice { cell: cell.0, condition };
        let weaker = choice(Cell::allow(9), 1);
        let named =
            vec![choice(Cell::allow(2), 3), weaker, choice(Cell::deny(7), 2), choice(Cell::deny(7), 2)];
        let cell = lists.cell(named.clone(), Cell::allow(5)).unwrap();
        assert_eq!(cell, lists.cell(named, Cell::allow(5)).unwrap(), "equal ones are stored once");
        assert_eq!(lists.cell(vec![weaker], Cell::allow(5)).unwrap(), Cell::allow(5), "nothing to choose");
        let first = cell.choice().unwrap() as usize;
        assert_eq!(
            lists.into_table()[first..],
            [choice(Cell::deny(7), 2), choice(Cell::allow(2), 3), choice(Cell::allow(5), ALWAYS)]
        );
    }

    #[test]
    fn more_choices_than_the_kernel_looks_through_are_refused() {
        let choices =
            |count| (0..count).map(|rule| Choice { cell: Cell::allow(rule).0, condition: 1 }).collect();
        let limit = u32::try_from(CHOICES).unwrap() - 1;
        assert!(Choices::default().cell(choices(limit), Cell::NO_RULE).is_ok());
        let refused = Choices::default().cell(choices(limit + 1), Cell::NO_RULE);
        assert!(matches!(refused, Err(CompileError::Choices { .. })));
    }

    #[test]
    fn intervals_that_touch_are_one() {
        let united = united(vec![(20, 30), (0, 10), (5, 20), (40, 50)]);
        assert_eq!(united.intervals, [(0, 30), (40, 50)]);
        assert_eq!(edges(&united).edges[..5], [0, 30, 40, 50, Condition::NEVER]);
    }
}
