//! Connections that the gateway itself opens: recorded as they leave, so that their replies are known.
//! What is forwarded leaves here too and is passed over: it was judged when it arrived.

use aya_ebpf::programs::TcContext;
use gateway_common::connection::Connection;
use gateway_common::place::{SEGMENT_GATEWAY, SEGMENT_WAN};
use gateway_common::table::NO_RULE;

use crate::conntrack::{self, Slot};
use crate::packet::{Fragment, Packet, ethertype, protocol};
use crate::{clock, config, frame, ipv6, transport};

const ETHERNET: usize = 14;
const TAG: usize = 4;
const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;

/// Records the connection of a packet that the gateway sends.
#[inline(always)]
pub(crate) fn record(context: &TcContext) {
    record_as(context, read);
}

/// The same where packets begin at the IP header.
#[inline(always)]
pub(crate) fn record_bare(context: &TcContext) {
    record_as(context, |context, packet| {
        // SAFETY: a field of the program's own context; in network byte order, in the low half.
        let kind = u16::from_be(unsafe { (*context.skb.skb).protocol } as u16);
        network(context, 0, kind, packet)
    });
}

#[inline(always)]
fn record_as(context: &TcContext, read: impl Fn(&TcContext, &mut Packet) -> Option<()>) {
    // SAFETY: the context is the program's own. The kernel notes there on which interface a packet
    // arrived; one that was made here arrived on none.
    if unsafe { (*context.skb.skb).ingress_ifindex } != 0 {
        return;
    }
    let mut packet = Packet::EMPTY;
    if read(context, &mut packet).is_none() || is_group(packet.destination) {
        return;
    }
    let mut slot = Slot::EMPTY;
    conntrack::slot(&packet, &mut slot);
    let now = clock::now_at_exit(context);
    if conntrack::find(&mut slot, now)
        && let Some(entry) = conntrack::entry(&slot)
    {
        // SAFETY: entries lie in the map, which lives as long as the program runs.
        let connection = unsafe { &*entry };
        if conntrack::continues(connection, &slot, &packet) {
            conntrack::advance(entry, &packet, conntrack::from_initiator(connection, &slot), now);
            return;
        }
    }
    if !opens(&packet) {
        return;
    }
    let state = conntrack::first_state(packet.protocol, false) as u8;
    let high_initiated = if slot.source_is_high { Connection::HIGH_INITIATED } else { 0 };
    let new = Connection {
        key: slot.key,
        expires: now + config::timeout(state),
        // Generation 0 is never in force: the first reply is judged, and finds its place.
        generation: 0,
        rule: NO_RULE,
        ifindex: [0; 2],
        vlan: [0; 2],
        outer: [0; 2],
        segment: [SEGMENT_GATEWAY, SEGMENT_WAN],
        state,
        flags: high_initiated | Connection::GATEWAY,
        sequence: 0,
    };
    conntrack::insert(&mut slot, &new, now);
}

/// Whether a packet of the gateway opens a connection. An answer does not: while the gateway's segment
/// only observes, it answers what no flow allows, and that must not outlive the rollout. Nor does what it
/// still sends on a connection that was revoked, also where the policy takes connections up in their middle:
/// no rule judges the gateway's own.
#[inline(always)]
fn opens(packet: &Packet) -> bool {
    match packet.protocol {
        protocol::TCP => conntrack::is_opening(packet),
        protocol::ICMP | protocol::ICMPV6 => transport::is_echo_request(packet),
        protocol::IGMP => false,
        _ => true,
    }
}

#[inline(always)]
fn read(context: &TcContext, packet: &mut Packet) -> Option<()> {
    let mut network = ETHERNET;
    let mut kind = u16::from_be(context.load(ETHERNET - 2).ok()?);
    if kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN {
        network += TAG;
        kind = u16::from_be(context.load(network - 2).ok()?);
    }
    self::network(context, frame::opaque(network), kind, packet)
}

/// Reads what stands from offset `network` on.
#[inline(always)]
fn network(context: &TcContext, network: usize, kind: u16, packet: &mut Packet) -> Option<()> {
    match kind {
        ethertype::IPV4 => {
            let version_length: u8 = context.load(network).ok()?;
            packet.protocol = context.load(network + 9).ok()?;
            let fragment: u16 = context.load(network + 6).ok()?;
            packet.source = frame::mapped(context.load(network + 12).ok()?);
            packet.destination = frame::mapped(context.load(network + 16).ok()?);
            packet.transport = network + usize::from(version_length & 0x0f) * 4;
            if u16::from_be(fragment) & 0x1fff != 0 {
                packet.fragment = Fragment::Later;
            }
        }
        ethertype::IPV6 => {
            packet.protocol = context.load(network + 6).ok()?;
            packet.source = context.load(network + 8).ok()?;
            packet.destination = context.load(network + 24).ok()?;
            // As on the way in: such addresses would name an IPv4 connection.
            if frame::is_mapped(packet.source) || frame::is_mapped(packet.destination) {
                return None;
            }
            packet.transport = network + IPV6_HEADER;
            if packet.protocol == ipv6::extension::FRAGMENT {
                // What is too long for its way leaves in fragments; the first has the ports.
                let offset: u16 = context.load(packet.transport + 2).ok()?;
                if u16::from_be(offset) >> 3 != 0 {
                    packet.fragment = Fragment::Later;
                }
                packet.protocol = context.load(packet.transport).ok()?;
                packet.transport += FRAGMENT_HEADER;
            }
        }
        _ => return None,
    }
    if packet.fragment == Fragment::Later {
        return None;
    }
    match packet.protocol {
        protocol::TCP | protocol::UDP => {
            let ports: [u16; 2] = context.load(packet.transport).ok()?;
            packet.source_port = ports[0];
            packet.destination_port = ports[1];
            if packet.protocol == protocol::TCP {
                packet.tcp_flags = context.load(packet.transport + 13).ok()?;
            }
        }
        protocol::ICMP | protocol::ICMPV6 => {
            packet.icmp_type = context.load(packet.transport).ok()?;
            if transport::is_echo(packet) {
                let identifier: u16 = context.load(packet.transport + 4).ok()?;
                packet.source_port = identifier;
                packet.destination_port = identifier;
            }
        }
        _ => {}
    }
    Some(())
}

/// Multicast or limited broadcast: no reply comes from such an address.
#[inline(always)]
fn is_group(address: [u64; 2]) -> bool {
    if frame::is_mapped(address) {
        let v4 = (address[1] >> 32) as u32;
        return v4 as u8 >> 4 == 14 || v4 == u32::MAX;
    }
    address[0] as u8 == 0xff
}
