//! The real programs run on frames that nobody sent (`BPF_PROG_TEST_RUN`): for packet tables and replay.
//!
//! Nothing is attached and nothing outlives the [`Trial`]: its pins stand in a BPF filesystem that
//! only it can reach.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use aya::programs::{
    ProgramError, ProgramInfo, SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp,
};
use aya_obj::programs::XdpAttachType;
use gateway_common::event::Event;
use gateway_common::layout;
use gateway_common::place::{Place, PlaceKey};
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::{NO_RULE, TestContext, TestJudgement};

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
use crate::packet::Decision;
use crate::policy::model::{RuleId, SegmentId};

/// Programs and maps that no interface runs.
pub struct Trial {
    // Fields are dropped in this order: the filesystem last.
    entry: Xdp,
    /// The same for packets without a link layer, where the policy may have some.
    bare: Option<Xdp>,
    egress: SchedClassifier,
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
    /// A [`TestContext`] before the frame.
    Context,
    /// The kernel, as of a frame from the wire.
    Kernel,
}

impl Variant {
    const TRIAL: Self = Self { timing: Timing::Context, trace: false, routed: false };
    const ATTACHED: Self = Self { timing: Timing::Kernel, ..Self::TRIAL };
}

/// What a program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `XDP_DROP` (1), `XDP_PASS` (2) and so on; of the egress program, its return value.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
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

/// What test runs read and write, kept between them.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
    /// `struct xdp_md`.
    context: [u8; 24],
}

impl Outcome {
    /// Whether the frame goes on its way, by the stack or by another interface.
    pub fn passed(&self) -> bool {
        goes_on(self.action)
    }

    /// Whether it left by another interface, past the stack.
    pub fn forwarded(&self) -> bool {
        self.action == XDP_REDIRECT
    }
}

/// Of `enum xdp_action` (include/uapi/linux/bpf.h).
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;
/// Bytes of `struct __sk_buff` up to its end on the oldest kernel that is supported, and where its `ifindex`
/// and `tstamp` stand (include/uapi/linux/bpf.h).
const SKB_LENGTH: usize = 176;
const SKB_IFINDEX: usize = 40;
const SKB_TSTAMP: usize = 152;
/// Bytes of a [`TestContext`] and the [`TestJudgement`] behind it, which stand before the frame as XDP
/// metadata.
const META: u32 = 32;
const _: () = assert!(size_of::<TestContext>() + size_of::<TestJudgement>() == META as usize);
/// The shortest frame that the kernel takes for a test run (`ETH_HLEN`).
pub const FRAME_MIN: usize = 14;
/// The longest that we hand it, in bytes, well below its own limit.
pub const FRAME_MAX: usize = 1 << 16;

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
        load(&pins, &declared, image, &targets, variant, 1, buckets)?;
        let shared = Shared::open(&pins)?;
        let generation = open(&pins, 1, image, &targets, variant)?;
        shared.put_in_force(generation.judge())?;
        Ok(Self {
            entry: Xdp::from_pin(pins.entry(object::hash()), XdpAttachType::Interface).map_err(refused)?,
            bare: bare(&pins)?,
            egress: SchedClassifier::from_pin(pins.generation(1).join("egress")).map_err(refused)?,
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
        load(&self.pins, &self.declared, image, &self.targets, self.variant, number, self.shared.buckets)?;
        let next = open(&self.pins, number, image, &self.targets, self.variant)?;
        self.shared.put_in_force(next.judge())?;
        self.retired.add(self.generation.counts(Some(&self.manifest))?);
        pins::remove_tree(&self.pins.generation(self.generation.number))?;
        self.egress =
            SchedClassifier::from_pin(self.pins.generation(number).join("egress")).map_err(refused)?;
        self.bare = bare(&self.pins)?;
        self.generation = next;
        self.manifest = image.manifest.clone();
        Ok(())
    }

    /// Runs the programs on one packet that arrives as `context` says on a device without a link layer.
    ///
    /// # Errors
    /// Also where the policy has no interface that may be one.
    pub fn run_bare(&self, context: TestContext, packet: &[u8]) -> Result<Outcome, DataplaneError> {
        let mut buffers = Buffers::default();
        let result = run_in(self.bare()?, context, packet, 1, &mut buffers)?;
        Ok(outcome(&result, &buffers))
    }

    /// [`Self::judge`] for a packet that arrives on a device without a link layer.
    ///
    /// # Errors
    /// As [`Self::run_bare`].
    pub fn judge_bare(
        &self,
        context: TestContext,
        packet: &[u8],
        buffers: &mut Buffers,
    ) -> Result<Decision, DataplaneError> {
        let result = run_in(self.bare()?, context, packet, 1, buffers)?;
        decision(&result, buffers)
    }

    fn bare(&self) -> Result<&Xdp, DataplaneError> {
        let name = layout::PROGRAM_BARE_ENTRY;
        self.bare.as_ref().ok_or_else(|| DataplaneError::Incomplete(format!("program {name} in use")))
    }

    /// Runs the programs, entry first, on one frame that arrives as `context` says.
    pub fn run(&self, context: TestContext, frame: &[u8]) -> Result<Outcome, DataplaneError> {
        let (outcome, _) = self.run_repeatedly(context, frame, 1)?;
        Ok(outcome)
    }

    /// Runs the programs `repeat` times on the same frame. The time is the mean of one run.
    pub fn run_repeatedly(
        &self,
        context: TestContext,
        frame: &[u8],
        repeat: u32,
    ) -> Result<(Outcome, Duration), DataplaneError> {
        let mut buffers = Buffers::default();
        let result = run_in(&self.entry, context, frame, repeat, &mut buffers)?;
        Ok((outcome(&result, &buffers), result.duration))
    }

    /// Judges one frame and says what the program found, all in one system call. `buffers` is for
    /// the caller to keep between calls: once grown, nothing is allocated.
    pub fn judge(
        &self,
        context: TestContext,
        frame: &[u8],
        buffers: &mut Buffers,
    ) -> Result<Decision, DataplaneError> {
        let result = run_in(&self.entry, context, frame, 1, buffers)?;
        decision(&result, buffers)
    }

    /// Runs the egress program on a frame that the gateway itself sends now, by the kernel's clock.
    pub fn send(&self, frame: &[u8]) -> Result<Outcome, DataplaneError> {
        self.send_at(0, frame)
    }

    /// The same at `now`, on the clock of the runs' contexts; 0 stands for the kernel's own.
    pub fn send_at(&self, now: u64, frame: &[u8]) -> Result<Outcome, DataplaneError> {
        self.send_on(0, now, frame)
    }

    /// The same on an interface of this thread's network namespace; 0 stands for none in particular.
    pub fn send_on(&self, ifindex: u32, now: u64, frame: &[u8]) -> Result<Outcome, DataplaneError> {
        check_length(frame)?;
        let mut output = vec![0; frame.len() + 256];
        let mut context = [0_u8; SKB_LENGTH];
        context[SKB_IFINDEX..SKB_IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
        context[SKB_TSTAMP..SKB_TSTAMP + 8].copy_from_slice(&now.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut output),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = self.egress.test_run(options).map_err(refused)?;
        output.truncate(result.data_size_out as usize);
        Ok(Outcome { action: result.return_value, frame: output })
    }

    /// The program that interfaces run.
    pub fn entry(&self) -> &Xdp {
        &self.entry
    }

    /// What the kernel made of the programs.
    pub fn sizes(&self) -> Result<[ProgramSize; 3], DataplaneError> {
        let generation = self.pins.generation(self.generation.number);
        Ok([
            size("entry", layout::PROGRAM_ENTRY, &self.pins.entry(object::hash()))?,
            size("judge", layout::PROGRAM_JUDGE, &generation.join("judge"))?,
            size("egress", layout::PROGRAM_EGRESS, &generation.join("egress"))?,
        ])
    }

    /// Forgets every connection.
    pub fn forget_connections(&self) -> Result<(), DataplaneError> {
        connections::clear(&self.shared)
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

fn run_in(
    program: &Xdp,
    context: TestContext,
    frame: &[u8],
    repeat: u32,
    buffers: &mut Buffers,
) -> Result<TestRunResult, DataplaneError> {
    let length = check_length(frame)?;
    let Buffers { input, output, context: context_out } = buffers;
    input.clear();
    input.extend_from_slice(sys::bytes_of(&[context]));
    input.extend_from_slice(sys::bytes_of(&[TestJudgement::default()]));
    input.extend_from_slice(frame);
    if output.len() < input.len() + 256 {
        output.resize(input.len() + 256, 0);
    }
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    // What lies between data_meta and data is metadata.
    let context_in = [META, META.saturating_add(length), 0, 0, 0, 0];
    let options = TestRunOptions {
        data_in: Some(input.as_slice()),
        data_out: Some(output.as_mut_slice()),
        ctx_in: Some(sys::bytes_of(&context_in)),
        ctx_out: Some(context_out.as_mut_slice()),
        repeat,
        ..TestRunOptions::default()
    };
    program.test_run(options).map_err(refused)
}

/// What the program found, as it says itself.
fn decision(result: &TestRunResult, buffers: &Buffers) -> Result<Decision, DataplaneError> {
    let found = buffers.output.get(size_of::<TestContext>()..META as usize);
    let found = found.and_then(sys::read::<TestJudgement>).filter(|found| found.written == 1);
    // What it did must be what it says.
    let passed = goes_on(result.return_value);
    let found = found.filter(|found| passed != (found.verdict == Verdict::Drop as u8));
    let named = found.and_then(|found| {
        let verdict = *Verdict::ALL.get(usize::from(found.verdict))?;
        Some((found, Reason::from_number(found.reason)?, verdict))
    });
    let (found, reason, verdict) = named.ok_or(DataplaneError::NotJudged)?;
    Ok(Decision {
        reason,
        rule: (found.rule != NO_RULE).then_some(RuleId(found.rule)),
        source_segment: SegmentId(found.source_segment),
        destination_segment: SegmentId(found.destination_segment),
        verdict,
    })
}

/// What a program did.
fn outcome(result: &TestRunResult, buffers: &Buffers) -> Outcome {
    let start = sys::read::<u32>(&buffers.context).unwrap_or(META) as usize;
    let end = result.data_size_out as usize;
    let frame = buffers.output.get(start..end).unwrap_or_default().to_vec();
    Outcome { action: result.return_value, frame }
}

/// The entry program for packets without a link layer, where it is loaded.
fn bare(pins: &Pins) -> Result<Option<Xdp>, DataplaneError> {
    let path = pins.bare(&pins.entry(object::hash()));
    path.exists().then(|| Xdp::from_pin(path, XdpAttachType::Interface).map_err(refused)).transpose()
}

const fn goes_on(action: u32) -> bool {
    action == XDP_PASS || action == XDP_REDIRECT
}

fn size(name: &'static str, program: &str, pin: &Path) -> Result<ProgramSize, DataplaneError> {
    let info = ProgramInfo::from_pin(pin).map_err(refused)?;
    Ok(ProgramSize {
        name,
        compiled: object::compiled(program)?,
        // Each has 8 bytes (include/uapi/linux/bpf.h, struct bpf_insn).
        instructions: info.size_translated().unwrap_or_default() / 8,
        machine_code: info.size_jitted(),
        verified: info.verified_instruction_count().unwrap_or_default(),
    })
}

fn check_length(frame: &[u8]) -> Result<u32, DataplaneError> {
    let length = u32::try_from(frame.len()).ok().filter(|_| (FRAME_MIN..=FRAME_MAX).contains(&frame.len()));
    length.ok_or(DataplaneError::Frame { length: frame.len(), least: FRAME_MIN, most: FRAME_MAX })
}

fn load(
    pins: &Pins,
    declared: &Declared,
    image: &Image,
    targets: &[Target],
    variant: Variant,
    number: u32,
    buckets: u32,
) -> Result<(), DataplaneError> {
    let mut config = image.config;
    config.generation = number;
    config.hash_key = shared::hash_key(pins)?;
    config.test_context = u32::from(variant.timing == Timing::Context);
    config.bucket_mask = buckets - 1;
    let places = &placed(image, targets);
    object::load(&Load { pins, declared, image, places, config, buckets, trace: variant.trace })
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
    apply::placed(&places, targets)
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
