//! What the numbers in reports and tables stand for: segments and rules by generation, interfaces by
//! index, devices by address, services by protocol and port.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use gateway_common::connection::State;
use gateway_common::place::{SEGMENT_FIRST, SEGMENT_UNKNOWN};
use gateway_common::reason::Mode;

use super::flow::FlowFilter;
use super::metrics::watching::ShownSegment;
use crate::compile::image::{Manifest, RuleEntry};
use crate::policy::model::{Policy, Service, ServiceClass, ServiceMatch};
use crate::policy::{catalogue, meant};

/// Generations whose names are kept: reports of the one before the last may still be under way.
pub(super) const GENERATIONS_KEPT: usize = 4;

/// IP protocol numbers (IANA).
pub(super) const PROTOCOL_ICMP: u8 = 1;
/// See [`PROTOCOL_ICMP`].
pub(super) const PROTOCOL_TCP: u8 = 6;
/// See [`PROTOCOL_ICMP`].
pub(super) const PROTOCOL_UDP: u8 = 17;
/// See [`PROTOCOL_ICMP`].
pub(super) const PROTOCOL_ICMPV6: u8 = 58;

/// Names, as far as they are known.
#[derive(Debug)]
pub struct Names {
    manifests: VecDeque<(u32, Arc<Manifest>)>,
    interfaces: HashMap<u32, String>,
    devices: HashMap<IpAddr, String>,
    /// Those that the policy names, and the rest of the catalogue behind them.
    services: Vec<Service>,
    /// Services of each rule, by its name: indices into `services`.
    of_rule: HashMap<String, Vec<usize>>,
    policy: Option<Arc<Policy>>,
}

/// What a packet that opens a connection asks for, whoever listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port, host byte order; the type for ICMP and `ICMPv6`; else 0.
    pub port: u16,
}

/// A service's name, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedService<'a> {
    /// Name, as policies write it.
    pub name: &'a str,
    /// What it is for.
    pub class: ServiceClass,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, port } = self;
        match *protocol {
            PROTOCOL_TCP => write!(f, "tcp/{port}"),
            PROTOCOL_UDP => write!(f, "udp/{port}"),
            PROTOCOL_ICMP => write!(f, "icmp/{port}"),
            PROTOCOL_ICMPV6 => write!(f, "icmpv6/{port}"),
            protocol => write!(f, "protocol/{protocol}"),
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            manifests: VecDeque::new(),
            interfaces: HashMap::new(),
            devices: HashMap::new(),
            services: catalogue::builtin(),
            of_rule: HashMap::new(),
            policy: None,
        }
    }
}

impl Names {
    /// Takes note of what the numbers of a generation stand for.
    pub fn learn_generation(&mut self, generation: u32, manifest: Arc<Manifest>) {
        self.manifests.retain(|(known, _)| *known != generation);
        self.manifests.push_back((generation, manifest));
        while self.manifests.len() > GENERATIONS_KEPT {
            self.manifests.pop_front();
        }
    }

    /// Takes note of the names of interfaces, by index.
    pub fn learn_interfaces(&mut self, interfaces: HashMap<u32, String>) {
        self.interfaces = interfaces;
    }

    /// Takes note of the devices and services of the policy in force.
    pub fn learn_policy(&mut self, policy: &Arc<Policy>) {
        let devices = policy.devices.iter();
        self.devices = devices
            .flat_map(|device| device.addresses.iter().map(|address| (*address, device.name.clone())))
            .collect();
        self.services.clone_from(&policy.services);
        let named: Vec<&str> = policy.services.iter().map(|service| service.name.as_str()).collect();
        let rest = catalogue::builtin().into_iter().filter(|service| !named.contains(&service.name.as_str()));
        self.services.extend(rest);
        self.of_rule = policy.rules.iter().map(|rule| (rule.name.clone(), rule.services.clone())).collect();
        self.policy = Some(Arc::clone(policy));
    }

    /// Name of a segment; its number (`#4`) where nobody knows it.
    pub fn segment(&self, generation: u32, number: u16) -> String {
        let manifest = self.manifest(generation);
        match manifest.and_then(|manifest| manifest.segments.get(usize::from(number))) {
            _ if number == SEGMENT_UNKNOWN => "unknown".to_owned(),
            Some(entry) => entry.name.clone(),
            None => format!("#{number}"),
        }
    }

    /// Name of the segment that an address belongs to by the policy in force.
    pub fn segment_of(&self, address: IpAddr) -> Option<&str> {
        let policy = self.policy.as_ref()?;
        Some(&policy.segment(policy.segment_of(address)).name)
    }

    /// Name of the segment of the policy's text that an address belongs to; `None` for the gateway's own, groups
    /// and the world.
    pub fn own_segment_of(&self, address: IpAddr) -> Option<&str> {
        let policy = self.policy.as_ref()?;
        let segment = policy.segment_of(address);
        (segment.0 >= SEGMENT_FIRST).then(|| policy.segment(segment).name.as_str())
    }

    /// Segments of the policy in force, those that stand for no addresses left out.
    pub fn segments(&self) -> Vec<ShownSegment> {
        let segments = self.policy.iter().flat_map(|policy| policy.segments.iter().enumerate());
        let addressed = segments.filter(|(number, _)| *number != usize::from(SEGMENT_UNKNOWN));
        let shown = addressed.map(|(number, segment)| ShownSegment {
            name: segment.name.clone(),
            zone: segment.zone.clone().unwrap_or_default(),
            mode: Mode::from(segment.mode).name(),
            own: number >= usize::from(SEGMENT_FIRST),
        });
        shown.collect()
    }

    /// Seconds of idleness after which a connection ends, by state, as the policy in force says.
    pub fn timeouts(&self) -> Option<[u32; State::COUNT]> {
        Some(self.policy.as_ref()?.settings.timeouts)
    }

    /// Whether a generation's names are known.
    pub fn knows(&self, generation: u32) -> bool {
        self.manifest(generation).is_some()
    }

    /// A rule by its number.
    pub fn rule(&self, generation: u32, number: u32) -> Option<&RuleEntry> {
        self.manifest(generation)?.rules.get(usize::try_from(number).ok()?)
    }

    /// Name of an interface; its index (`#4`) where nobody knows it.
    pub fn interface(&self, ifindex: u32) -> String {
        self.interfaces.get(&ifindex).cloned().unwrap_or_else(|| format!("#{ifindex}"))
    }

    /// The device that has an address.
    pub fn device(&self, address: IpAddr) -> Option<&str> {
        self.devices.get(&address).map(String::as_str)
    }

    /// The service that is asked for: the deciding rule's own name for it where it has one, else what the
    /// site calls it, else the catalogue.
    pub fn service(&self, asked: Asked, rule: Option<&str>) -> Option<NamedService<'_>> {
        let fitting = |service: &&Service| !service.is_in_place() && rank(service, asked).is_some();
        let best = |service: &&Service| rank(service, asked);
        let of_rule = rule.and_then(|rule| self.of_rule.get(rule)).into_iter().flatten();
        let of_rule = of_rule.filter_map(|index| self.services.get(*index)).filter(fitting).min_by_key(best);
        let chosen = of_rule.or_else(|| self.services.iter().filter(fitting).min_by_key(best))?;
        Some(NamedService { name: &chosen.name, class: chosen.class })
    }

    /// What a filter names that neither the policy in force nor the catalogue has, in words.
    pub fn unknown(&self, filter: &FlowFilter) -> Option<String> {
        let policy = self.policy.as_ref()?;
        let missing = |what: &str, wanted: &Option<String>, known: &mut dyn Iterator<Item = &str>| {
            let wanted = wanted.as_deref()?;
            let known: Vec<&str> = known.collect();
            let is_missing = !known.contains(&wanted);
            is_missing.then(|| format!("the policy has no {what} {wanted}{}", meant(wanted, known)))
        };
        let in_place = |service: &&String| service.contains('/');
        let service = filter.service.as_ref().filter(|service| !in_place(service)).cloned();
        let rules = self.manifests.iter().flat_map(|(_, manifest)| &manifest.rules);
        missing("segment", &filter.segment, &mut policy.segments.iter().map(|it| it.name.as_str()))
            .or_else(|| {
                missing("device", &filter.device, &mut policy.devices.iter().map(|it| it.name.as_str()))
            })
            .or_else(|| missing("service", &service, &mut self.services.iter().map(|it| it.name.as_str())))
            .or_else(|| missing("rule", &filter.rule, &mut rules.map(|it| it.name.as_str())))
    }

    fn manifest(&self, generation: u32) -> Option<&Manifest> {
        let found = self.manifests.iter().find(|(known, _)| *known == generation);
        found.map(|(_, manifest)| manifest.as_ref())
    }
}

/// How well a service fits what is asked for, the best first: those of the site, then the one whose name
/// IANA gave the port, then the narrowest. `None` where it does not fit at all.
fn rank(service: &Service, asked: Asked) -> Option<(bool, bool, u16)> {
    let width = service.matches.iter().filter_map(|matches| width(*matches, asked)).min()?;
    let by_iana = |standard: &String| standard.contains(&format!("IANA {}", service.name));
    Some((service.origin.is_none(), !service.standard.as_ref().is_some_and(by_iana), width))
}

/// How many ports beside the one that is asked for match.
fn width(matches: ServiceMatch, asked: Asked) -> Option<u16> {
    let within =
        |(first, last): (u16, u16)| (first..=last).contains(&asked.port).then(|| last.saturating_sub(first));
    let kinds = |(first, last): (u8, u8)| within((first.into(), last.into()));
    match (matches, asked.protocol) {
        (ServiceMatch::Tcp { destination, .. }, PROTOCOL_TCP)
        | (ServiceMatch::Udp { destination, .. }, PROTOCOL_UDP) => within(destination),
        (ServiceMatch::Icmp(types), PROTOCOL_ICMP) | (ServiceMatch::Icmpv6(types), PROTOCOL_ICMPV6) => {
            kinds(types)
        }
        (ServiceMatch::Protocol(number), protocol) => (number == protocol).then_some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::*;
    use crate::policy;

    fn hospital() -> Names {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/hospital");
        let mut names = Names::default();
        names.learn_policy(&Arc::new(policy::load(&directory).unwrap().policy.unwrap()));
        names
    }

    #[test]
    fn services_are_called_as_the_rule_the_site_or_iana_does() {
        let names = hospital();
        let tcp = |port| Asked { protocol: PROTOCOL_TCP, port };
        let cases = [
            (tcp(445), None, Some("smb")),
            (tcp(11112), None, Some("dicom-workstation")),
            (tcp(11112), Some("store-studies"), Some("dicom")),
            (tcp(443), None, Some("https")),
            (tcp(443), Some("query-archive"), Some("dicomweb")),
            (tcp(5003), None, Some("analyser")),
            // A rule that does not name it does not give it a name.
            (tcp(445), Some("store-studies"), Some("smb")),
            (Asked { protocol: PROTOCOL_ICMP, port: 8 }, None, Some("ping")),
            (Asked { protocol: 50, port: 0 }, None, Some("esp")),
            // `any` is no name.
            (tcp(40_000), None, None),
            (tcp(40_000), Some("guest-to-inside"), None),
        ];
        for (asked, rule, name) in cases {
            assert_eq!(names.service(asked, rule).map(|service| service.name), name, "{asked:?} {rule:?}");
        }
    }

    #[test]
    fn a_filter_with_a_mistyped_name_is_told_the_nearest_one() {
        let unknown = |filter: FlowFilter| hospital().unknown(&filter).unwrap_or_default();
        let none = FlowFilter::default;
        let text = |text: &str| Some(text.to_owned());
        let cases = [
            (FlowFilter { segment: text("pumps"), device: text("ct-1"), ..none() }, ""),
            (FlowFilter { segment: text("wan"), service: text("tcp/4711"), ..none() }, ""),
            (FlowFilter { segment: text("pump"), ..none() }, "no segment pump; did you mean `pumps`?"),
            (FlowFilter { device: text("ct1"), ..none() }, "no device ct1; did you mean `ct-1`?"),
            (FlowFilter { service: text("smbb"), ..none() }, "no service smbb; did you mean `smb`?"),
            (FlowFilter { service: text("zzzzzzzzz"), ..none() }, "no service zzzzzzzzz"),
        ];
        for (filter, said) in cases {
            let said = if said.is_empty() { String::new() } else { format!("the policy has {said}") };
            assert_eq!(unknown(filter.clone()), said, "{filter:?}");
        }
    }

    #[test]
    fn devices_are_known_by_all_their_addresses() {
        let names = hospital();
        for address in ["10.10.40.11", "fd00:40::11"] {
            assert_eq!(names.device(address.parse().unwrap()), Some("ct-1"));
        }
        assert_eq!(names.device("10.10.40.12".parse().unwrap()), None);
    }
}
