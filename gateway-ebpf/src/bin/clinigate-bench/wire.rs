//! Packets on a wire: a *sender* that makes live frames, a *sink* that counts and drops them, and a *router*
//! that forwards whatever comes.
#![allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::cast_ptr_alignment,
    reason = "actions are small numbers; packets have no alignment, and are read as such"
)]

use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as Route, xdp_action};
use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_get_smp_processor_id, bpf_redirect};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use gateway_common::bench::{Flow, LETTER, Letter};

use crate::{FLOWS, MMAPABLE};

/// `include/linux/socket.h`.
const AF_INET: u8 = 2;
/// Behind the Ethernet header.
const IPV4: usize = 14;

#[btf_map]
static LETTERS: Array<Letter, 1, MMAPABLE> = Array::new();
/// How many frames this CPU has sent.
#[btf_map]
static SENT: PerCpuArray<u64, 1> = PerCpuArray::new();
#[btf_map]
static SUNK: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Writes a whole frame, since what was there may be what a receiver left of the last one, with the next flow
/// of this CPU, and sends it to an interface.
#[xdp(frags)]
fn bench_sender(context: XdpContext) -> u32 {
    send(&context).unwrap_or(xdp_action::XDP_ABORTED)
}

/// Counts and drops.
#[xdp(frags)]
fn bench_sink(_context: XdpContext) -> u32 {
    let Some(count) = SUNK.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: this CPU's element.
    unsafe { *count += 1 };
    xdp_action::XDP_DROP
}

/// Forwards by the kernel's routes, without any policy: what forwarding in XDP costs at the least.
#[xdp(frags)]
fn bench_router(context: XdpContext) -> u32 {
    route(&context).unwrap_or(xdp_action::XDP_PASS)
}

#[inline(always)]
fn send(context: &XdpContext) -> Option<u32> {
    let letter = LETTERS.get(0)?;
    let turn = SENT.get_ptr_mut(0)?;
    // SAFETY: this CPU's element; only one sender runs on it at a time.
    let turn = unsafe {
        *turn += 1;
        *turn as u32
    };
    // SAFETY: no arguments, no effects.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let flow: &Flow = FLOWS.get(letter.first + cpu * (letter.mask + 1) + (turn & letter.mask))?;
    let (source, destination, ports) = if letter.back == 0 {
        (flow.source[1], flow.destination[1], [flow.source_port.to_be(), flow.destination_port])
    } else {
        (flow.destination[1], flow.source[1], [flow.destination_port, flow.source_port.to_be()])
    };
    let (source, destination) = ((source >> 32) as u32, (destination >> 32) as u32);
    let frame = context.data();
    if frame + LETTER > context.data_end() {
        return None;
    }
    let frame = frame as *mut u8;
    // SAFETY: there are LETTER bytes, as shown just above; packets have no alignment.
    unsafe {
        frame.cast::<[u32; LETTER / 4]>().write_unaligned(letter.frame);
        frame.add(IPV4 + 10).cast::<u16>().write_unaligned(checksum(letter.checksum, source, destination));
        frame.add(IPV4 + 12).cast::<u32>().write_unaligned(source);
        frame.add(IPV4 + 16).cast::<u32>().write_unaligned(destination);
        frame.add(IPV4 + 20).cast::<[u16; 2]>().write_unaligned(ports);
    }
    // SAFETY: a number and no flags.
    Some(unsafe { bpf_redirect(letter.ifindex, 0) } as u32)
}

/// The header's checksum (RFC 1071) from that of the header without addresses.
#[inline(always)]
fn checksum(rest: u16, source: u32, destination: u32) -> u16 {
    let mut sum =
        u32::from(!rest) + (source >> 16) + (source & 0xffff) + (destination >> 16) + (destination & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum += sum >> 16;
    !(sum as u16)
}

#[inline(always)]
fn route(context: &XdpContext) -> Option<u32> {
    let frame = context.data();
    if frame + LETTER > context.data_end() {
        return None;
    }
    let frame = frame as *mut u8;
    // SAFETY: zeros are a value of a structure of numbers.
    let mut route: Route = unsafe { core::mem::zeroed() };
    route.family = AF_INET;
    // SAFETY: there are LETTER bytes, as shown above; the context is the program's own, and the question as
    // large as said.
    unsafe {
        route.ifindex = (*context.ctx).ingress_ifindex;
        route.__bindgen_anon_3.ipv4_src = frame.add(IPV4 + 12).cast::<u32>().read_unaligned();
        route.__bindgen_anon_4.ipv4_dst = frame.add(IPV4 + 16).cast::<u32>().read_unaligned();
        let answer = bpf_fib_lookup(context.ctx.cast(), &raw mut route, size_of::<Route>() as i32, 0);
        if answer != i64::from(BPF_FIB_LKUP_RET_SUCCESS) {
            return None;
        }
        frame.cast::<[u8; 6]>().write_unaligned(route.dmac);
        frame.add(6).cast::<[u8; 6]>().write_unaligned(route.smac);
        // One hop less is 0x100 more in the sum, with the carry (RFC 1624).
        let hops = frame.add(IPV4 + 8);
        hops.write(hops.read() - 1);
        let sum = frame.add(IPV4 + 10).cast::<u16>();
        let more = u32::from(u16::from_be(sum.read_unaligned())) + 0x100;
        sum.write_unaligned(((more + (more >> 16)) as u16).to_be());
        Some(bpf_redirect(route.ifindex, 0) as u32)
    }
}
