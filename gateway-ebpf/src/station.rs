//! Trunks where the kernel has no VLAN devices: frames are handed to it without their tags, and get them
//! when they leave.

use aya_ebpf::bindings::{BPF_FIB_LOOKUP_OUTPUT, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_fib_lookup as Route};
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_skb_vlan_push, bpf_xdp_adjust_head};
use aya_ebpf::programs::{TcContext, XdpContext};
use gateway_common::forward::{Exit, Leg, StationKey, Tags};

use crate::forward::{ETHERNET, TAG, next_hop, tags_to, words};
use crate::maps::{EXITS, STATIONS};
use crate::packet::{Link, ethertype, protocol};
use crate::transport::{icmp, icmpv6};
use crate::{config, frame, health};

/// Takes the tags off a frame for the stack, where it has no VLAN device for them, and remembers the sender's.
#[inline(always)]
pub(crate) fn hand_over(context: &XdpContext, link: &Link, leg: &Leg) {
    if leg.flags & Leg::UNTAG == 0 || link.network <= ETHERNET {
        return;
    }
    let tags = Tags { outer: link.place.outer, vlan: link.place.vlan };
    // The device is the port itself here; a bond's frames arrive by its links.
    let key = StationKey { port: leg.device, mac: frame::source_mac(context), reserved: 0 };
    // A table that cannot take it forgets: the next frame is tried again.
    let _ = STATIONS.insert(key, tags, 0);
    let Ok(macs) = frame::read::<[u32; 3]>(context, 0) else { return };
    let length = if link.network == ETHERNET + TAG { TAG } else { 2 * TAG };
    // SAFETY: the context is the program's own. Packet pointers are derived anew afterwards.
    if unsafe { bpf_xdp_adjust_head(context.ctx, length as i32) } != 0 {
        return;
    }
    let begin = context.data();
    if begin + size_of::<[u32; 3]>() <= context.data_end() {
        // SAFETY: within the frame, checked just above; frames have no alignment.
        unsafe { (begin as *mut [u32; 3]).write_unaligned(macs) };
    }
}

/// Tags a frame that the stack sends on such a trunk. The action: a frame whose tags nobody knows is
/// dropped, not sent to whatever segment is untagged there.
#[inline(always)]
pub(crate) fn tag(context: &TcContext) -> i32 {
    // SAFETY: fields of the program's own context.
    let (port, is_tagged) = unsafe { ((*context.skb.skb).ifindex, (*context.skb.skb).vlan_present != 0) };
    if config::forwarding() != 1 || is_tagged {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: as for the places.
    let by_segment = unsafe { EXITS.get(port) }.is_some_and(|exit| exit.flags & Exit::BY_SEGMENT != 0);
    let Ok(kind) = context.load::<u16>(ETHERNET - 2).map(u16::from_be) else { return TC_ACT_UNSPEC };
    if !by_segment || kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN {
        return TC_ACT_UNSPEC;
    }
    if is_redirect(context, kind) {
        return TC_ACT_SHOT;
    }
    let pushed = tags(context, port, kind).map(|tags| push(context, tags));
    if pushed == Some(true) {
        return TC_ACT_UNSPEC;
    }
    health::bump(|health| &raw mut health.untagged);
    TC_ACT_SHOT
}

/// A redirect (RFC 792; RFC 4861, 4.5) of the stack. Between two segments of one trunk it believes that sender
/// and receiver share a link, which they do not.
#[inline(always)]
fn is_redirect(context: &TcContext, kind: u16) -> bool {
    let byte = |offset: usize| context.load::<u8>(ETHERNET + offset);
    match kind {
        // The stack's own have no options.
        ethertype::IPV4 => byte(9) == Ok(protocol::ICMP) && byte(20) == Ok(icmp::REDIRECT),
        ethertype::IPV6 => byte(6) == Ok(protocol::ICMPV6) && byte(40) == Ok(icmpv6::REDIRECT),
        _ => false,
    }
}

#[inline(always)]
fn push(context: &TcContext, tags: Tags) -> bool {
    // SAFETY: the context is the program's own; nothing derived from it is used afterwards.
    unsafe {
        (tags.vlan == 0 || bpf_skb_vlan_push(context.skb.skb, ethertype::VLAN.to_be(), tags.vlan) == 0)
            && (tags.outer == 0
                || bpf_skb_vlan_push(context.skb.skb, ethertype::SERVICE_VLAN.to_be(), tags.outer) == 0)
    }
}

/// By the segment that the frame goes to; else by the router that it goes to; else by who was heard.
#[inline(always)]
fn tags(context: &TcContext, port: u32, kind: u16) -> Option<Tags> {
    if let Some(tags) = tags_to(port, addressee(context, kind)?) {
        return Some(tags);
    }
    let mac: [u8; 6] = context.load(0).ok()?;
    if mac[0] & 1 != 0 {
        return None;
    }
    if let Some(tags) = router(context, port, kind).and_then(|router| tags_to(port, router)) {
        return Some(tags);
    }
    // SAFETY: an entry that is replaced is reused at once by another, which the key then tells apart or
    // not: at worst a frame goes to a segment that was named for this station a moment before.
    unsafe { STATIONS.get(StationKey { port, mac, reserved: 0 }) }.copied()
}

/// Whom a frame of the gateway is for: the destination, or who is asked for.
#[inline(always)]
fn addressee(context: &TcContext, kind: u16) -> Option<[u64; 2]> {
    match kind {
        ethertype::ARP => Some(frame::mapped(context.load(ETHERNET + 24).ok()?)),
        ethertype::IPV4 => Some(frame::mapped(context.load(ETHERNET + 16).ok()?)),
        ethertype::IPV6 => {
            let solicits = context.load::<u8>(ETHERNET + 6).ok()? == protocol::ICMPV6
                && context.load::<u8>(ETHERNET + 40).ok()? == icmpv6::NEIGHBOUR_SOLICITATION;
            let at = if solicits { ETHERNET + 48 } else { ETHERNET + 24 };
            context.load(at).ok()
        }
        _ => None,
    }
}

/// The router by which the kernel reaches the destination on this port.
#[inline(always)]
fn router(context: &TcContext, port: u32, kind: u16) -> Option<[u64; 2]> {
    // SAFETY: zeros are a value of a structure of numbers.
    let mut route: Route = unsafe { core::mem::zeroed() };
    route.ifindex = port;
    if kind == ethertype::IPV4 {
        route.family = 2;
        route.__bindgen_anon_3.ipv4_src = context.load(ETHERNET + 12).ok()?;
        route.__bindgen_anon_4.ipv4_dst = context.load(ETHERNET + 16).ok()?;
    } else if kind == ethertype::IPV6 {
        route.family = 10;
        route.__bindgen_anon_3.ipv6_src = words(context.load(ETHERNET + 8).ok()?);
        route.__bindgen_anon_4.ipv6_dst = words(context.load(ETHERNET + 24).ok()?);
    } else {
        return None;
    }
    let size = size_of::<Route>() as i32;
    // SAFETY: the context is the program's own, and the question is as large as said. The neighbour need not
    // be known: only the address of the next hop is asked for.
    let answer =
        unsafe { bpf_fib_lookup(context.skb.skb.cast(), &raw mut route, size, BPF_FIB_LOOKUP_OUTPUT) };
    // A neighbour that is not known yet is none the less the next hop.
    (answer == 0 || answer == 7).then(|| next_hop(&route))
}
