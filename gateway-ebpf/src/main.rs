//! The programs: an entry on every named interface, the judge of one generation, and the recorder of
//! the gateway's own connections on the way out.
#![no_std]
#![feature(asm_experimental_arch)]
#![allow(
    clippy::inline_always,
    reason = "a call costs the verifier a frame and the stack its 512 bytes: what is called is said by inline(never)"
)]
#![expect(clippy::needless_pass_by_value, reason = "the macros of aya hand the context over by value")]
#![allow(clippy::cast_possible_truncation, reason = "hashes and packed numbers are taken apart by casts")]
#![allow(
    clippy::cast_possible_wrap,
    reason = "offsets into a frame are small, and pointers here have 64 bits"
)]
#![no_main]

mod bare;
mod budget;
mod classify;
mod clock;
mod condition;
mod config;
mod conntrack;
mod egress;
mod events;
mod forward;
mod fragments;
mod frame;
mod health;
mod icmp;
mod ipv4;
mod ipv6;
mod judge;
mod maps;
mod neighbour;
mod outcome;
mod packet;
mod parse;
mod place;
mod plain;
mod revalidate;
mod station;
mod transport;
mod verdict;
mod work;

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use aya_log_ebpf::debug;
use gateway_common::reason::Verdict;

use crate::work::Work;

/// Entry: jumps to the generation in force. One update of its slot changes every interface at once.
#[xdp(frags)]
fn clinigate(context: XdpContext) -> u32 {
    enter(&context)
}

/// The same on a device without a link layer.
#[xdp(frags)]
fn clinigate_bare(context: XdpContext) -> u32 {
    if bare::dress(&context).is_none() {
        return xdp_action::XDP_DROP;
    }
    enter(&context)
}

#[inline(always)]
fn enter(context: &XdpContext) -> u32 {
    // SAFETY: nothing here needs dropping; the call returns only where the slot is empty.
    unsafe { maps::GENERATION.tail_call(context, 0) };
    if let Some(counter) = maps::NO_POLICY.get_ptr_mut(0) {
        // SAFETY: this CPU's element.
        unsafe { verdict::add(counter, frame::length(context)) };
    }
    xdp_action::XDP_DROP
}

/// The judge of one generation.
#[xdp(frags)]
#[inline(always)]
fn clinigate_judge(context: XdpContext) -> u32 {
    let Some((now, ifindex)) = clock::now_and_interface(&context) else { return xdp_action::XDP_ABORTED };
    let Some(work) = work::WORK.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: this CPU's element; a packet is judged to its end before the next begins.
    let work = unsafe { &mut *work };
    judge::judge(&context, ifindex, now, work);
    frame::forget();
    let Work { link, packet, judgement, .. } = work;
    let verdict = verdict::settle(&context, packet, judgement, now);
    debug!(
        &context,
        "if {} vlan {} proto {} port {}: reason {} rule {} verdict {}",
        ifindex,
        link.place.vlan,
        packet.protocol,
        u16::from_be(packet.destination_port),
        judgement.reason as u8,
        judgement.rule,
        verdict as u8
    );
    clock::tell(&context, judgement, verdict);
    if verdict == Verdict::Drop || verdict == Verdict::Audit {
        events::report(&context, judgement, verdict, link, packet, now);
    }
    if verdict == Verdict::Drop {
        return xdp_action::XDP_DROP;
    }
    if bare::is_dressed(&context) {
        return bare::undress(&context);
    }
    if config::forwarding() == 1 { forward::forward(&context) } else { xdp_action::XDP_PASS }
}

/// Egress: records connections that the gateway itself opens, so that their replies come in; tags frames
/// where the kernel has no device that would.
#[classifier]
fn clinigate_out(context: TcContext) -> i32 {
    egress::record(&context);
    station::tag(&context)
}

/// The same on a device without a link layer, whose frames have no tags.
#[classifier]
fn clinigate_bout(context: TcContext) -> i32 {
    egress::record_bare(&context);
    TC_ACT_UNSPEC
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics: the verifier would refuse the loop.
    loop {}
}
