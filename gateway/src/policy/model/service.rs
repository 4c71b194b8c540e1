//! Services, and what packets they match.

use serde::{Deserialize, Serialize};

use super::Origin;

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Unique name; for a service written in place, its text, such as `tcp/8443`.
    pub name: String,
    /// What it matches.
    pub matches: Vec<ServiceMatch>,
    /// What it is for.
    pub class: ServiceClass,
    /// Carries protected health information.
    pub phi: bool,
    /// Carries it unencrypted.
    pub cleartext: bool,
    /// Standard that assigns its ports; built-in services have one.
    pub standard: Option<String>,
    /// Where it stands; `None` for the built-in catalogue.
    pub origin: Option<Origin>,
}

/// Words that begin services written in place.
pub(crate) const IN_PLACE: [&str; 6] = ["any", "tcp", "udp", "icmp", "icmpv6", "proto"];

impl Service {
    /// Whether it is written in place, such as `tcp/8443` or `any`, and so has no name of its own.
    pub fn is_in_place(&self) -> bool {
        self.name.split('/').next().is_some_and(|word| IN_PLACE.contains(&word))
    }
}

/// What a service is for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ServiceClass {
    /// Carries care.
    Clinical,
    /// Steers equipment and buildings.
    Control,
    /// Serves a vendor's remote access.
    Vendor,
    /// Keeps the network running.
    Infrastructure,
    /// Not known.
    Unknown,
}

/// One way for a packet to belong to a service. Ports are inclusive ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ServiceMatch {
    /// TCP.
    Tcp {
        /// Source ports.
        source: (u16, u16),
        /// Destination ports.
        destination: (u16, u16),
    },
    /// UDP.
    Udp {
        /// Source ports.
        source: (u16, u16),
        /// Destination ports.
        destination: (u16, u16),
    },
    /// ICMP types, inclusive.
    Icmp((u8, u8)),
    /// ICMPv6 types, inclusive.
    Icmpv6((u8, u8)),
    /// Any other protocol, by number; never TCP (6), UDP (17), ICMP (1) or ICMPv6 (58).
    Protocol(u8),
}

/// All ports.
pub const ANY_PORT: (u16, u16) = (0, u16::MAX);
