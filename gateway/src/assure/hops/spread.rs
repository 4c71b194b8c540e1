//! Everything that hosts reach, by the number of hops: what is at stake when one of them is taken over.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::assure::explain::Named;
use crate::assure::naming::{Ranges as Listed, add, segment_part};
use crate::assure::space::{Party, Space};
use crate::policy::model::{AddressSet, Policy, RuleId, SegmentId};

use super::{Question, Search, Via};

/// What is reached, and what is not.
#[derive(Clone, Debug, Serialize)]
pub struct Spread {
    /// By the number of hops; the first is what is reached directly.
    pub rounds: Vec<Round>,
    /// Segments of which nothing is reached, `wan` and `gateway` among them.
    pub not_reached: Vec<String>,
}

/// What one more hop adds.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// How many hops it takes.
    pub hops: usize,
    /// By segment.
    pub landed: Vec<Landed>,
}

/// Addresses of one segment that a hop lands on.
#[derive(Clone, Debug, Serialize)]
pub struct Landed {
    /// Their segment.
    pub segment: String,
    /// The segment itself, devices or addresses.
    pub to: Vec<String>,
    /// Segments that the hop comes from.
    pub from: Vec<String>,
    /// Rules that allow it; none where it does not pass the gateway.
    pub rules: Vec<Named>,
}

/// All that is reached from where the question says.
pub fn spread(policy: &Policy, space: &Space<'_>, question: Question<'_>) -> Spread {
    let mut search = Search::new(policy, space, question);
    search.run(None);
    let rounds: Vec<Round> = (0..search.levels.len())
        .map(|level| Round { hops: level + 1, landed: search.landed(level) })
        .collect();
    let landed = search.levels.iter().flat_map(|level| level.landings.iter().map(|it| it.party.segment));
    let begun = space.sources(question.from).into_iter().map(|party| party.segment);
    let reached: BTreeSet<SegmentId> = landed.chain(begun).collect();
    let not_reached = (0..)
        .map(SegmentId)
        .zip(&policy.segments)
        .filter(|(id, _)| ![SegmentId::UNKNOWN, SegmentId::MULTICAST].contains(id) && !reached.contains(id))
        .map(|(_, segment)| segment.name.clone())
        .collect();
    Spread { rounds, not_reached }
}

#[derive(Default)]
struct Arrival {
    to: Listed,
    from: BTreeSet<SegmentId>,
    rules: BTreeSet<RuleId>,
}

impl Search<'_, '_> {
    fn landed(&mut self, level: usize) -> Vec<Landed> {
        let mut by_segment: BTreeMap<SegmentId, Arrival> = BTreeMap::new();
        let level = &self.levels[level];
        for landing in &level.landings {
            let arrival = by_segment.entry(landing.party.segment).or_default();
            add(&mut arrival.to, landing.party.family, &landing.party.ranges);
            match &landing.via {
                Via::Rules(by) => {
                    for source in by.iter().map(|&index| &level.sources[index]) {
                        arrival.from.insert(source.segment);
                        arrival.rules.extend(self.decided.rules(source, &landing.party));
                    }
                }
                Via::Neighbour(index) => drop(arrival.from.insert(level.sources[*index].segment)),
                Via::SameHosts(_) => {}
            }
        }
        let name = |id: SegmentId| self.policy.segment(id).name.clone();
        let landed = |(id, Arrival { to, from, rules })| Landed {
            segment: name(id),
            to: segment_part(self.policy, id, &to, &self.whole(id)),
            from: from.into_iter().map(name).collect(),
            rules: rules.into_iter().map(|rule| Named::of(self.policy, rule)).collect(),
        };
        by_segment.into_iter().map(landed).collect()
    }

    /// All listeners of a segment.
    fn whole(&self, id: SegmentId) -> Vec<Party> {
        self.everything.iter().filter(|party| party.segment == id).cloned().collect()
    }

    /// What sources of a segment are called.
    pub(super) fn source_names(&self, id: SegmentId, sources: &[&Party]) -> Vec<String> {
        let mut listed = Listed::new();
        for party in sources.iter().filter(|party| !party.nameless) {
            add(&mut listed, party.family, &party.ranges);
        }
        if listed.is_empty() {
            return vec![self.policy.segment(id).name.clone()];
        }
        let set = AddressSet { segments: [id].into(), ..AddressSet::default() };
        segment_part(self.policy, id, &listed, &self.space.sources(&set))
    }

    /// What destinations of a segment are called.
    pub(super) fn destination_names(&self, id: SegmentId, destinations: &[Party]) -> Vec<String> {
        let mut listed = Listed::new();
        for party in destinations {
            add(&mut listed, party.family, &party.ranges);
        }
        segment_part(self.policy, id, &listed, &self.whole(id))
    }
}
