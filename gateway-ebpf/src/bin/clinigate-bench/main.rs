//! Programs of the benchmark. [`wire`] has those that send and receive frames, in namespaces of the benchmark;
//! the others are never attached to anything. The kernel's test run repeats one frame; the
//! *driver* writes another flow's addresses into it before each turn and jumps to the program that is
//! measured. Beside the gateway that is the *baseline*, the least that any packet filter does, and the
//! *floor*, which does nothing: the cost of the harness itself.
//!
//! The driver stores each field with the width with which programs load it: a wider load over two
//! stores would stall, which no frame from a network card makes it do.
#![no_std]
#![no_main]
#![allow(clippy::inline_always, reason = "one straight piece of code is what is measured")]
#![expect(clippy::needless_pass_by_value, reason = "the macros of aya hand the context over by value")]
#![allow(clippy::cast_possible_truncation, reason = "packed numbers are taken apart by casts")]

mod wire;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use gateway_common::bench::{FLOWS as FLOWS_MAX, Flow, Plan};
use gateway_common::counter::Counter;

/// `BPF_F_MMAPABLE` (include/uapi/linux/bpf.h).
const MMAPABLE: usize = 1 << 10;
/// Counters among which the baseline chooses by what it parsed.
const COUNTERS: usize = 256;

#[btf_map]
static PLAN: Array<Plan, 1, MMAPABLE> = Array::new();
#[btf_map]
static FLOWS: Array<Flow, FLOWS_MAX, MMAPABLE> = Array::new();
/// The program that is measured.
#[btf_map]
static SUBJECT: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static COUNTS: PerCpuArray<Counter, COUNTERS> = PerCpuArray::new();

/// Writes the next flow into the frame and jumps to the subject.
#[xdp(frags)]
fn bench_driver(context: XdpContext) -> u32 {
    if next(&context).is_some() {
        // SAFETY: nothing here needs dropping; the call returns only where the slot is empty.
        unsafe { SUBJECT.tail_call(&context, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// Does nothing.
#[xdp(frags)]
fn bench_floor(_context: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Reads Ethernet, a tag, IP and ports, adds to a counter of this CPU that depends on all of them, drops.
#[xdp(frags)]
fn bench_baseline(context: XdpContext) -> u32 {
    if count(&context).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    xdp_action::XDP_DROP
}

#[inline(always)]
fn next(context: &XdpContext) -> Option<()> {
    let plan = PLAN.get_ptr_mut(0)?;
    // SAFETY: one thread runs the driver, and changes the plan only between runs.
    let plan = unsafe { &mut *plan };
    let turn = plan.next;
    plan.next = turn.wrapping_add(1);
    let flow = FLOWS.get(plan.first + (turn & plan.mask))?;
    match plan.shape & (Plan::V6 | Plan::TAGGED) {
        0 => write::<14>(context, flow, plan),
        Plan::TAGGED => write::<18>(context, flow, plan),
        Plan::V6 => write_v6::<14>(context, flow, plan),
        _ => write_v6::<18>(context, flow, plan),
    }
}

#[inline(always)]
fn ends(flow: &Flow, plan: &Plan) -> ([u64; 2], [u64; 2], u32, u16) {
    let near = flow.source_port.wrapping_add(plan.port_offset).to_be();
    // Both ports as one word: programs may load them as one.
    let ports = |first: u16, second: u16| u32::from_le(u32::from(first) | u32::from(second) << 16);
    if plan.shape & Plan::BACK == 0 {
        (flow.source, flow.destination, ports(near, flow.destination_port), flow.vlan)
    } else {
        (flow.destination, flow.source, ports(flow.destination_port, near), flow.back_vlan)
    }
}

#[inline(always)]
fn write<const NETWORK: usize>(context: &XdpContext, flow: &Flow, plan: &Plan) -> Option<()> {
    let (source, destination, ports, vlan) = ends(flow, plan);
    let frame = frame::<24, NETWORK>(context)?;
    // SAFETY: `frame` has shown that NETWORK + 24 bytes are there; packets have no alignment.
    unsafe {
        if NETWORK == 18 {
            frame.add(14).cast::<u16>().write_unaligned(vlan);
        }
        frame.add(NETWORK + 12).cast::<u32>().write_unaligned((source[1] >> 32) as u32);
        frame.add(NETWORK + 16).cast::<u32>().write_unaligned((destination[1] >> 32) as u32);
        frame.add(NETWORK + 20).cast::<u32>().write_unaligned(ports);
    }
    Some(())
}

#[inline(always)]
fn write_v6<const NETWORK: usize>(context: &XdpContext, flow: &Flow, plan: &Plan) -> Option<()> {
    let (source, destination, ports, vlan) = ends(flow, plan);
    let frame = frame::<44, NETWORK>(context)?;
    // SAFETY: `frame` has shown that NETWORK + 44 bytes are there; packets have no alignment.
    unsafe {
        if NETWORK == 18 {
            frame.add(14).cast::<u16>().write_unaligned(vlan);
        }
        frame.add(NETWORK + 8).cast::<[u64; 2]>().write_unaligned(source);
        frame.add(NETWORK + 24).cast::<[u64; 2]>().write_unaligned(destination);
        frame.add(NETWORK + 40).cast::<u32>().write_unaligned(ports);
    }
    Some(())
}

/// The frame, where it has `LENGTH` bytes behind its link header.
#[inline(always)]
fn frame<const LENGTH: usize, const NETWORK: usize>(context: &XdpContext) -> Option<*mut u8> {
    let start = context.data();
    if start + NETWORK + LENGTH > context.data_end() { None } else { Some(start as *mut u8) }
}

#[inline(always)]
fn count(context: &XdpContext) -> Option<()> {
    let kind = read::<u16>(context, 12)?;
    let (kind, network) =
        if kind == 0x8100u16.to_be() { (read::<u16>(context, 16)?, 18) } else { (kind, 14) };
    let (addresses, protocol, transport) = if kind == 0x0800u16.to_be() {
        let version_length = read::<u8>(context, network)?;
        let protocol = read::<u8>(context, network + 9)?;
        let source = read::<u32>(context, network + 12)?;
        let destination = read::<u32>(context, network + 16)?;
        (source ^ destination, protocol, network + usize::from(version_length & 0x0f) * 4)
    } else if kind == 0x86ddu16.to_be() {
        let protocol = read::<u8>(context, network + 6)?;
        let source = read::<[u64; 2]>(context, network + 8)?;
        let destination = read::<[u64; 2]>(context, network + 24)?;
        let mixed = source[0] ^ source[1] ^ destination[0] ^ destination[1];
        ((mixed >> 32) as u32 ^ mixed as u32, protocol, network + 40)
    } else {
        return None;
    };
    let ports = read::<u32>(context, transport)?;
    let mixed = (addresses ^ ports ^ u32::from(protocol)).wrapping_mul(0x9e37_79b1);
    let counter = COUNTS.get_ptr_mut(mixed >> 24)?;
    // SAFETY: this CPU's element.
    unsafe {
        (*counter).packets += 1;
        (*counter).bytes += (context.data_end() - context.data()) as u64;
    }
    Some(())
}

#[inline(always)]
fn read<T: Copy>(context: &XdpContext, offset: usize) -> Option<T> {
    let begin = context.data() + offset;
    if begin + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: between data and data_end, checked just above; packets have no alignment.
    Some(unsafe { (begin as *const T).read_unaligned() })
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics: the verifier would refuse the loop.
    loop {}
}
