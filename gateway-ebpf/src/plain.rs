//! The short way through the headers that nearly all packets have: no tag or one, IPv4 without options or IPv6
//! without extension headers, all of a datagram, TCP or UDP. It reads what [`crate::parse`] reads of them, in a
//! third of the instructions; whatever is not plain or not right is left to it, which says why.

use aya_ebpf::programs::XdpContext;

use crate::frame::{self, Header};
use crate::packet::{Fragment, Link, Packet, ethertype, protocol};
use crate::transport;

const ETHERNET: usize = 14;
const TAG: usize = 4;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const TCP: usize = 20;

/// Reads a plain frame; false where it is none, and then nothing of `link` and `packet` means anything.
#[inline(always)]
pub(crate) fn read(context: &XdpContext, ifindex: u32, link: &mut Link, packet: &mut Packet) -> bool {
    let Ok(header) = frame::header::<{ ETHERNET + TAG }>(context, 0) else { return false };
    let kind = header.u16::<12>();
    if kind == ethertype::VLAN.to_be() {
        describe(link, ifindex, u16::from_be(header.u16::<14>()) & 0xfff);
        network::<{ ETHERNET + TAG }>(context, header.u16::<16>(), link, packet)
    } else {
        describe(link, ifindex, 0);
        network::<ETHERNET>(context, kind, link, packet)
    }
}

#[inline(always)]
fn describe(link: &mut Link, ifindex: u32, vlan: u16) {
    link.place.ifindex = ifindex;
    link.place.outer = 0;
    link.place.vlan = vlan;
}

#[inline(always)]
fn network<const NETWORK: usize>(
    context: &XdpContext,
    kind: u16,
    link: &mut Link,
    packet: &mut Packet,
) -> bool {
    link.network = NETWORK;
    if kind == ethertype::IPV4.to_be() {
        link.ethertype = ethertype::IPV4;
        ipv4::<NETWORK>(context, packet)
    } else if kind == ethertype::IPV6.to_be() {
        link.ethertype = ethertype::IPV6;
        ipv6::<NETWORK>(context, packet)
    } else {
        false
    }
}

#[inline(always)]
fn ipv4<const NETWORK: usize>(context: &XdpContext, packet: &mut Packet) -> bool {
    let Ok(header) = frame::header::<{ IPV4 + UDP }>(context, NETWORK) else { return false };
    let total = usize::from(u16::from_be(header.u16::<2>()));
    let is_fragment = header.u16::<6>() & 0x3fffu16.to_be() != 0;
    if header.u8::<0>() != 0x45 || is_fragment || NETWORK + total > frame::linear_length(context) {
        return false;
    }
    packet.source = frame::mapped(header.u32::<12>());
    packet.destination = frame::mapped(header.u32::<16>());
    packet.hop_limit = header.u8::<8>();
    datagram(context, header.u8::<9>(), NETWORK + IPV4, total.wrapping_sub(IPV4), packet)
}

#[inline(always)]
fn ipv6<const NETWORK: usize>(context: &XdpContext, packet: &mut Packet) -> bool {
    let Ok(header) = frame::header::<{ IPV6 + UDP }>(context, NETWORK) else { return false };
    let payload = usize::from(u16::from_be(header.u16::<4>()));
    if header.u8::<0>() >> 4 != 6 || NETWORK + IPV6 + payload > frame::linear_length(context) {
        return false;
    }
    packet.source = [header.u64::<8>(), header.u64::<16>()];
    packet.destination = [header.u64::<24>(), header.u64::<32>()];
    if frame::is_mapped(packet.source) || frame::is_mapped(packet.destination) {
        return false;
    }
    packet.hop_limit = header.u8::<7>();
    datagram(context, header.u8::<6>(), NETWORK + IPV6, payload, packet)
}

/// Reads the transport header; `payload` may have wrapped below zero, which is more than there can be.
#[inline(always)]
fn datagram(
    context: &XdpContext,
    protocol: u8,
    transport: usize,
    payload: usize,
    packet: &mut Packet,
) -> bool {
    packet.protocol = protocol;
    packet.transport = transport;
    packet.payload = payload;
    packet.identification = 0;
    packet.icmp_type = 0;
    packet.icmp_code = 0;
    packet.fragment = Fragment::Whole;
    packet.is_addressed = true;
    if payload > usize::from(u16::MAX) {
        return false;
    }
    if protocol == protocol::TCP {
        let Ok(header) = frame::header::<TCP>(context, transport) else { return false };
        let length = usize::from(header.u8::<12>() >> 4) * 4;
        packet.tcp_flags = header.u8::<13>();
        ports(header, packet);
        length >= TCP && length <= payload && transport::sane(packet.tcp_flags)
    } else if protocol == protocol::UDP {
        let Ok(header) = frame::header::<UDP>(context, transport) else { return false };
        let length = usize::from(u16::from_be(header.u16::<4>()));
        packet.tcp_flags = 0;
        ports(header, packet);
        length >= UDP && length <= payload
    } else {
        false
    }
}

#[inline(always)]
fn ports<const LENGTH: usize>(header: Header<LENGTH>, packet: &mut Packet) {
    packet.source_port = header.u16::<0>();
    packet.destination_port = header.u16::<2>();
}
