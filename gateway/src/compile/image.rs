//! The compiled policy: the contents of one generation's tables, as the kernel will hold them.

use gateway_common::condition::{Choice, Condition};
use gateway_common::place::{Place, SEGMENT_UNKNOWN};
use gateway_common::reason::{Mode, Reason, Verdict};
use gateway_common::table::{Atom, Config, Lanes};
use serde::{Deserialize, Serialize};

use crate::policy::model::{Origin, SegmentId};

/// What one generation's maps hold. Shapes are those of [`gateway_common::layout::generation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Places by interface name; the dataplane turns names into indices when it loads. Each
    /// interface also stands once under [`gateway_common::place::PlaceKey::interface`].
    pub places: Vec<NamedPlace>,
    /// `segment << 16 | EtherType`.
    pub ethertypes: Vec<u32>,
    /// IPv4 stride table.
    pub v4: Vec<u32>,
    /// IPv6 stride table.
    pub v6: Vec<u32>,
    /// Atoms.
    pub atoms: Vec<Atom>,
    /// Service classes by protocol and destination port.
    pub services: Vec<u16>,
    /// Source-port classes; empty where the policy has no service with source ports.
    pub source_ports: Vec<u16>,
    /// Service class and source-port class to final class; empty likewise.
    pub matrix: Vec<u16>,
    /// Pair of classes to row.
    pub pairs: Vec<u32>,
    /// By source class, where the rules are in layers; else empty.
    pub layer_sources: Vec<Lanes>,
    /// Likewise by destination class.
    pub layer_destinations: Vec<Lanes>,
    /// Row and service class to [`gateway_common::table::Cell`].
    pub verdicts: Vec<u32>,
    /// [`gateway_common::reason::Mode`] by segment.
    pub segments: Vec<u32>,
    /// When rules hold that do so only at times; the first always holds. Empty where all rules do.
    pub conditions: Vec<Condition>,
    /// What cells that depend on the time lead to.
    pub choices: Vec<Choice>,
    /// By source class, the condition that puts it into quarantine; empty where there is none.
    pub quarantines: Vec<u32>,
    /// By segment, until when its glass is broken; empty where none is.
    pub break_glass: Vec<u64>,
    /// Load-time constants; `generation`, `hash_key` and `test_context` are the dataplane's to set.
    pub config: Config,
    /// Connections that the table must hold.
    pub connections: u32,
    /// What the numbers stand for.
    pub manifest: Manifest,
}

/// A place whose interface is still a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPlace {
    /// Interface.
    pub interface: String,
    /// Outer VLAN identifier, or 0.
    pub outer: u16,
    /// VLAN identifier, or 0 for untagged frames.
    pub vlan: u16,
    /// What the policy says about it.
    pub place: Place,
}

/// What the numbers of a generation stand for. Kept beside the pinned maps as JSON, so that a
/// controller that adopts them can name what it finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// SHA-256 of the policy's text.
    pub hash: String,
    /// By segment number.
    pub segments: Vec<SegmentEntry>,
    /// By rule number.
    pub rules: Vec<RuleEntry>,
    /// Interfaces that are enforced.
    pub interfaces: Vec<InterfaceEntry>,
    /// Bytes of all tables together.
    pub table_bytes: u64,
    /// Allowed packets are forwarded by XDP.
    #[serde(default)]
    pub forwarding: bool,
}

impl Manifest {
    /// What became of packets between two segments, by number, for a reason: what the programs
    /// decide by the modes, told again from their counters.
    pub fn verdict(&self, source: u16, destination: u16, reason: Reason) -> Verdict {
        if reason.passes() {
            return Verdict::Pass;
        }
        if let Some(verdict) = reason.settled() {
            return verdict;
        }
        if source == SEGMENT_UNKNOWN {
            return Verdict::Drop;
        }
        Verdict::of_modes(self.mode(source), self.mode(destination))
    }

    fn mode(&self, segment: u16) -> Mode {
        let entry = self.segments.get(usize::from(segment)).filter(|_| segment != SEGMENT_UNKNOWN);
        match entry.map(|entry| entry.mode) {
            Some(mode) if mode == Mode::Enforce as u8 => Mode::Enforce,
            Some(mode) if mode == Mode::Audit as u8 => Mode::Audit,
            _ => Mode::Observe,
        }
    }
}

/// A segment of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Name.
    pub name: String,
    /// Mode, as its number.
    pub mode: u8,
}

/// A rule of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleEntry {
    /// Name.
    pub name: String,
    /// `flow`, `vendor` or `deny`.
    pub kind: crate::policy::model::RuleKind,
    /// Where it stands.
    pub origin: Origin,
    /// Why it exists.
    pub purpose: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
}

/// An interface of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceEntry {
    /// Name in the kernel.
    pub name: String,
    /// Carries tagged frames.
    pub trunk: bool,
    /// Segments that arrive on it.
    pub segments: Vec<SegmentId>,
    /// It is the end of a tunnel, and may have no link layer.
    #[serde(default)]
    pub tunnel: bool,
}
