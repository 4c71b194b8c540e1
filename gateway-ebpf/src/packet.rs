//! What is read from a frame.

use gateway_common::place::PlaceKey;

/// EtherTypes (IEEE 802 numbers), host byte order.
pub(crate) mod ethertype {
    pub(crate) const IPV4: u16 = 0x0800;
    pub(crate) const ARP: u16 = 0x0806;
    pub(crate) const VLAN: u16 = 0x8100;
    pub(crate) const SERVICE_VLAN: u16 = 0x88a8;
    pub(crate) const IPV6: u16 = 0x86dd;
    /// LACP and its like (IEEE 802.3, annex 57A).
    pub(crate) const SLOW_PROTOCOLS: u16 = 0x8809;
    /// Below this the field is the length of an 802.3 frame.
    pub(crate) const LOWEST: u16 = 0x0600;
}

/// IP protocol numbers (IANA).
pub(crate) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IGMP: u8 = 2;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ICMPV6: u8 = 58;
}

/// Which part of a datagram a packet is.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragment {
    /// All of it.
    Whole,
    /// The first of several: it has the ports.
    First,
    /// One of the others.
    Later,
}

/// The link layer of a frame.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) place: PlaceKey,
    /// Host byte order; 0 for 802.3 with a length.
    pub(crate) ethertype: u16,
    /// Offset of the network header.
    pub(crate) network: usize,
}

impl Link {
    pub(crate) const EMPTY: Self =
        Self { place: PlaceKey { ifindex: 0, outer: 0, vlan: 0 }, ethertype: 0, network: 0 };

    /// Whether the frame carries IPv4 or IPv6.
    #[inline(always)]
    pub(crate) const fn is_ip(&self) -> bool {
        self.ethertype == ethertype::IPV4 || self.ethertype == ethertype::IPV6
    }
}

/// The network and transport layers of a frame, or of a packet that an ICMP error quotes.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    /// IPv4 as `::ffff:a.b.c.d`; network byte order.
    pub(crate) source: [u64; 2],
    pub(crate) destination: [u64; 2],
    /// Network byte order; ICMP echo: the identifier in both; else 0.
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// As on the wire; IPv4's in the low 16 bits.
    pub(crate) identification: u32,
    pub(crate) protocol: u8,
    pub(crate) tcp_flags: u8,
    pub(crate) icmp_type: u8,
    pub(crate) icmp_code: u8,
    pub(crate) hop_limit: u8,
    pub(crate) fragment: Fragment,
    /// The addresses could be read.
    pub(crate) is_addressed: bool,
    /// Offset of the transport header.
    pub(crate) transport: usize,
    /// Bytes from the transport header to the end of the packet.
    pub(crate) payload: usize,
}

impl Packet {
    pub(crate) const EMPTY: Self = Self {
        source: [0; 2],
        destination: [0; 2],
        source_port: 0,
        destination_port: 0,
        identification: 0,
        protocol: 0,
        tcp_flags: 0,
        icmp_type: 0,
        icmp_code: 0,
        hop_limit: 0,
        fragment: Fragment::Whole,
        is_addressed: false,
        transport: 0,
        payload: 0,
    };
}

/// Where a walk through IPv6 extension headers ended.
#[repr(C)]
pub(crate) struct Walked {
    pub(crate) transport: usize,
    pub(crate) identification: u32,
    pub(crate) protocol: u8,
    pub(crate) fragment: Fragment,
}
