//! IPv6 and its extension headers (RFC 8200).

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use gateway_common::reason::Reason;

use crate::maps::WALKED;
use crate::packet::{Fragment, Packet, Walked};
use crate::{frame, outcome};

/// The fixed header, and where its fields stand.
type Header = frame::Header<HEADER>;
const HEADER: usize = 40;
mod at {
    pub(super) const VERSION: usize = 0;
    pub(super) const PAYLOAD_LENGTH: usize = 4;
    pub(super) const NEXT: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    pub(super) const SOURCE: usize = 8;
    pub(super) const DESTINATION: usize = 24;
}

/// The fragment extension header (RFC 8200, 4.5).
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct FragmentHeader {
    next: u8,
    _reserved: u8,
    offset_more: u16,
    identification: u32,
}

/// Extension headers (IANA protocol numbers) that are walked: those that Linux and the devices' stacks
/// walk. Any other number is a protocol, judged by its rules.
pub(crate) mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
}

/// Extension headers that are walked at most. RFC 8200 has each at most once but for one; real
/// packets carry one or two.
const WALK_LIMIT: usize = 6;

/// Reads the header at `offset` and walks to the transport header.
#[inline(always)]
pub(crate) fn parse(context: &XdpContext, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    let header: Header = frame::header(context, offset)?;
    let next = fields(header, packet)?;
    let end = offset + HEADER + usize::from(u16::from_be(header.u16::<{ at::PAYLOAD_LENGTH }>()));
    if end > frame::linear_length(context) && end > frame::whole_length(context) {
        return Err(Reason::Truncated);
    }
    walk(context, offset + HEADER, next, packet)?;
    if packet.transport > end {
        return Err(Reason::MalformedIpv6);
    }
    packet.payload = end - packet.transport;
    Ok(())
}

/// Reads the header of a packet that an ICMPv6 error quotes: its end is missing.
#[inline(always)]
pub(crate) fn parse_quoted(context: &XdpContext, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    let header: Header = frame::header(context, offset)?;
    let next = fields(header, packet)?;
    walk(context, offset + HEADER, next, packet)
}

#[inline(always)]
fn fields(header: Header, packet: &mut Packet) -> Result<u8, Reason> {
    if header.u8::<{ at::VERSION }>() >> 4 != 6 {
        return Err(Reason::MalformedIpv6);
    }
    packet.source = [header.u64::<{ at::SOURCE }>(), header.u64::<{ at::SOURCE + 8 }>()];
    packet.destination = [header.u64::<{ at::DESTINATION }>(), header.u64::<{ at::DESTINATION + 8 }>()];
    packet.hop_limit = header.u8::<{ at::HOP_LIMIT }>();
    packet.is_addressed = true;
    // An IPv4 address in an IPv6 header never stands on the wire (RFC 4291, 2.5.5.2) and would
    // borrow the rules of the IPv4 host.
    if frame::is_mapped(packet.source) || frame::is_mapped(packet.destination) {
        return Err(Reason::Martian);
    }
    Ok(header.u8::<{ at::NEXT }>())
}

/// Walks the extension headers from `offset` on; `next` says what stands there.
#[inline(always)]
fn walk(context: &XdpContext, offset: usize, next: u8, packet: &mut Packet) -> Result<(), Reason> {
    packet.protocol = next;
    packet.transport = offset;
    if !is_extension(next) {
        return Ok(());
    }
    outcome::reason(clinigate_extensions(context.ctx, offset as u64, u64::from(next)))?;
    let walked = WALKED.get(0).ok_or(Reason::Internal)?;
    packet.protocol = walked.protocol;
    packet.transport = walked.transport;
    packet.identification = walked.identification;
    packet.fragment = walked.fragment;
    Ok(())
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::FRAGMENT
            | extension::AUTHENTICATION
            | extension::DESTINATION_OPTIONS
    )
}

/// The walk, as a function that the verifier checks once and by itself: inlined, its loop multiplies
/// with every path around it. Returns an [`outcome`]; what it found is in [`WALKED`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn clinigate_extensions(context: *mut xdp_md, offset: u64, next: u64) -> u64 {
    let Some(walked) = WALKED.get_ptr_mut(0) else { return outcome::of(Err(Reason::Internal)) };
    // SAFETY: this CPU's element; nobody else holds it.
    let walked = unsafe { &mut *walked };
    *walked = Walked { transport: 0, identification: 0, protocol: 0, fragment: Fragment::Whole };
    outcome::of(extensions(&XdpContext::new(context), offset as usize, next as u8, walked))
}

#[inline(always)]
fn extensions(
    context: &XdpContext,
    mut offset: usize,
    mut next: u8,
    walked: &mut Walked,
) -> Result<(), Reason> {
    for position in 0..=WALK_LIMIT {
        let length = match next {
            extension::HOP_BY_HOP if position > 0 => return Err(Reason::MalformedIpv6),
            extension::AUTHENTICATION => {
                let words: u8 = frame::read(context, frame::anew(offset) + 1)?;
                (usize::from(words) + 2) * 4
            }
            extension::FRAGMENT => {
                if fragment(context, frame::anew(offset), walked)? {
                    return Ok(());
                }
                size_of::<FragmentHeader>()
            }
            _ if is_extension(next) => {
                let words: u8 = frame::read(context, frame::anew(offset) + 1)?;
                if next == extension::ROUTING {
                    // RFC 5095 forbids type 0. Of any type, segments that are left name a destination
                    // behind the one that is judged.
                    let [kind, left]: [u8; 2] = frame::read(context, frame::anew(offset) + 2)?;
                    if kind == 0 || left != 0 {
                        return Err(Reason::SourceRoute);
                    }
                }
                (usize::from(words) + 1) * 8
            }
            _ => {
                walked.protocol = next;
                walked.transport = offset;
                return Ok(());
            }
        };
        next = frame::read(context, frame::anew(offset))?;
        offset = frame::bounded(offset + length);
        frame::forget();
    }
    Err(Reason::ExtensionHeaders)
}

/// Reads a fragment header; true where what follows is not the beginning of the datagram.
#[inline(always)]
fn fragment(context: &XdpContext, offset: usize, walked: &mut Walked) -> Result<bool, Reason> {
    let header: FragmentHeader = frame::read(context, offset)?;
    if walked.fragment != Fragment::Whole {
        return Err(Reason::MalformedIpv6);
    }
    walked.identification = header.identification;
    let offset_more = u16::from_be(header.offset_more);
    if offset_more & !7 != 0 {
        // As for IPv4: a second fragment that begins inside the transport header could rewrite it. Whatever
        // it says it carries: who puts them together believes the first (RFC 8200, 4.5).
        if offset_more >> 3 < 3 {
            return Err(Reason::InvalidFragment);
        }
        walked.fragment = Fragment::Later;
        walked.protocol = header.next;
        walked.transport = offset + size_of::<FragmentHeader>();
        return Ok(true);
    }
    if offset_more & 1 != 0 {
        // Behind further headers a transport header may stand anywhere, where a second fragment could
        // rewrite it.
        if header.next != extension::FRAGMENT && is_extension(header.next) {
            return Err(Reason::InvalidFragment);
        }
        walked.fragment = Fragment::First;
    }
    Ok(false)
}
