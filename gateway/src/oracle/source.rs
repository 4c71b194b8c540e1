//! Who the ends of a packet are, and the source guard: who may send from where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_common::reason::Reason;

use crate::packet::{PacketView, Transport};
use crate::policy::model::{AddressSet, SegmentId};

use super::Oracle;

/// An end of a packet, as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// A host with an address of its segment.
    Host(IpAddr, SegmentId),
    /// A host of this segment that has no address of it, or does not use it: its source is
    /// link-local or unspecified. Only rules that name the whole segment name it.
    Nameless(SegmentId),
}

impl Party {
    /// Its segment.
    pub const fn segment(self) -> SegmentId {
        match self {
            Self::Host(_, segment) | Self::Nameless(segment) => segment,
        }
    }

    /// Whether a rule's set names it.
    pub fn is_in(self, set: &AddressSet) -> bool {
        match self {
            Self::Host(address, segment) => set.contains(address, segment),
            Self::Nameless(segment) => set.segments.contains(&segment),
        }
    }
}

impl Oracle<'_> {
    /// Whether the packet's source may send from segment `here`.
    ///
    /// Addresses that are nobody's are martians, and so is an IPv4-mapped one as a destination
    /// (RFC 4291, 2.5.5.2: never on the wire). Link-local and unspecified sources are good in every
    /// segment, but 0.0.0.0 only as a DHCP client. All else must be an address of `here`, or, behind a router that
    /// forwards between segments (`routed`), of any segment but the gateway.
    pub fn admit(&self, here: SegmentId, routed: bool, packet: &PacketView) -> Result<Party, Reason> {
        if is_never_source(packet.source) || is_mapped(packet.destination) {
            return Err(Reason::Martian);
        }
        let dhcp = Transport::Udp { source: 68, destination: 67 };
        if packet.source == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && packet.transport != dhcp {
            return Err(Reason::Martian);
        }
        if packet.source.is_unspecified() || is_link_local(packet.source) {
            return Ok(Party::Nameless(here));
        }
        match self.party(packet.source) {
            Party::Host(_, segment) if segment != here && !(routed && segment != SegmentId::GATEWAY) => {
                Err(Reason::Spoofed)
            }
            host => Ok(host),
        }
    }

    /// Whether a packet of an admitted sender may be forwarded: one without an address only as far
    /// as the gateway (RFC 4291, 2.5.2 and 2.5.6; RFC 3927, 2.7).
    pub fn confine(&self, sender: Party, destination: SegmentId) -> Result<(), Reason> {
        match sender {
            Party::Nameless(_) if destination != SegmentId::GATEWAY => Err(Reason::Martian),
            _ => Ok(()),
        }
    }

    /// The host with this address.
    pub fn party(&self, address: IpAddr) -> Party {
        Party::Host(address, self.policy.segment_of(address))
    }
}

/// RFC 6890: 0/8 but for 0.0.0.0 itself, 127/8, 224/4, 240/4 with the broadcast address; `::1`,
/// IPv4-mapped addresses and groups.
pub(super) fn is_never_source(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => match v4.octets() {
            [0, ..] => v4 != Ipv4Addr::UNSPECIFIED,
            [first, ..] => first == 127 || first >= 224,
        },
        IpAddr::V6(v6) => v6 == Ipv6Addr::LOCALHOST || is_mapped(address) || v6.octets()[0] == 0xff,
    }
}

pub(super) fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[..6] == [0, 0, 0, 0, 0, 0xffff])
}

pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..2] == [169, 254],
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}
