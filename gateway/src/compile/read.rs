//! The tables read in user space, walked as the datapath walks them.
//!
//! Every function answers `None` where a table does not hold what it must; the datapath reports
//! that as [`Reason::Internal`]. Images that [`super::compile`] makes have no such holes.

use std::net::IpAddr;

use gateway_common::condition::{CHOICES, NONE};
use gateway_common::place::{Place, PlaceKey, SEGMENT_GATEWAY, SEGMENT_UNKNOWN, SEGMENT_WAN};
use gateway_common::reason::{Mode, Reason, Verdict};
use gateway_common::table::{
    Atom, Cell, FANOUT, LAYERS, NO_RULE, NODE, RUN, SERVICE_ICMP, SERVICE_ICMPV6, SERVICE_PROTOCOL,
    SERVICE_TCP, SERVICE_UDP, SOURCE_PORT_ENTRIES, node_slot, run,
};

use crate::packet::{Arrival, Decision, PacketView, Transport};
use crate::policy::model::{RuleId, SegmentId};

use super::image::Image;

/// Rows of the verdict table that decide together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// The only one.
    One(u32),
    /// One of each layer.
    Layers([u32; LAYERS]),
}

/// When and how a packet arrives.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// Nanoseconds on the kernel's clock.
    now: u64,
    /// Bits of [`gateway_common::tunnel`].
    ways: u16,
}

impl Image {
    /// What the policy says about a place.
    pub fn place(&self, arrival: Arrival<'_>) -> Option<Place> {
        let here = |interface: &str, outer, vlan| arrival == Arrival { interface, outer, vlan };
        let found = self.places.iter().find(|named| here(&named.interface, named.outer, named.vlan))?;
        Some(found.place)
    }

    /// What is known about an address.
    pub fn atom(&self, address: IpAddr) -> Option<Atom> {
        let index = match address {
            IpAddr::V4(v4) => walk(&self.v4, &v4.octets())?,
            IpAddr::V6(v6) => walk(&self.v6, &v6.octets())?,
        };
        self.atoms.get(index as usize).copied()
    }

    /// Class of a service, as the verdict table has it.
    pub fn service_class(&self, transport: Transport) -> Option<u16> {
        let (index, source_port) = match transport {
            Transport::Tcp { source, destination } => {
                (SERVICE_TCP + u32::from(destination), Some(u32::from(source)))
            }
            Transport::Udp { source, destination } => {
                (SERVICE_UDP + u32::from(destination), Some(SOURCE_PORT_ENTRIES / 2 + u32::from(source)))
            }
            Transport::Icmp(kind) => (SERVICE_ICMP + u32::from(kind), None),
            Transport::Icmpv6(kind) => (SERVICE_ICMPV6 + u32::from(kind), None),
            Transport::Other(protocol) => (SERVICE_PROTOCOL + u32::from(protocol), None),
        };
        let class = *self.services.get(index as usize)?;
        let Some(source_port) = source_port.filter(|_| self.config.source_ports > 0) else {
            return Some(class);
        };
        let source_class = *self.source_ports.get(source_port as usize)?;
        let cell = usize::from(class) * self.config.source_ports as usize + usize::from(source_class);
        self.matrix.get(cell).copied()
    }

    /// Which rule decides between these two, and how, as [`Self::cell`]; of a packet that arrives on these `ways`
    /// (bits of [`gateway_common::tunnel`]).
    pub fn lookup(&self, ways: u16, source: Atom, destination: Atom, transport: Transport) -> Option<Cell> {
        self.lookup_at(Moment { now: 0, ways }, source, destination, transport)
    }

    /// Which rule decides between these two at a time, and how.
    fn lookup_at(
        &self,
        moment: Moment,
        source: Atom,
        destination: Atom,
        transport: Transport,
    ) -> Option<Cell> {
        let service = self.service_class(transport)?;
        self.cell_at(moment, self.rows(source.source, destination.destination)?, service)
    }

    /// Rows of the verdict table that decide between a class of sources and one of destinations.
    pub fn rows(&self, source: u32, destination: u32) -> Option<Rows> {
        let row = |pair: u32| self.pairs.get(pair as usize).copied();
        if self.config.layered == 0 {
            return Some(Rows::One(row(source * self.config.destinations + destination)?));
        }
        let sources = self.layer_sources.get(source as usize)?;
        let destinations = self.layer_destinations.get(destination as usize)?;
        let mut rows = [0; LAYERS];
        for (layer, found) in rows.iter_mut().enumerate() {
            *found = row(sources[layer] + destinations[layer])?;
        }
        Some(Rows::Layers(rows))
    }

    /// The cell of some rows for a service class, of a policy whose rules hold at all times, or at its beginning;
    /// for packets that arrive on whichever way their rule wants.
    pub fn cell(&self, rows: Rows, service: u16) -> Option<Cell> {
        self.cell_at(Moment { now: 0, ways: u16::MAX }, rows, service)
    }

    /// The cell of some rows for a service class at a time: the strongest of them.
    fn cell_at(&self, moment: Moment, rows: Rows, service: u16) -> Option<Cell> {
        let cell = |row: u32| {
            let index = row as usize * self.config.services as usize + usize::from(service);
            self.resolve(moment, Cell(*self.verdicts.get(index)?))
        };
        let strongest = match rows {
            Rows::One(row) => cell(row)?,
            Rows::Layers(rows) => {
                rows.into_iter().try_fold(Cell::NO_RULE, |strongest, row| Some(strongest.min(cell(row)?)))?
            }
        };
        Some(strongest.plain())
    }

    /// A cell as it counts at a time.
    fn resolve(&self, moment: Moment, cell: Cell) -> Option<Cell> {
        let Some(first) = cell.choice() else { return Some(cell) };
        let choices = self.choices.iter().skip(first as usize).take(CHOICES);
        for choice in choices {
            let condition = self.conditions.get(choice.condition as usize)?;
            if condition.holds(moment.now) && condition.takes(moment.ways.into()) {
                return Some(Cell(choice.cell));
            }
        }
        None
    }

    /// Whether the addresses of an atom are in quarantine at a time.
    fn is_quarantined(&self, now: u64, atom: Atom) -> bool {
        let condition = self.quarantines.get(atom.source as usize).filter(|condition| **condition != NONE);
        let condition = condition.and_then(|condition| self.conditions.get(*condition as usize));
        condition.is_some_and(|condition| condition.holds(now))
    }

    /// Whether the glass of one of two segments is broken at a time, for packets between them.
    fn is_open(&self, now: u64, ends: [u16; 2]) -> bool {
        let is_inside = |end: &u16| ![SEGMENT_WAN, SEGMENT_GATEWAY].contains(end);
        let until = |end: &u16| self.break_glass.get(usize::from(*end)).copied().unwrap_or_default();
        ends.iter().all(is_inside) && ends.iter().any(|end| until(end) > now)
    }

    /// Decides the packet that opens a connection, as [`Self::cell`].
    pub fn decide(&self, arrival: Arrival<'_>, packet: &PacketView) -> Option<Decision> {
        self.decide_at(0, arrival, packet)
    }

    /// Decides the packet that opens a connection at a time.
    pub fn decide_at(&self, now: u64, arrival: Arrival<'_>, packet: &PacketView) -> Option<Decision> {
        let Some(mut place) = self.place(arrival) else {
            let PlaceKey { outer, vlan, .. } = PlaceKey::interface(0);
            let named = self.place(Arrival { outer, vlan, ..arrival });
            let reason = if named.is_some() { Reason::UnknownVlan } else { Reason::UnknownInterface };
            return Some(Decision::unknown_place(reason));
        };
        let source = self.atom(packet.source)?;
        let mut destination = self.atom(packet.destination)?;
        if is_mapped(packet.destination) {
            destination.segment = SEGMENT_UNKNOWN;
        }
        let mut is_quarantined = !is_mapped(packet.destination) && self.is_quarantined(now, destination);
        let (mut reason, rule) = match self.admit(place, source, destination, packet)? {
            Err(refused) => (refused, NO_RULE),
            Ok(sender) => {
                if source.flags & (Atom::UNSPECIFIED | Atom::LINK_LOCAL) == 0 {
                    // Behind a router that may be another one than the place's.
                    place.segment = source.segment;
                }
                is_quarantined |= self.is_quarantined(now, sender);
                let moment = Moment { now, ways: place.way() };
                let cell = self.lookup_at(moment, sender, destination, packet.transport)?;
                let reason = match cell {
                    Cell::NO_RULE => Reason::NoFlow,
                    cell if cell.is_allow() => Reason::Flow,
                    _ => Reason::Denied,
                };
                (reason, cell.rule())
            }
        };
        let mode = |segment: u16| mode(*self.segments.get(usize::from(segment))?);
        let by_modes = Verdict::of_modes(mode(place.segment)?, mode(destination.segment)?);
        let verdict = if reason.passes() {
            Verdict::Pass
        } else {
            if is_quarantined {
                reason = Reason::Quarantined;
            } else if by_modes == Verdict::Drop && self.is_open(now, [place.segment, destination.segment]) {
                reason = Reason::BreakGlass;
            }
            reason.settled().unwrap_or(by_modes)
        };
        Some(Decision {
            reason,
            rule: (rule != NO_RULE).then_some(RuleId(rule)),
            source_segment: SegmentId(place.segment),
            destination_segment: SegmentId(destination.segment),
            verdict,
        })
    }

    /// The source guard: the atom that stands for the sender, or why it may not send from here.
    fn admit(
        &self,
        place: Place,
        source: Atom,
        destination: Atom,
        packet: &PacketView,
    ) -> Option<Result<Atom, Reason>> {
        if source.flags & Atom::NEVER_SOURCE != 0 || is_mapped(packet.destination) {
            return Some(Err(Reason::Martian));
        }
        if source.flags & (Atom::UNSPECIFIED | Atom::LINK_LOCAL) != 0 {
            let is_v6_or_link_local = source.flags & Atom::LINK_LOCAL != 0 || packet.source.is_ipv6();
            let is_dhcp = packet.transport == Transport::Udp { source: 68, destination: 67 };
            if destination.segment != SEGMENT_GATEWAY || !(is_v6_or_link_local || is_dhcp) {
                return Some(Err(Reason::Martian));
            }
            return Some(Ok(*self.atoms.get(place.link_atom as usize)?));
        }
        let is_routed = place.flags & Place::ROUTED != 0 && source.segment != SEGMENT_GATEWAY;
        Some(if source.segment == place.segment || is_routed { Ok(source) } else { Err(Reason::Spoofed) })
    }
}

/// Index of the atom that the bytes of an address lead to.
pub(super) fn walk(table: &[u32], address: &[u8]) -> Option<u32> {
    let (root, mut rest) = address.split_first_chunk::<2>()?;
    let mut entry = *table.get(usize::from(u16::from_be_bytes(*root)))?;
    while entry & NODE != 0 {
        if entry & RUN == 0 {
            let (&byte, behind) = rest.split_first()?;
            entry = *table.get(node_slot(entry, byte) as usize)?;
            rest = behind;
            continue;
        }
        let run = Run::at(table, entry)?;
        let (bytes, behind) = rest.split_at_checked(run.bytes().len())?;
        if bytes != run.bytes() {
            return Some(run.other);
        }
        entry = run.then;
        rest = behind;
    }
    Some(entry)
}

/// A run of a stride table (see [`RUN`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    value: [u8; 8],
    length: usize,
    /// Atom of the addresses whose bytes differ.
    pub(crate) other: u32,
    /// Entry for the rest of the others.
    pub(crate) then: u32,
}

impl Run {
    /// The run that `entry` leads to; `None` where the table has no such node.
    pub(crate) fn at(table: &[u32], entry: u32) -> Option<Self> {
        let start = node_slot(entry, 0) as usize;
        let node = table.get(start..start + FANOUT as usize)?;
        let value = u64::from(node[run::VALUE]) | u64::from(node[run::VALUE + 1]) << 32;
        Some(Self {
            value: value.to_le_bytes(),
            length: (node[run::BITS] as usize / 8).min(8),
            other: node[run::OTHER],
            then: node[run::THEN],
        })
    }

    /// The bytes that are compared, as they stand in an address.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.value[..self.length]
    }
}

/// An IPv4-mapped address never stands in a header (RFC 4291, 2.5.5.2).
fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn mode(number: u32) -> Option<Mode> {
    [Mode::Observe, Mode::Audit, Mode::Enforce].into_iter().find(|mode| *mode as u32 == number)
}
