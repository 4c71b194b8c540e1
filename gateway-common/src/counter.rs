//! Counters, per CPU, of one generation.

use crate::reason::Reason;

/// Packets and bytes; bytes are frame lengths from the Ethernet header on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Counters of one ordered pair of segments, one for each reason. A packet bumps exactly one of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairCounters {
    /// Indexed by [`Reason`].
    pub by_reason: [Counter; Reason::COUNT],
}

/// Destinations that share one element of the pair counters: each element of a per-CPU array is allocated by
/// itself, and found through a table of them.
pub const PAIRS_PER_ELEMENT: u32 = 16;

/// Counters of the pairs of one source segment and [`PAIRS_PER_ELEMENT`] consecutive destinations.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairRow {
    /// Indexed by the destination's number modulo [`PAIRS_PER_ELEMENT`].
    pub by_destination: [PairCounters; PAIRS_PER_ELEMENT as usize],
}

/// Elements that the pair counters of one source segment take, where there are so many `segments`. Element
/// `source * pair_elements(segments) + destination / PAIRS_PER_ELEMENT` has the pair.
#[inline(always)]
pub const fn pair_elements(segments: u32) -> u32 {
    segments.div_ceil(PAIRS_PER_ELEMENT)
}

/// Rules that share one element of the rule counters: a per-CPU element for each rule would
/// make loading slow.
pub const RULES_PER_ELEMENT: usize = 64;

/// Counters of [`RULES_PER_ELEMENT`] consecutive rules.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCounters {
    /// Indexed by rule number modulo [`RULES_PER_ELEMENT`].
    pub by_rule: [Counter; RULES_PER_ELEMENT],
}

/// Happenings that are not verdicts on packets. Element 0 of a per-CPU array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Events that found the ring buffer full.
    pub events_lost: u64,
    /// Events held back by the limit on their rate.
    pub events_suppressed: u64,
    /// Connections inserted.
    pub connections_inserted: u64,
    /// Connections refused because the table was full.
    pub connections_refused: u64,
    /// Connections judged again because the generation changed, and kept.
    pub connections_revalidated: u64,
    /// Connections judged again and ended.
    pub connections_revoked: u64,
    /// First fragments recorded.
    pub fragments_recorded: u64,
    /// First fragments that could not be recorded.
    pub fragments_refused: u64,
    /// Packets that XDP forwarded.
    pub forwarded: u64,
    /// Packets handed to the kernel's stack while XDP forwards: for the gateway, or unusual.
    pub handed_over: u64,
    /// Frames of the gateway itself whose tags nobody knows: dropped on their way out of a trunk.
    pub untagged: u64,
}
