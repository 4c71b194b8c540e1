//! What the tables of an image decide about every packet that a question is about.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use gateway_common::reason::{Mode, Reason};
use gateway_common::table::Cell;

use crate::compile::image::NamedPlace;
use crate::compile::read::Rows;
use crate::packet::{Arrival, PacketView, Transport};
use crate::policy::model::{AddressSet, Policy, RuleId, SegmentId};

use super::packets::{self, Packets};
use super::space::{Party, Space};

/// Packets that open a connection, or are judged one by one: from any host of `from` to any of `to`.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// Initiators.
    pub from: &'q AddressSet,
    /// Listeners.
    pub to: &'q AddressSet,
    /// Indices into [`Policy::services`]; `None` for any.
    pub services: Option<&'q [usize]>,
}

/// What the rules say about a packet. Ordered: flows first, then denies, each by rule number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ruling {
    /// A flow or vendor access allows it: the first of those that do.
    Allowed(RuleId),
    /// A deny forbids it: the first of those that do.
    Denied(RuleId),
    /// No rule names it.
    NoFlow,
}

/// One packet, complete: what arrives where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'i> {
    /// Interface and tags.
    pub arrival: Arrival<'i>,
    /// Addresses and ports.
    pub packet: PacketView,
    /// Segment that it arrives from.
    pub source: SegmentId,
    /// Segment that it goes to.
    pub destination: SegmentId,
}

/// One ruling on packets of a question.
#[derive(Clone, Copy, Debug)]
pub struct Finding<'i> {
    /// The first such packet.
    pub sample: Sample<'i>,
    /// The first such packet that passes whatever the rules say, because neither of its segments
    /// enforces; `None` where there is none, and for packets that are allowed.
    pub unenforced: Option<Sample<'i>>,
}

/// Packets of one source, one destination and one service class.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'c> {
    /// Their sources.
    pub source: &'c Party,
    /// Their destinations.
    pub destination: &'c Party,
    /// Number of their service class, the same throughout an image.
    pub class: u16,
    /// What they carry.
    pub packets: &'c Packets,
    /// What becomes of them.
    pub ruling: Ruling,
}

/// Answers questions about one image.
#[derive(Debug)]
pub struct Reach<'i> {
    space: Space<'i>,
}

impl<'i> Reach<'i> {
    /// For a policy's image.
    pub fn new(space: Space<'i>) -> Self {
        Self { space }
    }

    /// The addresses.
    pub fn space(&self) -> &Space<'i> {
        &self.space
    }

    /// Every ruling on packets of a question, over all of them; empty where no packet can be as the
    /// question says.
    pub fn rulings(&self, policy: &Policy, question: Question<'_>) -> BTreeMap<Ruling, Finding<'i>> {
        let mut found: BTreeMap<Ruling, Finding<'i>> = BTreeMap::new();
        // Equal rows between equal segments have nothing new to say.
        let mut seen = HashSet::new();
        let new = |source: &Party, destination: &Party, rows| {
            seen.insert((source.family, source.segment, destination.segment, rows))
        };
        self.visit(policy, question, new, |cells| {
            let sample = || self.sample(cells);
            let is_open = !matches!(cells.ruling, Ruling::Allowed(_)) && self.is_open(cells);
            let finding =
                found.entry(cells.ruling).or_insert_with(|| Finding { sample: sample(), unenforced: None });
            if is_open && finding.unenforced.is_none() {
                finding.unenforced = Some(sample());
            }
        });
        found
    }

    /// Looks at every cell of a question.
    pub fn cells(&self, policy: &Policy, question: Question<'_>, visit: impl FnMut(Cells<'_>)) {
        self.visit(policy, question, |_, _, _| true, visit);
    }

    /// One packet of a cell.
    ///
    /// # Panics
    /// Where the cell is of another image: [`Self::cells`] has those of this one.
    pub fn sample(&self, cells: Cells<'_>) -> Sample<'i> {
        let transport =
            cells.packets.sample(cells.source.family).expect("cells have packets of their family");
        let packet =
            PacketView { source: cells.source.host(), destination: cells.destination.host(), transport };
        Sample {
            arrival: self.arrival(cells, &packet),
            packet,
            source: cells.source.segment,
            destination: cells.destination.segment,
        }
    }

    /// Where a packet of a cell arrives: where its rule wants that, if it wants a tunnel.
    fn arrival(&self, cells: Cells<'_>, packet: &PacketView) -> Arrival<'i> {
        let at = |named: &'i NamedPlace| Arrival {
            interface: &named.interface,
            outer: named.outer,
            vlan: named.vlan,
        };
        let image = self.space.image();
        let first = self.space.place_of(cells.source.segment).map(at).expect("senders have a place");
        if image.config.ways == 0 || cells.ruling.rule().is_none() {
            return first;
        }
        let is_so = |arrival: &Arrival<'_>| {
            image.decide(*arrival, packet).is_some_and(|it| it.rule == cells.ruling.rule())
        };
        let here = image.places.iter().filter(|named| named.place.segment == cells.source.segment.0);
        here.map(at).find(is_so).unwrap_or(first)
    }

    fn visit(
        &self,
        policy: &Policy,
        question: Question<'_>,
        mut is_new: impl FnMut(&Party, &Party, Rows) -> bool,
        mut visit: impl FnMut(Cells<'_>),
    ) {
        let image = self.space.image();
        let services = question.services.map(|list| list.iter().map(|&index| &policy.services[index]));
        let classes = packets::classes(image, services);
        let sources = self.space.sources(question.from);
        let destinations = self.space.destinations(question.to);
        for source in &sources {
            for destination in &destinations {
                let reaches = !source.nameless || destination.segment == SegmentId::GATEWAY;
                if source.family != destination.family || !reaches {
                    continue;
                }
                let rows = image.rows(source.class, destination.class).expect("classes of this image");
                if !is_new(source, destination, rows) {
                    continue;
                }
                for (&class, packets) in &classes {
                    if packets.sample(source.family).is_none() {
                        continue;
                    }
                    let ruling = Ruling::of(image.cell(rows, class).expect("rows and classes of this image"));
                    visit(Cells { source, destination, class, packets, ruling });
                }
            }
        }
    }

    /// Whether what no flow allows passes here, because neither segment enforces.
    fn is_open(&self, cells: Cells<'_>) -> bool {
        let enforces =
            |segment: SegmentId| self.space.image().segments[usize::from(segment.0)] == Mode::Enforce as u32;
        !enforces(cells.source.segment) && !enforces(cells.destination.segment)
    }
}

impl Ruling {
    fn of(cell: Cell) -> Self {
        match cell {
            Cell::NO_RULE => Self::NoFlow,
            cell if cell.is_allow() => Self::Allowed(RuleId(cell.rule())),
            cell => Self::Denied(RuleId(cell.rule())),
        }
    }

    /// The rule that decided, where one did.
    pub fn rule(self) -> Option<RuleId> {
        match self {
            Self::Allowed(rule) | Self::Denied(rule) => Some(rule),
            Self::NoFlow => None,
        }
    }

    /// As the datapath calls it.
    pub fn reason(self) -> Reason {
        match self {
            Self::Allowed(_) => Reason::Flow,
            Self::Denied(_) => Reason::Denied,
            Self::NoFlow => Reason::NoFlow,
        }
    }
}

impl fmt::Display for Sample<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PacketView { source, destination, transport } = self.packet;
        let end = |address: std::net::IpAddr, port| std::net::SocketAddr::new(address, port);
        match transport {
            Transport::Tcp { source: from, destination: to } => {
                write!(formatter, "tcp {} -> {}", end(source, from), end(destination, to))
            }
            Transport::Udp { source: from, destination: to } => {
                write!(formatter, "udp {} -> {}", end(source, from), end(destination, to))
            }
            Transport::Icmp(kind) => write!(formatter, "icmp/{kind} {source} -> {destination}"),
            Transport::Icmpv6(kind) => write!(formatter, "icmpv6/{kind} {source} -> {destination}"),
            Transport::Other(number) => write!(formatter, "proto/{number} {source} -> {destination}"),
        }?;
        let Arrival { interface, outer, vlan } = self.arrival;
        write!(formatter, " arriving on {interface}")?;
        match (outer, vlan) {
            (0, 0) => Ok(()),
            (0, vlan) => write!(formatter, " with VLAN {vlan}"),
            (outer, vlan) => write!(formatter, " with VLANs {outer} and {vlan}"),
        }
    }
}
