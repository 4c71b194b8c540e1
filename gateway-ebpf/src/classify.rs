//! Address to atom, port to service class, pair to cell: the walk through the tables of the generation.

use aya_ebpf::btf_maps::Array;
use gateway_common::table::{
    self, Atom, Cell, FANOUT, NODE, PAGE, ROOT, RUN, SERVICE_ICMP, SERVICE_ICMPV6, SERVICE_PROTOCOL,
    SERVICE_TCP, SERVICE_UDP, node_slot, run,
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
    Some(clinigate_walk(address[0], address[1]) as u32)
}

/// The atom number of an IPv6 address; [`NODE`] is set in it where a table is not what the compiler makes. A
/// function that the verifier checks once and by itself, as the walks through headers are.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn clinigate_walk(high: u64, low: u64) -> u64 {
    u64::from(walk_v6([high, low]).unwrap_or(NODE))
}

#[inline(always)]
fn walk_v6(address: [u64; 2]) -> Option<u32> {
    // A node is a page of the map.
    const { assert!(FANOUT as usize == PAGE) };
    let first = address[0].to_ne_bytes();
    let mut entry = root(&V6, first[0], first[1])?;
    // The words are shifted rather than indexed: an array on the stack read at a variable place costs
    // the verifier a state for each place.
    let mut word = address[0] >> 16;
    let mut left = 48u32;
    for _ in 2..16 {
        if entry & NODE == 0 {
            break;
        }
        let node = V6.get_ptr(ROOT / FANOUT + table::node(entry))?.cast::<u32>();
        // SAFETY: the map returned a whole page; all that is read of it lies below PAGE words.
        unsafe {
            if entry & RUN == 0 {
                entry = node.add(usize::from(word as u8)).read();
                word >>= 8;
                left = left.wrapping_sub(8);
            } else {
                let bits = node.add(run::BITS).read() & 0x7f;
                #[expect(
                    clippy::cast_ptr_alignment,
                    reason = "an even word of a page, which is aligned to 8"
                )]
                let value = node.add(run::VALUE).cast::<u64>().read();
                // The bits that are not compared are shifted out, of all but a whole word.
                if (word ^ value) << (64u32.wrapping_sub(bits) & 63) != 0 {
                    return Some(node.add(run::OTHER).read());
                }
                entry = node.add(run::THEN).read();
                // In halves, because a shift by a whole word is none.
                word = word >> (bits / 2) >> (bits / 2);
                left = left.wrapping_sub(bits);
            }
        }
        // Opaque, so that the verifier finds each turn like the one before.
        left = frame::opaque(left as usize) as u32 & 0x7f;
        if left == 0 {
            word = address[1];
            left = 64;
        }
        frame::forget();
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
    condition::ask();
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
