//! The compiled policy: tables of one generation, all of them arrays.
//!
//! An address leads to an *atom* through a stride table; the atom names its segment and its
//! class as a source and as a destination. Protocol and port lead to a service class. The pair
//! of classes leads to a *row* of verdicts, the service class to the *cell* in it:
//!
//! ```text
//! source ──V4/V6──▶ atom ─▶ source class ──┐
//!                                          ├─PAIRS─▶ row ──┐
//! destination ─V4/V6─▶ atom ─▶ dest. class ┘               ├─VERDICTS─▶ cell
//! protocol, port ──SERVICES──▶ service class ──────────────┘
//! ```
//!
//! A policy whose rows would be too many has its rules in [`LAYERS`], each with classes and pairs of
//! its own: `LAYER_SOURCES` and `LAYER_DESTS` lead from a class to those of each layer, and the
//! strongest of the layers' cells decides.

/// Set in an entry of a stride table that leads to a further node; clear where the low bits
/// are an atom.
pub const NODE: u32 = 1 << 31;
/// Entries of the root of a stride table: one for each value of the first 16 bits.
pub const ROOT: u32 = 1 << 16;
/// Entries of every further node of a stride table: one for each value of the next 8 bits.
pub const FANOUT: u32 = 1 << 8;

/// Set beside [`NODE`] where the node is a *run*: several bytes of an IPv6 address at once, where all addresses but
/// those with certain bytes have one atom, as nearly all that a policy does not name have. Words of the run's node
/// are at [`run`].
pub const RUN: u32 = 1 << 30;

/// Where the words of a run stand in its node.
pub mod run {
    /// How many bits it compares: a multiple of 8, from 16 to 64, that does not reach beyond the eighth byte of the
    /// address if it begins before it.
    pub const BITS: usize = 0;
    /// Atom of the addresses that differ.
    pub const OTHER: usize = 1;
    /// Entry for the rest of those that are equal.
    pub const THEN: usize = 2;
    /// What is compared, in two words: the bytes as a number whose lowest byte is the first of them.
    pub const VALUE: usize = 4;
}

/// Number of the node that an entry with [`NODE`] set leads to.
#[inline(always)]
pub const fn node(entry: u32) -> u32 {
    entry & !(NODE | RUN)
}

/// Index in a stride table of entry `byte` of the node that `entry` leads to.
#[inline(always)]
pub const fn node_slot(entry: u32, byte: u8) -> u32 {
    ROOT + node(entry) * FANOUT + byte as u32
}

/// Values of a table that stand in one element of its array map.
pub const PAGE: usize = 256;

/// What is known about an equivalence class of addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Atom {
    /// Segment that the addresses belong to.
    pub segment: u16,
    /// Bits such as [`Atom::LINK_LOCAL`].
    pub flags: u16,
    /// Class as a source: row of the pair table.
    pub source: u32,
    /// Class as a destination: column of the pair table.
    pub destination: u32,
}

impl Atom {
    /// Valid only within a link (IPv4 `169.254/16`, IPv6 `fe80::/10`): as a source it takes the
    /// place's [`crate::place::Place::link_atom`].
    pub const LINK_LOCAL: u16 = 1;
    /// The unspecified address: a source only while a host has none yet.
    pub const UNSPECIFIED: u16 = 2;
    /// Never a source: loopback, multicast, broadcast, reserved.
    pub const NEVER_SOURCE: u16 = 4;
    /// Multicast or broadcast.
    pub const GROUP: u16 = 8;
}

/// Index of TCP destination port 0 in the service table.
pub const SERVICE_TCP: u32 = 0;
/// Index of UDP destination port 0 in the service table.
pub const SERVICE_UDP: u32 = 1 << 16;
/// Index of protocol number 0 (any protocol but TCP, UDP, ICMP, ICMPv6) in the service table.
pub const SERVICE_PROTOCOL: u32 = 2 << 16;
/// Index of ICMP type 0 in the service table.
pub const SERVICE_ICMP: u32 = SERVICE_PROTOCOL + 256;
/// Index of ICMPv6 type 0 in the service table.
pub const SERVICE_ICMPV6: u32 = SERVICE_ICMP + 256;
/// Entries of the service table; each is a `u16`.
pub const SERVICE_ENTRIES: u32 = SERVICE_ICMPV6 + 256;
/// Entries of the source port table (TCP at 0, UDP at 65,536), used only where the policy has
/// services with source ports; each is a `u16`. Service class and source-port class lead
/// through the matrix table to the final service class.
pub const SOURCE_PORT_ENTRIES: u32 = 2 << 16;

/// Layers of a policy that needs more than one pair table.
pub const LAYERS: usize = 4;

/// For one class of addresses, where it stands in the pair table of each layer: the index of its row's first
/// entry for a class of sources, the column for a class of destinations. The sum is the index of a pair.
pub type Lanes = [u32; LAYERS];

/// A cell of the verdict table: which rule decides, and how. Ordered by strength: the least of several
/// is what they say together, the first deny, else the first allow. Quarantine stands between them: it forbids
/// what a flow allows, but for what is kept in quarantine too.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell(pub u32);

impl Cell {
    /// No rule names the packet.
    pub const NO_RULE: Self = Self(u32::MAX);
    const ALLOW: u32 = 1 << 31;
    const KEPT: u32 = 1 << 29;
    const QUARANTINE: u32 = 2 << 29;
    const CONDITIONAL: u32 = 3 << 29;
    const TIER: u32 = 7 << 29;
    /// Rules, and choices, that cells can name: those with a lower number.
    pub const LIMIT: u32 = 1 << 29;

    /// A flow allows it. Rule numbers are below [`Self::LIMIT`].
    pub const fn allow(rule: u32) -> Self {
        Self(rule | Self::ALLOW)
    }

    /// A deny forbids it.
    pub const fn deny(rule: u32) -> Self {
        Self(rule)
    }

    /// A flow allows it also in quarantine.
    pub const fn kept(rule: u32) -> Self {
        Self(rule | Self::KEPT)
    }

    /// It is forbidden because one end is in quarantine.
    pub const fn quarantine(rule: u32) -> Self {
        Self(rule | Self::QUARANTINE)
    }

    /// What counts depends on the time: the [`crate::condition::Choice`]s from this one on say on what.
    pub const fn conditional(first: u32) -> Self {
        Self(first | Self::CONDITIONAL)
    }

    /// The first choice of a cell that depends on the time.
    #[inline(always)]
    pub const fn choice(self) -> Option<u32> {
        if self.0 & Self::TIER == Self::CONDITIONAL { Some(self.0 & !Self::TIER) } else { None }
    }

    /// A cell that was found strongest, as what it comes to: allowed or denied by its rule.
    #[must_use]
    #[inline(always)]
    pub const fn plain(self) -> Self {
        match self.0 & Self::TIER {
            Self::KEPT => Self::allow(self.0 & !Self::TIER),
            Self::QUARANTINE => Self::deny(self.0 & !Self::TIER),
            _ => self,
        }
    }

    /// Whether a flow allows it.
    #[inline(always)]
    pub const fn is_allow(self) -> bool {
        self.0 & Self::ALLOW != 0 && self.0 != Self::NO_RULE.0
    }

    /// The deciding rule, or [`NO_RULE`] where none names the packet.
    #[inline(always)]
    pub const fn rule(self) -> u32 {
        if self.0 == Self::NO_RULE.0 { NO_RULE } else { self.0 & !Self::ALLOW }
    }
}

/// Stands where no rule decided.
pub const NO_RULE: u32 = u32::MAX;

/// What is known about a segment: its [`crate::reason::Mode`] as a number.
pub type SegmentMode = u32;

/// Sizes of the tables, a load-time constant of the program: `CONFIG` in the eBPF object.
/// Features that a policy does not use are false here, and the verifier removes their code.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Config {
    /// Number of this generation, never 0.
    pub generation: u32,
    /// Segments, built-in ones included.
    pub segments: u32,
    /// Destination classes: the width of the pair table, where there is one layer.
    pub destinations: u32,
    /// Service classes: the width of a row of the verdict table.
    pub services: u32,
    /// Source-port classes: the width of the matrix table; 0 where the policy has no service
    /// with source ports.
    pub source_ports: u32,
    /// Key of the connection table's hash, drawn once a boot.
    pub hash_key: crate::connection::HashKey,
    /// 1: TCP connections may be taken up in their middle.
    pub midstream: u32,
    /// 1: place and time come from the frame's metadata ([`TestContext`]), for test runs.
    pub test_context: u32,
    /// Seconds of idleness after which a connection ends, by [`crate::connection::State`].
    pub timeouts: [u32; crate::connection::State::COUNT],
    /// ARP and neighbour discovery packets a second and sender.
    pub neighbour_rate: u32,
    /// Events a second and CPU.
    pub event_rate: u32,
    /// Buckets of the connection table, a power of two, less one; the dataplane's to set.
    pub bucket_mask: u32,
    /// 1: allowed packets are forwarded here, past the kernel's stack.
    pub forwarding: u32,
    /// 1: the rules are in [`LAYERS`].
    pub layered: u32,
    /// 1: some rules hold only at times, or only for what arrives through a tunnel.
    pub conditional: u32,
    /// 1: the glass of some segments is broken.
    pub break_glass: u32,
    /// 1: some rules hold only for what arrives on one way ([`crate::tunnel`]); then some are conditional, too.
    pub ways: u32,
    /// 1: some interface is the end of a tunnel, and may have no link layer.
    pub tunnels: u32,
}

/// Stands before the frame, as XDP metadata, in test runs of a program with
/// [`Config::test_context`]: the frame's place in the world.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TestContext {
    /// Nanoseconds on the clock that connections are timed with.
    pub now: u64,
    /// Interface that the frame claims to arrive on.
    pub ifindex: u32,
    /// Zero; for the programs to mark the frame.
    pub reserved: u32,
}

/// Room behind the [`TestContext`], still before the frame, into which a test run writes what it
/// found, so that nobody has to tell it from the counters. A run without the room writes nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TestJudgement {
    /// Deciding rule, or [`NO_RULE`].
    pub rule: u32,
    /// Segment of the source; [`crate::place::SEGMENT_UNKNOWN`] where it has none.
    pub source_segment: u16,
    /// Segment of the destination, likewise.
    pub destination_segment: u16,
    /// Number of a [`crate::reason::Reason`].
    pub reason: u8,
    /// Number of a [`crate::reason::Verdict`].
    pub verdict: u8,
    /// 1: the rest is written.
    pub written: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

// Together no more than the 32 bytes of metadata that older kernels let stand before a frame
// (include/net/xdp.h, xdp_metalen_invalid).
const _: () = assert!(size_of::<TestContext>() + size_of::<TestJudgement>() == 32);
