//! What differs besides the rules: interfaces, segments, modes, settings, invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use gateway_common::place::SEGMENT_FIRST;
use serde::Serialize;

use crate::policy::lints::extent::World;
use crate::policy::model::{
    Forwarding, Interface, Invariant, ModeSetting, Policy, Ranges, Rule, Segment, SegmentId, ServiceMatch,
};

use super::words::range;

/// One change that is not one of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setup {
    /// What changes, and how: a sentence without its full stop.
    pub what: String,
    /// What that does to packets.
    #[serde(flatten)]
    pub effect: Effect,
}

/// Directions of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// Packets pass that did not.
    pub widens: bool,
    /// Packets do not pass any more that did.
    pub narrows: bool,
}

impl Effect {
    const NONE: Self = Self { widens: false, narrows: false };
    const WIDENS: Self = Self { widens: true, narrows: false };
    const NARROWS: Self = Self { widens: false, narrows: true };
    const BOTH: Self = Self { widens: true, narrows: true };

    /// Both effects together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { widens: self.widens || other.widens, narrows: self.narrows || other.narrows }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match (self.widens, self.narrows) {
            (false, false) => "nothing",
            (true, false) => "widening",
            (false, true) => "narrowing",
            (true, true) => "both",
        }
    }
}

/// Names of segments, by their numbers. A segment that only has another name now goes by the new one.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) old: Vec<String>,
    pub(super) new: Vec<String>,
}

impl Names {
    pub(super) fn of(old: &Policy, new: &Policy) -> Self {
        let of = |policy: &Policy| -> Vec<String> {
            policy.segments.iter().map(|segment| segment.name.clone()).collect()
        };
        let (before, after) = (of(old), of(new));
        let renamed = |segment: &Segment| {
            let gone = !segment.ranges.is_empty() && !after.contains(&segment.name);
            let same = |other: &&Segment| other.ranges == segment.ranges && !before.contains(&other.name);
            new.own_segments().iter().filter(|_| gone).find(same)
        };
        let mut names = before.clone();
        for (name, segment) in names.iter_mut().zip(&old.segments).skip(usize::from(SEGMENT_FIRST)) {
            if let Some(other) = renamed(segment) {
                name.clone_from(&other.name);
            }
        }
        Self { old: names, new: after }
    }
}

pub(super) fn compare(old: &Policy, new: &Policy, names: &Names) -> Vec<Setup> {
    let mut found = Vec::new();
    interfaces(old, new, names, &mut found);
    routed(old, new, &mut found);
    tunnels(old, new, &mut found);
    addresses(old, new, names, &mut found);
    segments(old, new, names, &mut found);
    settings(old, new, &mut found);
    invariants(old, new, &mut found);
    found
}

fn interfaces(old: &Policy, new: &Policy, names: &Names, found: &mut Vec<Setup>) {
    let (before, after) = (places(old, &names.old), places(new, &names.new));
    let named = |policy: &Policy| -> BTreeSet<String> {
        policy.interfaces.iter().map(|interface| interface.name.clone()).collect()
    };
    let (old_names, new_names) = (named(old), named(new));
    for name in old_names.difference(&new_names) {
        let what = format!("interface {name} is not named any more: its traffic passes unseen");
        found.push(Setup { what, effect: Effect::BOTH });
    }
    for name in new_names.difference(&old_names) {
        let segments: BTreeSet<&str> =
            after.iter().filter(|(place, _)| place.0 == *name).map(|(_, segment)| segment.as_str()).collect();
        let segments: Vec<&str> = segments.into_iter().collect();
        let what = format!(
            "interface {name} is added, for {}: its traffic was not touched before",
            segments.join(", ")
        );
        found.push(Setup { what, effect: Effect::BOTH });
    }
    let places: BTreeSet<&Place> = before.keys().chain(after.keys()).collect();
    for place in places.into_iter().filter(|p| old_names.contains(&p.0) && new_names.contains(&p.0)) {
        let (was, is) = (before.get(place), after.get(place));
        let (what, effect) = match (was, is) {
            (Some(was), Some(is)) if was != is => (format!("from {was} to {is}"), Effect::BOTH),
            (Some(was), None) => (format!("from {was} to none"), Effect::NARROWS),
            (None, Some(is)) => (format!("from none to {is}"), Effect::WIDENS),
            _ => continue,
        };
        found.push(Setup { what: format!("segment of {}: {what}", place_words(place)), effect });
    }
}

/// Interfaces behind which a router forwards between segments, or no longer. Who is taken for a sender of the interface's
/// segment meets its mode, and otherwise that of where his address is from.
fn routed(old: &Policy, new: &Policy, found: &mut Vec<Setup>) {
    let is_lenient = |policy: &Policy, interface: &Interface| {
        let mode = |segment: SegmentId| policy.segments[usize::from(segment.0)].mode;
        interface.places().any(|(_, _, segment)| mode(segment) != ModeSetting::Enforce)
    };
    for interface in &new.interfaces {
        let before = old.interfaces.iter().find(|before| before.name == interface.name);
        let Some(before) = before.filter(|before| before.routed != interface.routed) else { continue };
        let lenient = if interface.routed { is_lenient(old, before) } else { is_lenient(new, interface) };
        let (what, effect) = match (interface.routed, lenient) {
            (true, false) => ("senders of every segment are accepted", Effect::WIDENS),
            (true, true) => {
                ("senders of every segment are accepted, each by the mode of that segment", Effect::BOTH)
            }
            (false, false) => ("senders of its own segments alone are accepted", Effect::NARROWS),
            (false, true) => ("senders of other segments meet the mode of its own", Effect::BOTH),
        };
        found.push(Setup { what: format!("interface {}: {what}", interface.name), effect });
    }
}

/// Interfaces that are the end of another tunnel, and access that wants another one.
fn tunnels(old: &Policy, new: &Policy, found: &mut Vec<Setup>) {
    for interface in &new.interfaces {
        let before = old.interfaces.iter().find(|before| before.name == interface.name);
        if let Some(before) = before.filter(|before| before.way() != interface.way()) {
            let (was, is) = (before.way().word(), interface.way().word());
            let what = format!("interface {}: tunnel from {was} to {is}", interface.name);
            found.push(Setup { what, effect: Effect::BOTH });
        }
    }
    let matches = |policy: &Policy, rule: &Rule| -> BTreeSet<ServiceMatch> {
        rule.services.iter().flat_map(|&it| policy.services[it].matches.iter().copied()).collect()
    };
    for rule in new.rules.iter().filter(|rule| rule.is_active() && rule.kind.allows()) {
        let is_same = |before: &&Rule| {
            before.is_active()
                && before.kind.allows()
                && (before.name == rule.name
                    || (before.from == rule.from
                        && before.to == rule.to
                        && matches(old, before) == matches(new, rule)))
        };
        let before: Vec<&Rule> = old.rules.iter().filter(is_same).collect();
        let Some(first) =
            before.first().filter(|_| before.iter().all(|before| before.through != rule.through))
        else {
            continue;
        };
        let (what, effect) = match (first.through, rule.through) {
            (Some(was), None) => (format!("needed to {} and needs to no more", was.words()), Effect::WIDENS),
            (None, Some(is)) => (format!("needs to {} now", is.words()), Effect::NARROWS),
            (Some(was), Some(is)) => {
                (format!("needed to {} and needs to {} now", was.words(), is.words()), Effect::BOTH)
            }
            (None, None) => continue,
        };
        found.push(Setup { what: format!("`{}` {what}", rule.name), effect });
    }
}

/// Interface, outer and inner VLAN identifier.
type Place = (String, u16, u16);

fn places(policy: &Policy, names: &[String]) -> BTreeMap<Place, String> {
    let mut places = BTreeMap::new();
    for interface in &policy.interfaces {
        for (outer, vlan, segment) in interface.places() {
            let place = (interface.name.clone(), outer, vlan);
            places.entry(place).or_insert_with(|| names[usize::from(segment.0)].clone());
        }
    }
    places
}

fn place_words((name, outer, vlan): &Place) -> String {
    match (outer, vlan) {
        (0, 0) => format!("interface {name}"),
        (0, vlan) => format!("interface {name}, VLAN {vlan}"),
        (outer, vlan) => format!("interface {name}, VLAN {vlan} in {outer}"),
    }
}

/// Addresses that belong to another segment now: another place is theirs, and another mode.
fn addresses(old: &Policy, new: &Policy, names: &Names, found: &mut Vec<Setup>) {
    let (before, after) = (World::new(old), World::new(new));
    let number = |index: usize| SegmentId(u16::try_from(index).expect("segments are limited"));
    for (was, segment) in old.segments.iter().enumerate() {
        for (is, next) in new.segments.iter().enumerate() {
            if names.old[was] == names.new[is] {
                continue;
            }
            let moved = before.segment(number(was)).intersection(after.segment(number(is)));
            if moved.is_empty() {
                continue;
            }
            let effect = Effect {
                widens: after.places(number(is)) > 0 || next.mode < segment.mode,
                narrows: before.places(number(was)) > 0 || next.mode > segment.mode,
            };
            let (was, is) = (&names.old[was], &names.new[is]);
            let what = format!("addresses move from segment {was} to {is}: {}", listed(&moved));
            found.push(Setup { what, effect });
        }
    }
}

/// Ranges that a sentence lists.
const RANGES_SHOWN: usize = 8;

fn listed(ranges: &Ranges) -> String {
    let v4 = ranges.v4.iter().map(|&(first, last)| {
        let (first, last) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last));
        range(first.into(), last.into())
    });
    let v6 = ranges.v6.iter().map(|&(first, last)| {
        let (first, last) = (Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last));
        range(first.into(), last.into())
    });
    let count = v4.len() + v6.len();
    let shown: Vec<String> = v4.chain(v6).take(RANGES_SHOWN).collect();
    let more =
        if count > RANGES_SHOWN { format!(" and {} more", count - RANGES_SHOWN) } else { String::new() };
    shown.join(", ") + &more
}

fn segments(old: &Policy, new: &Policy, names: &Names, found: &mut Vec<Setup>) {
    let next_of = |name: &String| {
        let at = names.new.iter().position(|other| other == name);
        at.map(|at| &new.segments[at])
    };
    for (name, segment) in names.old.iter().zip(&old.segments) {
        let mut add = |what: String, effect| found.push(Setup { what, effect });
        let Some(next) = next_of(name) else {
            add(format!("segment {name} is removed"), Effect::NONE);
            continue;
        };
        if segment.name != next.name {
            add(format!("segment {} is called {} now", segment.name, next.name), Effect::NONE);
        }
        if segment.mode != next.mode {
            let effect = Effect {
                widens: segment.mode == ModeSetting::Enforce,
                narrows: next.mode == ModeSetting::Enforce,
            };
            let words = (mode(segment.mode), mode(next.mode));
            add(format!("mode of segment {name}: from {} to {}", words.0, words.1), effect);
        }
        if segment.routers != next.routers {
            let (what, effect) = if next.routers {
                ("pass", Effect::WIDENS)
            } else {
                ("do not pass any more", Effect::NARROWS)
            };
            add(format!("router advertisements of segment {name} {what}"), effect);
        }
        for ethertype in segment.ethertypes.symmetric_difference(&next.ethertypes) {
            let (what, effect) = if next.ethertypes.contains(ethertype) {
                ("passes", Effect::WIDENS)
            } else {
                ("does not pass any more", Effect::NARROWS)
            };
            add(format!("EtherType {ethertype:#06x} of segment {name} {what}"), effect);
        }
        if segment.zone != next.zone {
            let zone = |zone: &Option<String>| zone.clone().unwrap_or_else(|| "none".to_owned());
            let (was, is) = (zone(&segment.zone), zone(&next.zone));
            add(format!("zone of segment {name}: from {was} to {is}"), Effect::NONE);
        }
    }
    for name in names.new.iter().filter(|name| !names.old.contains(name)) {
        found.push(Setup { what: format!("segment {name} is added"), effect: Effect::NONE });
    }
}

fn mode(mode: ModeSetting) -> &'static str {
    match mode {
        ModeSetting::Observe => "observe",
        ModeSetting::Audit => "audit",
        ModeSetting::Enforce => "enforce",
    }
}

fn who_forwards(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Kernel => "the kernel",
        Forwarding::Xdp => "XDP, past the kernel's firewall",
    }
}

fn settings(old: &Policy, new: &Policy, found: &mut Vec<Setup>) {
    let (before, after) = (&old.settings, &new.settings);
    if before.midstream != after.midstream {
        let (what, effect) = if after.midstream {
            ("TCP connections may be taken up in their middle", Effect::WIDENS)
        } else {
            ("TCP connections may not be taken up in their middle any more", Effect::NARROWS)
        };
        found.push(Setup { what: what.to_owned(), effect });
    }
    if before.forwarding != after.forwarding {
        let (was, is) = (who_forwards(before.forwarding), who_forwards(after.forwarding));
        let what = format!("allowed packets are forwarded by {is}, not by {was}");
        found.push(Setup { what, effect: Effect::NONE });
    }
    let numbers = [
        ("connections that the table holds", before.connections, after.connections),
        ("neighbour discovery packets a second", before.neighbour_rate, after.neighbour_rate),
        ("events a second", before.event_rate, after.event_rate),
    ];
    for (what, was, is) in numbers.into_iter().filter(|(_, was, is)| was != is) {
        found.push(Setup { what: format!("{what}: from {was} to {is}"), effect: Effect::NONE });
    }
    if before.timeouts != after.timeouts {
        let what = format!("timeouts of connections: from {:?} to {:?} s", before.timeouts, after.timeouts);
        found.push(Setup { what, effect: Effect::NONE });
    }
}

fn invariants(old: &Policy, new: &Policy, found: &mut Vec<Setup>) {
    let meanings = |policy: &Policy| -> BTreeMap<String, Claim> {
        let world = World::new(policy);
        let meaning = |invariant: &Invariant| claim(policy, &world, invariant);
        policy.invariants.iter().map(|invariant| (invariant.name.clone(), meaning(invariant))).collect()
    };
    let (before, after) = (meanings(old), meanings(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let how = match (before.get(name), after.get(name)) {
            (Some(_), None) => "removed",
            (None, Some(_)) => "added",
            (Some(was), Some(is)) if was != is => "changed",
            _ => continue,
        };
        found.push(Setup { what: format!("invariant {name} is {how}"), effect: Effect::NONE });
    }
}

/// What an invariant says: from, to (addresses, and whether the gateway), services.
type Claim = (Ranges, (Ranges, bool), Option<Vec<ServiceMatch>>);

fn claim(policy: &Policy, world: &World, invariant: &Invariant) -> Claim {
    let to = world.destination(&invariant.to);
    let services = invariant.never.as_ref().map(|services| {
        let mut matches: Vec<ServiceMatch> =
            services.iter().flat_map(|&service| policy.services[service].matches.clone()).collect();
        matches.sort_unstable();
        matches
    });
    let gateway = to.atoms.contains(&SegmentId::GATEWAY);
    (world.destination(&invariant.from).ranges, (to.ranges, gateway), services)
}
