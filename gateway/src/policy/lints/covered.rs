//! Rules that change nothing, because another rule covers all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::denied::{Budget, Spent};
use super::extent::{Extent, Family, Point};
use super::rules::{Rules, Term};

/// Finds, for rule after rule, another one that covers it.
pub(super) struct Coverage<'a> {
    rules: &'a Rules,
    sources: Index,
    destinations: Index,
    subsets: Subsets<'a>,
}

/// Which rules and sets have all of others; what was found out about two sets is kept.
struct Subsets<'a> {
    rules: &'a Rules,
    /// By kind, numbers (inner, outer) and family of two sets.
    known: HashMap<(End, usize, usize, Family), bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    From,
    To,
    Services,
}

impl<'a> Coverage<'a> {
    /// `None` where the sets overlap so much that the index would not fit the budget.
    pub(super) fn new(rules: &'a Rules, budget: &mut Budget) -> Option<Self> {
        let sources = Index::new(&rules.sources, rules.terms.iter().map(|term| term.from), budget)?;
        let destinations = Index::new(&rules.destinations, rules.terms.iter().map(|term| term.to), budget)?;
        Some(Self { rules, sources, destinations, subsets: Subsets { rules, known: HashMap::new() } })
    }

    /// An active rule of the same effect that covers `rule`; of equal rules the first is covered by
    /// none of them.
    pub(super) fn of(&mut self, rule: usize, budget: &mut Budget) -> Result<Option<usize>, Spent> {
        let term = self.rules.terms[rule];
        let families = self.rules.families(rule);
        let Some(&family) = families.first() else { return Ok(None) };
        let by_source = self.sources.candidates(term.from, family);
        let by_destination = self.destinations.candidates(term.to, family);
        let count = |lists: &[&[usize]]| lists.iter().map(|list| list.len()).sum::<usize>();
        let lists = if count(&by_source) < count(&by_destination) { by_source } else { by_destination };
        let Some(sample) = self.rules.sample(rule, family) else { return Ok(None) };
        for other in lists.into_iter().flatten().copied() {
            if !budget.spend(1) {
                return Err(Spent);
            }
            // One packet tells most rules apart, for less than a comparison of sets.
            if other != rule
                && self.rules.contains(other, sample)
                && self.subsets.covers(other, rule, &families)
                && !(other > rule && self.subsets.is_equal(rule, other))
            {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// Whether a packet of `rule`, of this family, is one of another rule that `counts`.
    pub(super) fn shares_first_packet(
        &self,
        rule: usize,
        family: Family,
        counts: impl Fn(usize) -> bool,
        budget: &mut Budget,
    ) -> Result<bool, Spent> {
        let Some(sample) = self.rules.sample(rule, family) else { return Ok(false) };
        let term = self.rules.terms[rule];
        let by_source = self.sources.candidates(term.from, family);
        let by_destination = self.destinations.candidates(term.to, family);
        let count = |lists: &[&[usize]]| lists.iter().map(|list| list.len()).sum::<usize>();
        let lists = if count(&by_source) < count(&by_destination) { by_source } else { by_destination };
        if !budget.spend(count(&lists)) {
            return Err(Spent);
        }
        Ok(lists.into_iter().flatten().any(|&other| counts(other) && self.rules.contains(other, sample)))
    }
}

impl Subsets<'_> {
    /// Whether `outer` always holds, has the same effect as `inner`, and has all of it.
    fn covers(&mut self, outer: usize, inner: usize, families: &[Family]) -> bool {
        let (a, b) = (self.rules.terms[inner], self.rules.terms[outer]);
        b.always && a.deny == b.deny && families.iter().all(|&family| self.is_subset(a, b, family))
    }

    /// Whether each of two rules covers the other.
    fn is_equal(&mut self, rule: usize, other: usize) -> bool {
        let families = self.rules.families(other);
        self.covers(rule, other, &families)
    }

    fn is_subset(&mut self, a: Term, b: Term, family: Family) -> bool {
        let rules = self.rules;
        let mut look = |end, inner, outer, compute: &dyn Fn() -> bool| {
            inner == outer || *self.known.entry((end, inner, outer, family)).or_insert_with(compute)
        };
        look(End::To, a.to, b.to, &|| rules.destinations[a.to].is_subset(&rules.destinations[b.to], family))
            && look(End::From, a.from, b.from, &|| {
                rules.sources[a.from].is_subset(&rules.sources[b.from], family)
            })
            && look(End::Services, a.services, b.services, &|| {
                let sets = (&rules.services[a.services], &rules.services[b.services]);
                matches!(sets, (Some(inner), Some(outer)) if inner.is_subset(outer, family))
            })
    }
}

/// Rules by the address sets that have a given point.
struct Index {
    /// By number of a set: rules that name it.
    rules: Vec<Vec<usize>>,
    /// By number of a set and family: sets that have the first point of it, itself included.
    containing: [Vec<Vec<usize>>; 2],
}

impl Index {
    fn new(sets: &[Extent], of_rules: impl Iterator<Item = usize>, budget: &mut Budget) -> Option<Self> {
        let mut rules = vec![Vec::new(); sets.len()];
        for (rule, set) in of_rules.enumerate() {
            rules[set].push(rule);
        }
        let v4 = containing(sets, Family::V4, budget)?;
        let v6 = containing(sets, Family::V6, budget)?;
        Some(Self { rules, containing: [v4, v6] })
    }

    fn candidates(&self, set: usize, family: Family) -> Vec<&[usize]> {
        let containing = &self.containing[usize::from(family == Family::V6)];
        containing[set].iter().map(|&other| self.rules[other].as_slice()).collect()
    }
}

/// For each set the sets that have its first point, found by one sweep over all ranges.
fn containing(sets: &[Extent], family: Family, budget: &mut Budget) -> Option<Vec<Vec<usize>>> {
    let mut found = vec![Vec::new(); sets.len()];
    let mut with_atom: BTreeMap<Point, Vec<usize>> = BTreeMap::new();
    let mut edges: Vec<(u128, Edge, usize)> = Vec::new();
    for (number, set) in sets.iter().enumerate() {
        for &atom in &set.atoms {
            with_atom.entry(Point::Atom(atom)).or_default().push(number);
        }
        let ranges: Vec<(u128, u128)> = match family {
            Family::V4 => set.ranges.v4.iter().map(|&(a, b)| (a.into(), b.into())).collect(),
            Family::V6 => set.ranges.v6.clone(),
        };
        for (first, last) in ranges {
            edges.push((first, Edge::Enter, number));
            edges.push((last, Edge::Leave, number));
        }
        match set.first(family) {
            Some(Point::V4(v4)) => edges.push((v4.into(), Edge::Ask, number)),
            Some(Point::V6(v6)) => edges.push((v6, Edge::Ask, number)),
            Some(Point::Atom(_)) | None => {}
        }
    }
    if !budget.spend(edges.len()) {
        return None;
    }
    edges.sort_unstable();
    let mut inside: BTreeSet<usize> = BTreeSet::new();
    for (_, edge, number) in edges {
        match edge {
            Edge::Enter => {
                inside.insert(number);
            }
            Edge::Ask => {
                if !budget.spend(inside.len()) {
                    return None;
                }
                found[number].extend(&inside);
            }
            Edge::Leave => {
                inside.remove(&number);
            }
        }
    }
    for (number, set) in sets.iter().enumerate() {
        if let Some(atom @ Point::Atom(_)) = set.first(family)
            && let Some(others) = with_atom.get(&atom)
        {
            if !budget.spend(others.len()) {
                return None;
            }
            found[number].extend(others);
        }
    }
    Some(found)
}

/// What happens at an address: sets are entered before questions are asked, and left after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Enter,
    Ask,
    Leave,
}
