//! A resolved policy as text: only what decides packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clinigate::policy::model::{
    AddressSet, Condition, Interface, InterfaceKind, ModeSetting, Origin, Policy, Ranges, Rule, RuleKind,
    Segment, SegmentId, Service, ServiceClass, ServiceMatch, Settings, Tunnel,
};
use serde::{Deserialize, Serialize};

/// A policy. Addresses are ranges: `10.0.0.1-10.0.0.9`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sketch {
    /// The four built-in ones first.
    segments: Vec<SegmentSketch>,
    interfaces: Vec<(String, InterfaceKind)>,
    /// Interfaces behind which a router forwards between segments.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    routed: BTreeSet<String>,
    /// Interfaces that are the ends of tunnels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tunnels: BTreeMap<String, Tunnel>,
    services: Vec<Vec<ServiceMatch>>,
    rules: Vec<RuleSketch>,
    #[serde(default, skip_serializing_if = "is_false")]
    midstream: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    break_glass: BTreeMap<SegmentId, u64>,
    connections: u32,
    neighbour_rate: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    timeouts: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct SegmentSketch {
    name: String,
    mode: ModeSetting,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ethertypes: Vec<u16>,
    #[serde(default, skip_serializing_if = "is_false")]
    routers: bool,
}

#[derive(Serialize, Deserialize)]
struct RuleSketch {
    name: String,
    kind: RuleKind,
    from: SetSketch,
    to: SetSketch,
    services: Vec<usize>,
    #[serde(default, skip_serializing_if = "is_false")]
    unenforced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    condition: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    through: Option<Tunnel>,
}

#[derive(Serialize, Deserialize)]
struct SetSketch {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    segments: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Sketch {
    pub(crate) fn of(policy: &Policy) -> Self {
        let segment = |segment: &Segment| SegmentSketch {
            name: segment.name.clone(),
            mode: segment.mode,
            addresses: addresses(&segment.ranges),
            ethertypes: segment.ethertypes.iter().copied().collect(),
            routers: segment.routers,
        };
        let rule = |rule: &Rule| RuleSketch {
            name: rule.name.clone(),
            kind: rule.kind,
            from: SetSketch::of(&rule.from),
            to: SetSketch::of(&rule.to),
            services: rule.services.clone(),
            unenforced: rule.unenforced,
            condition: rule.condition,
            through: rule.through,
        };
        let has_own_timeouts = policy.settings.timeouts != Settings::default().timeouts;
        let routed = policy.interfaces.iter().filter(|interface| interface.routed);
        let interface = |interface: &Interface| (interface.name.clone(), interface.kind.clone());
        Self {
            segments: policy.segments.iter().map(segment).collect(),
            interfaces: policy.interfaces.iter().map(interface).collect(),
            routed: routed.map(|interface| interface.name.clone()).collect(),
            tunnels: policy.interfaces.iter().filter_map(|it| Some((it.name.clone(), it.tunnel?))).collect(),
            services: policy.services.iter().map(|service| service.matches.clone()).collect(),
            rules: policy.rules.iter().map(rule).collect(),
            midstream: policy.settings.midstream,
            conditions: policy.conditions.clone(),
            break_glass: policy.break_glass.clone(),
            connections: policy.settings.connections,
            neighbour_rate: policy.settings.neighbour_rate,
            timeouts: if has_own_timeouts { policy.settings.timeouts.to_vec() } else { Vec::new() },
        }
    }

    pub(crate) fn policy(self) -> Result<Policy, String> {
        let segment = |segment: SegmentSketch| {
            Ok(Segment {
                name: segment.name,
                vlan: None,
                ranges: ranges(&segment.addresses)?,
                zone: None,
                mode: segment.mode,
                ethertypes: segment.ethertypes.into_iter().collect(),
                routers: segment.routers,
                origin: origin(),
            })
        };
        let rule = |rule: RuleSketch| {
            Ok(Rule {
                name: rule.name,
                kind: rule.kind,
                from: rule.from.set()?,
                to: rule.to.set()?,
                services: rule.services,
                purpose: None,
                owner: None,
                review: None,
                unenforced: rule.unenforced,
                condition: rule.condition,
                through: rule.through,
                limits: None,
                origin: origin(),
            })
        };
        let service = |matches: Vec<ServiceMatch>| Service {
            name: format!("{matches:?}"),
            matches,
            class: ServiceClass::Unknown,
            phi: false,
            cleartext: false,
            standard: None,
            origin: None,
        };
        let timeouts = match self.timeouts.as_slice() {
            [] => Settings::default().timeouts,
            own => own.try_into().map_err(|_| "one timeout for each state".to_owned())?,
        };
        let (routed, tunnels) = (self.routed, self.tunnels);
        let interfaces = self.interfaces.into_iter().map(|(name, kind)| {
            let routed = routed.contains(&name);
            let tunnel = tunnels.get(&name).copied();
            Interface { name, kind, routed, tunnel, origin: origin() }
        });
        let segments: Result<_, String> = self.segments.into_iter().map(segment).collect();
        let rules: Result<_, String> = self.rules.into_iter().map(rule).collect();
        Ok(Policy {
            hash: "0".repeat(64),
            interfaces: interfaces.collect(),
            segments: segments?,
            services: self.services.into_iter().map(service).collect(),
            rules: rules?,
            conditions: self.conditions,
            break_glass: self.break_glass,
            settings: Settings {
                midstream: self.midstream,
                connections: self.connections,
                neighbour_rate: self.neighbour_rate,
                timeouts,
                ..Settings::default()
            },
            ..Policy::default()
        })
    }

    /// Segments, interfaces, services and rules on lines of their own.
    pub(crate) fn text(&self) -> String {
        let lines = |name: &str, values: Vec<String>| {
            let body =
                if values.is_empty() { String::new() } else { format!("\n  {}\n ", values.join(",\n  ")) };
            format!(" \"{name}\": [{body}]")
        };
        let mut parts = vec![
            lines("segments", self.segments.iter().map(json).collect()),
            lines("interfaces", self.interfaces.iter().map(json).collect()),
            lines("routed", self.routed.iter().map(json).collect()),
            format!(" \"tunnels\": {}", json(&self.tunnels)),
            lines("services", self.services.iter().map(json).collect()),
            lines("rules", self.rules.iter().map(json).collect()),
        ];
        parts.push(format!(" \"midstream\": {}", self.midstream));
        parts.push(format!(" \"conditions\": {}", json(&self.conditions)));
        parts.push(format!(" \"break_glass\": {}", json(&self.break_glass)));
        parts.push(format!(" \"connections\": {}", self.connections));
        parts.push(format!(" \"neighbour_rate\": {}", self.neighbour_rate));
        parts.push(format!(" \"timeouts\": {}", json(&self.timeouts)));
        format!("{{\n{}\n}}", parts.join(",\n"))
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap()
}

impl SetSketch {
    fn of(set: &AddressSet) -> Self {
        Self { segments: set.segments.iter().map(|id| id.0).collect(), addresses: addresses(&set.ranges) }
    }

    fn set(self) -> Result<AddressSet, String> {
        Ok(AddressSet {
            segments: self.segments.into_iter().map(SegmentId).collect(),
            ranges: ranges(&self.addresses)?,
        })
    }
}

fn origin() -> Origin {
    Origin { file: "case.json".into(), line: 0, column: 1 }
}

fn addresses(ranges: &Ranges) -> Vec<String> {
    let v4 = ranges
        .v4
        .iter()
        .map(|&(first, last)| format!("{}-{}", Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)));
    let v6 = ranges
        .v6
        .iter()
        .map(|&(first, last)| format!("{}-{}", Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last)));
    v4.chain(v6).collect()
}

fn ranges(texts: &[String]) -> Result<Ranges, String> {
    let mut ranges = Ranges::default();
    for text in texts {
        let ends =
            text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        match ends {
            Some((IpAddr::V4(first), IpAddr::V4(last))) => ranges.v4.push((first.to_bits(), last.to_bits())),
            Some((IpAddr::V6(first), IpAddr::V6(last))) => ranges.v6.push((first.to_bits(), last.to_bits())),
            _ => return Err(format!("no range of addresses: {text}")),
        }
    }
    Ok(ranges)
}
