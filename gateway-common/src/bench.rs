//! What the benchmark's programs read (`gateway-ebpf/src/bin/clinigate-bench`): nothing of it is ever in force.

/// The most flows that a run goes through.
pub const FLOWS: usize = 1 << 20;

/// What distinguishes the packets of one run from each other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// As in [`crate::connection::ConnectionKey`]: IPv4 is `::ffff:a.b.c.d`; network byte order.
    pub source: [u64; 2],
    /// Likewise.
    pub destination: [u64; 2],
    /// Host byte order: a plan adds to it.
    pub source_port: u16,
    /// Network byte order.
    pub destination_port: u16,
    /// VLAN identifier of the source's segment, network byte order.
    pub vlan: u16,
    /// VLAN identifier of the destination's segment, network byte order.
    pub back_vlan: u16,
}

/// What the driver does with the frame of a run before each turn. Element 0 of an array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The next turn's number; turn `n` sends flow `first + (n & mask)`.
    pub next: u32,
    /// Where the flows begin.
    pub first: u32,
    /// How many they are, a power of two, less one.
    pub mask: u32,
    /// Bits such as [`Plan::V6`].
    pub shape: u32,
    /// Added to the source port: another connection from the same host.
    pub port_offset: u16,
    /// Zero.
    pub reserved: u16,
}

impl Plan {
    /// The frame is IPv6, else IPv4.
    pub const V6: u32 = 1;
    /// The frame has a VLAN tag.
    pub const TAGGED: u32 = 2;
    /// Packets go from the flow's destination to its source.
    pub const BACK: u32 = 4;
}

/// Bytes of a frame that is sent, as short as Ethernet lets it be without the checksum that the card adds.
pub const LETTER: usize = 60;

/// What the sender puts on a wire: the frame of each flow in turn. Element 0 of an array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// Where the flows begin. CPU `c` sends `mask + 1` of them, from `first + c * (mask + 1)` on: no flow is sent by
    /// two CPUs.
    pub first: u32,
    /// Flows of a CPU, a power of two, less one.
    pub mask: u32,
    /// Interface to send to.
    pub ifindex: u32,
    /// Not zero: packets go from the flow's destination to its source.
    pub back: u16,
    /// Checksum of the frame's IPv4 header with zeros for the addresses, network byte order.
    pub checksum: u16,
    /// Ethernet, IPv4 without options, and ports, all of which but addresses, ports and checksum stay.
    pub frame: [u32; LETTER / 4],
}

const _: () = assert!(size_of::<Flow>() == 40);
const _: () = assert!(size_of::<Letter>() == 16 + LETTER);
