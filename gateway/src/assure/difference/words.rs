//! Sets of addresses and services in the words of a policy: zones, segments and devices where they
//! coincide with the set, else prefixes and ranges.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::lints::extent::{World, never_sources};
use crate::policy::model::{ANY_PORT, Policy, Ranges, SegmentId, ServiceMatch};
use crate::policy::ranges::{difference, intersection, is_subset, normalise};

use super::services::{Atoms, Bits};
use super::{Destinations, Family, Product, Sources};

/// A product in words. Products that differ in the IP version only are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Sentence {
    /// Initiators.
    pub from: Vec<String>,
    /// Listeners.
    pub to: Vec<String>,
    /// Services.
    pub services: Vec<String>,
    /// The IP version, where it is one of both that the ends have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<&'static str>,
}

/// What the names of one policy stand for.
pub struct Vocabulary<'p> {
    policy: &'p Policy,
    atoms: &'p Atoms,
    segments: Vec<(String, Ranges)>,
    zones: Vec<(String, Ranges)>,
    devices: Vec<(String, Ranges)>,
    services: Vec<(String, Bits)>,
    all: Ranges,
}

impl<'p> Vocabulary<'p> {
    /// The words of `policy`; `atoms` are those of a difference that it is a part of.
    pub fn new(policy: &'p Policy, atoms: &'p Atoms) -> Self {
        let world = World::new(policy);
        let mut segments = Vec::new();
        let mut zones: BTreeMap<&str, (usize, Ranges)> = BTreeMap::new();
        for (number, segment) in (0u16..).zip(&policy.segments) {
            let ranges = world.segment(SegmentId(number)).clone();
            if let Some(zone) = &segment.zone {
                let (count, all) = zones.entry(zone).or_default();
                *count += 1;
                *all = all.union(&ranges);
            }
            segments.push((segment.name.clone(), ranges));
        }
        let all = segments.iter().fold(Ranges::default(), |all, (_, ranges)| all.union(ranges));
        let zones = zones.into_iter().filter(|(_, (count, _))| *count > 1);
        let zones = zones.map(|(zone, (_, ranges))| (format!("zone/{zone}"), ranges)).collect();
        let devices = policy.devices.iter().map(|device| {
            let mut ranges = Ranges::default();
            for address in &device.addresses {
                match address {
                    IpAddr::V4(v4) => ranges.v4.push((v4.to_bits(), v4.to_bits())),
                    IpAddr::V6(v6) => ranges.v6.push((v6.to_bits(), v6.to_bits())),
                }
            }
            (device.name.clone(), Ranges { v4: normalise(ranges.v4), v6: normalise(ranges.v6) })
        });
        let services = policy.services.iter().enumerate();
        let mut services: Vec<(String, Bits)> = services
            .map(|(index, service)| (service.name.clone(), atoms.of_services(policy, &[index])))
            .collect();
        services.sort_by_key(|(_, bits)| std::cmp::Reverse(atoms.members(bits).count()));
        Self { policy, atoms, segments, zones, devices: devices.collect(), services, all }
    }

    /// Products that the rule with index `allow` allows, in words.
    pub fn sentences(&self, allow: usize, products: &[Product]) -> Vec<Sentence> {
        let mut by_words: BTreeMap<Sentence, Vec<&Product>> = BTreeMap::new();
        for product in products {
            let sentence = Sentence {
                from: self.sources(product.family, &product.from, product.to.gateway),
                to: self.destinations(product.family, &product.to),
                services: self.services(allow, product.family, &product.services),
                only: None,
            };
            by_words.entry(sentence).or_default().push(product);
        }
        let worded = by_words.into_iter().map(|(mut sentence, products)| {
            if products.iter().all(|product| product.family == products[0].family) {
                sentence.only = self.only(&sentence, products[0].family);
            }
            sentence
        });
        worded.collect()
    }

    /// The family, where both ends have names that stand for addresses of the other one, too.
    fn only(&self, sentence: &Sentence, family: Family) -> Option<&'static str> {
        let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
        let has_other = |words: &[String]| {
            words.iter().any(|word| {
                let word = word.split(" except ").next().unwrap_or(word);
                let named = self.zones.iter().chain(&self.segments).chain(&self.devices);
                word == "any"
                    || word == "gateway"
                    || named.into_iter().any(|(name, set)| name == word && !of(set, other).is_empty())
            })
        };
        let name = if family == Family::V4 { "IPv4" } else { "IPv6" };
        (has_other(&sentence.from) && has_other(&sentence.to)).then_some(name)
    }

    fn sources(&self, family: Family, from: &Sources, to_gateway: bool) -> Vec<String> {
        let never = of(&never_sources(), family);
        // With the gateway as destination a segment's name means its hosts without an address, too.
        let is_whole = |name: &str| !to_gateway || from.nameless.contains(name);
        let mut named = self.addresses(family, &from.ranges, &never, is_whole);
        let covered = |name: &String| {
            let segment = self.segments.iter().find(|(other, _)| other == name);
            segment.is_some_and(|(_, set)| {
                let set = difference(&of(set, family), &never);
                !set.is_empty() && is_subset(&set, &from.ranges)
            })
        };
        for name in from.nameless.iter().filter(|name| !covered(name)) {
            named.push(format!("{name} (hosts without an address)"));
        }
        named
    }

    fn destinations(&self, family: Family, to: &Destinations) -> Vec<String> {
        let mut named = self.addresses(family, &to.ranges, &[], |_| true);
        if to.gateway {
            named.push("gateway".to_owned());
        }
        named
    }

    /// `never` are addresses that a packet cannot have at this end.
    fn addresses(
        &self,
        family: Family,
        set: &[(u128, u128)],
        never: &[(u128, u128)],
        is_whole: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let possible = |ranges: &Ranges| difference(&of(ranges, family), never);
        let mut hosts = (0..).zip(&self.segments).filter(|(id, _)| SegmentId(*id).has_hosts());
        let all_whole = hosts.all(|(_, (name, _))| is_whole(name));
        if !set.is_empty() && all_whole && is_subset(&possible(&self.all), set) {
            return vec!["any".to_owned()];
        }
        let mut rest = set.to_vec();
        let mut words = Vec::new();
        let mut partial = Vec::new();
        for (name, ranges) in self.zones.iter().chain(&self.segments) {
            let ranges = possible(ranges);
            let inside = intersection(&ranges, &rest);
            if inside.is_empty() {
                continue;
            }
            let whole = match name.strip_prefix("zone/") {
                Some(zone) => {
                    let of_zone = self.policy.segments.iter().filter(|s| s.zone.as_deref() == Some(zone));
                    of_zone.into_iter().all(|segment| is_whole(&segment.name))
                }
                None => is_whole(name),
            };
            if whole && is_subset(&ranges, &rest) {
                words.push(name.clone());
                rest = difference(&rest, &inside);
            } else if whole && !name.starts_with("zone/") {
                partial.push((name, ranges, inside));
            }
        }
        // Most of a segment is better told by what is missing.
        for (name, ranges, inside) in partial {
            let missing = difference(&ranges, &inside);
            if missing.len() < inside.len() {
                words.push(format!("{name} except {}", self.hosts(family, &missing).join(", ")));
                rest = difference(&rest, &inside);
            }
        }
        words.extend(self.hosts(family, &rest));
        words
    }

    /// Devices, prefixes and ranges.
    fn hosts(&self, family: Family, set: &[(u128, u128)]) -> Vec<String> {
        let mut rest = set.to_vec();
        let mut words = Vec::new();
        for (name, ranges) in &self.devices {
            let ranges = of(ranges, family);
            if !ranges.is_empty() && is_subset(&ranges, &rest) {
                words.push(name.clone());
                rest = difference(&rest, &ranges);
            }
        }
        words.extend(rest.iter().map(|&(first, last)| range(address(family, first), address(family, last))));
        words
    }

    /// By the services of the rule first, then by any that the policy knows; what is left by its ports.
    fn services(&self, allow: usize, family: Family, set: &Bits) -> Vec<String> {
        let carried = self.atoms.of_family(family);
        let of_rule = &self.policy.rules[allow].services;
        let all_of_rule = self.atoms.of_services(self.policy, of_rule).and(&carried);
        let own = of_rule.iter().map(|&index| self.policy.services[index].name.as_str());
        let own: Vec<&str> = own.collect();
        let candidates = self.services.iter();
        let (mine, others): (Vec<_>, Vec<_>) = candidates.partition(|(name, _)| own.contains(&name.as_str()));
        let lines = |set: &Bits| matches(self.atoms.members(set).collect());
        let mut rest = set.clone();
        let mut words = Vec::new();
        for (name, bits) in mine.into_iter().chain(others) {
            let bits = bits.and(&carried);
            // Services may overlap: one that adds nothing is left out.
            if bits.is_subset(set) && !bits.and(&rest).is_empty() {
                words.push(name.clone());
                rest = rest.without(&bits);
            }
        }
        // Where names do not do, what is missing may be shorter than what is left.
        let (left, missing) = (lines(&rest), lines(&all_of_rule.without(set)));
        if set.is_subset(&all_of_rule) && !missing.is_empty() && missing.len() < left.len() {
            return vec![format!("{} except {}", own.join(", "), missing.join(", "))];
        }
        words.sort_unstable();
        words.extend(left);
        words
    }
}

fn of(ranges: &Ranges, family: Family) -> Vec<(u128, u128)> {
    match family {
        Family::V4 => ranges.v4.iter().map(|&(first, last)| (first.into(), last.into())).collect(),
        Family::V6 => ranges.v6.clone(),
    }
}

fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(u32::try_from(bits).expect("ranges of IPv4 have 32 bits")).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

/// A range as one address, as a prefix, or by its ends.
pub(super) fn range(first: IpAddr, last: IpAddr) -> String {
    let (low, high, width) = match (first, last) {
        (IpAddr::V4(low), IpAddr::V4(high)) => (low.to_bits().into(), high.to_bits().into(), 32),
        (IpAddr::V6(low), IpAddr::V6(high)) => (low.to_bits(), high.to_bits(), 128),
        _ => return format!("{first}-{last}"),
    };
    let differ: u128 = low ^ high;
    let host_bits = 128 - differ.leading_zeros();
    let is_prefix = differ.count_ones() == host_bits && low & differ == 0;
    if differ == 0 {
        first.to_string()
    } else if is_prefix {
        format!("{first}/{}", width - host_bits)
    } else {
        format!("{first}-{last}")
    }
}

/// Inclusive range of ports.
type PortRange = (u16, u16);
/// By protocol and one end's ports: the other end's.
type Ports = BTreeMap<(&'static str, PortRange), Vec<PortRange>>;

/// Atoms by protocol and ports; neighbours are merged.
fn matches(atoms: Vec<ServiceMatch>) -> Vec<String> {
    let mut ports = Ports::new();
    let mut types: BTreeMap<&str, Vec<(u8, u8)>> = BTreeMap::new();
    for atom in atoms {
        match atom {
            ServiceMatch::Tcp { source, destination } => {
                ports.entry(("tcp", source)).or_default().push(destination);
            }
            ServiceMatch::Udp { source, destination } => {
                ports.entry(("udp", source)).or_default().push(destination);
            }
            ServiceMatch::Icmp(range) => types.entry("icmp").or_default().push(range),
            ServiceMatch::Icmpv6(range) => types.entry("icmpv6").or_default().push(range),
            ServiceMatch::Protocol(protocol) => {
                types.entry("protocol").or_default().push((protocol, protocol));
            }
        }
    }
    let mut by_destination = Ports::new();
    for ((protocol, source), destinations) in ports {
        for destination in normalise(destinations) {
            by_destination.entry((protocol, destination)).or_default().push(source);
        }
    }
    let mut words = Vec::new();
    for ((protocol, destination), sources) in by_destination {
        for source in normalise(sources) {
            let to = format!("{protocol}/{}", numbers(destination));
            let from =
                if source == ANY_PORT { String::new() } else { format!(" from port {}", numbers(source)) };
            words.push(to + &from);
        }
    }
    for (name, ranges) in types {
        words.extend(normalise(ranges).into_iter().map(|range| format!("{name}/{}", numbers(range))));
    }
    words
}

fn numbers<T: PartialEq + std::fmt::Display>((first, last): (T, T)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

#[cfg(test)]
mod tests;
