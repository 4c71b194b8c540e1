//! The resolved policy: what the text means once every name is known.
//!
//! A value of these types cannot hold an unknown group or a rule without an origin. Compiler,
//! oracle and listings read nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use gateway_common::connection::State;
use gateway_common::place::{
    SEGMENT_FIRST, SEGMENT_GATEWAY, SEGMENT_MULTICAST, SEGMENT_UNKNOWN, SEGMENT_WAN,
};
use gateway_common::reason::Mode;
use serde::{Deserialize, Serialize};

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

/// An interface that the policy names. Any other interface is not touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name in the kernel.
    pub name: String,
    /// What arrives on it.
    pub kind: InterfaceKind,
    /// A router stands behind it that forwards between segments: a sender there is of the segment of its address,
    /// whichever that is, but for the gateway's.
    #[serde(default)]
    pub routed: bool,
    /// It is the end of such a tunnel, and has the world behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// Where it stands.
    pub origin: Origin,
}

impl Interface {
    /// How frames arrive here.
    pub fn way(&self) -> Tunnel {
        self.tunnel.unwrap_or(Tunnel::Direct)
    }
}

/// How packets of the world arrive.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Tunnel {
    /// Through none: from the open network.
    Direct,
    /// Through IPsec.
    Ipsec,
    /// Through `WireGuard`.
    Wireguard,
    /// Through `OpenVPN`.
    Openvpn,
    /// Through a closed network of a carrier.
    IpVpn,
}

impl Tunnel {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Direct, Self::Ipsec, Self::Wireguard, Self::Openvpn, Self::IpVpn];

    /// Its word in policy text.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Ipsec => "ipsec",
            Self::Wireguard => "wireguard",
            Self::Openvpn => "openvpn",
            Self::IpVpn => "ip-vpn",
        }
    }

    /// What must happen to a packet that a rule wants to come this way, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Direct => "arrive outside any tunnel",
            Self::Ipsec => "arrive through ipsec",
            Self::Wireguard => "arrive through wireguard",
            Self::Openvpn => "arrive through openvpn",
            Self::IpVpn => "arrive through ip-vpn",
        }
    }
}

/// What arrives on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterfaceKind {
    /// Untagged frames of one segment.
    Access(SegmentId),
    /// Tagged frames.
    Trunk {
        /// VLAN identifier of an outer tag that every frame must carry (802.1ad), or 0.
        outer: u16,
        /// VLAN identifier to segment. Identifier 0 stands for untagged frames.
        vlans: BTreeMap<u16, SegmentId>,
    },
    /// The world.
    Wan,
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

/// Who sends allowed packets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// The kernel's stack, with its firewall and its counters.
    Kernel,
    /// XDP, by the kernel's routes and neighbours; what is unusual is left to the kernel.
    Xdp,
}

/// [`Mode`] with serialization.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ModeSetting {
    /// See [`Mode::Observe`].
    Observe,
    /// See [`Mode::Audit`].
    Audit,
    /// See [`Mode::Enforce`].
    Enforce,
}

impl From<ModeSetting> for Mode {
    fn from(mode: ModeSetting) -> Self {
        match mode {
            ModeSetting::Observe => Self::Observe,
            ModeSetting::Audit => Self::Audit,
            ModeSetting::Enforce => Self::Enforce,
        }
    }
}

/// Inclusive address ranges, each list sorted, disjoint and merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ranges {
    /// IPv4, as numbers (10.0.0.1 is `0x0a00_0001`).
    pub v4: Vec<(u32, u32)>,
    /// IPv6, as numbers.
    pub v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// Whether `address` lies in one of the ranges.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => within(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => within(&self.v6, v6.to_bits()),
        }
    }

    /// Whether there is no range at all.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The first address of every range, for messages.
    pub fn firsts(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.v4.iter().map(|r| IpAddr::V4(Ipv4Addr::from_bits(r.0)));
        let v6 = self.v6.iter().map(|r| IpAddr::V6(Ipv6Addr::from_bits(r.0)));
        v4.chain(v6)
    }
}

fn within<T: PartialOrd + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|range| range.0 <= value);
    after > 0 && ranges[after - 1].1 >= value
}

/// A set of addresses as a rule names it.
///
/// An address belongs to it when its segment is in `segments`, or when `ranges` has it; the
/// gateway's own addresses belong only through [`SegmentId::GATEWAY`] in `segments`, so that a
/// prefix written for a segment does not open the gateway that stands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddressSet {
    /// Whole segments.
    pub segments: BTreeSet<SegmentId>,
    /// Devices, prefixes, ranges.
    pub ranges: Ranges,
}

impl AddressSet {
    /// Whether `address`, which belongs to `segment`, is in the set.
    pub fn contains(&self, address: IpAddr, segment: SegmentId) -> bool {
        self.segments.contains(&segment) || (segment != SegmentId::GATEWAY && self.ranges.contains(address))
    }
}

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

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// Allows; from `flows`.
    Flow,
    /// Allows, for a vendor; from `vendors`.
    Vendor,
    /// Forbids, whatever else allows; from `deny`.
    Deny,
    /// Allows also in quarantine, and there alone; from `quarantine`.
    Kept,
    /// Forbids what a flow allows, because one end is in quarantine; never from the text. See [`Rule::isolates`].
    Quarantine,
}

impl RuleKind {
    /// Whether it allows.
    pub fn allows(self) -> bool {
        matches!(self, Self::Flow | Self::Vendor | Self::Kept)
    }

    /// What a rule of this kind is called in sentences.
    pub fn words(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Vendor => "vendor access",
            Self::Deny => "deny",
            Self::Kept => "quarantine flow",
            Self::Quarantine => "quarantine",
        }
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique name; for vendors, `vendor/target` or as the text says.
    pub name: String,
    /// What it does.
    pub kind: RuleKind,
    /// Initiators.
    pub from: AddressSet,
    /// Listeners.
    pub to: AddressSet,
    /// Indices into [`Policy::services`].
    pub services: Vec<usize>,
    /// Why it exists.
    pub purpose: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Date (YYYY-MM-DD) by which it is to be looked at again.
    pub review: Option<String>,
    /// Limits in time that the text sets and that nothing enforces yet: the rule is then not
    /// part of what is allowed (fail safe), and `check` says so.
    pub unenforced: bool,
    /// Index into [`Policy::conditions`]: when it holds; `None` for always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<usize>,
    /// How what its initiators send must arrive; `None` for whichever way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Tunnel>,
    /// What the text limits it by in time; it takes part in decisions only where somebody lays these limits onto it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Box<Limits>>,
    /// Where it stands.
    pub origin: Origin,
}

impl Rule {
    /// Whether the rule takes part in decisions: not while a limit in time of it would be ignored.
    pub fn is_active(&self) -> bool {
        !self.unenforced
    }

    /// Whether its initiators are in quarantine while it holds, which is more than that they may not open
    /// connections: it is a quarantine, and names them by address. The one for the other direction names segments.
    pub fn isolates(&self) -> bool {
        self.kind == RuleKind::Quarantine && self.is_active() && self.from.segments.is_empty()
    }
}

/// What limits a vendor's access in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The vendor.
    pub vendor: String,
    /// When it may.
    pub window: Option<Window>,
    /// Somebody must open it each time.
    pub grant: bool,
}

/// A weekly window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Days on which it begins; 0 is Monday.
    pub days: BTreeSet<u8>,
    /// Minute of the day at which it begins.
    pub from: u16,
    /// Minute of the day at which it ends, of the next day where that is not after `from`.
    pub to: u16,
    /// Name of the time zone.
    pub timezone: String,
}

/// What must never be possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invariant {
    /// Unique name.
    pub name: String,
    /// Initiators.
    pub from: AddressSet,
    /// Listeners.
    pub to: AddressSet,
    /// Indices into [`Policy::services`]; `None` for any.
    pub never: Option<Vec<usize>>,
    /// Where it stands.
    pub origin: Origin,
}

/// Settings of the whole gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// TCP connections may be taken up in their middle.
    pub midstream: bool,
    /// Who sends allowed packets on.
    pub forwarding: Forwarding,
    /// Connections that the table holds, at most; rounded up to a power of two.
    pub connections: u32,
    /// Seconds of idleness after which a connection ends, by [`State`].
    pub timeouts: [u32; State::COUNT],
    /// ARP and neighbour discovery packets a second and sender.
    pub neighbour_rate: u32,
    /// Events a second and CPU.
    pub event_rate: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            midstream: false,
            forwarding: Forwarding::Kernel,
            connections: 1 << 17,
            timeouts: State::ALL.map(State::default_timeout),
            neighbour_rate: 50,
            event_rate: 500,
        }
    }
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

/// Whether packets to `address` end at the gateway whatever its own addresses are: limited
/// broadcast, loopback, link-local and unspecified addresses, groups of one link (RFC 5771: 224.0.0.0/24;
/// RFC 4291: `ff01::/16`, `ff02::/16`).
pub fn ends_at_gateway(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_broadcast()
                || v4.is_loopback()
                || v4.is_unspecified()
                || v4.is_link_local()
                || v4.octets()[..3] == [224, 0, 0]
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || first & 0xff0f == 0xff01
                || first & 0xff0f == 0xff02
        }
    }
}
