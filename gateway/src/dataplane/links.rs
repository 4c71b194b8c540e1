//! What runs on interfaces, and what the policies call them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::SystemTime;

use super::attach::{Journal, Pinned, Programs, Step, Target};
use super::error::DataplaneError;
use super::features::Exit;
use super::pins::{self, Attachment, Hook, Pins};
use super::{clsact, devices, sys};

/// An attached program, as the kernel sees it.
pub(super) struct Live {
    /// What the policy in force calls the interface.
    pub(super) interface: String,
    hook: Hook,
    path: PathBuf,
    /// Its link; none where it is a classifier.
    link: Option<OwnedFd>,
    /// Index of the interface, or 0 where it is gone.
    ifindex: u32,
    pub(super) program: u32,
}

impl Live {
    fn read(attachment: Attachment) -> Result<Self, DataplaneError> {
        let is_classifier = attachment.is_classifier();
        let Attachment { interface, hook, path, ifindex } = attachment;
        let failed = |error| DataplaneError::io("cannot look at the link", &path)(error);
        let (link, ifindex, program) = if is_classifier {
            // Another interface may have the index by now; then it has nothing of ours.
            let program = clsact::program(ifindex).map_err(failed)?;
            (None, program.map_or(0, |_| ifindex), program.unwrap_or(0))
        } else {
            let link = sys::open_pin(&path).map_err(failed)?;
            let info = sys::link_info(link.as_fd()).map_err(failed)?;
            (Some(link), info.ifindex, info.program)
        };
        Ok(Self { interface, hook, path, link, ifindex, program })
    }

    /// Pins it by the name that the policy has for its interface, by which it is known where that is renamed.
    pub(super) fn name_pin(
        &self,
        pins: &Pins,
        name: &str,
        journal: &mut Journal,
    ) -> Result<(), DataplaneError> {
        if self.interface == name {
            return Ok(());
        }
        let path = pins.link(name, self.ifindex, self.hook);
        pins::unpin(&path)?;
        fs::rename(&self.path, &path).map_err(DataplaneError::io("cannot rename the pin", &self.path))?;
        if self.hook == Hook::Xdp {
            journal.renamed.push((self.interface.clone(), name.to_owned()));
        }
        journal.steps.push(Step::Renamed { from: self.path.clone(), to: path });
        Ok(())
    }

    /// Whether its interface may be what a policy calls by one of these names.
    pub(super) fn may_be(&self, names: &[&String], earlier: &[EarlierName]) -> bool {
        let had =
            |name: &String| earlier.iter().any(|(had, ifindex)| had == name && *ifindex == self.ifindex);
        names.iter().any(|name| self.interface == **name || had(name))
    }

    /// When it was attached; a pin that is renamed keeps its time.
    pub(super) fn since(&self) -> Option<SystemTime> {
        fs::metadata(&self.path).and_then(|pin| pin.modified()).ok()
    }

    /// Whether it runs on an interface that is none of these.
    fn is_other(&self, targets: &[Target], renamed: &[Renamed]) -> bool {
        targets.iter().all(|target| target.ifindex != self.ifindex)
            && renamed.iter().all(|renamed| renamed.ifindex != self.ifindex)
    }

    /// Makes it run another program instead, in one step; returns how that is undone.
    pub(super) fn replace(&self, program: &Pinned) -> io::Result<Option<Step>> {
        // Without CAP_SYS_ADMIN there is no way back to it; the new program does its work too.
        let before = sys::program_by_id(self.program).ok();
        let Some(link) = &self.link else {
            clsact::attach(self.ifindex, program.fd.as_fd())?;
            return Ok(before.map(|before| Step::Replaced { ifindex: self.ifindex, before }));
        };
        sys::update_link(link.as_fd(), program.fd.as_fd())?;
        let link = link.try_clone()?;
        Ok(before.map(|before| Step::Updated { link, before }))
    }
}

/// Every pinned link.
pub(super) struct Links(Vec<Live>);

impl Links {
    /// Looks at all of them.
    pub(super) fn read(pins: &Pins) -> Result<Self, DataplaneError> {
        let links = pins.all_links()?.into_iter().map(Live::read);
        Ok(Self(links.collect::<Result<_, _>>()?))
    }

    /// What runs at one end of an interface.
    pub(super) fn find(&self, ifindex: u32, hook: Hook) -> Option<&Live> {
        self.0.iter().find(|live| live.ifindex == ifindex && live.hook == hook)
    }

    /// Whether every link of these interfaces runs these programs.
    pub(super) fn are_converged(&self, targets: &[Target], programs: &Programs) -> bool {
        targets.iter().all(|target| {
            programs.by_hook(target).is_ok_and(|programs| {
                programs.into_iter().all(|(hook, program)| {
                    self.find(target.ifindex, hook)
                        .is_some_and(|live| live.program == program.id && live.interface == target.name)
                })
            })
        })
    }

    /// Interfaces with an XDP program, by index, as the policy calls them. The links of a bond are called as the bond is, for which
    /// they receive.
    pub(super) fn names(self) -> BTreeMap<u32, String> {
        let devices = devices::list().unwrap_or_default();
        let mut names = BTreeMap::new();
        for live in self.0.into_iter().filter(|live| live.hook == Hook::Xdp && live.ifindex != 0) {
            let links = devices::links(&devices, live.ifindex);
            names.extend(links.into_iter().map(|link| (link, live.interface.clone())));
            names.insert(live.ifindex, live.interface);
        }
        names
    }

    /// How the program at the exit of an interface is attached, where one is.
    pub(super) fn exit(&self, ifindex: u32) -> Option<Exit> {
        let live = self.find(ifindex, Hook::Egress)?;
        Some(if live.link.is_some() { Exit::Tcx } else { Exit::Clsact })
    }

    /// When the XDP program of an interface was attached.
    pub(super) fn since(&self, ifindex: u32) -> Option<SystemTime> {
        self.find(ifindex, Hook::Xdp)?.since()
    }

    /// Interfaces that a policy called like one of `missing`, and that have another name now, which is none that the policy names. The
    /// programs run there still. Of the policy in force the pins know them, else the names that they had under `earlier` ones; who
    /// goes back to one of those, that was left at a time, asks both about what was enforced by then. Where a name could be that of
    /// several it is nobody's.
    pub(super) fn renamed(
        &self,
        missing: &[String],
        targets: &[Target],
        earlier: &[EarlierName],
        left: Option<SystemTime>,
    ) -> Vec<Renamed> {
        let is_target =
            |ifindex| targets.iter().any(|it| it.ifindex == ifindex || it.links.contains(&ifindex));
        let is_free = |live: &&Live| {
            live.hook == Hook::Xdp
                && live.ifindex != 0
                && !is_target(live.ifindex)
                && left.is_none_or(|left| live.since().is_some_and(|since| since < left))
        };
        let free: Vec<&Live> = self.0.iter().filter(is_free).collect();
        if missing.is_empty() || free.is_empty() {
            return Vec::new();
        }
        let devices = devices::list().unwrap_or_default();
        let mut renamed: Vec<Renamed> = Vec::new();
        for name in missing {
            let pinned = free.iter().filter(|live| live.interface == *name).map(|live| live.ifindex);
            let mut known: BTreeSet<u32> = pinned.collect();
            if left.is_some() || known.is_empty() {
                let before = earlier.iter().filter(|(before, _)| before == name).map(|(_, ifindex)| *ifindex);
                known.extend(before.filter(|ifindex| free.iter().any(|live| live.ifindex == *ifindex)));
            }
            known.retain(|ifindex| renamed.iter().all(|it| it.ifindex != *ifindex));
            if let (1, Some(&ifindex)) = (known.len(), known.first()) {
                let links = devices::links(&devices, ifindex);
                renamed.push(Renamed { name: name.clone(), ifindex, links });
            }
        }
        renamed
    }

    /// The names that interfaces had so far, where they are called otherwise now: behind those of `earlier`, as far as there are
    /// such interfaces still.
    pub(super) fn earlier_names(
        &self,
        targets: &[Target],
        renamed: &[Renamed],
        mut earlier: Vec<EarlierName>,
    ) -> Vec<EarlierName> {
        let live = || self.0.iter().filter(|live| live.hook == Hook::Xdp && live.ifindex != 0);
        earlier.retain(|(_, ifindex)| live().any(|live| live.ifindex == *ifindex));
        let targets = targets.iter().map(|it| (&it.name, it.ifindex));
        let now: BTreeMap<u32, &String> = targets
            .chain(renamed.iter().map(|it| (&it.name, it.ifindex)))
            .map(|(name, index)| (index, name))
            .collect();
        for live in live() {
            let before = (live.interface.clone(), live.ifindex);
            if now.get(&live.ifindex).is_some_and(|name| **name != live.interface) {
                earlier.retain(|it| *it != before);
                earlier.push(before);
            }
        }
        earlier
    }

    /// Pins what runs on renamed interfaces by the names that the policy has for them.
    pub(super) fn name_pins(
        &self,
        pins: &Pins,
        renamed: &[Renamed],
        journal: &mut Journal,
    ) -> Result<(), DataplaneError> {
        for live in &self.0 {
            if let Some(renamed) = renamed.iter().find(|it| it.ifindex == live.ifindex) {
                live.name_pin(pins, &renamed.name, journal)?;
            }
        }
        Ok(())
    }

    /// Names of the interfaces with programs that are none of these.
    pub(super) fn others(&self, targets: &[Target], renamed: &[Renamed]) -> Vec<String> {
        let live = self.0.iter().filter(|live| live.hook == Hook::Xdp && live.ifindex != 0);
        live.filter(|live| live.is_other(targets, renamed)).map(|live| live.interface.clone()).collect()
    }

    /// Takes the programs off all interfaces but these, those of `renamed`, and those that are `spared`. Returns whose.
    pub(super) fn detach_others(
        self,
        keep: &[Target],
        renamed: &[Renamed],
        spared: impl Fn(&Live) -> bool,
    ) -> Result<Vec<String>, DataplaneError> {
        let mut detached = Vec::new();
        for live in self.0.into_iter().filter(|live| live.is_other(keep, renamed)) {
            if spared(&live) {
                continue;
            }
            pins::take_off(&live.path)?;
            if live.hook == Hook::Xdp && live.ifindex != 0 {
                detached.push(live.interface);
            }
        }
        Ok(detached)
    }
}

/// A name that an interface had, and its index.
pub(super) type EarlierName = (String, u32);

/// An interface that is enforced and was renamed.
pub(super) struct Renamed {
    /// What the policy calls it.
    pub(super) name: String,
    pub(super) ifindex: u32,
    /// As in [`Target::links`].
    pub(super) links: Vec<u32>,
}
