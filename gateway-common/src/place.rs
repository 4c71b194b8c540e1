//! Where a frame comes from: an interface and its VLAN tags name a segment.

/// Segment of every address that belongs to no other: the world beyond the WAN interfaces.
pub const SEGMENT_WAN: u16 = 0;
/// Segment of the gateway's own addresses, and of broadcasts and link-local groups, which end at it.
pub const SEGMENT_GATEWAY: u16 = 1;
/// Segment of multicast groups of more than one link.
pub const SEGMENT_MULTICAST: u16 = 2;
/// Stands for a segment where a frame has none: as a source, the place was unknown; as a
/// destination, the frame was judged before its destination was looked up.
pub const SEGMENT_UNKNOWN: u16 = 3;
/// Number of the first segment of the policy.
pub const SEGMENT_FIRST: u16 = 4;
/// How many segments there can be, built-in ones included: the counters of all pairs take
/// `SEGMENT_LIMIT² * Reason::COUNT * 16` bytes a CPU, 20 MiB.
pub const SEGMENT_LIMIT: usize = 192;

/// Key of the place table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceKey {
    /// Index of the ingress interface in its network namespace; on a bond, of the link that received the frame.
    pub ifindex: u32,
    /// Outer VLAN identifier where a frame has two tags, else 0. Host byte order.
    pub outer: u16,
    /// VLAN identifier; 0 for untagged and priority-tagged frames. Host byte order.
    pub vlan: u16,
}

impl PlaceKey {
    /// Key under which every interface of the policy stands once, whatever its tags, so that an
    /// unknown tag can be told from an unknown interface. No frame has it: tags end at 4095.
    pub const fn interface(ifindex: u32) -> Self {
        Self { ifindex, outer: u16::MAX, vlan: u16::MAX }
    }
}

/// What the policy in force says about a place.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Segment of the frames that arrive here.
    pub segment: u16,
    /// Bits of [`Place::ROUTERS`], [`Place::ROUTED`] and [`Place::LINK`]; in the high byte the way on which frames arrive
    /// here, a bit of [`crate::tunnel`], where the policy asks.
    pub flags: u16,
    /// Atom that stands for a sender of this segment that has no address of it: link-local
    /// and unspecified sources.
    pub link_atom: u32,
}

impl Place {
    /// Router advertisements are accepted here.
    pub const ROUTERS: u16 = 1;
    /// A router stands there that forwards between segments: a sender is of the segment of its address, whichever
    /// that is, but the gateway's.
    pub const ROUTED: u16 = 2;
    /// Frames arrive here by a link of a bond, without tags: those with which the ends of a link agree on it (LACP)
    /// are the bond's, whatever the policy lists. Also where untagged frames have no segment, on the entry of the
    /// whole interface ([`PlaceKey::interface`]).
    pub const LINK: u16 = 4;

    /// The flags for a way.
    pub const fn arriving(way: u16) -> u16 {
        way << Self::WAY
    }

    /// The way on which frames arrive here; 0 where the policy does not ask.
    #[inline(always)]
    pub const fn way(&self) -> u16 {
        self.flags >> Self::WAY
    }

    const WAY: u32 = 8;
}
