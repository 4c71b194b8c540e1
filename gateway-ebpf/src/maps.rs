//! Every map of the programs. Sizes given here are the smallest: the controller sets the real ones
//! when it loads (see `gateway_common::layout`).

use aya_ebpf::btf_maps::{Array, DevMap, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::macros::btf_map;
use gateway_common::condition::{Choice, Condition};
use gateway_common::connection::Bucket;
use gateway_common::counter::{Counter, Health, PairRow, RuleCounters};
use gateway_common::event::Event;
use gateway_common::forward::{Exit, Leg, StationKey, TagKey, Tags};
use gateway_common::fragment::{Fragment, FragmentKey};
use gateway_common::place::{Place, PlaceKey};
use gateway_common::table::{Atom, Lanes, PAGE};

use crate::packet::Walked;

/// `BPF_F_MMAPABLE` (include/uapi/linux/bpf.h): the controller fills tables through `mmap`.
const MMAPABLE: usize = 1 << 10;
/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: usize = 1;

// What outlives generations.

#[btf_map]
pub(crate) static GENERATION: ProgramArray<1> = ProgramArray::new();
#[btf_map]
pub(crate) static CONNECTIONS: Array<Bucket, 1024> = Array::new();
#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, Fragment, 16384> = LruHashMap::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, 1_048_576> = RingBuf::new();
#[btf_map]
pub(crate) static HEALTH: PerCpuArray<Health, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static NO_POLICY: PerCpuArray<Counter, 1> = PerCpuArray::new();

// What one generation consists of.

#[btf_map]
pub(crate) static PLACES: HashMap<PlaceKey, Place, 1, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub(crate) static ETHERTYPES: HashMap<u32, u8, 1, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub(crate) static V4: Array<[u32; PAGE], 256, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static V6: Array<[u32; PAGE], 256, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static ATOMS: Array<Atom, 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static SERVICES: Array<[u16; PAGE], 515, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static SOURCE_PORTS: Array<[u16; PAGE], 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static MATRIX: Array<[u16; PAGE], 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static PAIRS: Array<[u32; PAGE], 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static LAYER_SOURCES: Array<Lanes, 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static LAYER_DESTS: Array<Lanes, 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static VERDICTS: Array<[u32; PAGE], 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static SEGMENTS: Array<[u32; PAGE], 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static CONDITIONS: Array<Condition, 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static CHOICES: Array<Choice, 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static QUARANTINES: Array<[u32; PAGE], 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static BREAK_GLASS: Array<[u64; PAGE], 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static PAIR_COUNTERS: PerCpuArray<PairRow, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static RULE_COUNTERS: PerCpuArray<RuleCounters, 1> = PerCpuArray::new();

// Forwarding in XDP.

#[btf_map]
pub(crate) static LEGS: HashMap<PlaceKey, Leg, 1, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub(crate) static EXITS: HashMap<u32, Exit, 1, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub(crate) static TAGS: HashMap<TagKey, Tags, 1, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub(crate) static DEVICES: DevMap<1> = DevMap::new();
#[btf_map]
pub(crate) static STATIONS: LruHashMap<StationKey, Tags, 4096> = LruHashMap::new();

// Scratch: budgets that begin anew with each generation.

/// Tokens of one sender, or of all events of a CPU.
#[repr(C)]
pub(crate) struct Budget {
    /// Nanoseconds at which tokens were last added.
    pub(crate) filled: u64,
    /// Tokens left.
    pub(crate) tokens: u64,
}

/// What was reported of one flow.
#[repr(C)]
pub(crate) struct Gate {
    /// Nanoseconds at which its last event was sent; 0 where none was.
    pub(crate) last: u64,
    /// Packets since then without an event.
    pub(crate) held_back: u64,
}

/// Senders of ARP and neighbour discovery that are told apart, by hash.
pub(crate) const NEIGHBOUR_BUDGETS: usize = 1024;
/// Flows of drops that are told apart, by hash, so that a flood of one does not hide the others.
pub(crate) const EVENT_GATES: usize = 4096;
/// Gates of one element: elements are allocated one by one, and found through a table as large as they are many.
/// What a CPU has of one is 32 KiB at most (`PCPU_MIN_UNIT_SIZE`, include/linux/percpu.h).
pub(crate) const GATES_PER_ELEMENT: usize = 2048;

/// Where the walk through IPv6 extension headers ended.
#[btf_map]
pub(crate) static WALKED: PerCpuArray<Walked, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static NEIGHBOUR_BUDGET: PerCpuArray<Budget, NEIGHBOUR_BUDGETS> = PerCpuArray::new();
#[btf_map]
pub(crate) static EVENT_BUDGET: PerCpuArray<Budget, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static EVENT_GATE: PerCpuArray<[Gate; GATES_PER_ELEMENT], { EVENT_GATES / GATES_PER_ELEMENT }> =
    PerCpuArray::new();

/// Value `index` of a table that is kept in pages.
#[inline(always)]
pub(crate) fn paged<T: Copy, const N: usize, const F: usize>(
    table: &Array<[T; PAGE], N, F>,
    index: u32,
) -> Option<T> {
    let page = table.get_ptr(index / PAGE as u32)?;
    // SAFETY: the map returned a whole page, and the slot is below PAGE. A bounds check here would be
    // one that the verifier already makes.
    Some(unsafe { page.cast::<T>().add((index % PAGE as u32) as usize).read() })
}
