//! Devices without a link layer, such as the ends of tunnels: their packets begin at the IP header. They get a header of
//! Ethernet before they are judged, so that there is one judge for all, and lose it before the kernel goes on with them.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_meta};
use aya_ebpf::programs::XdpContext;
use gateway_common::table::TestContext;

use crate::forward::ETHERNET;
use crate::packet::ethertype;
use crate::{config, frame};

/// Stands before the frame, as XDP metadata, while it has a header that is ours: nothing in a frame could be believed.
const MARK: u32 = 0x6c6e_6762;
const MARK_LENGTH: usize = size_of::<u32>();

/// No protocol has it (RFC 1701): what is no IP is judged, and dropped, as a frame of this type.
const NOTHING: u16 = 0xffff;

/// Gives a packet its header. `None` where it is empty, or there is no room.
#[inline(always)]
pub(crate) fn dress(context: &XdpContext) -> Option<()> {
    let first: u8 = frame::read(context, 0).ok()?;
    let kind = match first >> 4 {
        4 => ethertype::IPV4,
        6 => ethertype::IPV6,
        _ => NOTHING,
    };
    // SAFETY: the context is the program's own. Packet pointers are derived anew afterwards.
    if unsafe { bpf_xdp_adjust_head(context.ctx, -(ETHERNET as i32)) } != 0 {
        return None;
    }
    let begin = context.data();
    if begin + ETHERNET > context.data_end() {
        return None;
    }
    let header = begin as *mut u8;
    // SAFETY: within the frame, checked just above; frames have no alignment.
    unsafe {
        header.cast::<[u32; 3]>().write_unaligned([0; 3]);
        header.add(ETHERNET - 2).cast::<[u8; 2]>().write_unaligned(kind.to_be_bytes());
    }
    // SAFETY: as above.
    if config::test_context() == 0 && unsafe { bpf_xdp_adjust_meta(context.ctx, -(MARK_LENGTH as i32)) } != 0
    {
        return None;
    }
    // SAFETY: the mark is of the frame's metadata, in whole; it has no alignment.
    unsafe { mark(context)?.write_unaligned(MARK) };
    Some(())
}

/// Whether the frame has a header that is ours.
#[inline(always)]
pub(crate) fn is_dressed(context: &XdpContext) -> bool {
    // SAFETY: as above.
    config::tunnels() == 1 && mark(context).is_some_and(|mark| unsafe { mark.read_unaligned() } == MARK)
}

/// Takes the header off again. The XDP action: the kernel goes on, whoever forwards.
#[inline(always)]
pub(crate) fn undress(context: &XdpContext) -> u32 {
    // SAFETY: the context is the program's own; nothing derived from it is used afterwards.
    let undone = unsafe {
        (config::test_context() == 1 || bpf_xdp_adjust_meta(context.ctx, MARK_LENGTH as i32) == 0)
            && bpf_xdp_adjust_head(context.ctx, ETHERNET as i32) == 0
    };
    if undone { xdp_action::XDP_PASS } else { xdp_action::XDP_ABORTED }
}

/// Where the mark stands: in test runs within what stands there already.
#[inline(always)]
fn mark(context: &XdpContext) -> Option<*mut u32> {
    const { assert!(core::mem::offset_of!(TestContext, reserved) == 12) };
    let at = context.metadata() + if config::test_context() == 1 { 12 } else { 0 };
    (at + MARK_LENGTH <= context.metadata_end()).then_some(at as *mut u32)
}
