//! The policy's text as it is written: names are still words, nothing is looked up yet.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::decode::{Decode, Decoder, Entries, List, OneOrMany, Text, record};
use super::model::{Forwarding, Level, ModeSetting, ServiceClass, Tunnel};
use super::selection::Gateways;
use super::syntax::{Node, Value};

record! {
    /// A policy of Clinigate: a directory of such files, read as one.
    PolicyText {
        required {}
        optional {
            /// Gateways that this file is for, by their labels; without it, for all.
            "gateways" gateways: Option<Gateways>,
            /// Interfaces that are enforced, by their names in the kernel. Others are not touched.
            "interfaces" interfaces: Entries<InterfaceText>,
            /// Segments, by name. `wan` and `gateway` may stand here with their mode alone.
            "segments" segments: Entries<SegmentText>,
            /// Named hosts.
            "devices" devices: Entries<DeviceText>,
            /// Named sets of endpoints.
            "groups" groups: Entries<OneOrMany<Text>>,
            /// Services besides the built-in ones.
            "services" services: Entries<ServiceText>,
            /// What is allowed.
            "flows" flows: List<FlowText>,
            /// What is forbidden, whatever a flow allows.
            "deny" deny: List<DenyText>,
            /// Flows that devices in quarantine keep; they allow nothing to others.
            "quarantine" quarantine: List<FlowText>,
            /// Vendors and what each may reach.
            "vendors" vendors: Entries<VendorText>,
            /// What must never be possible.
            "invariants" invariants: List<InvariantText>,
            /// Settings of the whole gateway; each may stand once in a policy.
            "settings" settings: Option<SettingsText>,
            /// The gateway itself.
            "gateway" gateway: Option<GatewayText>,
        }
    }
}

record! {
    /// What arrives on an interface: one of `access`, `trunk`, `wan`.
    InterfaceText {
        required {}
        optional {
            /// Untagged frames of this segment (its name or its VLAN identifier).
            "access" access: Option<Text>,
            /// Tagged frames of these segments (VLAN identifiers or names).
            "trunk" trunk: Option<List<Text>>,
            /// VLAN identifier of the outer tag (802.1ad) that every frame of the trunk carries.
            "outer" outer: Option<Text>,
            /// Segment of the trunk's untagged frames.
            "untagged" untagged: Option<Text>,
            /// The world.
            "wan" wan: Option<bool>,
            /// Tunnel that ends here, with `wan: true`: what arrives has come through it.
            "tunnel" tunnel: Option<Tunnel>,
            /// A router stands behind it that forwards between segments: senders of all of them arrive there.
            "routed" routed: bool,
        }
    }
}

record! {
    /// A segment.
    SegmentText {
        required {}
        optional {
            /// VLAN identifier, 1 to 4094.
            "vlan" vlan: Option<Text>,
            /// Prefixes; those of two segments do not overlap.
            "subnets" subnets: Option<OneOrMany<Text>>,
            /// Zone: segments of one kind, named in rules as `zone/NAME`.
            "zone" zone: Option<Text>,
            /// How far its rollout has come; `enforce` unless it says otherwise.
            "mode" mode: Option<ModeSetting>,
            /// EtherTypes that pass besides IPv4, IPv6 and ARP: names or numbers such as "0x88cc".
            "ethertypes" ethertypes: OneOrMany<Text>,
            /// Accept router advertisements from its hosts.
            "routers" routers: bool,
        }
    }
}

record! {
    /// A named host.
    DeviceText {
        required {
            /// Segment that its addresses lie in.
            "segment" segment: Text,
        }
        optional {
            /// Its address.
            "address" address: Option<Text>,
            /// Its addresses, where it has several.
            "addresses" addresses: Option<OneOrMany<Text>>,
            /// What it is, such as `ct-scanner`.
            "type" kind: Option<Text>,
            /// Department.
            "department" department: Option<Text>,
            /// Vendor.
            "vendor" vendor: Option<Text>,
            /// Model.
            "model" model: Option<Text>,
            /// Operating system.
            "os" os: Option<Text>,
            /// MAC address.
            "mac" mac: Option<Text>,
            /// Who answers for it.
            "owner" owner: Option<Text>,
            /// Whom to call.
            "contact" contact: Option<Text>,
            /// Further labels.
            "labels" labels: Entries<Text>,
            /// Risk.
            "risk" risk: Option<RiskText>,
        }
    }
}

record! {
    /// Risk of a device, by axis.
    RiskText {
        required {
            /// Patient safety.
            "safety" safety: Option<Level>,
            /// Privacy.
            "privacy" privacy: Option<Level>,
            /// Outage.
            "outage" outage: Option<Level>,
        }
        optional {}
    }
}

record! {
    /// A service: the union of what its keys name.
    ServiceText {
        required {}
        optional {
            /// TCP ports of the listener.
            "tcp" tcp: Option<OneOrMany<PortsText>>,
            /// UDP ports of the listener.
            "udp" udp: Option<OneOrMany<PortsText>>,
            /// ICMP types: names or numbers.
            "icmp" icmp: Option<OneOrMany<Text>>,
            /// ICMPv6 types: names or numbers.
            "icmpv6" icmpv6: Option<OneOrMany<Text>>,
            /// Other IP protocols: names or numbers.
            "protocol" protocol: Option<OneOrMany<Text>>,
            /// What it is for; `unknown` unless it says otherwise.
            "class" class: Option<ServiceClass>,
            /// It carries protected health information.
            "phi" phi: bool,
            /// It carries it unencrypted.
            "cleartext" cleartext: bool,
            /// Document that assigns its ports.
            "standard" standard: Option<Text>,
            /// It takes the place of a built-in service of the same name.
            "override" replaces: bool,
        }
    }
}

record! {
    /// Ports of a listener, with the source ports of its initiators.
    PortPairText {
        required {
            /// Ports of the listener, such as 104 or 5000-5010.
            "ports" ports: Text,
        }
        optional {
            /// Ports of the initiator; any unless it says otherwise.
            "source" source: Option<Text>,
        }
    }
}

record! {
    /// What is allowed: `from` opens connections to `to`.
    FlowText {
        required {
            /// Name, unique among all rules.
            "name" name: Text,
            /// Initiators: devices, groups, segments, `zone/NAME`, addresses, prefixes, ranges, `wan`, `gateway`, `any`.
            "from" from: OneOrMany<Text>,
            /// Listeners, likewise.
            "to" to: OneOrMany<Text>,
            /// Services: names, or in place such as `tcp/8443`.
            "services" services: OneOrMany<Text>,
        }
        optional {
            /// Why it exists.
            "purpose" purpose: Option<Text>,
            /// Who answers for it.
            "owner" owner: Option<Text>,
            /// Date (YYYY-MM-DD) by which it is to be looked at again.
            "review" review: Option<Text>,
        }
    }
}

record! {
    /// What is forbidden, whatever a flow allows. `from` or `to` left out means everything.
    DenyText {
        required {
            /// Name, unique among all rules.
            "name" name: Text,
            /// Services: names, in place such as `tcp/8443`, or `any`.
            "services" services: OneOrMany<Text>,
        }
        optional {
            /// Initiators.
            "from" from: Option<OneOrMany<Text>>,
            /// Listeners.
            "to" to: Option<OneOrMany<Text>>,
            /// Why it exists.
            "purpose" purpose: Option<Text>,
            /// Who answers for it.
            "owner" owner: Option<Text>,
            /// Date (YYYY-MM-DD) by which it is to be looked at again.
            "review" review: Option<Text>,
        }
    }
}

record! {
    /// A vendor: where it comes from and what it may reach.
    VendorText {
        required {
            /// Where it comes from: addresses, prefixes, ranges, devices, groups.
            "sources" sources: OneOrMany<Text>,
            /// What it may reach.
            "access" access: List<AccessText>,
        }
        optional {
            /// Whom to call.
            "contact" contact: Option<Text>,
            /// Who answers for it in the hospital.
            "owner" owner: Option<Text>,
        }
    }
}

record! {
    /// One thing that a vendor may reach.
    AccessText {
        required {
            /// Listeners.
            "to" to: OneOrMany<Text>,
            /// Services.
            "services" services: OneOrMany<Text>,
        }
        optional {
            /// Name, unique among all rules; `VENDOR/TARGET` unless it says otherwise.
            "name" name: Option<Text>,
            /// Tunnel that it must come through: of an interface with this `tunnel`.
            "through" through: Option<Tunnel>,
            /// When it may.
            "window" window: Option<WindowText>,
            /// Whether somebody must open it each time.
            "grant" grant: Option<Grant>,
            /// Why it exists.
            "purpose" purpose: Option<Text>,
            /// Who answers for it.
            "owner" owner: Option<Text>,
            /// Date (YYYY-MM-DD) by which it is to be looked at again.
            "review" review: Option<Text>,
        }
    }
}

record! {
    /// A weekly window; one whose `to` is before its `from` ends on the next day.
    WindowText {
        required {
            /// Days on which it begins.
            "days" days: OneOrMany<Option<Day>>,
            /// Time of day (HH:MM) at which it begins.
            "from" from: Text,
            /// Time of day (HH:MM, at most 24:00) at which it ends.
            "to" to: Text,
            /// Time zone, such as Asia/Tokyo.
            "timezone" timezone: Text,
        }
        optional {}
    }
}

record! {
    /// What must never be possible.
    InvariantText {
        required {
            /// Name, unique among invariants.
            "name" name: Text,
            /// Initiators.
            "from" from: OneOrMany<Text>,
            /// Listeners.
            "to" to: OneOrMany<Text>,
            /// Services, or `any`.
            "never" never: OneOrMany<Text>,
        }
        optional {}
    }
}

record! {
    /// Settings of the whole gateway.
    SettingsText {
        required {}
        optional {
            /// TCP connections may be taken up in their middle; a failover pair needs it.
            "midstream" midstream: Option<bool>,
            /// Who sends allowed packets on: the kernel's stack, or XDP itself.
            "forwarding" forwarding: Option<Forwarding>,
            /// Connections that the table holds, at most.
            "connections" connections: Option<Text>,
            /// Idle time after which a connection ends, by its state, such as `established: 24h`.
            "timeouts" timeouts: Entries<Text>,
            /// ARP and neighbour discovery packets a second and sender.
            "neighbour-rate" neighbour_rate: Option<Text>,
            /// Events a second and CPU.
            "event-rate" event_rate: Option<Text>,
        }
    }
}

record! {
    /// The gateway itself.
    GatewayText {
        required {
            /// Its own addresses, besides those that its interfaces have.
            "addresses" addresses: OneOrMany<Text>,
        }
        optional {}
    }
}

/// Defines a choice of words: its type, its JSON Schema and how it is decoded.
macro_rules! words {
    ($(#[$attribute:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident $word:literal,)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
        pub(super) enum $name { $($(#[doc = $doc])+ #[schemars(rename = $word)] $variant,)+ }

        impl $name {
            /// Its word in policy text.
            #[allow(dead_code, reason = "not every choice is shown again")]
            pub(super) const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        words!(decode $name { $($variant $word,)+ });
    };
    (decode $name:ident { $($variant:ident $word:literal,)+ }) => {
        impl Decode for Option<$name> {
            fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
                const WORDS: &[&str] = &[$($word),+];
                let found = match node.text() {
                    $(Some($word) => Some($name::$variant),)+
                    _ => None,
                };
                if found.is_none() {
                    decoder.not_a_word(node, WORDS);
                }
                found.map(Some)
            }
        }
    };
}

words! {
    /// Whether somebody must open an access each time.
    Grant {
        /// Somebody must.
        Required "required",
        /// Nobody needs to.
        Never "none",
    }
}

words! {
    /// A day of the week.
    Day {
        /// Monday.
        Monday "mon",
        /// Tuesday.
        Tuesday "tue",
        /// Wednesday.
        Wednesday "wed",
        /// Thursday.
        Thursday "thu",
        /// Friday.
        Friday "fri",
        /// Saturday.
        Saturday "sat",
        /// Sunday.
        Sunday "sun",
    }
}

words!(decode Forwarding { Kernel "kernel", Xdp "xdp", });
words!(decode Tunnel {
    Direct "direct",
    Ipsec "ipsec",
    Wireguard "wireguard",
    Openvpn "openvpn",
    IpVpn "ip-vpn",
});
words!(decode ModeSetting { Observe "observe", Audit "audit", Enforce "enforce", });
words!(decode Level { Low "low", Medium "medium", High "high", });
words!(decode ServiceClass {
    Clinical "clinical",
    Control "control",
    Vendor "vendor",
    Infrastructure "infrastructure",
    Unknown "unknown",
});

/// Ports: a word such as `104` or `5000-5010`, or with source ports.
#[derive(Clone, Debug)]
pub(super) enum PortsText {
    /// Ports of the listener.
    Word(Text),
    /// With ports of the initiator.
    Pair(PortPairText),
}

impl Default for PortsText {
    fn default() -> Self {
        Self::Word(Text::default())
    }
}

impl Decode for PortsText {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match node.value {
            Value::Map(_) => PortPairText::decode(node, decoder).map(Self::Pair),
            _ => Text::decode(node, decoder).map(Self::Word),
        }
    }
}

impl JsonSchema for PortsText {
    fn schema_name() -> Cow<'static, str> {
        "PortsText".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let pair = generator.subschema_for::<PortPairText>();
        schemars::json_schema!({ "anyOf": [{ "type": ["string", "integer"] }, pair] })
    }
}
