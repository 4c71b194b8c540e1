//! Forwarding in XDP: what the programs know of the interfaces that they send frames on.
//!
//! Routes and neighbours are the kernel's (`bpf_fib_lookup`). These tables only turn the device that
//! a route names into a port and its tags, and a place into the device that a route lookup begins at.

/// Value of the table of legs, whose key is a [`crate::place::PlaceKey`]: the router's own foot in
/// the network that frames at this place come from.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Index of the device that receives these frames in the kernel: a VLAN device, or the interface itself.
    pub device: u32,
    /// Hardware address of that device. A frame for another is not the router's to forward.
    pub mac: [u8; 6],
    /// Bits such as [`Leg::UNTAG`].
    pub flags: u16,
}

impl Leg {
    /// The kernel has no VLAN device for this place: frames are handed to it without their tags.
    pub const UNTAG: u16 = 1;
}

/// Value of the table of exits, whose key is the index of a device (`u32`): how frames leave where a
/// route leads to that device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Index of the interface that transmits.
    pub port: u32,
    /// Its slot in the device map.
    pub slot: u32,
    /// Tags that its frames carry.
    pub tags: Tags,
    /// Bits such as [`Exit::BY_SEGMENT`].
    pub flags: u32,
}

impl Exit {
    /// A trunk without a VLAN device for each of its segments: the tags follow from the segment of
    /// the next hop ([`TagKey`]), not from the device.
    pub const BY_SEGMENT: u32 = 1;
}

/// Key of the tag table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TagKey {
    /// Index of the interface.
    pub port: u32,
    /// Number of the segment.
    pub segment: u32,
}

/// Tags of a frame. Host byte order; 0 where it has none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// VLAN identifier of the outer tag (802.1ad).
    pub outer: u16,
    /// VLAN identifier of the inner, or only, tag (802.1Q).
    pub vlan: u16,
}

/// Key of the station table: who was heard on a trunk without VLAN devices, and by which [`Tags`],
/// for answers to addresses that are no segment's own (link-local ones).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StationKey {
    /// Index of the interface.
    pub port: u32,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Zero.
    pub reserved: u16,
}

// Both sides must agree on every byte.
const _: () = assert!(size_of::<Leg>() == 12);
const _: () = assert!(size_of::<Exit>() == 16);
const _: () = assert!(size_of::<StationKey>() == 12);
