//! Sets of addresses in the words of the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::policy::model::{AddressSet, Policy, SegmentId};
use crate::policy::ranges;

use super::space::{Family, Party, Space, address};

/// Segment, class, whether they have no address.
type Key = (SegmentId, u32, bool);

/// Addresses as ranges of numbers, by family.
pub(super) type Ranges = BTreeMap<Family, Vec<(u128, u128)>>;

/// Ranges of one segment that are listed.
const SHOWN: usize = 6;

/// What the parties of a question are called.
pub(super) struct Names<'a> {
    policy: &'a Policy,
    space: &'a Space<'a>,
    sources: BTreeMap<Key, Ranges>,
    destinations: BTreeMap<Key, Ranges>,
}

impl<'a> Names<'a> {
    pub(super) fn new(policy: &'a Policy, space: &'a Space<'a>) -> Self {
        Self { policy, space, sources: BTreeMap::new(), destinations: BTreeMap::new() }
    }

    /// Remembers which addresses a source and a destination are.
    pub(super) fn learn(&mut self, [from, to]: [Key; 2], [source, destination]: [&Party; 2]) {
        for (known, key, party) in
            [(&mut self.sources, from, source), (&mut self.destinations, to, destination)]
        {
            let known = known.entry(key).or_default();
            known.entry(party.family).or_insert_with(|| party.ranges.clone());
        }
    }

    pub(super) fn sources(&self, keys: &BTreeSet<Key>) -> Vec<String> {
        self.names(keys, &self.sources, |set| self.space.sources(set))
    }

    pub(super) fn destinations(&self, keys: &BTreeSet<Key>) -> Vec<String> {
        self.names(keys, &self.destinations, |set| self.space.destinations(set))
    }

    fn names(
        &self,
        keys: &BTreeSet<Key>,
        known: &BTreeMap<Key, Ranges>,
        parties: impl Fn(&AddressSet) -> Vec<Party>,
    ) -> Vec<String> {
        let mut segments: BTreeMap<SegmentId, Ranges> = BTreeMap::new();
        for key in keys {
            let ranges = segments.entry(key.0).or_default();
            known.get(key).into_iter().flatten().for_each(|(family, found)| add(ranges, *family, found));
        }
        let mut names = Vec::new();
        for (id, ranges) in segments {
            let set = AddressSet { segments: [id].into(), ..AddressSet::default() };
            names.extend(segment_part(self.policy, id, &ranges, &parties(&set)));
        }
        names
    }
}

/// Addresses of a segment: its name where they are all of `parties`, else what they are.
pub(super) fn segment_part(
    policy: &Policy,
    id: SegmentId,
    ranges: &Ranges,
    parties: &[Party],
) -> Vec<String> {
    let mut whole = Ranges::new();
    for party in parties.iter().filter(|party| !party.nameless) {
        add(&mut whole, party.family, &party.ranges);
    }
    let named = |family| match (ranges.get(&family), whole.get(&family)) {
        (Some(part), Some(whole)) => ranges::is_subset(whole, part),
        (part, whole) => part.is_none() && whole.is_none(),
    };
    let segment = &policy.segment(id).name;
    match (named(Family::V4), named(Family::V6)) {
        (true, true) => vec![segment.clone()],
        (true, false) if !ranges.contains_key(&Family::V6) => vec![format!("{segment} (IPv4)")],
        (false, true) if !ranges.contains_key(&Family::V4) => vec![format!("{segment} (IPv6)")],
        _ => parts(policy, ranges),
    }
}

/// A device, or the addresses one by one.
fn parts(policy: &Policy, ranges: &Ranges) -> Vec<String> {
    let hosts =
        |(family, range): (Family, (u128, u128))| (range.0 == range.1).then(|| address(family, range.0));
    let flat: Vec<(Family, (u128, u128))> =
        ranges.iter().flat_map(|(family, list)| list.iter().map(|range| (*family, *range))).collect();
    let single: Option<BTreeSet<IpAddr>> = flat.iter().copied().map(hosts).collect();
    let device = single.and_then(|hosts| {
        let is_it = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<_>>() == hosts;
        policy.devices.iter().find(|device| is_it(&device.addresses))
    });
    if let Some(device) = device {
        return vec![device.name.clone()];
    }
    let mut names: Vec<String> =
        flat.iter().take(SHOWN).map(|&(family, range)| span(family, range)).collect();
    if let more @ 1.. = flat.len().saturating_sub(SHOWN) {
        names.push(format!("{more} more ranges"));
    }
    names
}

pub(super) fn add(ranges: &mut Ranges, family: Family, found: &[(u128, u128)]) {
    let known = ranges.entry(family).or_default();
    *known = ranges::union(known, found);
}

fn span(family: Family, (first, last): (u128, u128)) -> String {
    let bits: u32 = if family == Family::V4 { 32 } else { 128 };
    let size = (last - first).checked_add(1);
    let host_bits = size.map_or(128, u128::trailing_zeros);
    let is_prefix = size.is_none_or(|size| size.is_power_of_two() && first.trailing_zeros() >= host_bits);
    match (first == last, is_prefix) {
        (true, _) => address(family, first).to_string(),
        (false, true) => format!("{}/{}", address(family, first), bits - host_bits),
        (false, false) => format!("{}-{}", address(family, first), address(family, last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_prefixes_where_they_are() {
        let v4 = |first, last| span(Family::V4, (first, last));
        assert_eq!(v4(0, u128::from(u32::MAX)), "0.0.0.0/0");
        assert_eq!(v4(0x0a00_0000, 0x0a00_00ff), "10.0.0.0/24");
        assert_eq!(v4(0x0a00_0001, 0x0a00_0002), "10.0.0.1-10.0.0.2");
        assert_eq!(v4(0x0a00_0001, 0x0a00_0001), "10.0.0.1");
        assert_eq!(v4(0x0a00_0080, 0x0a00_017f), "10.0.0.128-10.0.1.127");
        assert_eq!(span(Family::V6, (0, u128::MAX)), "::/0");
        assert_eq!(span(Family::V6, (1 << 64, (2 << 64) - 1)), "0:0:0:1::/64");
    }
}
