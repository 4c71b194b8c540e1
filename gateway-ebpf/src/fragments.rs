//! Later fragments take their ports from the first, and with them its verdict. A later fragment that
//! comes before its first is dropped: passing it would pass what nobody has judged.

use gateway_common::fragment::{Fragment, FragmentKey, LIFETIME};

use crate::health;
use crate::maps::FRAGMENTS;
use crate::packet::Packet;

/// Remembers an allowed first fragment.
#[inline(always)]
pub(crate) fn record(packet: &Packet, now: u64) {
    let fragment = Fragment {
        expires: now + u64::from(LIFETIME) * 1_000_000_000,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        reserved: 0,
    };
    if FRAGMENTS.insert(key(packet), fragment, 0).is_ok() {
        health::bump(|health| &raw mut health.fragments_recorded);
    } else {
        health::bump(|health| &raw mut health.fragments_refused);
    }
}

/// Gives a later fragment the ports of its first; false where that is not known.
#[inline(always)]
pub(crate) fn resolve(packet: &mut Packet, now: u64) -> bool {
    // SAFETY: the value is read at once. An entry reused meanwhile could lend another datagram's
    // ports of the same instant, which are then judged like any.
    let Some(fragment) = (unsafe { FRAGMENTS.get(key(packet)) }) else { return false };
    if fragment.expires <= now {
        return false;
    }
    packet.source_port = fragment.source_port;
    packet.destination_port = fragment.destination_port;
    true
}

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        source: packet.source,
        destination: packet.destination,
        identification: packet.identification,
        protocol: u32::from(packet.protocol),
    }
}
