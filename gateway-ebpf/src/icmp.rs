//! ICMP and ICMPv6 errors: allowed where they quote a packet of a known connection, so that path MTU
//! discovery (RFC 1191, RFC 8201) and the rest of the error signalling work through the gateway.

use aya_ebpf::programs::XdpContext;
use gateway_common::reason::Reason;

use crate::conntrack::{self, Slot};
use crate::packet::{Fragment, Packet, protocol};
use crate::work::Judgement;
use crate::{condition, config, frame, ipv4, ipv6, revalidate, transport};

/// Bytes of an ICMP header before the quoted packet, in both versions.
const HEADER: usize = 8;

/// Judges the error `packet` by the connection that it quotes.
#[inline(always)]
pub(crate) fn related(
    context: &XdpContext,
    packet: &Packet,
    quoted: &mut Packet,
    slot: &mut Slot,
    judgement: &mut Judgement,
    now: u64,
) -> Result<Reason, Reason> {
    *quoted = Packet::EMPTY;
    frame::forget();
    quote(context, packet, quoted)?;
    frame::forget();
    // The error goes back to the sender of the packet that it quotes, and to nobody else.
    if quoted.source != packet.destination {
        return Err(Reason::UnrelatedIcmp);
    }
    conntrack::slot(quoted, slot);
    frame::forget();
    if !conntrack::find(slot, now) {
        return Err(Reason::UnrelatedIcmp);
    }
    let entry = conntrack::entry(slot).ok_or(Reason::Internal)?;
    // SAFETY: entries lie in the map, which lives as long as the program runs.
    let connection = unsafe { &mut *entry };
    if connection.generation != config::generation() || condition::binds(connection) {
        // An error about what the responder sent comes from the initiator's side.
        let arrives = config::ways() == 1 && !conntrack::from_initiator(connection, slot);
        revalidate::revalidate(connection, judgement, arrives)?;
    }
    judgement.rule = connection.rule;
    Ok(Reason::Related)
}

/// Reads the addresses and ports of the quoted packet.
#[inline(always)]
fn quote(context: &XdpContext, packet: &Packet, quoted: &mut Packet) -> Result<(), Reason> {
    let at = packet.transport + HEADER;
    let parsed = if frame::is_mapped(packet.source) {
        ipv4::parse_quoted(context, at, quoted)
    } else {
        ipv6::parse_quoted(context, at, quoted)
    };
    parsed.map_err(|_| Reason::MalformedTransport)?;
    if quoted.fragment == Fragment::Later {
        return Err(Reason::UnrelatedIcmp);
    }
    let ports = match quoted.protocol {
        protocol::TCP | protocol::UDP => frame::read::<[u16; 2]>(context, quoted.transport),
        protocol::ICMP | protocol::ICMPV6 => {
            let kind: u8 = frame::read(context, quoted.transport).map_err(|_| Reason::MalformedTransport)?;
            quoted.icmp_type = kind;
            if !transport::is_echo(quoted) {
                return Err(Reason::UnrelatedIcmp);
            }
            frame::read::<u16>(context, quoted.transport + 4).map(|identifier| [identifier; 2])
        }
        _ => Ok([0; 2]),
    };
    let ports = ports.map_err(|_| Reason::MalformedTransport)?;
    quoted.source_port = ports[0];
    quoted.destination_port = ports[1];
    Ok(())
}
