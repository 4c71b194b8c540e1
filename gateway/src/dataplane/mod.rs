//! Tables into the kernel, and what the kernel says back: the only place that touches bpf(2),
//! netlink and the BPF filesystem.
//!
//! A [`Dataplane`] owns what is pinned. It goes on enforcing when the `Dataplane` is dropped or its
//! process killed; the next one adopts it. Only [`detach()`] takes it off.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

mod addresses;
mod apply;
mod attach;
mod checkup;
mod classifiers;
mod clsact;
mod connections;
mod copies;
mod counters;
mod detach;
mod devices;
mod error;
mod ethtool;
mod events;
mod features;
mod forward;
mod generation;
mod kernel;
mod ledger;
mod links;
mod lock;
mod neighbours;
mod netlink;
mod object;
mod offload;
mod onlooker;
mod pins;
mod reconcile;
mod shared;
mod state;
mod sys;
mod tables;
mod trace;
pub mod trial;

pub use addresses::{NetworkChanges, local_addresses};
pub use apply::Applied;
pub use checkup::{Checkup, Finding, InterfaceCheckup, examine};
pub use connections::{ConnectionSummary, LiveConnection};
pub use counters::{Counters, PairKey};
pub use detach::{Detached, detach};
pub use error::DataplaneError;
pub use events::EventStream;
pub use features::{Exit, Feature, Features, Need};
pub use neighbours::neighbours_with;
pub use netlink::AttachedMode;
pub use onlooker::Onlooker;
pub use reconcile::Reconciled;
pub use state::Record;
pub(crate) use state::replace as replace_file;
pub use trace::TraceLog;

use counters::Counts;
use generation::Generation;
use ledger::Ledger;
use links::{EarlierName, Links};
use lock::Lock;
use object::Declared;
use pins::Pins;
use shared::{Found, Shared};
use state::{Description, StoredPlace};

use crate::compile::image::Manifest;

/// Where things are kept, and how programs are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Directory of the pins, on a BPF filesystem.
    pub pin_root: PathBuf,
    /// Directory of descriptions and totals, on a filesystem that survives a reboot.
    pub state_dir: PathBuf,
    /// How XDP programs are attached.
    pub xdp_mode: XdpMode,
    /// Load programs that trace single packets.
    pub trace: bool,
    /// How programs are attached at the exits of interfaces that have none of ours yet, where it is not the
    /// kernel's best that decides.
    pub exit: Option<Exit>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pin_root: PathBuf::from("/sys/fs/bpf/clinigate"),
            state_dir: PathBuf::from("/var/lib/clinigate"),
            xdp_mode: XdpMode::Native,
            trace: false,
            exit: None,
        }
    }
}

/// How XDP programs are attached to interfaces that have none of ours yet. One that has keeps its
/// mode until it is detached: the kernel cannot change it without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// By the driver.
    #[default]
    Native,
    /// By the stack: works with any driver, slowly.
    Generic,
}

/// The generation in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// Its number.
    pub generation: u32,
    /// What its numbers stand for; empty where `anonymous`.
    pub manifest: Manifest,
    /// Where it comes from; empty where `anonymous`.
    pub record: Record,
    /// It was found pinned without a description: it is enforced, but nobody knows its names.
    pub anonymous: bool,
}

/// An interface that the policy in force names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceStatus {
    /// Name.
    pub name: String,
    /// Index, where it exists.
    pub ifindex: Option<u32>,
    /// Where it is a bond, the indices of its links: what arrives is reported with theirs.
    pub links: Vec<u32>,
    /// How our program is attached, where it is.
    pub mode: Option<AttachedMode>,
    /// How our program at its exit is attached, where it is.
    pub exit: Option<Exit>,
    /// Its driver.
    pub driver: Option<String>,
    /// When our program was attached, where it is.
    pub since: Option<SystemTime>,
}

/// The exclusive owner of what is pinned.
pub struct Dataplane {
    options: Options,
    pins: Pins,
    declared: Declared,
    ledger: Ledger,
    force: Option<Force>,
    /// It is known which of the pinned generations is in force, so that the others can go.
    settled: bool,
    /// How programs are attached at the exits of interfaces.
    exit: Exit,
    _lock: Lock,
}

/// Handles of what is in force.
struct Force {
    shared: Shared,
    generation: Generation,
    active: Active,
    places: Vec<StoredPlace>,
    addresses: Vec<IpAddr>,
    earlier: Vec<EarlierName>,
}

/// The part of [`Dataplane::open`] that takes more rights than the rest: checks kernel and process, and mounts a BPF
/// filesystem where there is none. Returns what the kernel can.
pub fn prepare(options: &Options) -> Result<Features, DataplaneError> {
    let features = kernel::check()?;
    kernel::prepare_pin_root(&options.pin_root)?;
    Ok(features)
}

impl Dataplane {
    /// Takes possession: checks kernel and process, mounts a BPF filesystem where there is none,
    /// adopts what is in force, removes what was left half made.
    pub fn open(options: Options) -> Result<Self, DataplaneError> {
        let exit = options.exit.unwrap_or(prepare(&options)?.exit());
        fs::create_dir_all(&options.state_dir)
            .map_err(DataplaneError::io("cannot create", &options.state_dir))?;
        let lock = Lock::take(&options.pin_root, &options.state_dir)?;
        let pins = Pins::new(&options.pin_root);
        let declared = Declared::parse()?;
        let (force, settled) = match shared::inspect(&pins, &declared)? {
            Found::Fitting => adopt(&pins, &options)?,
            Found::Nothing => (None, true),
            Found::Foreign => (None, false),
        };
        let ledger = Ledger::open(&options.state_dir, &pins.generations()?);
        let mut dataplane = Self { options, pins, declared, ledger, force, settled, exit, _lock: lock };
        // What cannot be retired now (a full disk) stays pinned and counted, until it can.
        if let Err(error) = dataplane.clean_up() {
            tracing::warn!(%error, "generations that are out of force stay pinned");
        }
        Ok(dataplane)
    }

    /// The generation in force, where one is that this binary's programs understand.
    pub fn active(&self) -> Option<&Active> {
        self.force.as_ref().map(|force| &force.active)
    }

    /// The interfaces of the policy in force.
    pub fn interfaces(&self) -> Vec<InterfaceStatus> {
        let Some(active) = self.active() else { return Vec::new() };
        // Where nobody can tell they are shown as absent: an alert is better than an interface that nobody sees.
        let (targets, missing) = attach::find(&active.manifest).unwrap_or_else(|_| {
            let names = active.manifest.interfaces.iter().map(|interface| interface.name.clone());
            (Vec::new(), names.collect())
        });
        let links = Links::read(&self.pins).ok();
        let present = targets.iter().map(|target| InterfaceStatus {
            name: target.name.clone(),
            ifindex: Some(target.ifindex),
            links: target.links.clone(),
            mode: netlink::attached_xdp(target.ifindex).ok().flatten().map(|attached| attached.mode),
            exit: links.as_ref().and_then(|links| links.exit(target.ifindex)),
            driver: offload::driver(&target.name),
            since: links.as_ref().and_then(|links| links.since(target.ifindex)),
        });
        let absent = missing.into_iter().map(|name| InterfaceStatus {
            name,
            ifindex: None,
            links: Vec::new(),
            mode: None,
            exit: None,
            driver: None,
            since: None,
        });
        present.chain(absent).collect()
    }

    /// Everything that was counted.
    pub fn counters(&self) -> Result<Counters, DataplaneError> {
        let mut counts = self.ledger.counts().clone();
        let Some(force) = &self.force else {
            return Ok(Counters { pairs: counts.pairs, rules: counts.rules, ..Counters::default() });
        };
        counts.add(force.generation.counts(force.manifest())?);
        for number in self.uncounted()? {
            counts.add(self.counts_of(number)?);
        }
        counts.with_shared(&force.shared)
    }

    /// How full the connection table is, and of what.
    pub fn connections(&self) -> Result<ConnectionSummary, DataplaneError> {
        match &self.force {
            Some(force) => Ok(connections::summarise(&force.shared, &self.live_connections()?)),
            None => Ok(ConnectionSummary::default()),
        }
    }

    /// Every live connection.
    pub fn live_connections(&self) -> Result<Vec<LiveConnection>, DataplaneError> {
        self.force
            .as_ref()
            .map_or_else(|| Ok(Vec::new()), |force| connections::dump(&force.shared, sys::monotonic()))
    }

    /// The reports of packets, from now on. Within a tokio runtime, and only where a generation is in
    /// force. Call it anew after an [`Applied`] that replaced the layout.
    pub fn events(&mut self) -> Result<EventStream, DataplaneError> {
        EventStream::open(&self.pins)
    }

    /// Traces of the generation in force; of the next one only after another call. Within a tokio
    /// runtime, and only where a generation that was loaded with [`Options::trace`] is in force.
    pub fn traces(&self) -> Result<Option<TraceLog>, DataplaneError> {
        self.force.as_ref().map(|force| TraceLog::open(force.generation.program)).transpose()
    }

    /// Generations that are pinned, out of force, and not in the totals yet.
    fn uncounted(&self) -> Result<Vec<u32>, DataplaneError> {
        let active = self.active().map(|active| active.generation);
        let pinned = self.pins.generations()?;
        Ok(pinned.into_iter().filter(|number| Some(*number) != active && !self.ledger.has(*number)).collect())
    }

    /// What a pinned generation counted; nothing where it was only half made.
    fn counts_of(&self, number: u32) -> Result<Counts, DataplaneError> {
        let description = Description::read(&self.options.state_dir, number);
        let manifest = description.as_ref().map(|description| &description.manifest);
        match Generation::open(&self.pins, number) {
            Ok(generation) => generation.counts(manifest),
            Err(_) => Ok(Counts::default()),
        }
    }

    /// Counts and removes generations that are out of force, and those half made. May be stopped
    /// at any point and called again.
    fn clean_up(&mut self) -> Result<(), DataplaneError> {
        if !self.settled {
            return Ok(());
        }
        let active = self.active().map(|active| active.generation);
        let pinned = self.pins.generations()?;
        if pinned.iter().any(|number| Some(*number) != active) {
            sys::wait_for_running_programs();
        }
        for number in self.uncounted()? {
            let counts = self.counts_of(number)?;
            self.ledger.retire(number, counts, &pinned)?;
        }
        for number in pinned.into_iter().filter(|number| Some(*number) != active) {
            pins::remove_tree(&self.pins.generation(number))?;
        }
        let Some(number) = active else { return Ok(()) };
        Description::remove_all_but(&self.options.state_dir, number);
        self.ledger.run(active)
    }
}

impl Force {
    fn manifest(&self) -> Option<&Manifest> {
        (!self.active.anonymous).then_some(&self.active.manifest)
    }
}

/// Opens what is in force, where the slot holds a program that is pinned here; and says whether it
/// is certain what the slot holds.
fn adopt(pins: &Pins, options: &Options) -> Result<(Option<Force>, bool), DataplaneError> {
    let shared = Shared::open(pins)?;
    let Some(program) = shared.in_force()? else { return Ok((None, true)) };
    // A generation that cannot be opened is half made, so not the one in force.
    let mut whole = pins.generations()?.into_iter().filter_map(|number| Generation::open(pins, number).ok());
    let Some(generation) = whole.find(|generation| generation.program == program) else {
        tracing::warn!(
            program,
            "the generation in force is not among those pinned: the next apply replaces it"
        );
        return Ok((None, false));
    };
    let number = generation.number;
    let description = Description::read(&options.state_dir, number);
    let anonymous = description.is_none();
    let description = description.unwrap_or_else(|| Description::nameless(number));
    let Description { manifest, record, places, addresses, earlier, .. } = description;
    let active = Active { generation: number, manifest, record, anonymous };
    Ok((Some(Force { shared, generation, active, places, addresses, earlier }), true))
}
