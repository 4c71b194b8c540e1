//! Interfaces, and how packets of the world arrive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Origin, SegmentId};

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
    /// Where frames arrive here, and of which segment they are: outer tag (0: none), tag (0: none), segment.
    pub fn places(&self) -> impl Iterator<Item = (u16, u16, SegmentId)> + '_ {
        let (untagged, outer, vlans) = match &self.kind {
            InterfaceKind::Access(segment) => (Some(*segment), 0, None),
            InterfaceKind::Wan => (Some(SegmentId::WAN), 0, None),
            InterfaceKind::Trunk { outer, vlans } => (None, *outer, Some(vlans)),
        };
        let tagged = vlans.into_iter().flatten().map(move |(&vlan, &segment)| (outer, vlan, segment));
        untagged.into_iter().map(|segment| (0, 0, segment)).chain(tagged)
    }

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
