//! Address to atom, port to service class, pair to cell: the walk through the tables of the generation.

use aya_ebpf::btf_maps::Array;
use gateway_common::table::{
    Atom, Cell, NODE, PAGE, SERVICE_ICMP, SERVICE_ICMPV6, SERVICE_PROTOCOL, SERVICE_TCP, SERVICE_UDP,
    node_slot,
};

use crate::maps::{
    ATOMS, LAYER_DESTS, LAYER_SOURCES, MATRIX, PAIRS, SERVICES, SOURCE_PORTS, V4, V6, VERDICTS, paged,
};
use crate::packet::protocol;
use crate::{condition, config, frame};

/// What decides which service a packet belongs to, seen from its initiator.
#[derive(Clone, Copy)]
pub(crate) struct ServiceKey {
    pub(crate) protocol: u8,
    pub(crate) icmp_type: u8,
    /// Network byte order.
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
}

/// The atom of an address; `None` only where a table is not what the compiler makes.
#[inline(always)]
pub(crate) fn atom(address: [u64; 2]) -> Option<Atom> {
    atom_by_number(atom_number(address)?)
}

/// An atom by its number.
#[inline(always)]
pub(crate) fn atom_by_number(number: u32) -> Option<Atom> {
    ATOMS.get(number).copied()
}

#[inline(always)]
fn atom_number(address: [u64; 2]) -> Option<u32> {
    if frame::is_mapped(address) {
        let octets = ((address[1] >> 32) as u32).to_ne_bytes();
        let mut entry = root(&V4, octets[0], octets[1])?;
        if entry & NODE != 0 {
            entry = paged(&V4, node_slot(entry, octets[2]))?;
            if entry & NODE != 0 {
                entry = paged(&V4, node_slot(entry, octets[3]))?;
            }
        }
        return Some(entry);
    }
    walk_v6(address)
}

#[inline(never)]
fn walk_v6(address: [u64; 2]) -> Option<u32> {
    let first = address[0].to_ne_bytes();
    let mut entry = root(&V6, first[0], first[1])?;
    // The words are shifted rather than indexed: an array on the stack read at a variable place costs
    // the verifier a state for each place.
    let mut word = address[0] >> 16;
    for step in 2..16 {
        if entry & NODE == 0 {
            break;
        }
        if step == 8 {
            word = address[1];
        }
        entry = paged(&V6, node_slot(entry, word as u8))?;
        word >>= 8;
    }
    Some(entry)
}

#[inline(always)]
fn root<const N: usize, const F: usize>(
    table: &Array<[u32; PAGE], N, F>,
    first: u8,
    second: u8,
) -> Option<u32> {
    paged(table, u32::from(first) << 8 | u32::from(second))
}

/// The cell that decides on packets from `source` to `destination`.
#[inline(always)]
pub(crate) fn decide(source: &Atom, destination: &Atom, service: &ServiceKey) -> Option<Cell> {
    let class = service_class(service)?;
    if config::layered() == 0 {
        let cell = cell(source.source * config::destinations() + destination.destination, class)?;
        return Some(condition::plain(cell));
    }
    let sources = LAYER_SOURCES.get(source.source)?;
    let destinations = LAYER_DESTS.get(destination.destination)?;
    let mut strongest = Cell::NO_RULE;
    for (start, column) in sources.iter().zip(destinations) {
        strongest = strongest.min(cell(start + column, class)?);
    }
    Some(condition::plain(strongest))
}

/// The cell of a pair for a service class.
#[inline(always)]
fn cell(pair: u32, class: u32) -> Option<Cell> {
    let row = paged(&PAIRS, pair)?;
    condition::resolve(Cell(paged(&VERDICTS, row * config::services() + class)?))
}

#[inline(always)]
fn service_class(service: &ServiceKey) -> Option<u32> {
    let port = u32::from(u16::from_be(service.destination_port));
    let slot = match service.protocol {
        protocol::TCP => SERVICE_TCP + port,
        protocol::UDP => SERVICE_UDP + port,
        protocol::ICMP => SERVICE_ICMP + u32::from(service.icmp_type),
        protocol::ICMPV6 => SERVICE_ICMPV6 + u32::from(service.icmp_type),
        other => SERVICE_PROTOCOL + u32::from(other),
    };
    let class = u32::from(paged(&SERVICES, slot)?);
    if config::source_ports() == 0 || slot >= SERVICE_PROTOCOL {
        return Some(class);
    }
    let source_slot = (slot & SERVICE_UDP) + u32::from(u16::from_be(service.source_port));
    let source_class = u32::from(paged(&SOURCE_PORTS, source_slot)?);
    Some(u32::from(paged(&MATRIX, class * config::source_ports() + source_class)?))
}
