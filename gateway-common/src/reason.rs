//! Why a packet passed or did not. A reason is an index into the counters, a label on the
//! metrics and a word in the event log; the three always agree.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $passes:literal;)+) => {
        /// Why a packet was passed or would be dropped.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason's name on metrics, in events and in policy tests.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for people.
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// Whether a packet with this reason passes whatever the modes of its segments are.
            pub const fn passes(self) -> bool {
                match self { $(Self::$variant => $passes,)+ }
            }
        }
    };
}

reasons! {
    /// First packet of a connection that a flow allows.
    Flow = "flow", true;
    /// Packet of a connection that is already known.
    Established = "established", true;
    /// ICMP error that quotes a known connection.
    Related = "related", true;
    /// TCP connection taken up in its middle, because the policy turns on mid-stream pickup.
    MidStream = "mid-stream", true;
    /// ARP, neighbour discovery, group membership or a named router advertisement within a link.
    LinkLocal = "link-local", true;
    /// Frame of an EtherType that its segment lists; on a link of a bond, LACP.
    EtherType = "ethertype", true;
    /// No flow of the policy allows it.
    NoFlow = "no-flow", false;
    /// A deny of the policy forbids it.
    Denied = "denied", false;
    /// Packet of a connection that the policy in force no longer allows.
    Revoked = "revoked", false;
    /// TCP packet that belongs to no connection and does not open one.
    NotInConnection = "not-in-connection", false;
    /// TCP flags that no sane sender combines.
    TcpFlags = "tcp-flags", false;
    /// Source address that does not belong to the segment it arrived from.
    Spoofed = "spoofed", false;
    /// ARP or neighbour discovery sender that does not belong to the segment it arrived from.
    SpoofedNeighbour = "spoofed-neighbour", false;
    /// Source address that nobody may use: loopback, multicast, broadcast, unspecified.
    Martian = "martian", false;
    /// VLAN tag (or its absence) that the policy does not name on this interface.
    UnknownVlan = "unknown-vlan", false;
    /// Interface that the policy in force does not name.
    UnknownInterface = "unknown-interface", false;
    /// EtherType that the segment does not list.
    UnlistedEtherType = "unlisted-ethertype", false;
    /// Frame that ends before its headers do.
    Truncated = "truncated", false;
    /// IPv4 header that contradicts itself.
    MalformedIpv4 = "malformed-ipv4", false;
    /// IPv6 header, or chain of extension headers, that contradicts itself.
    MalformedIpv6 = "malformed-ipv6", false;
    /// TCP, UDP or ICMP header that contradicts itself.
    MalformedTransport = "malformed-transport", false;
    /// ARP packet that is not Ethernet/IPv4, or contradicts itself.
    MalformedArp = "malformed-arp", false;
    /// IPv4 source routing, or an IPv6 routing header with a destination behind the one that is judged.
    SourceRoute = "source-route", false;
    /// IPv6 chain of more extension headers than are walked, or one that is unknown.
    ExtensionHeaders = "extension-headers", false;
    /// Later fragment whose first fragment was not seen or not allowed.
    UnknownFragment = "unknown-fragment", false;
    /// Fragment that could rewrite a transport header, or a first one too short to hold it.
    InvalidFragment = "invalid-fragment", false;
    /// ICMP error that quotes no known connection.
    UnrelatedIcmp = "unrelated-icmp", false;
    /// Neighbour discovery from afar (hop limit not 255), or contradicting itself.
    InvalidNeighbour = "invalid-neighbour", false;
    /// Router advertisement in a segment that does not name its sender as router.
    RouterAdvertisement = "router-advertisement", false;
    /// More ARP or neighbour discovery from one sender than its budget.
    NeighbourRate = "neighbour-rate", false;
    /// Allowed, but the connection table has no room for it.
    ConnectionTableFull = "connection-table-full", false;
    /// One end is in quarantine, and no flow that is kept there allows it. Dropped whatever the modes are.
    Quarantined = "quarantined", false;
    /// Not allowed between enforced segments; passed and reported, because break-glass is open.
    BreakGlass = "break-glass", false;
    /// No policy is in force: the generation slot is empty.
    NoPolicy = "no-policy", false;
    /// A table of the policy in force does not hold what it must: a defect, reported as such.
    Internal = "internal", false;
}

impl Reason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The verdict that goes with the reason whatever the modes of the segments are, where it is one that does not
    /// pass.
    #[inline(always)]
    pub const fn settled(self) -> Option<Verdict> {
        match self {
            Self::Quarantined => Some(Verdict::Drop),
            Self::BreakGlass => Some(Verdict::Audit),
            _ => None,
        }
    }

    /// The reason with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// What became of a packet.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Allowed by the policy.
    Pass = 0,
    /// Not allowed; passed and counted, because both segments only observe.
    Observe = 1,
    /// Not allowed; passed, counted and reported, because a segment audits and none enforces.
    Audit = 2,
    /// Not allowed; dropped, because a segment enforces.
    Drop = 3,
}

impl Verdict {
    /// Every verdict, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Pass, Self::Observe, Self::Audit, Self::Drop];

    /// The verdict's name on metrics and in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Observe => "observe",
            Self::Audit => "audit",
            Self::Drop => "drop",
        }
    }

    /// The verdict on a packet whose reason does not pass by itself, between segments of these
    /// two modes: it is dropped if either enforces, reported if either audits. A frame from an
    /// unknown place is dropped by its caller whatever the modes are; an unknown destination
    /// counts as [`Mode::Observe`].
    #[inline(always)]
    pub const fn of_modes(source: Mode, destination: Mode) -> Self {
        let strictest = if source as u8 > destination as u8 { source } else { destination };
        match strictest {
            Mode::Observe => Self::Observe,
            Mode::Audit => Self::Audit,
            Mode::Enforce => Self::Drop,
        }
    }
}

/// How far a segment's rollout has come. The order matters: the stricter of two modes decides.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Counted.
    Observe = 0,
    /// Would be dropped: counted and reported, passed.
    Audit = 1,
    /// Dropped.
    Enforce = 2,
}

impl Mode {
    /// The mode's name in policy text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Audit => "audit",
            Self::Enforce => "enforce",
        }
    }
}
