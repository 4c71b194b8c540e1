//! What is known of the packet in hand.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use gateway_common::connection::Connection;
use gateway_common::place::SEGMENT_UNKNOWN;
use gateway_common::reason::Reason;
use gateway_common::table::NO_RULE;

use crate::conntrack::Slot;
use crate::packet::{Link, Packet};

/// What was found.
#[derive(Clone, Copy)]
pub(crate) struct Judgement {
    pub(crate) reason: Reason,
    /// The rule that decided, or [`NO_RULE`].
    pub(crate) rule: u32,
    /// Segments of source and destination; [`SEGMENT_UNKNOWN`] where the place is unknown, or the
    /// frame was judged before its destination was looked up.
    pub(crate) source: u16,
    pub(crate) destination: u16,
}

impl Judgement {
    pub(crate) const EMPTY: Self = Self {
        reason: Reason::Internal,
        rule: NO_RULE,
        source: SEGMENT_UNKNOWN,
        destination: SEGMENT_UNKNOWN,
    };
}

/// What is known of the packet in hand. It lives in a map rather than on the stack for two reasons:
/// 512 bytes do not hold it, and the verifier, which follows every number on the stack along every
/// path, knows nothing of a number in a map and so finds that paths have met again.
#[repr(C)]
pub(crate) struct Work {
    pub(crate) link: Link,
    pub(crate) packet: Packet,
    /// The packet that an ICMP error quotes.
    pub(crate) quoted: Packet,
    pub(crate) slot: Slot,
    pub(crate) judgement: Judgement,
    /// The connection that the packet begins.
    pub(crate) new: Connection,
}

#[btf_map]
pub(crate) static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();
