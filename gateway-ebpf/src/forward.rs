//! Forwarding in XDP: an allowed packet leaves on another interface without climbing the stack. Routes and
//! neighbours are the kernel's; what is unusual is handed to it, and it does what a router must.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as Route, bpf_fib_lookup__bindgen_ty_1 as Length,
    bpf_fib_lookup__bindgen_ty_2 as Service, bpf_fib_lookup__bindgen_ty_3 as Source,
    bpf_fib_lookup__bindgen_ty_4 as Destination, bpf_fib_lookup__bindgen_ty_5 as Rest, xdp_action, xdp_md,
};
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_xdp_adjust_head};
use aya_ebpf::programs::XdpContext;
use gateway_common::forward::{Exit, Leg, TagKey, Tags};
use gateway_common::place::{PlaceKey, SEGMENT_GATEWAY, SEGMENT_MULTICAST};
use gateway_common::reason::Reason;

use crate::maps::{DEVICES, EXITS, LEGS, TAGS};
use crate::packet::{Link, Packet, ethertype};
use crate::work::{WORK, Work};
use crate::{classify, frame, health, station};

/// `include/linux/socket.h`.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

pub(crate) const ETHERNET: usize = 14;
pub(crate) const TAG: usize = 4;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// The longest frame that was padded: 60 bytes (IEEE 802.3, 4.2.3.3) before it was given two tags.
const PADDED: usize = 60 + 2 * TAG;
/// First byte of an IPv4 header without options: those are the stack's to see to.
const NO_OPTIONS: u8 = 0x45;

/// IPv6 extension headers that a router must look into (RFC 8200, 4.3 and 4.4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;

/// Sends the packet in hand on, or hands it to the stack. Returns the XDP action.
///
/// A function that the verifier checks once and by itself: nothing of the judgement's paths matters here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn clinigate_forward(context: *mut xdp_md) -> u32 {
    let context = XdpContext::new(context);
    let Some(work) = WORK.get_ptr(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: this CPU's element, which only the packet in hand writes.
    let Work { link, packet, judgement, .. } = unsafe { &*work };
    // SAFETY: as for the places.
    let Some(leg) = (unsafe { LEGS.get(link.place) }) else { return xdp_action::XDP_PASS };
    let through = judgement.destination != SEGMENT_GATEWAY
        && judgement.destination != SEGMENT_MULTICAST
        && is_judged(judgement.reason)
        && packet.hop_limit > 1;
    if through
        && is_usual(&context, link, packet, leg)
        && let Some((exit, tags, macs)) = way(&context, link, packet, leg)
        && let Some(action) = transmit(&context, link, &exit, tags, macs)
    {
        health::bump(|health| &raw mut health.forwarded);
        return action;
    }
    health::bump(|health| &raw mut health.handed_over);
    station::hand_over(&context, link, leg);
    xdp_action::XDP_PASS
}

/// Runs [`clinigate_forward`].
#[inline(always)]
pub(crate) fn forward(context: &XdpContext) -> u32 {
    clinigate_forward(context.ctx)
}

/// Whether the packet was read to its end: one that passes for its segment's mode alone may not have been.
#[inline(always)]
fn is_judged(reason: Reason) -> bool {
    reason.passes() || matches!(reason, Reason::NoFlow | Reason::Denied | Reason::NotInConnection)
}

/// Whether a frame is one that a router forwards without a thought: meant for it, in one buffer, with nothing
/// behind the packet but what Ethernet pads with, and without options.
#[inline(always)]
fn is_usual(context: &XdpContext, link: &Link, packet: &Packet, leg: &Leg) -> bool {
    let Ok(destination) = frame::read::<[u8; 6]>(context, 0) else { return false };
    let length = frame::linear_length(context);
    if destination != leg.mac || frame::whole_length(context) != length {
        return false;
    }
    if length > packet.transport + packet.payload && length > PADDED {
        return false;
    }
    if link.ethertype == ethertype::IPV4 {
        frame::read::<u8>(context, link.network) == Ok(NO_OPTIONS)
    } else {
        let next = frame::read::<u8>(context, link.network + 6);
        link.ethertype == ethertype::IPV6 && next != Ok(HOP_BY_HOP) && next != Ok(ROUTING)
    }
}

/// Asks the kernel for the way, and finds the port and the tags that it means. The hardware addresses:
/// of the next hop, then the gateway's own.
#[inline(always)]
fn way(context: &XdpContext, link: &Link, packet: &Packet, leg: &Leg) -> Option<(Exit, Tags, [[u8; 6]; 2])> {
    let mut route = question(context, link, packet, leg)?;
    let size = size_of::<Route>() as i32;
    // SAFETY: the context is the program's own, and the question is as large as said.
    let answer = unsafe { bpf_fib_lookup(context.ctx.cast(), &raw mut route, size, 0) };
    if answer != i64::from(BPF_FIB_LKUP_RET_SUCCESS) {
        return None;
    }
    // SAFETY: as for the places.
    let exit = unsafe { EXITS.get(route.ifindex) }.copied()?;
    let tags =
        if exit.flags & Exit::BY_SEGMENT == 0 { exit.tags } else { tags_to(exit.port, next_hop(&route))? };
    let PlaceKey { outer, vlan, .. } = link.place;
    // Told by the device: a bond's frames arrive by its links.
    if route.ifindex == leg.device && tags == (Tags { outer, vlan }) {
        // Back to where it came from: the stack tells the sender of a better way.
        return None;
    }
    Some((exit, tags, [route.dmac, route.smac]))
}

/// What the kernel is asked.
#[inline(always)]
fn question(context: &XdpContext, link: &Link, packet: &Packet, leg: &Leg) -> Option<Route> {
    let is_v4 = link.ethertype == ethertype::IPV4;
    let (length, service, source, destination);
    if is_v4 {
        length = frame::read_be16(context, link.network + 2).ok()?;
        // Whole members, also where IPv4 needs less: what is left open is copied in odd pieces, which the
        // kernel refuses on the stack.
        let tos: u8 = frame::read(context, link.network + 1).ok()?;
        service = Service { flowinfo: u32::from_ne_bytes([tos, 0, 0, 0]) };
        source = Source { ipv6_src: [(packet.source[1] >> 32) as u32, 0, 0, 0] };
        destination = Destination { ipv6_dst: [(packet.destination[1] >> 32) as u32, 0, 0, 0] };
    } else {
        let payload = frame::read_be16(context, link.network + 4).ok()?;
        length = payload.saturating_add(IPV6_HEADER as u16);
        let first: u32 = frame::read(context, link.network).ok()?;
        service = Service { flowinfo: first & 0x0fff_ffffu32.to_be() };
        source = Source { ipv6_src: words(packet.source) };
        destination = Destination { ipv6_dst: words(packet.destination) };
    }
    // SAFETY: zeros are a value of a structure of numbers.
    let rest: Rest = unsafe { core::mem::zeroed() };
    Some(Route {
        family: if is_v4 { AF_INET } else { AF_INET6 },
        l4_protocol: packet.protocol,
        sport: packet.source_port,
        dport: packet.destination_port,
        __bindgen_anon_1: Length { tot_len: length },
        ifindex: leg.device,
        __bindgen_anon_2: service,
        __bindgen_anon_3: source,
        __bindgen_anon_4: destination,
        __bindgen_anon_5: rest,
        smac: [0; 6],
        dmac: [0; 6],
    })
}

/// The next hop of an answered question: the destination itself, or a router.
#[inline(always)]
pub(crate) fn next_hop(route: &Route) -> [u64; 2] {
    // SAFETY: numbers, whichever member was written; the kernel says by the family which it was.
    unsafe {
        if route.family == AF_INET {
            frame::mapped(route.__bindgen_anon_4.ipv4_dst)
        } else {
            let word = route.__bindgen_anon_4.ipv6_dst;
            [u64::from(word[0]) | u64::from(word[1]) << 32, u64::from(word[2]) | u64::from(word[3]) << 32]
        }
    }
}

/// An address as the kernel's structure has it.
#[inline(always)]
pub(crate) fn words(address: [u64; 2]) -> [u32; 4] {
    [address[0] as u32, (address[0] >> 32) as u32, address[1] as u32, (address[1] >> 32) as u32]
}

/// The tags by which an address is reached on a port.
#[inline(always)]
pub(crate) fn tags_to(port: u32, address: [u64; 2]) -> Option<Tags> {
    let segment = u32::from(classify::atom(address)?.segment);
    // SAFETY: as for the places.
    unsafe { TAGS.get(TagKey { port, segment }) }.copied()
}

/// Makes room for the tags, writes the new headers and sends the frame. `None` where there is no room;
/// nothing is changed then.
#[inline(always)]
fn transmit(context: &XdpContext, link: &Link, exit: &Exit, tags: Tags, macs: [[u8; 6]; 2]) -> Option<u32> {
    let count = usize::from(tags.vlan != 0) + usize::from(tags.outer != 0);
    let grow = (ETHERNET + TAG * count) as i32 - link.network as i32;
    // SAFETY: the context is the program's own. Packet pointers are derived anew afterwards.
    if grow != 0 && unsafe { bpf_xdp_adjust_head(context.ctx, -grow) } != 0 {
        return None;
    }
    let written = match count {
        0 => rewrite::<ETHERNET>(context, link, tags, macs),
        1 => rewrite::<{ ETHERNET + TAG }>(context, link, tags, macs),
        _ => rewrite::<{ ETHERNET + 2 * TAG }>(context, link, tags, macs),
    };
    if written.is_none() {
        return Some(xdp_action::XDP_ABORTED);
    }
    // Also to the interface that it came from: some drivers keep what `XDP_TX` sends until the next frame.
    Some(DEVICES.redirect(exit.slot, 0).unwrap_or(xdp_action::XDP_ABORTED))
}

/// Writes a link header of `LINK` bytes, and counts the packet's hop.
#[inline(always)]
fn rewrite<const LINK: usize>(
    context: &XdpContext,
    link: &Link,
    tags: Tags,
    macs: [[u8; 6]; 2],
) -> Option<()> {
    let header = if link.ethertype == ethertype::IPV4 { IPV4_HEADER } else { IPV6_HEADER };
    let begin = context.data();
    if begin + LINK + header > context.data_end() {
        return None;
    }
    let start = begin as *mut u8;
    // SAFETY: all of it lies before LINK + header, which is within the frame: checked just above. Frames
    // have no alignment.
    unsafe {
        start.cast::<[[u8; 6]; 2]>().write_unaligned(macs);
        let put = |offset: usize, value: u16| *start.add(offset).cast::<[u8; 2]>() = value.to_be_bytes();
        if LINK == ETHERNET + 2 * TAG {
            put(12, ethertype::SERVICE_VLAN);
            put(14, tags.outer);
        }
        if LINK > ETHERNET {
            put(LINK - 6, ethertype::VLAN);
            put(LINK - 4, tags.vlan);
        }
        put(LINK - 2, link.ethertype);
        if link.ethertype == ethertype::IPV4 {
            *start.add(LINK + 8) -= 1;
            let checksum = start.add(LINK + 10).cast::<[u8; 2]>();
            // RFC 1141: the hop limit is the high byte of its word; less of it is more of the checksum.
            let sum = u32::from(u16::from_ne_bytes(*checksum)) + u32::from(0x0100u16.to_be());
            *checksum = ((sum + u32::from(sum >= 0xffff)) as u16).to_ne_bytes();
        } else {
            *start.add(LINK + 7) -= 1;
        }
    }
    Some(())
}
