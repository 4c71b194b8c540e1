//! Named hosts, and how much depends on them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Origin, SegmentId};

/// A named host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// Unique name.
    pub name: String,
    /// Segment that its addresses lie in.
    pub segment: SegmentId,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Free text: type, department, vendor, model, os, mac, owner, contact, ...
    pub labels: BTreeMap<String, String>,
    /// Risk, by axis.
    pub risk: Option<Risk>,
    /// Where it stands.
    pub origin: Origin,
}

/// Risk of a device, on three axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// Patient safety.
    pub safety: Level,
    /// Privacy.
    pub privacy: Level,
    /// Outage.
    pub outage: Level,
}

/// A level of risk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
}
