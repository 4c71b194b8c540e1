//! One generation after another.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use gateway_common::connection::WAYS;
use gateway_common::place::{Place, PlaceKey};

use super::attach::{self, Bare, Journal, Pinned, Programs, Target};
use super::copies;
use super::devices;
use super::error::DataplaneError;
use super::forward::Forwarding;
use super::generation::Generation;
use super::links::{Links, Renamed};
use super::netlink::{self, AttachedMode};
use super::object::{self, Load};
use super::pins;
use super::shared::{self, Found, Shared};
use super::state::{Description, Record, StoredPlace};
use super::{Active, Dataplane, Force, XdpMode, local_addresses, offload, sys};
use crate::compile::image::{Image, Manifest};

/// What an apply did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Number of the generation, now in force.
    pub generation: u32,
    /// From the call until it was in force on every interface.
    pub duration: Duration,
    /// Interfaces that were not enforced before.
    pub attached: Vec<String>,
    /// Interfaces that are not enforced any more.
    pub detached: Vec<String>,
    /// Offloads that were turned off: interface and ethtool's name.
    pub offloads: Vec<(String, &'static str)>,
    /// Connections, events and health counters began anew, because this binary keeps them otherwise.
    pub layout_replaced: bool,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// What must be put back where an apply fails before its generation is in force.
enum Layout {
    Kept,
    /// There was none.
    Made,
    /// There was another, which was moved here.
    Replaced(PathBuf),
}

impl Dataplane {
    /// Puts an image in force on all interfaces that it names, and takes it off all others. On an
    /// error what was in force still is.
    ///
    /// Where the policy in force is only laid anew (orders, addresses), neither an interface that does not exist nor a full
    /// disk is an error: a quarantine does not wait for a port that somebody unplugged. The port is attached when it comes
    /// back, see [`Self::reconcile`].
    pub fn apply(&mut self, image: &Image, record: Record) -> Result<Applied, DataplaneError> {
        self.change(image, record, None)
    }

    /// [`Self::apply`] of a policy that was in force before, in place of one that is taken back and came `since`: that waits neither
    /// for an interface that does not exist nor for room on a disk. Interfaces that it does not name, and that got their programs
    /// since then, are free again, unless one may be what it misses.
    pub fn put_back(
        &mut self,
        image: &Image,
        record: Record,
        since: SystemTime,
    ) -> Result<Applied, DataplaneError> {
        self.change(image, record, Some(since))
    }

    fn change(
        &mut self,
        image: &Image,
        record: Record,
        back_since: Option<SystemTime>,
    ) -> Result<Applied, DataplaneError> {
        let began = Instant::now();
        // Its interfaces were looked at when it came.
        let laid_anew = self.active().is_some_and(|active| active.record.policy_hash == record.policy_hash);
        let lenient = laid_anew || back_since.is_some();
        let links = Links::read(&self.pins)?;
        let (targets, missing) = attach::survey(&links, &image.manifest, lenient)?;
        let earlier = self.force.as_ref().map(|force| force.earlier.clone()).unwrap_or_default();
        let renamed = links.renamed(&missing, &targets, &earlier, back_since.filter(|_| !laid_anew));
        if !laid_anew {
            targets
                .iter()
                .try_for_each(|target| copies::refuse(target, target.mode(self.options.xdp_mode)))?;
        }
        let addresses = local_addresses()?;
        let offloads = settle_offloads(&targets, self.options.xdp_mode, lenient)?;
        let layout = self.prepare_layout()?;
        let number = self.ledger.next_number(&self.pins.generations()?);
        let description = Description {
            generation: number,
            object: object::hash().to_owned(),
            manifest: image.manifest.clone(),
            record,
            places: image.places.iter().map(Into::into).collect(),
            addresses,
            earlier: links.earlier_names(&targets, &renamed, earlier),
        };
        let result = self.put_in_force(image, description, &links, (&targets, &renamed), began, lenient);
        let (force, journal) = match result {
            Ok(done) => done,
            Err(error) => {
                if let Err(second) = self.restore_layout(layout).and_then(|()| self.clean_up()) {
                    tracing::error!(error = %second, "a failed apply left something behind");
                }
                return Err(error);
            }
        };

        let mut applied = Applied {
            generation: number,
            duration: began.elapsed(),
            attached: journal.attached,
            detached: Vec::new(),
            offloads,
            layout_replaced: matches!(layout, Layout::Replaced(_)) || !self.pins.other_layouts()?.is_empty(),
            warnings: warnings(&force.shared, image, &targets, self.options.xdp_mode),
        };
        self.force = Some(force);
        // The new policy is in force: nothing that fails from here on makes the apply a failure.
        applied.warnings.extend(
            missing
                .iter()
                .map(|name| format!("interface {name} does not exist: it is enforced when it comes back")),
        );
        match self.free_others(&targets, &missing, &renamed, back_since) {
            Ok((detached, kept)) => {
                applied.detached = detached;
                applied.warnings.extend(kept.iter().map(|name| {
                    format!("interface {name} drops everything, as the policy does not name it, until no other is missing")
                }));
            }
            Err(error) => applied.warnings.push(error.to_string()),
        }
        self.settled = true;
        for result in [self.clean_up(), self.remove_older()] {
            applied.warnings.extend(result.err().map(|error| error.to_string()));
        }
        Ok(applied)
    }

    /// Takes the programs off what the policy does not name; returns whose, and who keeps them. Another policy may have found an
    /// interface that is missing now under another name, and enforced it there: while one is missing, those alone are free that got
    /// their programs `since` a policy was left for one that is taken back, and that never had its name. A look frees the others, see
    /// [`Self::reconcile`].
    fn free_others(
        &self,
        targets: &[Target],
        missing: &[String],
        renamed: &[Renamed],
        since: Option<SystemTime>,
    ) -> Result<(Vec<String>, Vec<String>), DataplaneError> {
        let lost: Vec<&String> =
            missing.iter().filter(|name| renamed.iter().all(|it| it.name != **name)).collect();
        let earlier = self.force.as_ref().map(|force| force.earlier.as_slice()).unwrap_or_default();
        let links = Links::read(&self.pins)?;
        let detached = match since {
            _ if missing.is_empty() => links.detach_others(targets, renamed, |_| false)?,
            Some(since) => links.detach_others(targets, renamed, |live| {
                live.since().is_none_or(|at| at < since) || live.may_be(&lost, earlier)
            })?,
            None => Vec::new(),
        };
        Ok((detached, Links::read(&self.pins)?.others(targets, renamed)))
    }

    /// Makes room for this binary's layout, moving aside one that does not fit.
    fn prepare_layout(&mut self) -> Result<Layout, DataplaneError> {
        let layout = match shared::inspect(&self.pins, &self.declared)? {
            Found::Fitting => Layout::Kept,
            Found::Nothing => Layout::Made,
            Found::Foreign => {
                self.force = None;
                Layout::Replaced(self.pins.set_aside()?)
            }
        };
        self.pins.create()?;
        Ok(layout)
    }

    fn restore_layout(&self, layout: Layout) -> Result<(), DataplaneError> {
        if matches!(layout, Layout::Kept) {
            return Ok(());
        }
        let current = self.pins.layout();
        pins::remove_tree(&current)?;
        if let Layout::Replaced(aside) = layout {
            fs::rename(&aside, &current).map_err(DataplaneError::io("cannot put back", &current))?;
        }
        Ok(())
    }

    /// Loads, flips, attaches; undoes all of it on an error.
    fn put_in_force(
        &self,
        image: &Image,
        mut description: Description,
        links: &Links,
        (targets, renamed): (&[Target], &[Renamed]),
        began: Instant,
        lenient: bool,
    ) -> Result<(Force, Journal), DataplaneError> {
        let number = description.generation;
        let places = placed(&description.places, targets, renamed);
        self.load(image, number, &places)?;
        let directory = self.pins.generation(number);
        let mut prepared = || -> Result<_, DataplaneError> {
            let shared = Shared::open(&self.pins)?;
            // The slot may hold the only reference to what is in force.
            let before = shared.in_force()?.map(sys::program_by_id).transpose();
            let generation = Generation::open(&self.pins, number)?;
            if description.manifest.forwarding {
                generation.set_forwarding(&forwarding(&description.manifest, &places, targets)?)?;
            }
            let programs = Programs {
                entry: Pinned::open(&self.pins.entry(object::hash()))?,
                egress: Pinned::open(&directory.join("egress"))?,
                bare: self.bare(&self.pins.entry(object::hash()), number)?,
                exit: self.exit,
            };
            description.record.duration_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            if let Err(error) = description.write(&self.options.state_dir) {
                // Whoever adopts it lays the policy anew, for want of its description.
                if !lenient {
                    return Err(error);
                }
                tracing::error!(%error, generation = number, "what is in force has no description for the next start");
            }
            shared.put_in_force(generation.judge())?;
            Ok((shared, generation, programs, before))
        };
        let forget = || {
            Description::remove(&self.options.state_dir, number);
            pins::remove_tree(&directory)
        };
        let (shared, generation, programs, before) = match prepared() {
            Ok(prepared) => prepared,
            Err(error) => {
                forget()?;
                return Err(error);
            }
        };
        let mut journal = Journal::default();
        let mode = self.options.xdp_mode;
        let converged = targets.iter().try_for_each(|target| {
            match attach::converge(&self.pins, links, target, &programs, mode, &mut journal) {
                // Since they were looked at: as if it had been missing then.
                Err(error) if lenient && target.is_gone() => {
                    tracing::warn!(%error, interface = target.name, "an interface went away");
                    Ok(())
                }
                result => result,
            }
        });
        if let Err(error) = converged.and_then(|()| links.name_pins(&self.pins, renamed, &mut journal)) {
            match (&self.force, before) {
                (Some(force), _) => shared.put_in_force(force.generation.judge())?,
                (None, Ok(Some(before))) => shared.put_in_force(before.as_fd())?,
                (None, _) => shared.put_none_in_force()?,
            }
            journal.undo();
            // What it counted meanwhile is counted, and its pins removed, by the next clean-up.
            return Err(error);
        }
        let active = Active {
            generation: number,
            manifest: description.manifest,
            record: description.record,
            anonymous: false,
        };
        let Description { places, addresses, earlier, .. } = description;
        Ok((Force { shared, generation, active, places, addresses, earlier }, journal))
    }

    fn load(&self, image: &Image, number: u32, places: &[(PlaceKey, Place)]) -> Result<(), DataplaneError> {
        let wanted = shared::buckets_for(image.connections);
        let buckets = shared::existing_buckets(&self.pins).unwrap_or(wanted);
        let mut config = image.config;
        config.generation = number;
        config.hash_key = shared::hash_key(&self.pins)?;
        config.bucket_mask = buckets - 1;
        config.test_context = 0;
        let (pins, declared, trace) = (&self.pins, &self.declared, self.options.trace);
        object::load(&Load { pins, declared, image, places, config, buckets, trace, exits: true })?;
        Ok(())
    }

    /// Removes layouts and entry programs that no link runs any more.
    fn remove_older(&self) -> Result<(), DataplaneError> {
        for layout in self.pins.other_layouts()? {
            pins::remove_tree(&layout)?;
        }
        let current = self.pins.entry(object::hash());
        for entry in self.pins.entries()?.into_iter().filter(|entry| *entry != current) {
            pins::unpin(&entry)?;
            pins::unpin(&self.pins.bare(&entry))?;
        }
        Ok(())
    }

    /// The programs for devices without a link layer, where this generation has them.
    pub(super) fn bare(&self, entry: &Path, number: u32) -> Result<Option<Bare>, DataplaneError> {
        let (entry, egress) = (self.pins.bare(entry), self.pins.bare_egress(number));
        if !entry.exists() || !egress.exists() {
            return Ok(None);
        }
        Ok(Some(Bare { entry: Pinned::open(&entry)?, egress: Pinned::open(&egress)? }))
    }
}

/// How many entries a place may take in the tables: an interface that is made anew has others before its old ones
/// go, and a bond has one for each of its links, of which LACP uses eight at most.
pub(super) const ROOM: usize = 2 + 8;

/// The places of a description on the interfaces that exist, and on the links of those that are bonds. Those of an interface that
/// was `renamed` while it is enforced stay.
pub(super) fn placed(
    places: &[StoredPlace],
    targets: &[Target],
    renamed: &[Renamed],
) -> Vec<(PlaceKey, Place)> {
    let mut placed = Vec::new();
    for place in places {
        let targets = targets.iter().map(|target| (&target.name, target.ifindex, &target.links));
        let renamed = renamed.iter().map(|renamed| (&renamed.name, renamed.ifindex, &renamed.links));
        for (_, ifindex, links) in targets.chain(renamed).filter(|(name, ..)| **name == place.interface) {
            placed.push(place.on(ifindex));
            placed.extend(links.iter().map(|link| place.on_link(*link)));
        }
    }
    placed
}

/// The tables of forwarding, for the devices that there are now.
pub(super) fn forwarding(
    manifest: &Manifest,
    places: &[(PlaceKey, Place)],
    targets: &[Target],
) -> Result<Forwarding, DataplaneError> {
    let devices = devices::list().map_err(DataplaneError::bpf("cannot list the network devices"))?;
    Ok(Forwarding::of(manifest, places, targets, &devices))
}

fn settle_offloads(
    targets: &[Target],
    mode: XdpMode,
    lenient: bool,
) -> Result<Vec<(String, &'static str)>, DataplaneError> {
    let mut offloads = Vec::new();
    for target in targets {
        match offload::settle(target, target.mode(mode)) {
            Ok(off) => offloads.extend(off),
            // Attaching tells what becomes of it.
            Err(_) if lenient && target.is_gone() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(offloads)
}

fn warnings(shared: &Shared, image: &Image, targets: &[Target], mode: XdpMode) -> Vec<String> {
    let mut warnings = Vec::new();
    let wanted = shared::buckets_for(image.connections);
    if shared.buckets != wanted {
        let ways = u32::try_from(WAYS).expect("a small constant");
        let (has, wants) = (shared.buckets.saturating_mul(ways), wanted.saturating_mul(ways));
        warnings.push(format!(
            "the connection table holds {has} connections and the policy asks for {wants}: its size is fixed until \
             `clinigate detach`"
        ));
    }
    for target in targets {
        let attached = netlink::attached_xdp(target.ifindex).ok().flatten();
        if mode == XdpMode::Native
            && !target.is_bare()
            && attached.is_some_and(|attached| attached.mode != AttachedMode::Native)
        {
            warnings.push(format!(
                "{} is attached in generic mode, which is slow; native takes a `clinigate detach` first",
                target.name
            ));
        }
    }
    warnings
}
