//! IPv4 (RFC 791).

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use gateway_common::reason::Reason;

use crate::packet::{Fragment, Packet, protocol};
use crate::{frame, outcome};

/// The fixed part of the header, and where its fields stand.
type Header = frame::Header<HEADER>;
const HEADER: usize = 20;
mod at {
    pub(super) const VERSION_LENGTH: usize = 0;
    pub(super) const TOTAL_LENGTH: usize = 2;
    pub(super) const IDENTIFICATION: usize = 4;
    pub(super) const FLAGS_OFFSET: usize = 6;
    pub(super) const HOP_LIMIT: usize = 8;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const SOURCE: usize = 12;
    pub(super) const DESTINATION: usize = 16;
}

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// Option numbers (IANA): loose and strict source route.
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
/// Options that are walked at most, fillers included. Real packets carry one or two; each turn of the
/// loop costs the verifier thousands of steps.
const OPTIONS_LIMIT: usize = 12;

/// Reads the header at `offset`, and checks that the packet is whole.
#[inline(always)]
pub(crate) fn parse(context: &XdpContext, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    let header: Header = frame::header(context, offset)?;
    let header_length = fields(header, offset, packet)?;
    let total = usize::from(u16::from_be(header.u16::<{ at::TOTAL_LENGTH }>()));
    if total < header_length {
        return Err(Reason::MalformedIpv4);
    }
    // The frame may be longer (Ethernet pads to 60 bytes), never shorter.
    if offset + total > frame::linear_length(context) && offset + total > frame::whole_length(context) {
        return Err(Reason::Truncated);
    }
    packet.payload = total - header_length;
    if header_length > HEADER {
        refuse_source_route(context, offset + HEADER, offset + header_length)?;
    }
    let flags_offset = u16::from_be(header.u16::<{ at::FLAGS_OFFSET }>());
    if flags_offset & OFFSET != 0 {
        // RFC 1858: a second fragment that begins inside the transport header could rewrite it.
        if packet.protocol == protocol::TCP && flags_offset & OFFSET < 3 {
            return Err(Reason::InvalidFragment);
        }
        packet.fragment = Fragment::Later;
    } else if flags_offset & MORE_FRAGMENTS != 0 {
        packet.fragment = Fragment::First;
    }
    Ok(())
}

/// Reads the header of a packet that an ICMP error quotes: its end is missing.
#[inline(always)]
pub(crate) fn parse_quoted(context: &XdpContext, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    let header: Header = frame::header(context, offset)?;
    fields(header, offset, packet)?;
    if u16::from_be(header.u16::<{ at::FLAGS_OFFSET }>()) & OFFSET != 0 {
        packet.fragment = Fragment::Later;
    }
    Ok(())
}

/// Takes over the fields that both kinds of packet have; returns the header's length.
#[inline(always)]
fn fields(header: Header, offset: usize, packet: &mut Packet) -> Result<usize, Reason> {
    let version_length = header.u8::<{ at::VERSION_LENGTH }>();
    let header_length = usize::from(version_length & 0x0f) * 4;
    if version_length >> 4 != 4 || header_length < HEADER {
        return Err(Reason::MalformedIpv4);
    }
    packet.source = frame::mapped(header.u32::<{ at::SOURCE }>());
    packet.destination = frame::mapped(header.u32::<{ at::DESTINATION }>());
    packet.identification = u32::from(header.u16::<{ at::IDENTIFICATION }>());
    packet.protocol = header.u8::<{ at::PROTOCOL }>();
    packet.hop_limit = header.u8::<{ at::HOP_LIMIT }>();
    packet.is_addressed = true;
    packet.transport = offset + header_length;
    Ok(header_length)
}

/// Walks the options.
#[inline(always)]
fn refuse_source_route(context: &XdpContext, begin: usize, end: usize) -> Result<(), Reason> {
    outcome::reason(clinigate_options(context.ctx, begin as u64, end as u64))
}

/// The walk, as a function that the verifier checks once and by itself: inlined, its loop multiplies
/// with every path around it. Returns an [`outcome`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn clinigate_options(context: *mut xdp_md, begin: u64, end: u64) -> u64 {
    outcome::of(options(&XdpContext::new(context), begin as usize, end as usize))
}

#[inline(always)]
fn options(context: &XdpContext, begin: usize, end: usize) -> Result<(), Reason> {
    let mut offset = begin;
    for _ in 0..OPTIONS_LIMIT {
        offset = frame::bounded(offset);
        if offset >= end {
            break;
        }
        let kind: u8 = frame::read(context, offset)?;
        match kind {
            0 => return Ok(()),
            1 => offset += 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Reason::SourceRoute),
            _ => {
                let length: u8 = frame::read(context, offset + 1)?;
                if length < 2 {
                    return Err(Reason::MalformedIpv4);
                }
                offset += usize::from(length);
            }
        }
    }
    // They must end where the header does, and be no more than are walked.
    if offset == end { Ok(()) } else { Err(Reason::MalformedIpv4) }
}
