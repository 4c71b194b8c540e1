//! A packet as the readings of a policy see it, and what they answer: the tables read in user
//! space and the oracle agree on these types and on nothing else.

use std::net::IpAddr;

use gateway_common::reason::{Reason, Verdict};

use crate::policy::model::{RuleId, SegmentId};

/// The packet that opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketView {
    /// Source address.
    pub source: IpAddr,
    /// Destination address; of the same family.
    pub destination: IpAddr,
    /// What it carries.
    pub transport: Transport,
}

/// What a packet carries. Ports are in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP (6).
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// UDP (17).
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP (1) over IPv4, by type.
    Icmp(u8),
    /// ICMPv6 (58) over IPv6, by type.
    Icmpv6(u8),
    /// Any other protocol, by number. ICMP over IPv6 and ICMPv6 over IPv4 are here too: no
    /// service can name them.
    Other(u8),
}

/// Where a packet arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrival<'a> {
    /// Interface.
    pub interface: &'a str,
    /// Outer VLAN identifier where the frame has two tags, else 0.
    pub outer: u16,
    /// VLAN identifier; 0 for untagged and priority-tagged frames.
    pub vlan: u16,
}

/// What becomes of a packet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Why.
    pub reason: Reason,
    /// The rule that decided, where one did.
    pub rule: Option<RuleId>,
    /// Segment of the place it arrives at.
    pub source_segment: SegmentId,
    /// Segment of its destination.
    pub destination_segment: SegmentId,
    /// What becomes of it.
    pub verdict: Verdict,
}

impl Decision {
    /// A packet from a place that the policy does not name: dropped whatever the modes are.
    pub fn unknown_place(reason: Reason) -> Self {
        Self {
            reason,
            rule: None,
            source_segment: SegmentId::UNKNOWN,
            destination_segment: SegmentId::UNKNOWN,
            verdict: Verdict::Drop,
        }
    }
}
