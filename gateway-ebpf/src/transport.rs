//! TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792) and ICMPv6 (RFC 4443).

use aya_ebpf::programs::XdpContext;
use gateway_common::reason::Reason;

use crate::frame;
use crate::packet::{Fragment, Packet, protocol};

/// TCP flags.
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const URG: u8 = 0x20;
}

/// ICMP types (IANA).
pub(crate) mod icmp {
    pub(crate) const ECHO_REPLY: u8 = 0;
    pub(crate) const UNREACHABLE: u8 = 3;
    pub(crate) const REDIRECT: u8 = 5;
    pub(crate) const ECHO: u8 = 8;
    pub(crate) const TIME_EXCEEDED: u8 = 11;
    pub(crate) const PARAMETER_PROBLEM: u8 = 12;
}

/// ICMPv6 types (IANA). Types 1 to 4 are the errors.
pub(crate) mod icmpv6 {
    pub(crate) const LAST_ERROR: u8 = 4;
    pub(crate) const ECHO: u8 = 128;
    pub(crate) const ECHO_REPLY: u8 = 129;
    pub(crate) const LISTENER_QUERY: u8 = 130;
    pub(crate) const LISTENER_DONE: u8 = 132;
    pub(crate) const ROUTER_SOLICITATION: u8 = 133;
    pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(crate) const REDIRECT: u8 = 137;
    pub(crate) const LISTENER_REPORT_V2: u8 = 143;
}

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;
const ICMPV6_HEADER: usize = 4;

/// Reads ports, flags or types at the packet's transport header.
#[inline(always)]
pub(crate) fn parse(context: &XdpContext, packet: &mut Packet) -> Result<(), Reason> {
    match packet.protocol {
        protocol::TCP => tcp(context, packet),
        protocol::UDP => udp(context, packet),
        protocol::ICMP if frame::is_mapped(packet.source) => icmp_header(context, packet, ICMP_HEADER),
        protocol::ICMPV6 if !frame::is_mapped(packet.source) => icmp_header(context, packet, ICMPV6_HEADER),
        // ICMP in IPv6 and ICMPv6 in IPv4 mean nothing.
        protocol::ICMP | protocol::ICMPV6 => Err(Reason::MalformedTransport),
        _ => Ok(()),
    }
}

#[inline(always)]
fn tcp(context: &XdpContext, packet: &mut Packet) -> Result<(), Reason> {
    require(packet, TCP_HEADER)?;
    // The whole fixed header must be there.
    let header = frame::header::<TCP_HEADER>(context, packet.transport)?;
    let length = usize::from(header.u8::<12>() >> 4) * 4;
    if length < TCP_HEADER || length > packet.payload {
        // A first fragment too short for its options is no use to anybody honest (RFC 1858).
        return Err(if packet.fragment == Fragment::First {
            Reason::InvalidFragment
        } else {
            Reason::MalformedTransport
        });
    }
    packet.source_port = header.u16::<0>();
    packet.destination_port = header.u16::<2>();
    packet.tcp_flags = header.u8::<13>();
    if sane(packet.tcp_flags) { Ok(()) } else { Err(Reason::TcpFlags) }
}

/// The combinations that a TCP sends, PSH, ECE and CWR aside: those of Linux's conntrack
/// (`tcp_valid_flags` in `net/netfilter/nf_conntrack_proto_tcp.c`).
#[inline(always)]
pub(crate) const fn sane(flags: u8) -> bool {
    const SANE: u64 = {
        use flag::{ACK, FIN, RST, SYN, URG};
        let mut sane = 0;
        let mut flags = 0;
        while flags < 64 {
            if matches!(flags & (FIN | SYN | RST | ACK | URG), f if
                f == SYN || f == SYN | URG || f == SYN | ACK || f == RST || f == RST | ACK
                || f == FIN | ACK || f == FIN | ACK | URG || f == ACK || f == ACK | URG)
            {
                sane |= 1 << flags;
            }
            flags += 1;
        }
        sane
    };
    SANE >> (flags & 63) & 1 == 1
}

#[inline(always)]
fn udp(context: &XdpContext, packet: &mut Packet) -> Result<(), Reason> {
    require(packet, UDP_HEADER)?;
    let header = frame::header::<UDP_HEADER>(context, packet.transport)?;
    let length = usize::from(u16::from_be(header.u16::<4>()));
    if length < UDP_HEADER || (packet.fragment == Fragment::Whole && length > packet.payload) {
        return Err(Reason::MalformedTransport);
    }
    packet.source_port = header.u16::<0>();
    packet.destination_port = header.u16::<2>();
    Ok(())
}

#[inline(always)]
fn icmp_header(context: &XdpContext, packet: &mut Packet, header: usize) -> Result<(), Reason> {
    require(packet, header)?;
    let kind: [u8; 2] = frame::read(context, packet.transport)?;
    packet.icmp_type = kind[0];
    packet.icmp_code = kind[1];
    if is_echo(packet) {
        require(packet, ICMP_HEADER)?;
        let identifier: u16 = frame::read(context, packet.transport + 4)?;
        packet.source_port = identifier;
        packet.destination_port = identifier;
    }
    Ok(())
}

/// Echo request or reply.
#[inline(always)]
pub(crate) fn is_echo(packet: &Packet) -> bool {
    match packet.protocol {
        protocol::ICMP => packet.icmp_type == icmp::ECHO || packet.icmp_type == icmp::ECHO_REPLY,
        protocol::ICMPV6 => packet.icmp_type == icmpv6::ECHO || packet.icmp_type == icmpv6::ECHO_REPLY,
        _ => false,
    }
}

/// An echo request, which may open a connection.
#[inline(always)]
pub(crate) fn is_echo_request(packet: &Packet) -> bool {
    match packet.protocol {
        protocol::ICMP => packet.icmp_type == icmp::ECHO,
        protocol::ICMPV6 => packet.icmp_type == icmpv6::ECHO,
        _ => false,
    }
}

/// An ICMP or ICMPv6 error, which quotes a packet.
#[inline(always)]
pub(crate) fn is_error(packet: &Packet) -> bool {
    match packet.protocol {
        protocol::ICMP => {
            matches!(packet.icmp_type, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
        }
        protocol::ICMPV6 => packet.icmp_type <= icmpv6::LAST_ERROR && packet.icmp_type > 0,
        _ => false,
    }
}

#[inline(always)]
fn require(packet: &Packet, header: usize) -> Result<(), Reason> {
    if packet.payload >= header {
        Ok(())
    } else if packet.fragment == Fragment::First {
        Err(Reason::InvalidFragment)
    } else {
        Err(Reason::MalformedTransport)
    }
}
