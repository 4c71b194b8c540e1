//! First fragments, remembered so that later ones find their ports.

/// What all fragments of a datagram share (RFC 791, 3.2; RFC 8200, 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Source; an IPv4 address is `::ffff:a.b.c.d`. Network byte order.
    pub source: [u64; 2],
    /// Destination, likewise.
    pub destination: [u64; 2],
    /// Identification, network byte order; IPv4's in the low 16 bits.
    pub identification: u32,
    /// IP protocol number.
    pub protocol: u32,
}

/// What a later fragment takes from its first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Nanoseconds (coarse monotonic clock) after which later fragments are unknown.
    pub expires: u64,
    /// Source port, network byte order.
    pub source_port: u16,
    /// Destination port, network byte order.
    pub destination_port: u16,
    /// Zero.
    pub reserved: u32,
}

/// Seconds for which a first fragment is remembered: Linux's `ipfrag_time`.
pub const LIFETIME: u32 = 30;
