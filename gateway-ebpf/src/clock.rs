//! Time and place of a frame: the kernel's, or in test runs those that stand before the frame, where the
//! judgement is then written too.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use aya_ebpf::programs::{TcContext, XdpContext};
use gateway_common::reason::Verdict;
use gateway_common::table::{TestContext, TestJudgement};

use crate::config;
use crate::work::Judgement;

/// Nanoseconds on the coarse monotonic clock, and the ingress interface. `None` for a test frame
/// without its context.
#[inline(always)]
pub(crate) fn now_and_interface(context: &XdpContext) -> Option<(u64, u32)> {
    if config::test_context() == 1 {
        let at = context.metadata();
        if at + size_of::<TestContext>() > context.metadata_end() {
            return None;
        }
        // SAFETY: the bytes lie between the metadata's begin and end, checked just above.
        let test = unsafe { (at as *const TestContext).read_unaligned() };
        return Some((test.now, test.ifindex));
    }
    // SAFETY: a field of the context. Volatile, or the compiler merges this load with the one above into
    // one from a chosen pointer, which the verifier refuses.
    let ifindex = unsafe { (&raw const (*context.ctx).ingress_ifindex).read_volatile() };
    // SAFETY: a helper without arguments. Coarse: its milliseconds are precise enough for timeouts, and
    // it costs a fraction of the exact clock.
    Some((unsafe { bpf_ktime_get_coarse_ns() }, ifindex))
}

/// Nanoseconds on the coarse monotonic clock; in test runs those that the frame is stamped with, if it is.
#[inline(always)]
pub(crate) fn now_at_exit(context: &TcContext) -> u64 {
    if config::test_context() == 1 {
        // SAFETY: a field of the context.
        let stamp = unsafe { (*context.skb.skb).tstamp };
        if stamp != 0 {
            return stamp;
        }
    }
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// In a test run with room for it, tells what was found.
#[inline(always)]
pub(crate) fn tell(context: &XdpContext, judgement: &Judgement, verdict: Verdict) {
    if config::test_context() != 1 {
        return;
    }
    let at = context.metadata() + size_of::<TestContext>();
    if at + size_of::<TestJudgement>() > context.metadata_end() {
        return;
    }
    let found = TestJudgement {
        rule: judgement.rule,
        source_segment: judgement.source,
        destination_segment: judgement.destination,
        reason: judgement.reason as u8,
        verdict: verdict as u8,
        written: 1,
        reserved: [0; 5],
    };
    // SAFETY: the bytes lie between the metadata's begin and end, checked just above.
    unsafe { (at as *mut TestJudgement).write_unaligned(found) };
}
