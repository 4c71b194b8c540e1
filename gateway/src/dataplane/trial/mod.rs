//! The real programs run on frames that nobody sent (`BPF_PROG_TEST_RUN`): for packet tables and replay.
//!
//! Nothing is attached and nothing outlives the [`Trial`]: its pins stand in a BPF filesystem that
//! only it can reach.

mod forget;
mod run;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya::programs::{ProgramError, ProgramInfo, Xdp};
use aya_obj::programs::XdpAttachType;
use gateway_common::event::Event;
use gateway_common::layout;
use gateway_common::place::{Place, PlaceKey};

use super::apply;
use super::attach::Target;
use super::connections::{self, ConnectionSummary, LiveConnection};
use super::counters::{Counters, Counts};
use super::devices::Link;
use super::error::DataplaneError;
use super::events::{open_ring, take};
use super::generation::Generation;
use super::object::{self, Declared, Load};
use super::pins::{self, Pins};
use super::shared::{self, Shared};
use super::sys;
use crate::compile::image::{Image, Manifest};

pub use self::run::{Buffers, FRAME_MAX, FRAME_MIN, Outcome};

/// Programs and maps that no interface runs.
pub struct Trial {
    // Fields are dropped in this order: the filesystem last.
    entry: Xdp,
    /// The same for packets without a link layer, where the policy may have some.
    bare: Option<Xdp>,
    /// What the generation was loaded from: its egress program is verified when it is first run.
    loaded: Ebpf,
    events: RingBuf<MapData>,
    generation: Generation,
    shared: Shared,
    manifest: Manifest,
    retired: Counts,
    targets: Vec<Target>,
    declared: Declared,
    variant: Variant,
    pins: Pins,
    _filesystem: OwnedFd,
}

/// How a trial's programs differ from those of another with the same image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant {
    timing: Timing,
    /// Single packets are traced.
    trace: bool,
    /// The interfaces are those of the calling thread's network namespace, and the tables of forwarding say so.
    routed: bool,
}

/// Where a trial's programs have place and time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timing {
    /// A `TestContext` before the frame.
    Context,
    /// The kernel, as of a frame from the wire.
    Kernel,
}

impl Variant {
    const TRIAL: Self = Self { timing: Timing::Context, trace: false, routed: false };
    const ATTACHED: Self = Self { timing: Timing::Kernel, ..Self::TRIAL };
}

/// How large a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramSize {
    /// Which one: `entry`, `judge` or `egress`.
    pub name: &'static str,
    /// Instructions of BPF as the compiler left them, whatever the policy.
    pub compiled: u32,
    /// Instructions of BPF after verification, with what the verifier put in and took out.
    pub instructions: u32,
    /// Bytes of machine code.
    pub machine_code: u32,
    /// Steps that the verifier took.
    pub verified: u32,
}

impl Trial {
    /// Loads `image` with the interfaces that it names standing for these indices; a place on any
    /// other interface is left out.
    pub fn new(image: &Image, interfaces: &BTreeMap<String, u32>) -> Result<Self, DataplaneError> {
        Self::with(image, targets(interfaces), Variant::TRIAL, shared::buckets_for(image.connections))
    }

    /// The same with a connection table of this many buckets, a power of two: also of so few that it
    /// is soon full.
    pub fn with_buckets(
        image: &Image,
        interfaces: &BTreeMap<String, u32>,
        buckets: u32,
    ) -> Result<Self, DataplaneError> {
        Self::with(image, targets(interfaces), Variant::TRIAL, buckets)
    }

    /// The same with the very programs that interfaces run: place and time are the kernel's. For
    /// measurements, which run [`Trial::entry`] themselves; of what runs frames here only that works.
    pub fn as_attached(image: &Image, interfaces: &BTreeMap<String, u32>) -> Result<Self, DataplaneError> {
        Self::with(image, targets(interfaces), Variant::ATTACHED, shared::buckets_for(image.connections))
    }

    /// [`Trial::as_attached`], with single packets traced.
    pub fn as_traced(image: &Image, interfaces: &BTreeMap<String, u32>) -> Result<Self, DataplaneError> {
        let variant = Variant { trace: true, ..Variant::ATTACHED };
        Self::with(image, targets(interfaces), variant, shared::buckets_for(image.connections))
    }

    /// [`Trial::new`], with interfaces that are bonds: `links` are the indices of the links by which frames arrive, by
    /// the name of the bond.
    pub fn bonded(
        image: &Image,
        interfaces: &BTreeMap<String, u32>,
        links: &BTreeMap<String, Vec<u32>>,
    ) -> Result<Self, DataplaneError> {
        let mut targets = targets(interfaces);
        for target in &mut targets {
            target.links = links.get(&target.name).cloned().unwrap_or_default();
        }
        Self::with(image, targets, Variant::TRIAL, shared::buckets_for(image.connections))
    }

    /// [`Trial::new`], with interfaces of the network namespace of the calling thread: what is allowed is forwarded
    /// by that namespace's routes and neighbours, if the policy wants it. All runs must be made there, too.
    pub fn routed(image: &Image, interfaces: &BTreeMap<String, u32>) -> Result<Self, DataplaneError> {
        let variant = Variant { routed: true, ..Variant::TRIAL };
        Self::with(image, targets(interfaces), variant, shared::buckets_for(image.connections))
    }

    fn with(
        image: &Image,
        targets: Vec<Target>,
        variant: Variant,
        buckets: u32,
    ) -> Result<Self, DataplaneError> {
        let filesystem = sys::private_bpffs().map_err(DataplaneError::bpf("cannot make a BPF filesystem"))?;
        let pins = Pins::new(&PathBuf::from(format!("/proc/self/fd/{}", filesystem.as_raw_fd())));
        let declared = Declared::parse()?;
        pins.create()?;
        let loaded = load(&pins, &declared, image, &targets, variant, 1, buckets)?;
        let shared = Shared::open(&pins)?;
        let generation = open(&pins, 1, image, &targets, variant)?;
        shared.put_in_force(generation.judge())?;
        Ok(Self {
            entry: Xdp::from_pin(pins.entry(object::hash()), XdpAttachType::Interface).map_err(refused)?,
            bare: bare(&pins)?,
            loaded,
            events: open_ring(&pins)?,
            generation,
            shared,
            manifest: image.manifest.clone(),
            retired: Counts::default(),
            targets,
            declared,
            variant,
            pins,
            _filesystem: filesystem,
        })
    }

    /// Puts another image in force; connections, fragments and events stay.
    pub fn swap(&mut self, image: &Image) -> Result<(), DataplaneError> {
        let number = self.generation.number + 1;
        let loaded = load(
            &self.pins,
            &self.declared,
            image,
            &self.targets,
            self.variant,
            number,
            self.shared.buckets,
        )?;
        let next = open(&self.pins, number, image, &self.targets, self.variant)?;
        self.shared.put_in_force(next.judge())?;
        self.retired.add(self.generation.counts(Some(&self.manifest))?);
        pins::remove_tree(&self.pins.generation(self.generation.number))?;
        self.loaded = loaded;
        self.bare = bare(&self.pins)?;
        self.generation = next;
        self.manifest = image.manifest.clone();
        Ok(())
    }

    /// The program that interfaces run.
    pub fn entry(&self) -> &Xdp {
        &self.entry
    }

    /// What the kernel made of the programs.
    pub fn sizes(&mut self) -> Result<[ProgramSize; 3], DataplaneError> {
        let judge = self.pins.generation(self.generation.number).join("judge");
        let judge = ProgramInfo::from_pin(judge).map_err(refused)?;
        let egress = object::egress(&mut self.loaded)?.info().map_err(refused)?;
        Ok([
            size("entry", layout::PROGRAM_ENTRY, &self.entry.info().map_err(refused)?)?,
            size("judge", layout::PROGRAM_JUDGE, &judge)?,
            size("egress", layout::PROGRAM_EGRESS, &egress)?,
        ])
    }

    /// Number of the generation in force; the first is 1.
    pub fn generation(&self) -> u32 {
        self.generation.number
    }

    /// What was counted since the trial began, by names.
    pub fn counters(&self) -> Result<Counters, DataplaneError> {
        let mut counts = self.retired.clone();
        counts.add(self.generation.counts(Some(&self.manifest))?);
        counts.with_shared(&self.shared)
    }

    /// Connections that are live at `now`, on the clock of the runs' contexts.
    pub fn connections(&self, now: u64) -> Result<Vec<LiveConnection>, DataplaneError> {
        connections::dump(&self.shared, now)
    }

    /// The same, counted.
    pub fn connection_summary(&self, now: u64) -> Result<ConnectionSummary, DataplaneError> {
        Ok(connections::summarise(&self.shared, &self.connections(now)?))
    }

    /// Events since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| take(&mut self.events)).collect()
    }
}

/// The entry program for packets without a link layer, where it is loaded.
fn bare(pins: &Pins) -> Result<Option<Xdp>, DataplaneError> {
    let path = pins.bare(&pins.entry(object::hash()));
    path.exists().then(|| Xdp::from_pin(path, XdpAttachType::Interface).map_err(refused)).transpose()
}

fn size(name: &'static str, program: &str, info: &ProgramInfo) -> Result<ProgramSize, DataplaneError> {
    Ok(ProgramSize {
        name,
        compiled: object::compiled(program)?,
        // Each has 8 bytes (include/uapi/linux/bpf.h, struct bpf_insn).
        instructions: info.size_translated().unwrap_or_default() / 8,
        machine_code: info.size_jitted(),
        verified: info.verified_instruction_count().unwrap_or_default(),
    })
}

fn load(
    pins: &Pins,
    declared: &Declared,
    image: &Image,
    targets: &[Target],
    variant: Variant,
    number: u32,
    buckets: u32,
) -> Result<Ebpf, DataplaneError> {
    let mut config = image.config;
    config.generation = number;
    config.hash_key = shared::hash_key(pins)?;
    config.test_context = u32::from(variant.timing == Timing::Context);
    config.bucket_mask = buckets - 1;
    let places = &placed(image, targets);
    // What interfaces run is loaded whole. Else it would be a quarter of the time, for what tests seldom run.
    let exits = variant.timing == Timing::Kernel;
    object::load(&Load { pins, declared, image, places, config, buckets, trace: variant.trace, exits })
}

fn targets(interfaces: &BTreeMap<String, u32>) -> Vec<Target> {
    let target = |(name, ifindex): (&String, &u32)| Target {
        name: name.clone(),
        ifindex: *ifindex,
        links: Vec::new(),
        mtu: 0,
        link: Link::Ethernet,
        tunnel: false,
    };
    interfaces.iter().map(target).collect()
}

fn placed(image: &Image, targets: &[Target]) -> Vec<(PlaceKey, Place)> {
    let places: Vec<_> = image.places.iter().map(Into::into).collect();
    apply::placed(&places, targets, &[])
}

/// Opens a generation that was loaded; with its tables of forwarding, where the variant has them.
fn open(
    pins: &Pins,
    number: u32,
    image: &Image,
    targets: &[Target],
    variant: Variant,
) -> Result<Generation, DataplaneError> {
    let generation = Generation::open(pins, number)?;
    if variant.routed && image.manifest.forwarding {
        let places = placed(image, targets);
        generation.set_forwarding(&apply::forwarding(&image.manifest, &places, targets)?)?;
    }
    Ok(generation)
}

fn refused(error: ProgramError) -> DataplaneError {
    DataplaneError::bpf("the test run failed")(io::Error::other(error))
}
