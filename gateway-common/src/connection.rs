//! The connection table: an array of buckets, each of [`WAYS`] entries under one lock.
//!
//! A connection lives in one of two buckets that its key's hash names. Ageing needs nobody: an
//! entry whose time has passed counts as absent and is overwritten by the next insertion, so the
//! table keeps working while the controller is dead. A live entry is never evicted: where both
//! buckets are full of live entries the new connection is refused
//! ([`crate::reason::Reason::ConnectionTableFull`]).
//!
//! What a lookup costs is memory: the table is large, its pages are small, and packets come from
//! everywhere. The hash therefore names a way of the first bucket too, where the entry stands unless another was
//! there before; and the second bucket is looked at only while an entry of the first may live there
//! ([`Bucket::spilled_until`]).

/// Entries of a bucket.
pub const WAYS: usize = 8;

/// Key of the table's hash: one number for each 32-bit word of a [`ConnectionKey`].
pub type HashKey = [u32; 10];

/// Both ends of a connection, put in order so that both directions have the same key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ConnectionKey {
    /// The end whose (address, port) compares lower, word by word, each word as the number that
    /// stands in memory. An IPv4 address is `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2). Network byte order.
    pub low: [u64; 2],
    /// The other end.
    pub high: [u64; 2],
    /// Port of `low`; ICMP echo: the identifier, on both ends; other protocols: 0. Network byte order.
    pub low_port: u16,
    /// Port of `high`.
    pub high_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// State of a connection; a number on which the timeouts depend.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No connection: the entry is free.
    Free = 0,
    /// TCP: SYN seen; or taken up in its middle, and seen from the initiator only.
    SynSent = 1,
    /// TCP: SYN and SYN-ACK seen; or taken up in its middle, and seen from the responder only.
    SynReceived = 2,
    /// TCP: handshake complete, or taken up in its middle and seen from both sides.
    Established = 3,
    /// TCP: one side has sent FIN.
    FinWait = 4,
    /// TCP: both sides have sent FIN.
    Closing = 5,
    /// TCP: reset.
    Reset = 6,
    /// UDP: seen from the initiator only.
    UdpNew = 7,
    /// UDP: seen from both sides.
    UdpStream = 8,
    /// ICMP or ICMPv6 echo.
    Echo = 9,
    /// Any other protocol, by address pair.
    Other = 10,
}

impl State {
    /// How many states there are, the free one included.
    pub const COUNT: usize = 11;

    /// Every state, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Free,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::Closing,
        Self::Reset,
        Self::UdpNew,
        Self::UdpStream,
        Self::Echo,
        Self::Other,
    ];

    /// The state with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The state's name in policy text (`timeouts`) and in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::FinWait => "fin-wait",
            Self::Closing => "closing",
            Self::Reset => "reset",
            Self::UdpNew => "udp-new",
            Self::UdpStream => "udp-stream",
            Self::Echo => "echo",
            Self::Other => "other",
        }
    }

    /// Seconds of idleness after which a connection ends, unless the policy says otherwise.
    /// TCP: RFC 5382 asks for at least 2 h 4 min when established and 4 min in transition;
    /// UDP: RFC 4787 asks for at least 2 min, for streams 5 min is its recommended default.
    pub const fn default_timeout(self) -> u32 {
        match self {
            Self::Free => 0,
            Self::SynSent | Self::SynReceived | Self::Closing | Self::UdpNew => 60,
            Self::Established => 24 * 3600,
            Self::FinWait => 240,
            Self::Reset => 10,
            Self::UdpStream => 300,
            Self::Echo => 30,
            Self::Other => 600,
        }
    }
}

/// What is known about a connection. Everything about a generation (segments, rule) is valid
/// only while [`Connection::generation`] is the one in force; else the connection is judged
/// again by its key, its direction and its places.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Connection {
    /// Both ends.
    pub key: ConnectionKey,
    /// Nanoseconds (coarse monotonic clock) at which it ends unless a packet comes before.
    pub expires: u64,
    /// Generation that last judged it; 0 where none has.
    pub generation: u32,
    /// Rule that admitted it; [`crate::table::NO_RULE`] for the gateway's own.
    pub rule: u32,
    /// Interface on which packets of the initiator `[0]` and of the responder `[1]` arrive; 0
    /// until the first was judged.
    pub ifindex: [u32; 2],
    /// VLAN identifier, likewise. Host byte order.
    pub vlan: [u16; 2],
    /// Outer VLAN identifier, likewise. Host byte order.
    pub outer: [u16; 2],
    /// Segment of the initiator `[0]` and of the responder `[1]`.
    pub segment: [u16; 2],
    /// Number of a [`State`].
    pub state: u8,
    /// Bits such as [`Connection::HIGH_INITIATED`].
    pub flags: u8,
    /// Changes whenever the entry comes to hold another connection: a reader without the lock
    /// compares it before and after.
    pub sequence: u16,
}

impl Connection {
    /// The initiator is the end in [`ConnectionKey::high`].
    pub const HIGH_INITIATED: u8 = 1;
    /// The gateway itself opened it.
    pub const GATEWAY: u8 = 2;
    /// TCP: the initiator has sent FIN.
    pub const FIN_INITIATOR: u8 = 4;
    /// TCP: the responder has sent FIN.
    pub const FIN_RESPONDER: u8 = 8;
    /// Taken up in its middle.
    pub const MIDSTREAM: u8 = 16;
    /// What decided about it depends on the time: it is judged again by each packet.
    pub const CONDITIONAL: u8 = 32;
}

/// The kernel's `struct bpf_spin_lock` (include/uapi/linux/bpf.h), found by its name in the
/// map's BTF.
#[repr(C)]
#[allow(non_camel_case_types, reason = "the kernel looks for this very name")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct bpf_spin_lock {
    /// The kernel's.
    pub val: u32,
}

/// One element of the connection table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Bucket {
    /// Guards insertion.
    pub lock: bpf_spin_lock,
    /// Second of the coarse monotonic clock up to which connections whose first bucket this is may live in their
    /// second one; 0 where none ever did.
    pub spilled_until: u32,
    /// A part of each entry's hash, so that a lookup reads only the entry that it wants.
    pub tags: [u16; WAYS],
    /// The entries; one whose state is [`State::Free`] or whose time has passed is absent.
    pub entries: [Connection; WAYS],
}

// The kernel side and the controller must agree on every byte.
const _: () = assert!(size_of::<ConnectionKey>() == 40);
const _: () = assert!(size_of::<Connection>() == 80);
const _: () = assert!(size_of::<Bucket>() == 24 + WAYS * 80);
