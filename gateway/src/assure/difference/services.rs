//! Services as sets of atoms: what no service of either policy tells apart.

use std::collections::BTreeSet;

use crate::packet::Transport;
use crate::policy::model::{Policy, ServiceMatch};

use super::Family;

/// The atoms of two policies.
#[derive(Clone, Debug)]
pub struct Atoms {
    /// Disjoint.
    atoms: Vec<ServiceMatch>,
}

/// A set of atoms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bits(Vec<u64>);

/// Starts of the pieces that a number's range is cut into.
#[derive(Debug)]
struct Cuts(BTreeSet<u32>);

impl Atoms {
    pub(super) fn of(old: &Policy, new: &Policy) -> Self {
        let services = old.services.iter().chain(&new.services);
        let matches: Vec<ServiceMatch> = services.flat_map(|service| service.matches.clone()).collect();
        let mut tcp = (Cuts::new(), Cuts::new());
        let mut udp = (Cuts::new(), Cuts::new());
        let (mut icmp, mut icmpv6) = (Cuts::new(), Cuts::new());
        let mut protocols = BTreeSet::new();
        for matches in matches {
            match matches {
                ServiceMatch::Tcp { source, destination } => {
                    tcp.0.cut(source);
                    tcp.1.cut(destination);
                }
                ServiceMatch::Udp { source, destination } => {
                    udp.0.cut(source);
                    udp.1.cut(destination);
                }
                ServiceMatch::Icmp(types) => icmp.cut((types.0.into(), types.1.into())),
                ServiceMatch::Icmpv6(types) => icmpv6.cut((types.0.into(), types.1.into())),
                ServiceMatch::Protocol(protocol) => drop(protocols.insert(protocol)),
            }
        }
        let mut atoms = Vec::new();
        for source in tcp.0.pieces(u16::MAX) {
            let pieces = tcp.1.pieces(u16::MAX);
            atoms.extend(pieces.into_iter().map(|destination| ServiceMatch::Tcp { source, destination }));
        }
        for source in udp.0.pieces(u16::MAX) {
            let pieces = udp.1.pieces(u16::MAX);
            atoms.extend(pieces.into_iter().map(|destination| ServiceMatch::Udp { source, destination }));
        }
        atoms.extend(icmp.pieces(u8::MAX.into()).into_iter().map(|types| ServiceMatch::Icmp(bytes(types))));
        let pieces = icmpv6.pieces(u8::MAX.into()).into_iter();
        atoms.extend(pieces.map(|types| ServiceMatch::Icmpv6(bytes(types))));
        atoms.extend(protocols.into_iter().map(ServiceMatch::Protocol));
        Self { atoms }
    }

    /// The atoms of a set.
    pub fn members(&self, set: &Bits) -> impl Iterator<Item = ServiceMatch> {
        self.atoms.iter().enumerate().filter(|(index, _)| set.has(*index)).map(|(_, atom)| *atom)
    }

    /// Whether packets that carry this are in the set.
    pub fn contains(&self, set: &Bits, transport: Transport) -> bool {
        self.members(set).any(|atom| is_of(atom, transport))
    }

    /// What these services name, as indices into the policy's.
    pub(super) fn of_services(&self, policy: &Policy, services: &[usize]) -> Bits {
        let matches = services.iter().filter_map(|&service| policy.services.get(service));
        let matches: Vec<ServiceMatch> = matches.flat_map(|service| service.matches.clone()).collect();
        self.which(|atom| matches.iter().any(|outer| is_within(atom, *outer)))
    }

    /// What packets of this family can carry.
    pub(super) fn of_family(&self, family: Family) -> Bits {
        self.which(|atom| match atom {
            ServiceMatch::Icmp(_) => family == Family::V4,
            ServiceMatch::Icmpv6(_) => family == Family::V6,
            _ => true,
        })
    }

    pub(super) fn which(&self, chosen: impl Fn(ServiceMatch) -> bool) -> Bits {
        let mut bits = vec![0; self.atoms.len().div_ceil(64)];
        for (index, _) in self.atoms.iter().enumerate().filter(|(_, atom)| chosen(**atom)) {
            bits[index / 64] |= 1 << (index % 64);
        }
        Bits(bits)
    }
}

impl Bits {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Whether all of it is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.without(other).is_empty()
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    pub(super) fn or(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a | b).collect())
    }

    pub(super) fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }

    fn has(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }
}

impl Cuts {
    fn new() -> Self {
        Self([0].into())
    }

    fn cut(&mut self, range: (u16, u16)) {
        self.0.extend([u32::from(range.0), u32::from(range.1) + 1]);
    }

    /// Inclusive ranges that make up 0 to `highest`.
    fn pieces(&self, highest: u16) -> Vec<(u16, u16)> {
        let starts: Vec<u16> = self
            .0
            .iter()
            .filter_map(|&start| u16::try_from(start).ok())
            .filter(|start| *start <= highest)
            .collect();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([highest]);
        starts.iter().copied().zip(ends).collect()
    }
}

fn bytes(range: (u16, u16)) -> (u8, u8) {
    let byte = |number| u8::try_from(number).expect("pieces of 0 to 255");
    (byte(range.0), byte(range.1))
}

fn is_within(inner: ServiceMatch, outer: ServiceMatch) -> bool {
    fn holds<T: Ord>(inner: &(T, T), outer: &(T, T)) -> bool {
        outer.0 <= inner.0 && inner.1 <= outer.1
    }
    match (inner, outer) {
        (
            ServiceMatch::Tcp { source, destination },
            ServiceMatch::Tcp { source: sources, destination: destinations },
        )
        | (
            ServiceMatch::Udp { source, destination },
            ServiceMatch::Udp { source: sources, destination: destinations },
        ) => holds(&source, &sources) && holds(&destination, &destinations),
        (ServiceMatch::Icmp(inner), ServiceMatch::Icmp(outer))
        | (ServiceMatch::Icmpv6(inner), ServiceMatch::Icmpv6(outer)) => holds(&inner, &outer),
        (ServiceMatch::Protocol(inner), ServiceMatch::Protocol(outer)) => inner == outer,
        _ => false,
    }
}

fn is_of(atom: ServiceMatch, transport: Transport) -> bool {
    let packet = match transport {
        Transport::Tcp { source, destination } => {
            ServiceMatch::Tcp { source: (source, source), destination: (destination, destination) }
        }
        Transport::Udp { source, destination } => {
            ServiceMatch::Udp { source: (source, source), destination: (destination, destination) }
        }
        Transport::Icmp(kind) => ServiceMatch::Icmp((kind, kind)),
        Transport::Icmpv6(kind) => ServiceMatch::Icmpv6((kind, kind)),
        Transport::Other(protocol) => ServiceMatch::Protocol(protocol),
    };
    is_within(packet, atom)
}
