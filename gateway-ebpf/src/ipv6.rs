//! IPv6 and its extension headers (RFC 8200).

use aya_ebpf::programs::XdpContext;
use gateway_common::reason::Reason;

use crate::frame;
use crate::packet::{Fragment, Packet, protocol};

/// The fixed header, as it stands in the packet.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(crate) struct Header {
    version_class_flow: u32,
    payload_length: u16,
    next_header: u8,
    hop_limit: u8,
    source: [u64; 2],
    destination: [u64; 2],
}

/// The fragment extension header (RFC 8200, 4.5).
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct FragmentHeader {
    next_header: u8,
    _reserved: u8,
    offset_more: u16,
    identification: u32,
}

/// Extension headers (IANA protocol numbers) that are walked.
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HIP: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}

/// Extension headers that are walked at most. RFC 8200 has each at most once but for one; real
/// packets carry one or two.
const WALK_LIMIT: usize = 6;

/// Reads the header at `offset` and walks to the transport header.
#[inline(always)]
pub(crate) fn parse(context: &XdpContext, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    let header: Header = frame::read(context, offset)?;
    let next = fields(&header, packet)?;
    let end = offset + size_of::<Header>() + usize::from(u16::from_be(header.payload_length));
    if end > frame::linear_length(context) && end > frame::whole_length(context) {
        return Err(Reason::Truncated);
    }
    walk(context, offset + size_of::<Header>(), next, packet)?;
    if packet.transport > end {
        return Err(Reason::MalformedIpv6);
    }
    packet.payload = end - packet.transport;
    Ok(())
}

/// Reads the header of a packet that an ICMPv6 error quotes: its end is missing.
#[inline(always)]
pub(crate) fn parse_quoted(context: &XdpContext, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    let header: Header = frame::read(context, offset)?;
    let next = fields(&header, packet)?;
    walk(context, offset + size_of::<Header>(), next, packet)
}

#[inline(always)]
fn fields(header: &Header, packet: &mut Packet) -> Result<u8, Reason> {
    if u32::from_be(header.version_class_flow) >> 28 != 6 {
        return Err(Reason::MalformedIpv6);
    }
    packet.source = header.source;
    packet.destination = header.destination;
    packet.hop_limit = header.hop_limit;
    // An IPv4 address in an IPv6 header never stands on the wire (RFC 4291, 2.5.5.2) and would
    // borrow the rules of the IPv4 host.
    if frame::is_mapped(packet.source) || frame::is_mapped(packet.destination) {
        return Err(Reason::Martian);
    }
    Ok(header.next_header)
}

/// Walks the extension headers from `offset` on; `next` says what stands there.
#[inline(always)]
fn walk(context: &XdpContext, mut offset: usize, mut next: u8, packet: &mut Packet) -> Result<(), Reason> {
    for position in 0..=WALK_LIMIT {
        let length = match next {
            extension::HOP_BY_HOP if position > 0 => return Err(Reason::MalformedIpv6),
            extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::DESTINATION_OPTIONS
            | extension::MOBILITY
            | extension::HIP
            | extension::SHIM6 => {
                let words: u8 = frame::read(context, offset + 1)?;
                if next == extension::ROUTING && frame::read::<u8>(context, offset + 2)? == 0 {
                    // RFC 5095 forbids type 0.
                    return Err(Reason::SourceRoute);
                }
                (usize::from(words) + 1) * 8
            }
            extension::AUTHENTICATION => {
                let words: u8 = frame::read(context, offset + 1)?;
                (usize::from(words) + 2) * 4
            }
            extension::FRAGMENT => {
                let header: FragmentHeader = frame::read(context, offset)?;
                if packet.fragment != Fragment::Whole {
                    return Err(Reason::MalformedIpv6);
                }
                packet.identification = header.identification;
                let offset_more = u16::from_be(header.offset_more);
                if offset_more & !7 != 0 {
                    if header.next_header == protocol::TCP && offset_more >> 3 < 3 {
                        return Err(Reason::InvalidFragment);
                    }
                    packet.fragment = Fragment::Later;
                    packet.protocol = header.next_header;
                    packet.transport = offset + size_of::<FragmentHeader>();
                    return Ok(());
                }
                if offset_more & 1 != 0 {
                    packet.fragment = Fragment::First;
                }
                size_of::<FragmentHeader>()
            }
            _ => {
                packet.protocol = next;
                packet.transport = offset;
                return Ok(());
            }
        };
        next = frame::read(context, offset)?;
        offset += length;
    }
    Err(Reason::ExtensionHeaders)
}
