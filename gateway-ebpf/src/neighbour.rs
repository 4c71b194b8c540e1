//! What a link needs to work: ARP (RFC 826), neighbour discovery (RFC 4861), group membership (RFC
//! 3376, RFC 3810). Checked against the segment and limited for each sender.

use aya_ebpf::programs::XdpContext;
use gateway_common::place::{Place, SEGMENT_GATEWAY};
use gateway_common::reason::Reason;
use gateway_common::table::Atom;

use crate::maps::{NEIGHBOUR_BUDGET, NEIGHBOUR_BUDGETS};
use crate::packet::{Fragment, Link, Packet, protocol};
use crate::transport::icmpv6;
use crate::{budget, classify, config, frame};

/// An ARP packet for IPv4 over Ethernet.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Arp {
    hardware: u16,
    protocol: u16,
    lengths: [u8; 2],
    operation: u16,
    sender_mac: [u8; 6],
    sender: u32,
    _target_mac: [u8; 6],
    _target: u32,
}

/// Hop limit that only a neighbour's packet can have (RFC 4861, 3.1).
const NEIGHBOURS: u8 = 255;
/// Bytes before the target address of a neighbour solicitation or advertisement, and with it.
const TARGET: usize = 8;
const WITH_TARGET: usize = 24;

/// Judges an ARP packet.
#[inline(always)]
pub(crate) fn arp(context: &XdpContext, link: &Link, place: &Place, now: u64) -> Result<Reason, Reason> {
    let arp: Arp = frame::read(context, link.network)?;
    let operation = u16::from_be(arp.operation);
    if u16::from_be(arp.hardware) != 1
        || u16::from_be(arp.protocol) != 0x0800
        || arp.lengths != [6, 4]
        || !(operation == 1 || operation == 2)
    {
        return Err(Reason::MalformedArp);
    }
    if arp.sender_mac != frame::source_mac(context) {
        return Err(Reason::SpoofedNeighbour);
    }
    // A probe (RFC 5227) asks before it has an address.
    if arp.sender != 0 || operation != 1 {
        belongs(frame::mapped(arp.sender), place)?;
    }
    within_budget(context, link, now)
}

/// Whether a packet is neighbour discovery or group membership of this link. What bears their types and
/// is meant for somewhere else is a packet like any other: it needs a flow.
#[inline(always)]
pub(crate) fn is_link_control(packet: &Packet, destination: &Atom, place: &Place) -> bool {
    let to_group_of_link = destination.flags & Atom::GROUP != 0 && packet.hop_limit == 1;
    match packet.protocol {
        protocol::ICMPV6 => match packet.icmp_type {
            icmpv6::ROUTER_SOLICITATION..=icmpv6::REDIRECT => {
                destination.segment == SEGMENT_GATEWAY || destination.segment == place.segment
            }
            icmpv6::LISTENER_QUERY..=icmpv6::LISTENER_DONE | icmpv6::LISTENER_REPORT_V2 => to_group_of_link,
            _ => false,
        },
        protocol::IGMP => to_group_of_link,
        _ => false,
    }
}

/// Judges such a packet; its source has passed the source guard.
#[inline(always)]
pub(crate) fn control(
    context: &XdpContext,
    link: &Link,
    packet: &Packet,
    place: &Place,
    now: u64,
) -> Result<Reason, Reason> {
    if packet.protocol == protocol::ICMPV6
        && packet.icmp_type >= icmpv6::ROUTER_SOLICITATION
        && packet.icmp_type <= icmpv6::REDIRECT
    {
        // RFC 6980 forbids fragments here.
        if packet.hop_limit != NEIGHBOURS || packet.icmp_code != 0 || packet.fragment != Fragment::Whole {
            return Err(Reason::InvalidNeighbour);
        }
        match packet.icmp_type {
            icmpv6::ROUTER_ADVERTISEMENT if place.flags & Place::ROUTERS == 0 => {
                return Err(Reason::RouterAdvertisement);
            }
            icmpv6::NEIGHBOUR_SOLICITATION | icmpv6::NEIGHBOUR_ADVERTISEMENT => {
                if packet.payload < WITH_TARGET {
                    return Err(Reason::InvalidNeighbour);
                }
                let target: [u64; 2] = frame::read(context, packet.transport + TARGET)?;
                if packet.icmp_type == icmpv6::NEIGHBOUR_ADVERTISEMENT {
                    // It would be the IPv4 host's.
                    if frame::is_mapped(target) {
                        return Err(Reason::SpoofedNeighbour);
                    }
                    belongs(target, place)?;
                }
            }
            // Redirects would send traffic around the gateway.
            icmpv6::REDIRECT => return Err(Reason::InvalidNeighbour),
            _ => {}
        }
    }
    within_budget(context, link, now)
}

/// An address that a neighbour claims must be of its segment, or of the link.
#[inline(always)]
fn belongs(address: [u64; 2], place: &Place) -> Result<(), Reason> {
    let atom = classify::atom(address).ok_or(Reason::Internal)?;
    if atom.flags & Atom::LINK_LOCAL != 0
        || (atom.segment == place.segment && atom.flags & (Atom::NEVER_SOURCE | Atom::UNSPECIFIED) == 0)
    {
        Ok(())
    } else {
        Err(Reason::SpoofedNeighbour)
    }
}

#[inline(always)]
fn within_budget(context: &XdpContext, link: &Link, now: u64) -> Result<Reason, Reason> {
    let mac = frame::source_mac(context);
    let low = u32::from_ne_bytes([mac[2], mac[3], mac[4], mac[5]]);
    let mixed =
        (low ^ link.place.ifindex.rotate_left(16) ^ u32::from(link.place.vlan)).wrapping_mul(0x9e37_79b1);
    let slot = mixed >> 16 & (NEIGHBOUR_BUDGETS as u32 - 1);
    let Some(budget) = NEIGHBOUR_BUDGET.get_ptr_mut(slot) else { return Err(Reason::Internal) };
    // SAFETY: this CPU's element, which no other writes.
    if budget::take(unsafe { &mut *budget }, u64::from(config::neighbour_rate()), now) {
        Ok(Reason::LinkLocal)
    } else {
        Err(Reason::NeighbourRate)
    }
}
