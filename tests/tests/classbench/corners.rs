//! Packets from the corners of filters: first, last, just outside, anywhere inside of each field.

use std::net::Ipv4Addr;

use clinigate::oracle::packet::{Fragment, Packet, Payload, flag};
use clinigate::testing::classbench::Filter;

/// Packets of a set, always the same ones (splitmix64).
pub(crate) struct Corners<'f> {
    filters: &'f [Filter],
    state: u64,
}

impl<'f> Corners<'f> {
    pub(crate) fn new(filters: &'f [Filter], seed: u64) -> Self {
        Self { filters, state: seed }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// A corner of a range: now and then just outside.
    fn corner(&mut self, (first, last): (u64, u64), highest: u64) -> u64 {
        match self.below(12) {
            0 => first.wrapping_sub(1) & highest,
            1 => (last + 1) & highest,
            2..6 => first,
            6..10 => last,
            _ => first + self.below(last - first + 1),
        }
    }

    fn address(&mut self, range: (u32, u32)) -> Ipv4Addr {
        let number = self.corner((range.0.into(), range.1.into()), u32::MAX.into());
        Ipv4Addr::from_bits(u32::try_from(number).expect("it was masked"))
    }

    fn port(&mut self, range: (u16, u16)) -> u16 {
        let number = self.corner((range.0.into(), range.1.into()), u16::MAX.into());
        u16::try_from(number).expect("it was masked")
    }

    fn filter(&mut self) -> &'f Filter {
        let index = self.below(self.filters.len() as u64);
        &self.filters[usize::try_from(index).expect("it is below a length")]
    }
}

impl Iterator for Corners<'_> {
    type Item = Packet;

    fn next(&mut self) -> Option<Packet> {
        let filter = self.filter();
        // Ends of two filters meet now and then.
        let other = if self.below(8) == 0 { self.filter() } else { filter };
        let (source, destination) = (self.address(filter.source), self.address(other.destination));
        let (from, to) = (self.port(filter.source_ports), self.port(filter.destination_ports));
        let protocol = match (filter.protocol, self.below(16)) {
            (Some(protocol), 1..) => u64::from(protocol),
            _ => [1, 6, 6, 17, 17, 47, 50, 89][usize::try_from(self.below(8)).expect("it is below 8")],
        };
        let payload = match u8::try_from(protocol).expect("protocols have 8 bits") {
            1 => Payload::Echo { request: true, identifier: from },
            6 => Payload::Tcp { source: from, destination: to, flags: flag::SYN },
            17 => Payload::Udp { source: from, destination: to },
            other => Payload::Other(other),
        };
        let (source, destination) = (source.into(), destination.into());
        Some(Packet { source, destination, hop_limit: 64, fragment: Fragment::Whole, payload })
    }
}
