//! Frames that are neither IPv4 nor IPv6: each is judged by itself.

use std::net::{IpAddr, Ipv4Addr};

use gateway_common::reason::Reason;
use serde::{Deserialize, Serialize};

use super::Oracle;
use super::source::{Party, is_link_local};
use crate::packet::{Arrival, Decision, PacketView, Transport};
use crate::policy::model::SegmentId;

/// A frame that carries no IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkFrame {
    /// ARP (RFC 826) for IPv4 over Ethernet.
    Arp {
        /// A request, not a reply.
        request: bool,
        /// Whose address it says is whose.
        sender: Ipv4Addr,
        /// The hardware address that it names is the one that sent the frame.
        is_own: bool,
    },
    /// ARP that is for something else, or contradicts itself.
    MalformedArp,
    /// Any other EtherType; 0 stands for 802.3 with a length.
    Other(u16),
}

impl Oracle<'_> {
    /// Decides a frame that carries no IP. The budget of its sender is not modelled.
    pub fn decide_link(&self, arrival: Arrival<'_>, frame: LinkFrame) -> Decision {
        let here = match self.place(arrival) {
            Ok(segment) => segment,
            Err(reason) => return Decision::unknown_place(reason),
        };
        let reason = match frame {
            LinkFrame::MalformedArp => Reason::MalformedArp,
            LinkFrame::Arp { is_own: false, .. } => Reason::SpoofedNeighbour,
            // A probe (RFC 5227) asks before it has an address.
            LinkFrame::Arp { request: true, sender: Ipv4Addr::UNSPECIFIED, .. } => Reason::LinkLocal,
            LinkFrame::Arp { sender, .. } if self.may_claim(here, sender.into()) => Reason::LinkLocal,
            LinkFrame::Arp { .. } => Reason::SpoofedNeighbour,
            LinkFrame::Other(ethertype) => {
                let is_listed = self.policy.segment(here).ethertypes.contains(&ethertype);
                if is_listed { Reason::EtherType } else { Reason::UnlistedEtherType }
            }
        };
        self.settle(reason, None, [here, SegmentId::UNKNOWN], false)
    }

    /// Decides a packet that cannot be parsed for `reason`. `destination` is where it would go, if
    /// its addresses could be read.
    pub fn decide_unreadable(
        &self,
        arrival: Arrival<'_>,
        reason: Reason,
        destination: Option<IpAddr>,
    ) -> Decision {
        let here = match self.place(arrival) {
            Ok(segment) => segment,
            Err(reason) => return Decision::unknown_place(reason),
        };
        let destination_segment =
            destination.map_or(SegmentId::UNKNOWN, |address| self.destination_segment(address));
        let is_quarantined = destination.is_some_and(|address| self.is_quarantined_address(address));
        self.settle(reason, None, [here, destination_segment], is_quarantined)
    }

    /// Whether a host of segment `here` may say that an address is its own.
    pub(super) fn may_claim(self, here: SegmentId, address: IpAddr) -> bool {
        let view = PacketView { source: address, destination: address, transport: Transport::Other(0) };
        is_link_local(address) || matches!(self.admit(here, false, &view), Ok(Party::Host(..)))
    }
}
