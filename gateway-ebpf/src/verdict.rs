//! From judgement to verdict: the modes decide, one counter counts, an event reports.

use aya_ebpf::programs::XdpContext;
use gateway_common::counter::{
    Counter, PAIRS_PER_ELEMENT, PairCounters, RULES_PER_ELEMENT, RuleCounters, pair_elements,
};
use gateway_common::place::SEGMENT_UNKNOWN;
use gateway_common::reason::{Mode, Reason, Verdict};
use gateway_common::table::{Cell, NO_RULE};

use crate::maps::{PAIR_COUNTERS, RULE_COUNTERS, SEGMENTS, paged};
use crate::packet::Packet;
use crate::work::Judgement;
use crate::{condition, config, frame};

/// Bytes to which Ethernet pads a frame, without its check sequence.
const SHORTEST: usize = 60;

/// Counts the packet and says what becomes of it.
#[inline(always)]
pub(crate) fn settle(context: &XdpContext, packet: &Packet, judgement: &mut Judgement, now: u64) -> Verdict {
    if !judgement.reason.passes() {
        condition::overrule(judgement, now);
    }
    count(judgement, bytes(context, packet));
    if judgement.reason.passes() {
        return Verdict::Pass;
    }
    if let Some(verdict) = condition::settled(judgement.reason) {
        return verdict;
    }
    by_modes(judgement)
}

/// Why a cell that is none of an allow refuses.
#[inline(always)]
pub(crate) fn refusal(cell: Cell) -> Reason {
    if cell == Cell::NO_RULE { Reason::NoFlow } else { Reason::Denied }
}

/// What becomes of a packet that does not pass by itself.
#[inline(always)]
pub(crate) fn by_modes(judgement: &Judgement) -> Verdict {
    if judgement.source == SEGMENT_UNKNOWN {
        return Verdict::Drop;
    }
    let destination =
        if judgement.destination == SEGMENT_UNKNOWN { Mode::Observe } else { mode(judgement.destination) };
    Verdict::of_modes(mode(judgement.source), destination)
}

/// Bytes of the frame. A packet that ends where the first buffer ends, or is padded to Ethernet's least, is all of
/// it: the kernel is asked for the others only.
#[inline(always)]
fn bytes(context: &XdpContext, packet: &Packet) -> u64 {
    let linear = frame::linear_length(context);
    let end = packet.transport + packet.payload;
    if end == linear || (end < linear && linear == SHORTEST) { linear as u64 } else { frame::length(context) }
}

/// A segment's mode. A segment without one cannot be: it counts as enforced.
#[inline(always)]
fn mode(segment: u16) -> Mode {
    match paged(&SEGMENTS, u32::from(segment)) {
        Some(0) => Mode::Observe,
        Some(1) => Mode::Audit,
        _ => Mode::Enforce,
    }
}

#[inline(always)]
fn count(judgement: &Judgement, bytes: u64) {
    let row = u32::from(judgement.source) * pair_elements(config::segments());
    if let Some(pairs) = PAIR_COUNTERS.get_ptr_mut(row + u32::from(judgement.destination) / PAIRS_PER_ELEMENT)
    {
        // The compiler knows that a reason is one; the verifier wants to see it.
        let slot = frame::opaque(judgement.reason as usize);
        if slot < size_of::<PairCounters>() / size_of::<Counter>() {
            let pair = (u32::from(judgement.destination) % PAIRS_PER_ELEMENT) as usize;
            // SAFETY: this CPU's element, and a pair and slot within it.
            unsafe { add(pairs.cast::<PairCounters>().add(pair).cast::<Counter>().add(slot), bytes) };
        }
    }
    if judgement.rule != NO_RULE
        && let Some(counters) = RULE_COUNTERS.get_ptr_mut(judgement.rule / RULES_PER_ELEMENT as u32)
    {
        const { assert!(size_of::<RuleCounters>() == RULES_PER_ELEMENT * size_of::<Counter>()) };
        let slot = judgement.rule as usize % RULES_PER_ELEMENT;
        // SAFETY: as above.
        unsafe { add(counters.cast::<Counter>().add(slot), bytes) };
    }
}

/// Adds one packet.
///
/// # Safety
/// `counter` must lie in an element of this CPU.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut Counter, bytes: u64) {
    // SAFETY: the caller's.
    unsafe {
        (*counter).packets += 1;
        (*counter).bytes += bytes;
    }
}
