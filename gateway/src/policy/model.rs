//! The resolved policy: what the text means once every name is known.
//!
//! A value of these types cannot hold an unknown group or a rule without an origin. Compiler,
//! oracle and listings read nothing else.

mod address;
mod device;
mod interface;
mod rule;
mod service;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use gateway_common::place::{
    SEGMENT_FIRST, SEGMENT_GATEWAY, SEGMENT_MULTICAST, SEGMENT_UNKNOWN, SEGMENT_WAN,
};
use serde::{Deserialize, Serialize};

pub use address::{AddressSet, Ranges, ends_at_gateway};
pub use device::{Device, Level, Risk};
pub use interface::{Interface, InterfaceKind, Tunnel};
pub use rule::{Invariant, Limits, Rule, RuleKind, Window};
pub(crate) use service::IN_PLACE;
pub use service::{ANY_PORT, Service, ServiceClass, ServiceMatch};
pub use settings::{Forwarding, ModeSetting, Settings};

/// Number of a segment: index into [`Policy::segments`], and the number the kernel side uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId(pub u16);

impl SegmentId {
    /// Every address that belongs to no other segment.
    pub const WAN: Self = Self(SEGMENT_WAN);
    /// The gateway itself.
    pub const GATEWAY: Self = Self(SEGMENT_GATEWAY);
    /// Multicast groups of more than one link.
    pub const MULTICAST: Self = Self(SEGMENT_MULTICAST);
    /// No segment: an unknown place, or a destination that was not looked up.
    pub const UNKNOWN: Self = Self(SEGMENT_UNKNOWN);

    /// Hosts stand in it, whose packets arrive somewhere: a segment of the text, or the world.
    pub const fn has_hosts(self) -> bool {
        !matches!(self, Self::GATEWAY | Self::MULTICAST | Self::UNKNOWN)
    }
}

/// Number of a rule: index into [`Policy::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleId(pub u32);

/// Where a thing stands in the policy text. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Path relative to the policy's directory.
    pub file: Arc<str>,
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// A whole policy.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Policy {
    /// SHA-256 over the names and contents of its files, in hexadecimal.
    pub hash: String,
    /// In the order of the text.
    pub interfaces: Vec<Interface>,
    /// Indexed by [`SegmentId`]: the four built-in ones first, then those of the text.
    pub segments: Vec<Segment>,
    /// Named hosts.
    pub devices: Vec<Device>,
    /// Every service that a rule names, and those that the text defines.
    pub services: Vec<Service>,
    /// Indexed by [`RuleId`], in the order of files (by path) and lines. Where several flows
    /// allow a packet the first is the one that is named; where several denies forbid it, likewise.
    pub rules: Vec<Rule>,
    /// What must never be possible; proven by a later command, parsed and resolved now.
    pub invariants: Vec<Invariant>,
    /// Settings of the whole gateway.
    pub settings: Settings,
    /// Flows of [`RuleKind::Kept`], which what is in quarantine keeps. They take no part in decisions here: only
    /// among [`Policy::rules`], where somebody puts them while something is in quarantine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Rule>,
    /// When rules hold that do so only at times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Segments whose glass is broken, and until when, in nanoseconds on the kernel's clock: what would be dropped
    /// between them and other segments passes and is reported. Not to or from the world or the gateway.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub break_glass: BTreeMap<SegmentId, u64>,
}

/// When something holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// From when to before when, in nanoseconds on the kernel's monotonic clock; in order, and apart.
    pub intervals: Vec<(u64, u64)>,
}

impl Condition {
    /// Whether it holds at `now`.
    pub fn holds(&self, now: u64) -> bool {
        self.intervals.iter().any(|&(from, until)| from <= now && now < until)
    }
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Unique name.
    pub name: String,
    /// VLAN identifier, where it has one.
    pub vlan: Option<u16>,
    /// Prefixes, as inclusive ranges; no two segments overlap. Empty for the built-in ones, but
    /// for [`SegmentId::GATEWAY`], which has the gateway's own addresses (they may lie inside the
    /// subnets of other segments, and then belong to the gateway).
    pub ranges: Ranges,
    /// Zone, where it has one.
    pub zone: Option<String>,
    /// How far its rollout has come.
    pub mode: ModeSetting,
    /// EtherTypes that pass besides IPv4, IPv6 and ARP; 0 stands for 802.3 with a length (LLC).
    pub ethertypes: BTreeSet<u16>,
    /// Router advertisements are accepted from its hosts.
    pub routers: bool,
    /// Where it stands; built-in ones have line 0 until the text sets something of theirs.
    pub origin: Origin,
}

impl Policy {
    /// Segment of an address: the gateway's own first, then the subnets, groups by their scope,
    /// and the WAN for all that is left.
    ///
    /// # Panics
    /// Where there are more segments than [`gateway_common::place::SEGMENT_LIMIT`]; a resolved
    /// policy has fewer.
    pub fn segment_of(&self, address: IpAddr) -> SegmentId {
        if self.segments[usize::from(SEGMENT_GATEWAY)].ranges.contains(address) || ends_at_gateway(address) {
            return SegmentId::GATEWAY;
        }
        let named = self.segments.iter().position(|segment| segment.ranges.contains(address));
        match named {
            Some(index) => SegmentId(u16::try_from(index).expect("segments are limited to SEGMENT_LIMIT")),
            None if address.is_multicast() => SegmentId::MULTICAST,
            None => SegmentId::WAN,
        }
    }

    /// The policy at its widest: with each access that a window or a grant limits open. `None` where nothing is.
    pub fn opened(&self) -> Option<Self> {
        let is_closed = |rule: &Rule| rule.unenforced && rule.limits.is_some() && !self.is_out_of_reach(rule);
        if !self.rules.iter().any(is_closed) {
            return None;
        }
        let mut opened = self.clone();
        for rule in opened.rules.iter_mut().filter(|rule| is_closed(rule)) {
            rule.unenforced = false;
        }
        Some(opened)
    }

    /// Whether a rule stays closed whatever the time is and whoever opens it: it wants a tunnel of which no interface
    /// is the end.
    pub fn is_out_of_reach(&self, rule: &Rule) -> bool {
        rule.through.is_some_and(|tunnel| !self.interfaces.iter().any(|interface| interface.way() == tunnel))
    }

    /// Whether it matters how packets arrive: some rule wants one way.
    pub fn asks_for_ways(&self) -> bool {
        self.rules.iter().any(|rule| rule.is_active() && rule.through.is_some())
    }

    /// Whether some interface is the end of a tunnel.
    pub fn has_tunnels(&self) -> bool {
        self.interfaces.iter().any(|interface| interface.tunnel.is_some())
    }

    /// Segments of the text, without the built-in ones.
    pub fn own_segments(&self) -> &[Segment] {
        self.segments.get(usize::from(SEGMENT_FIRST)..).unwrap_or_default()
    }

    /// A segment by its number.
    pub fn segment(&self, id: SegmentId) -> &Segment {
        &self.segments[usize::from(id.0)]
    }
}
