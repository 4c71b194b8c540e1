//! Protocols and ports to service classes: packets that the same services name.

use std::collections::HashMap;

use gateway_common::table::{
    SERVICE_ENTRIES, SERVICE_ICMP, SERVICE_ICMPV6, SERVICE_PROTOCOL, SERVICE_TCP, SERVICE_UDP,
    SOURCE_PORT_ENTRIES,
};

use crate::policy::model::{ANY_PORT, Policy, ServiceMatch};

use super::error::{Budget, CompileError};
use super::number;

/// Classes are numbers of 16 bits.
const CLASS_LIMIT: usize = 1 << 16;
const TABLE: &str = "services";

/// The service tables.
#[derive(Debug)]
pub(super) struct Services {
    /// By protocol and destination port, to the class: final where no source port matters, and for
    /// protocols without ports.
    pub(super) table: Vec<u16>,
    /// By source port, to its class; empty where no source port matters.
    pub(super) source_ports: Vec<u16>,
    /// Both classes to the final one; empty likewise.
    pub(super) matrix: Vec<u16>,
    /// How many source-port classes there are; 0 likewise.
    pub(super) source_port_classes: u32,
    /// How many final classes there are.
    pub(super) classes: u32,
    /// By service: the final classes it names.
    classes_of_service: Vec<Vec<u16>>,
}

impl Services {
    /// Final classes that a service names.
    pub(super) fn classes_of(&self, service: usize) -> &[u16] {
        &self.classes_of_service[service]
    }
}

pub(super) fn compile(policy: &Policy, budget: &mut Budget) -> Result<Services, CompileError> {
    let matches = active_matches(policy);
    let destinations: Vec<Span> = matches.iter().map(|named| destination_span(named.matches)).collect();
    let sources: Vec<Option<Span>> = matches.iter().map(|named| source_span(named.matches)).collect();
    let by_destination =
        classes("destination port", SERVICE_ENTRIES, &spans(destinations.into_iter().map(Some)))?;
    budget.take(TABLE, u64::from(SERVICE_ENTRIES) * CLASS_BYTES)?;
    let mut finals =
        Finals { numbers: HashMap::new(), classes_of_service: vec![Vec::new(); policy.services.len()] };

    if sources.iter().all(Option::is_none) {
        let mut final_of = Vec::with_capacity(by_destination.sets.len());
        for set in &by_destination.sets {
            final_of.push(finals.intern(set.iter().map(|&index| matches[index as usize].service))?);
        }
        let table = by_destination.table.iter().map(|&class| final_of[usize::from(class)]).collect();
        return Ok(finals.services(table, Vec::new(), Vec::new(), 0));
    }

    let by_source = classes("source port", SOURCE_PORT_ENTRIES, &spans(sources.iter().copied()))?;
    budget.take(TABLE, u64::from(SOURCE_PORT_ENTRIES) * CLASS_BYTES)?;
    let cells = by_destination.sets.len() as u64 * by_source.sets.len() as u64;
    budget.take(TABLE, cells * CLASS_BYTES)?;
    let mut matrix = Vec::new();
    for set in &by_destination.sets {
        for source in &by_source.sets {
            let fits =
                |index: &&u32| sources[**index as usize].is_none() || source.binary_search(index).is_ok();
            let services = set.iter().filter(fits).map(|&index| matches[index as usize].service);
            matrix.push(finals.intern(services)?);
        }
    }
    let width = number(by_source.sets.len());
    // What has no ports skips the matrix: its classes are final as they stand.
    let mut table = by_destination.table;
    for class in &mut table[SERVICE_PROTOCOL as usize..] {
        let set = &by_destination.sets[usize::from(*class)];
        *class = finals.intern(set.iter().map(|&index| matches[index as usize].service))?;
    }
    Ok(finals.services(table, by_source.table, matrix, width))
}

const CLASS_BYTES: u64 = size_of::<u16>() as u64;

/// One way for a packet to belong to a service.
struct Named {
    service: usize,
    matches: ServiceMatch,
}

fn active_matches(policy: &Policy) -> Vec<Named> {
    let mut used = vec![false; policy.services.len()];
    for rule in policy.rules.iter().filter(|rule| rule.is_active()) {
        for &service in &rule.services {
            used[service] = true;
        }
    }
    let used = used.into_iter().enumerate().filter(|&(_, used)| used);
    used.flat_map(|(service, _)| {
        policy.services[service].matches.iter().map(move |&matches| Named { service, matches })
    })
    .collect()
}

/// Inclusive range of indices into a table.
type Span = (u32, u32);

fn destination_span(matches: ServiceMatch) -> Span {
    let ports = |base: u32, range: (u16, u16)| (base + u32::from(range.0), base + u32::from(range.1));
    let bytes = |base: u32, range: (u8, u8)| (base + u32::from(range.0), base + u32::from(range.1));
    match matches {
        ServiceMatch::Tcp { destination, .. } => ports(SERVICE_TCP, destination),
        ServiceMatch::Udp { destination, .. } => ports(SERVICE_UDP, destination),
        ServiceMatch::Icmp(types) => bytes(SERVICE_ICMP, types),
        ServiceMatch::Icmpv6(types) => bytes(SERVICE_ICMPV6, types),
        ServiceMatch::Protocol(protocol) => bytes(SERVICE_PROTOCOL, (protocol, protocol)),
    }
}

/// `None` where any source port, or no port at all, will do.
fn source_span(matches: ServiceMatch) -> Option<Span> {
    let span = |base: u32, range: (u16, u16)| {
        (range != ANY_PORT).then(|| (base + u32::from(range.0), base + u32::from(range.1)))
    };
    match matches {
        ServiceMatch::Tcp { source, .. } => span(0, source),
        ServiceMatch::Udp { source, .. } => span(SOURCE_PORT_ENTRIES / 2, source),
        ServiceMatch::Icmp(_) | ServiceMatch::Icmpv6(_) | ServiceMatch::Protocol(_) => None,
    }
}

/// The spans that there are, with the number of their match.
fn spans(by_match: impl Iterator<Item = Option<Span>>) -> Vec<(Span, u32)> {
    by_match.zip(0..).filter_map(|(span, index)| Some((span?, index))).collect()
}

/// A table whose entries are classes: numbers of distinct sets of matches.
struct Classes {
    table: Vec<u16>,
    /// By class: the matches, sorted.
    sets: Vec<Vec<u32>>,
}

fn classes(what: &'static str, entries: u32, spans: &[(Span, u32)]) -> Result<Classes, CompileError> {
    // A span has two: it is entered at the first and left at the second.
    let mut edges: Vec<(u32, u32)> = Vec::new();
    for &((first, last), index) in spans.iter().filter(|((first, last), _)| first <= last) {
        edges.extend([(first, index), (last + 1, index)]);
    }
    edges.sort_unstable();

    let mut table = Vec::with_capacity(entries as usize);
    let mut sets = Vec::new();
    let mut numbers: HashMap<Vec<u32>, u16> = HashMap::new();
    let mut within: Vec<u32> = Vec::new();
    let mut edges = edges.into_iter().peekable();
    while table.len() < entries as usize {
        let at = number(table.len());
        while let Some((_, index)) = edges.next_if(|edge| edge.0 == at) {
            match within.binary_search(&index) {
                Err(place) => within.insert(place, index),
                Ok(place) => drop(within.remove(place)),
            }
        }
        let class = if let Some(&class) = numbers.get(&within) {
            class
        } else {
            let class = class_number(what, sets.len())?;
            sets.push(within.clone());
            numbers.insert(within.clone(), class);
            class
        };
        let end = edges.peek().map_or(entries, |edge| edge.0.min(entries));
        table.resize(end as usize, class);
    }
    Ok(Classes { table, sets })
}

fn class_number(what: &'static str, index: usize) -> Result<u16, CompileError> {
    let error = CompileError::ServiceClasses { what, count: index + 1, limit: CLASS_LIMIT };
    u16::try_from(index).map_err(|_| error)
}

/// Final classes: numbers of distinct sets of services.
struct Finals {
    numbers: HashMap<Vec<usize>, u16>,
    classes_of_service: Vec<Vec<u16>>,
}

impl Finals {
    fn intern(&mut self, services: impl Iterator<Item = usize>) -> Result<u16, CompileError> {
        let mut services: Vec<usize> = services.collect();
        services.sort_unstable();
        services.dedup();
        if let Some(&class) = self.numbers.get(&services) {
            return Ok(class);
        }
        let class = class_number("service", self.numbers.len())?;
        for &service in &services {
            self.classes_of_service[service].push(class);
        }
        self.numbers.insert(services, class);
        Ok(class)
    }

    fn services(self, table: Vec<u16>, source_ports: Vec<u16>, matrix: Vec<u16>, width: u32) -> Services {
        Services {
            table,
            source_ports,
            matrix,
            source_port_classes: width,
            classes: number(self.numbers.len()),
            classes_of_service: self.classes_of_service,
        }
    }
}
