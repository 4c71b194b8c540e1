//! The shortest chain from one to the other, host by host.

use std::collections::{BTreeMap, HashSet};

use serde::{Serialize, Serializer};

use crate::assure::explain::Named;
use crate::assure::packets::Packets;
use crate::assure::reach::Sample;
use crate::assure::space::{Family, Party, Space, address, likely};
use crate::packet::{Arrival, PacketView};
use crate::policy::model::{AddressSet, Policy, Ranges, RuleId, SegmentId};
use crate::policy::ranges;

use super::{Level, Question, Search, Via, addresses, of_family};

/// Connections, the first of which starts where the question says, each further one at the host that the one
/// before it opened.
#[derive(Clone, Debug, Serialize)]
pub struct Chain<'i> {
    /// One after the other.
    pub hops: Vec<Hop<'i>>,
}

/// One connection.
#[derive(Clone, Debug, Serialize)]
pub struct Hop<'i> {
    /// Segments, devices or addresses that can open such a connection.
    pub from: Vec<String>,
    /// Where it can lead.
    pub to: Vec<String>,
    /// Rules that allow it; none where it does not pass the gateway.
    pub permits: Vec<Permit>,
    /// One of its packets, from the host where the hop before this one landed.
    #[serde(serialize_with = "shown")]
    pub example: Option<Sample<'i>>,
}

/// What one rule allows of a hop.
#[derive(Clone, Debug, Serialize)]
pub struct Permit {
    /// The rule.
    #[serde(flatten)]
    pub rule: Named,
    /// Protocols and ports.
    pub services: String,
}

#[expect(clippy::ref_option, reason = "as serde hands fields over")]
fn shown<S: Serializer>(sample: &Option<Sample<'_>>, serializer: S) -> Result<S::Ok, S::Error> {
    match sample {
        Some(sample) => serializer.collect_str(sample),
        None => serializer.serialize_none(),
    }
}

/// A shortest chain from where the question says to `to`; `None` where there is none that is short enough.
pub fn shortest<'i>(
    policy: &Policy,
    space: &Space<'i>,
    question: Question<'_>,
    to: &AddressSet,
) -> Option<Chain<'i>> {
    let mut search = Search::new(policy, space, question);
    let target = addresses(&space.destinations(to));
    if !search.run(Some(&target)) {
        return None;
    }
    let (hops, _) = search.chain(search.levels.len(), &target)?;
    Some(Chain { hops })
}

impl<'i> Search<'_, 'i> {
    /// A chain of so many hops that ends in `wanted`, and the address there.
    fn chain(&self, length: usize, wanted: &Ranges) -> Option<(Vec<Hop<'i>>, (Family, u128))> {
        let level = &self.levels[length.checked_sub(1)?];
        let (landing, within) = level.landings.iter().find_map(|landing| {
            let family = landing.party.family;
            let within = ranges::intersection(&landing.party.ranges, &of_family(wanted, family));
            (!within.is_empty()).then_some((landing, within))
        })?;
        let family = landing.party.family;
        let source = match &landing.via {
            Via::SameHosts(landed) => {
                let (hops, _) = self.chain(length, landed)?;
                return Some((hops, (family, likely(&within))));
            }
            Via::Rules(by) => &level.sources[*by.first()?],
            Via::Neighbour(index) => &level.sources[*index],
        };
        let (mut hops, start) = match length {
            1 => (Vec::new(), (source.family, likely(&source.ranges))),
            _ => self.chain(length - 1, &addresses([source]))?,
        };
        // A host does not open connections to itself.
        let itself: &[(u128, u128)] = if start.0 == family { &[(start.1, start.1)] } else { &[] };
        let others = ranges::difference(&within, itself);
        let end = (family, likely(if others.is_empty() { &within } else { &others }));
        hops.push(match landing.via {
            Via::Rules(_) => {
                let last = length == self.levels.len();
                let example = self.example(source, &landing.party, [start, end]);
                self.connection(
                    level,
                    [source.segment, landing.party.segment],
                    last.then_some(wanted),
                    example,
                )
            }
            Via::Neighbour(_) | Via::SameHosts(_) => {
                let segment = vec![self.policy.segment(source.segment).name.clone()];
                Hop { from: segment.clone(), to: segment, permits: Vec::new(), example: None }
            }
        });
        Some((hops, end))
    }

    /// The connections of a level between two segments, to what is in `wanted`.
    fn connection(
        &self,
        level: &Level,
        [from, to]: [SegmentId; 2],
        wanted: Option<&Ranges>,
        example: Option<Sample<'i>>,
    ) -> Hop<'i> {
        let (mut sources, mut destinations) = (Vec::new(), Vec::new());
        let mut permits: BTreeMap<RuleId, Packets> = BTreeMap::new();
        let mut seen = HashSet::new();
        for landing in level.landings.iter().filter(|landing| landing.party.segment == to) {
            let mut party = landing.party.clone();
            if let Some(wanted) = wanted {
                party.ranges = ranges::intersection(&party.ranges, &of_family(wanted, party.family));
            }
            let Via::Rules(by) = &landing.via else { continue };
            let by = by.iter().map(|&index| &level.sources[index]).filter(|source| source.segment == from);
            let by: Vec<&Party> = by.collect();
            if party.ranges.is_empty() || by.is_empty() {
                continue;
            }
            for source in &by {
                if seen.insert((source.family, source.class, party.class)) {
                    for (rule, packets) in self.decided.permits(source, &party) {
                        permits.entry(rule).or_default().extend(&packets);
                    }
                }
            }
            sources.extend(by);
            destinations.push(party);
        }
        let permit = |(id, packets): (RuleId, Packets)| Permit {
            rule: Named::of(self.policy, id),
            services: packets.to_string(),
        };
        Hop {
            from: self.source_names(from, &sources),
            to: self.destination_names(to, &destinations),
            permits: permits.into_iter().map(permit).collect(),
            example,
        }
    }

    /// A packet from one host to another that opens such a connection.
    fn example(&self, from: &Party, to: &Party, [start, end]: [(Family, u128); 2]) -> Option<Sample<'i>> {
        let permits = self.decided.permits(from, to);
        let named = self.space.place_of(from.segment)?;
        Some(Sample {
            arrival: Arrival { interface: &named.interface, outer: named.outer, vlan: named.vlan },
            packet: PacketView {
                source: address(start.0, start.1),
                destination: address(end.0, end.1),
                transport: permits.values().next()?.sample(from.family)?,
            },
            source: from.segment,
            destination: to.segment,
        })
    }
}
