//! Orders on the control socket: quarantine, grants, break-glass; and what is told of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What somebody orders at the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// What is in force?
    List {},
    /// What is this, and what does it do?
    Look {
        /// Device, address or Ethernet address.
        target: String,
    },
    /// Isolate it.
    QuarantineAdd {
        /// Device, address or Ethernet address.
        target: String,
        /// Why.
        reason: String,
        /// For how long; until it is released where absent.
        seconds: Option<u64>,
    },
    /// Let it go.
    QuarantineRelease {
        /// As it was named.
        target: String,
    },
    /// Let a vendor in to one device.
    GrantOpen {
        /// Vendor of the policy.
        vendor: String,
        /// Device of the policy.
        device: String,
        /// What it is for.
        ticket: String,
        /// For how long.
        seconds: u64,
    },
    /// Shut it again.
    GrantClose {
        /// Vendor of the policy.
        vendor: String,
        /// Device of the policy.
        device: String,
    },
    /// Let everything of a segment through, and report it.
    BreakGlass {
        /// Segment of the policy.
        segment: String,
        /// Why.
        reason: String,
        /// For how long.
        seconds: u64,
    },
    /// End it before its time.
    BreakGlassEnd {
        /// Segment.
        segment: String,
    },
    /// Somebody has looked at what went through.
    BreakGlassReview {
        /// Segment.
        segment: String,
        /// What came of it.
        note: String,
    },
}

impl Order {
    /// Whether it changes nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::List {} | Self::Look { .. })
    }

    /// Its name in logs and in the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::List {} => "order-list",
            Self::Look { .. } => "order-look",
            Self::QuarantineAdd { .. } => "quarantine-add",
            Self::QuarantineRelease { .. } => "quarantine-release",
            Self::GrantOpen { .. } => "grant-open",
            Self::GrantClose { .. } => "grant-close",
            Self::BreakGlass { .. } => "break-glass",
            Self::BreakGlassEnd { .. } => "break-glass-end",
            Self::BreakGlassReview { .. } => "break-glass-review",
        }
    }
}

/// An order was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// Number of what was ordered.
    pub id: u64,
    /// Generation that has it.
    pub generation: u32,
    /// Milliseconds until it was in force.
    pub took_ms: u64,
    /// What is not as it should be, though it is in force.
    pub warnings: Vec<String>,
}

/// One order that is in force, or broken glass that nobody has reviewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// `quarantine`, `grant` or `break-glass`.
    pub kind: String,
    /// Number.
    pub id: u64,
    /// What it is about: device, address, segment; of a grant the device.
    pub subject: String,
    /// Vendor, of a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Addresses in quarantine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Reason or ticket.
    pub reason: String,
    /// Who ordered it.
    pub by: String,
    /// Milliseconds since 1970.
    pub since: u64,
    /// Likewise; absent where it has no end.
    pub until: Option<u64>,
    /// Seconds that are left; absent likewise.
    pub remaining_s: Option<u64>,
    /// In force; false for broken glass that is over and waits for its review.
    pub open: bool,
}

/// What is known of something that may go into quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// As it was named.
    pub target: String,
    /// Device of the policy, where it is one.
    pub device: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Segments of these.
    pub segments: Vec<String>,
    /// Type, department, vendor and whatever else the policy says.
    pub labels: BTreeMap<String, String>,
    /// Risk for patients: `low`, `medium` or `high`.
    pub safety: Option<String>,
    /// Connections that are running.
    pub connections: u64,
    /// Those of clinical services, the last one first; a few.
    pub clinical: Vec<Clinical>,
    /// Quarantine flows that it would keep.
    pub kept: Vec<String>,
}

/// A clinical connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clinical {
    /// Who opened it.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Flow that allows it.
    pub rule: String,
    /// Seconds since its last packet.
    pub idle_s: u64,
}
