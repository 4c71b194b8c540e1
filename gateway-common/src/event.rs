//! What the programs report about single packets that did not pass, or would not have.

/// One record of the event ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Event {
    /// Nanoseconds since boot (`CLOCK_MONOTONIC`).
    pub time: u64,
    /// Source; an IPv4 address is `::ffff:a.b.c.d`; zero where the frame has none. Network byte order.
    pub source: [u64; 2],
    /// Destination, likewise.
    pub destination: [u64; 2],
    /// Generation that judged.
    pub generation: u32,
    /// Deciding rule, or [`crate::table::NO_RULE`].
    pub rule: u32,
    /// Ingress interface.
    pub ifindex: u32,
    /// Frame length.
    pub length: u32,
    /// Source port, or ICMP identifier; network byte order.
    pub source_port: u16,
    /// Destination port, or ICMP type (high byte as it stands in memory) and code; network byte order.
    pub destination_port: u16,
    /// VLAN identifier, host byte order.
    pub vlan: u16,
    /// Segment of the source; [`crate::place::SEGMENT_UNKNOWN`] where it has none.
    pub source_segment: u16,
    /// Segment of the destination, likewise.
    pub destination_segment: u16,
    /// EtherType, host byte order.
    pub ethertype: u16,
    /// Ethernet source address.
    pub source_mac: [u8; 6],
    /// IP protocol number.
    pub protocol: u8,
    /// Number of a [`crate::reason::Reason`].
    pub reason: u8,
    /// Number of a [`crate::reason::Verdict`].
    pub verdict: u8,
    /// TCP flags byte, else 0.
    pub tcp_flags: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Packets that this record stands for: itself, and like ones that the limit held back since the
    /// last record.
    pub packets: u64,
}

const _: () = assert!(size_of::<Event>() == 88);
