//! Names of maps, programs and constants, and the version of all that outlives a program.

/// Version of everything that stays pinned while binaries change: connection table, fragment
/// table, event ring, counters, generation slot. A binary whose version differs replaces all of it.
pub const VERSION: u32 = 3;

/// Program attached to interfaces: it jumps to the generation in force.
pub const PROGRAM_ENTRY: &str = "clinigate";
/// The same for devices without a link layer.
pub const PROGRAM_BARE_ENTRY: &str = "clinigate_bare";
/// Program of one generation.
pub const PROGRAM_JUDGE: &str = "clinigate_judge";
/// Egress program: records the connections that the gateway itself opens.
pub const PROGRAM_EGRESS: &str = "clinigate_out";
/// The same for devices without a link layer.
pub const PROGRAM_BARE_EGRESS: &str = "clinigate_bout";

/// Load-time constant of the programs: a [`crate::table::Config`].
pub const GLOBAL_CONFIG: &str = "CONFIG";
/// Load-time constant of aya-log: 0 removes every trace from the program.
pub const GLOBAL_LOG_LEVEL: &str = "AYA_LOG_LEVEL";

/// Maps that outlive generations.
pub mod shared {
    /// Program array of one slot: the generation in force.
    pub const GENERATION: &str = "GENERATION";
    /// Array of [`crate::connection::Bucket`]; a power of two of them.
    pub const CONNECTIONS: &str = "CONNECTIONS";
    /// LRU hash of [`crate::fragment::FragmentKey`] to [`crate::fragment::Fragment`].
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Ring buffer of [`crate::event::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// Per-CPU array of one [`crate::counter::Health`].
    pub const HEALTH: &str = "HEALTH";
    /// Per-CPU array of one [`crate::counter::Counter`]: dropped by the entry program, which found
    /// no generation in force.
    pub const NO_POLICY: &str = "NO_POLICY";
    /// All of them.
    pub const ALL: [&str; 6] = [GENERATION, CONNECTIONS, FRAGMENTS, EVENTS, HEALTH, NO_POLICY];
}

/// Maps of one generation, each of exactly the size that its policy needs.
///
/// The kernel rounds every element of an array map up to 8 bytes, so tables of small values are
/// kept in *pages* of [`crate::table::PAGE`] values: entry `i` is value `i % PAGE` of element
/// `i / PAGE`, and the whole table is one contiguous run of memory (last page padded with zeros).
pub mod generation {
    /// Hash of [`crate::place::PlaceKey`] to [`crate::place::Place`].
    pub const PLACES: &str = "PLACES";
    /// Hash of `segment << 16 | EtherType` (`u32`, host byte order) to `u8` 1; EtherType 0 stands
    /// for 802.3 frames with a length (LLC).
    pub const ETHERTYPES: &str = "ETHERTYPES";
    /// IPv4 stride table, pages of `u32`: 16, 8 and 8 bits.
    pub const V4: &str = "V4";
    /// IPv6 stride table, pages of `u32`: 16 bits, then fourteen times 8.
    pub const V6: &str = "V6";
    /// Array of [`crate::table::Atom`] (12 bytes, so 16 apart).
    pub const ATOMS: &str = "ATOMS";
    /// Pages of `u16`: see [`crate::table::SERVICE_ENTRIES`]. For TCP and UDP of a policy with source
    /// ports the first of the two classes that lead through the matrix, else the final class.
    pub const SERVICES: &str = "SERVICES";
    /// Pages of `u16`: see [`crate::table::SOURCE_PORT_ENTRIES`]; one page where unused.
    pub const SOURCE_PORTS: &str = "SOURCE_PORTS";
    /// Pages of `u16`: `service class * source_ports + source-port class` to final class; one
    /// page where unused.
    pub const MATRIX: &str = "MATRIX";
    /// Pages of `u32`: `source class * destinations + destination class` to row; in layers the tables of
    /// all layers, one after the other.
    pub const PAIRS: &str = "PAIRS";
    /// Array of [`crate::table::Lanes`] by source class; one element where there is one layer.
    pub const LAYER_SOURCES: &str = "LAYER_SOURCES";
    /// Likewise by destination class.
    pub const LAYER_DESTS: &str = "LAYER_DESTS";
    /// Pages of `u32` ([`crate::table::Cell`]): `row * services + service class`.
    pub const VERDICTS: &str = "VERDICTS";
    /// One page of `u32` ([`crate::reason::Mode`]), by segment.
    pub const SEGMENTS: &str = "SEGMENTS";
    /// Array of [`crate::condition::Condition`]; the first always holds.
    pub const CONDITIONS: &str = "CONDITIONS";
    /// Array of [`crate::condition::Choice`].
    pub const CHOICES: &str = "CHOICES";
    /// Pages of `u32`, by source class: index of the condition under which its addresses are in quarantine, or
    /// [`crate::condition::NONE`].
    pub const QUARANTINES: &str = "QUARANTINES";
    /// Pages of `u64`, by segment: nanoseconds until which its glass is broken, 0 where it is whole.
    pub const BREAK_GLASS: &str = "BREAK_GLASS";
    /// Per-CPU array of [`crate::counter::PairRow`], by pair of segments.
    pub const PAIR_COUNTERS: &str = "PAIR_COUNTERS";
    /// Per-CPU array of [`crate::counter::RuleCounters`], by rule divided by
    /// [`crate::counter::RULES_PER_ELEMENT`].
    pub const RULE_COUNTERS: &str = "RULE_COUNTERS";
    /// Hash of [`crate::place::PlaceKey`] to [`crate::forward::Leg`]; one entry where XDP does not forward,
    /// as the three below.
    pub const LEGS: &str = "LEGS";
    /// Hash of device index (`u32`) to [`crate::forward::Exit`].
    pub const EXITS: &str = "EXITS";
    /// Hash of [`crate::forward::TagKey`] to [`crate::forward::Tags`].
    pub const TAGS: &str = "TAGS";
    /// Device map: the interfaces of the policy, by slot.
    pub const DEVICES: &str = "DEVICES";
    /// All of them. Arrays are made with `BPF_F_MMAPABLE`, hashes and per-CPU arrays are not.
    pub const ALL: [&str; 23] = [
        LEGS,
        EXITS,
        TAGS,
        DEVICES,
        PLACES,
        ETHERTYPES,
        V4,
        V6,
        ATOMS,
        SERVICES,
        SOURCE_PORTS,
        MATRIX,
        PAIRS,
        LAYER_SOURCES,
        LAYER_DESTS,
        VERDICTS,
        SEGMENTS,
        CONDITIONS,
        CHOICES,
        QUARANTINES,
        BREAK_GLASS,
        PAIR_COUNTERS,
        RULE_COUNTERS,
    ];
}
