//! What hosts reach over others: chains of connections, each of which the rules allow.
//!
//! A *hop* is one connection. It lands on the addresses that its packets can have as their destination, and on
//! no more; the next hop starts from these, as sources. The addresses of a device are one host: who lands on
//! one of them goes on from all. So are those of IPv4 and IPv6 where a hop lands on all hosts of a segment.
//! Nothing goes on from the gateway: what it opens needs no rule, so whoever has taken it over is held by none.

mod chain;
mod row;
mod spread;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gateway_common::place::SEGMENT_FIRST;

use crate::policy::model::{AddressSet, Policy, Ranges, SegmentId};
use crate::policy::ranges;

pub use chain::{Chain, Hop, Permit, shortest};
use row::Decided;
pub use spread::{Landed, Round, Spread, spread};

use super::space::{Family, Party, Space};

/// What somebody asks about chains.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// Where they start.
    pub from: &'q AddressSet,
    /// Services that the hops may use, as indices into [`Policy::services`].
    pub services: &'q [usize],
    /// Hops to another host of the same segment count too: they do not pass the gateway.
    pub neighbours: bool,
    /// Hops of a chain, at most.
    pub limit: usize,
}

/// Breadth first, level by level.
struct Search<'a, 'i> {
    policy: &'a Policy,
    question: Question<'a>,
    space: &'a Space<'i>,
    decided: Decided<'i>,
    everything: Vec<Party>,
    levels: Vec<Level>,
}

/// The next hop: who could open connections, and where they land that no earlier hop did.
struct Level {
    sources: Vec<Party>,
    landings: Vec<Landing>,
}

/// Addresses that a hop lands on.
struct Landing {
    party: Party,
    via: Via,
}

/// How a hop came where it landed. Numbers are indices into the sources of its level.
enum Via {
    /// Connections that rules allow, from each of these sources.
    Rules(Vec<usize>),
    /// Past the gateway, within a segment.
    Neighbour(usize),
    /// The same hosts as these addresses, which were landed on.
    SameHosts(Ranges),
}

impl<'a, 'i> Search<'a, 'i> {
    fn new(policy: &'a Policy, space: &'a Space<'i>, question: Question<'a>) -> Self {
        let all = (0..).take(policy.segments.len()).map(SegmentId).filter(|id| *id != SegmentId::UNKNOWN);
        let everything = AddressSet { segments: all.collect(), ranges: Ranges::default() };
        Self {
            policy,
            question,
            space,
            decided: Decided::new(policy, space.image(), question.services),
            everything: space.destinations(&everything),
            levels: Vec::new(),
        }
    }

    /// Goes on until a hop lands in `target`, until there is nothing new, or as far as the question says;
    /// whether it landed there. Without a target, what was asked from is nothing new.
    fn run(&mut self, target: Option<&Ranges>) -> bool {
        let mut frontier = self.question.from.clone();
        let begin = addresses(&self.space.sources(&frontier));
        for (_, other) in self.same_devices(&begin, &begin) {
            frontier.ranges = frontier.ranges.union(&other);
        }
        let mut done = addresses(&self.space.sources(&frontier));
        let mut known = if target.is_some() { Ranges::default() } else { done.clone() };
        while self.levels.len() < self.question.limit {
            let sources = self.space.sources(&frontier);
            let landings = self.landings(&sources, &known);
            if landings.is_empty() {
                return false;
            }
            let fresh = addresses(landings.iter().map(|landing| &landing.party));
            self.levels.push(Level { sources, landings });
            if target.is_some_and(|target| !target.is_disjoint(&fresh)) {
                return true;
            }
            frontier = AddressSet { segments: BTreeSet::new(), ranges: fresh.difference(&done) };
            done = done.union(&fresh);
            known = known.union(&fresh);
        }
        false
    }

    fn landings(&mut self, sources: &[Party], known: &Ranges) -> Vec<Landing> {
        let Self { everything, decided, .. } = self;
        let mut landings = Vec::new();
        for destination in everything.iter() {
            let Some(party) = rest(destination, known) else { continue };
            let connects = |index: &usize| {
                let source = &sources[*index];
                let is_host = source.ranges.len() == 1 && source.ranges[0].0 == source.ranges[0].1;
                let is_itself = is_host && source.ranges == party.ranges;
                !is_itself && !decided.rules(source, &party).is_empty()
            };
            let by: Vec<usize> = (0..sources.len()).filter(connects).collect();
            if !by.is_empty() {
                landings.push(Landing { party, via: Via::Rules(by) });
            }
        }
        if self.question.neighbours {
            let fresh = known.union(&addresses(landings.iter().map(|landing| &landing.party)));
            landings.extend(self.neighbours(sources, &fresh));
        }
        let fresh = addresses(landings.iter().map(|landing| &landing.party));
        landings.extend(self.other_family(&known.union(&fresh), known));
        let fresh = addresses(landings.iter().map(|landing| &landing.party));
        for (landed, other) in self.same_devices(&fresh, &known.union(&fresh)) {
            let set = AddressSet { segments: BTreeSet::new(), ranges: other };
            let parties = self.space.destinations(&set).into_iter();
            landings.extend(parties.map(|party| Landing { party, via: Via::SameHosts(landed.clone()) }));
        }
        landings
    }

    /// IPv4 addresses of segments all IPv6 addresses of which were landed on, and the other way round.
    fn other_family(&self, landed: &Ranges, known: &Ranges) -> Vec<Landing> {
        let mut landings = Vec::new();
        for id in (SEGMENT_FIRST..).map(SegmentId).take(self.policy.own_segments().len()) {
            let of_segment =
                |family| self.everything.iter().filter(move |it| (it.segment, it.family) == (id, family));
            for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
                let whole = addresses(of_segment(family));
                let is_whole = !whole.is_empty() && whole.is_subset(landed) && !whole.is_subset(known);
                for party in of_segment(other).filter(|_| is_whole).filter_map(|it| rest(it, landed)) {
                    landings.push(Landing { party, via: Via::SameHosts(whole.clone()) });
                }
            }
        }
        landings
    }

    /// Hosts of the sources' own segments, as far as they are new.
    fn neighbours(&self, sources: &[Party], known: &Ranges) -> Vec<Landing> {
        let own = sources.iter().enumerate().filter(|(_, it)| it.segment.0 >= SEGMENT_FIRST && !it.nameless);
        let first: BTreeMap<SegmentId, usize> = own.rev().map(|(index, it)| (it.segment, index)).collect();
        let parties =
            self.everything.iter().filter_map(|it| Some((rest(it, known)?, *first.get(&it.segment)?)));
        parties.map(|(party, source)| Landing { party, via: Via::Neighbour(source) }).collect()
    }

    /// Of devices that have an address in `fresh`: that, and their addresses that are not in `known`.
    fn same_devices(&self, fresh: &Ranges, known: &Ranges) -> Vec<(Ranges, Ranges)> {
        let devices = self.policy.devices.iter().map(|device| hosts(&device.addresses));
        let landed = devices.map(|all| (all.intersection(fresh), all.difference(known)));
        landed.filter(|(landed, others)| !landed.is_empty() && !others.is_empty()).collect()
    }
}

/// What of a party is not in `known`.
fn rest(party: &Party, known: &Ranges) -> Option<Party> {
    let ranges = ranges::difference(&party.ranges, &of_family(known, party.family));
    (!ranges.is_empty()).then(|| Party { ranges, ..party.clone() })
}

/// All addresses of some parties.
fn addresses<'p>(parties: impl IntoIterator<Item = &'p Party>) -> Ranges {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    let number = |address: u128| u32::try_from(address).expect("an IPv4 address has 32 bits");
    for party in parties.into_iter().filter(|party| !party.nameless) {
        match party.family {
            Family::V4 => v4.extend(party.ranges.iter().map(|range| (number(range.0), number(range.1)))),
            Family::V6 => v6.extend(&party.ranges),
        }
    }
    Ranges { v4: ranges::normalise(v4), v6: ranges::normalise(v6) }
}

fn hosts(list: &[IpAddr]) -> Ranges {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in list {
        match address {
            IpAddr::V4(address) => v4.push((address.to_bits(), address.to_bits())),
            IpAddr::V6(address) => v6.push((address.to_bits(), address.to_bits())),
        }
    }
    Ranges { v4: ranges::normalise(v4), v6: ranges::normalise(v6) }
}

fn of_family(all: &Ranges, family: Family) -> Vec<(u128, u128)> {
    match family {
        Family::V4 => all.v4.iter().map(|&(first, last)| (first.into(), last.into())).collect(),
        Family::V6 => all.v6.clone(),
    }
}

#[cfg(test)]
mod tests;
