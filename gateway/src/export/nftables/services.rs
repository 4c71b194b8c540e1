//! Services as matches on the transport header.

use super::sets::Family;
use super::text::list;
use crate::policy::model::{ANY_PORT, Policy, Rule, ServiceMatch};
use crate::policy::ranges::normalise;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Everything that a rule's services are in one family: matches of which any suffices; an empty
/// match is everything.
pub(super) fn matches(policy: &Policy, rule: &Rule, family: Family) -> Vec<String> {
    let all = rule.services.iter().flat_map(|&service| policy.services[service].matches.iter().copied());
    let mut parts = Parts::default();
    all.for_each(|one| parts.add(one, family));
    parts.write(family)
}

/// The services of a rule, put together by protocol.
#[derive(Default)]
struct Parts {
    tcp: Vec<(u16, u16)>,
    udp: Vec<(u16, u16)>,
    /// With ports of the source: those, then those of the destination.
    tcp_pairs: Vec<[(u16, u16); 2]>,
    udp_pairs: Vec<[(u16, u16); 2]>,
    types: Vec<(u8, u8)>,
    /// Whole protocols.
    protocols: Vec<(u8, u8)>,
}

impl Parts {
    fn add(&mut self, one: ServiceMatch, family: Family) {
        match one {
            ServiceMatch::Tcp { source: ANY_PORT, destination } => self.tcp.push(destination),
            ServiceMatch::Udp { source: ANY_PORT, destination } => self.udp.push(destination),
            ServiceMatch::Tcp { source, destination } => self.tcp_pairs.push([source, destination]),
            ServiceMatch::Udp { source, destination } => self.udp_pairs.push([source, destination]),
            ServiceMatch::Icmp(types) if family == Family::V4 => self.types.push(types),
            ServiceMatch::Icmpv6(types) if family == Family::V6 => self.types.push(types),
            ServiceMatch::Icmp(_) | ServiceMatch::Icmpv6(_) => {}
            ServiceMatch::Protocol(number) => self.protocols.push((number, number)),
        }
    }

    fn write(self, family: Family) -> Vec<String> {
        let (icmp, name, foreign) = match family {
            Family::V4 => (ICMP, "icmp", ICMPV6),
            Family::V6 => (ICMPV6, "icmpv6", ICMP),
        };
        let mut protocols = self.protocols;
        let mut lines = Vec::new();
        let ports = [("tcp", TCP, self.tcp, self.tcp_pairs), ("udp", UDP, self.udp, self.udp_pairs)];
        let mut pairs = Vec::new();
        for (word, number, destinations, with_source) in ports {
            let destinations = normalise(destinations);
            if destinations == [ANY_PORT] {
                protocols.push((number, number));
                continue;
            }
            if !destinations.is_empty() {
                lines.push(format!("{word} dport {}", list(&destinations)));
            }
            pairs.extend(with_source.into_iter().map(|[source, destination]| {
                let source = format!("{word} sport {}", list(&[source]));
                match destination {
                    ANY_PORT => source,
                    destination => format!("{source} {word} dport {}", list(&[destination])),
                }
            }));
        }
        let types = normalise(self.types);
        if types == [(0, u8::MAX)] {
            protocols.push((icmp, icmp));
        } else if !types.is_empty() {
            lines.push(format!("{name} type {}", list(&types)));
        }
        lines.extend(pairs);
        let protocols = normalise(protocols);
        // No service can name ICMP of the other version.
        let missing = normalise(vec![(0, foreign - 1), (foreign + 1, u8::MAX)]);
        if protocols == missing {
            return vec![format!("meta l4proto != {foreign}")];
        }
        if !protocols.is_empty() {
            lines.insert(0, format!("meta l4proto {}", list(&protocols)));
        }
        lines
    }
}
