//! Interfaces come and go; the policy stays.

use super::apply;
use super::attach::{self, Journal, Pinned, Programs};
use super::copies;
use super::error::DataplaneError;
use super::links::Links;
use super::{Dataplane, local_addresses, object, offload};

/// What a look at the interfaces found and mended.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Interfaces that were attached anew: they had been made anew, or their link was gone.
    pub attached: Vec<String>,
    /// Interfaces that another one's name was given to, which are what the policy says of that name now: name before and name now.
    pub renamed: Vec<(String, String)>,
    /// Interfaces of the policy that do not exist.
    pub missing: Vec<String>,
    /// Interfaces that could not be attached, and why.
    pub failed: Vec<(String, DataplaneError)>,
    /// Offloads that had been turned on and hide frames, and were turned off again: interface and ethtool's name.
    pub offloads: Vec<(String, &'static str)>,
    /// The gateway's own addresses are not those that the policy in force was compiled with: compile
    /// and apply it again.
    pub addresses_changed: bool,
}

impl Dataplane {
    /// Looks whether every interface of the policy in force still runs our programs, and attaches
    /// those that were made anew, with their places first. Goes as far as it can.
    pub fn reconcile(&mut self) -> Result<Reconciled, DataplaneError> {
        let mut reconciled = Reconciled::default();
        let Some(force) = &self.force else { return Ok(reconciled) };
        if force.active.anonymous {
            return Ok(reconciled);
        }
        reconciled.addresses_changed = local_addresses()? != force.addresses;
        let (targets, missing) = attach::find(&force.active.manifest)?;
        reconciled.missing = missing;

        let links = Links::read(&self.pins)?;
        let renamed = links.renamed(&reconciled.missing, &targets, &force.earlier, None);
        let places = apply::placed(&force.places, &targets, &renamed);
        if force.active.manifest.forwarding {
            let forwarding = apply::forwarding(&force.active.manifest, &places, &targets)?;
            force.generation.set_forwarding(&forwarding)?;
        }
        for target in &targets {
            // Somebody may have turned on again what hides frames.
            let mode = target.mode(self.options.xdp_mode);
            match copies::refuse(target, mode).and_then(|()| offload::settle(target, mode)) {
                Ok(off) => reconciled.offloads.extend(off),
                Err(error) => reconciled.failed.push((target.name.clone(), error)),
            }
        }
        let Some(programs) = self.programs()? else { return Ok(reconciled) };
        let converged = links.are_converged(&targets, &programs);
        // A link that joins a bond runs its programs at once.
        let has_bond = targets.iter().any(|target| !target.links.is_empty())
            || renamed.iter().any(|renamed| !renamed.links.is_empty());
        if !converged || has_bond {
            force.generation.set_places(&places)?;
        }
        let mut journal = Journal::default();
        for target in targets.iter().filter(|_| !converged) {
            if reconciled.failed.iter().any(|(name, _)| *name == target.name) {
                continue;
            }
            let mode = self.options.xdp_mode;
            let attached = attach::converge(&self.pins, &links, target, &programs, mode, &mut journal);
            if let Err(error) = attached {
                reconciled.failed.push((target.name.clone(), error));
            }
        }
        (reconciled.attached, reconciled.renamed) = (journal.attached, journal.renamed);
        // A policy that came while an interface was missing left programs where it names none.
        if reconciled.missing.is_empty() && !links.others(&targets, &[]).is_empty() {
            Links::read(&self.pins)?.detach_others(&targets, &[], |_| false)?;
        }
        Ok(reconciled)
    }

    /// The programs that interfaces shall run; `None` where the entry program is another binary's:
    /// the next apply replaces it.
    fn programs(&self) -> Result<Option<Programs>, DataplaneError> {
        let Some(force) = &self.force else { return Ok(None) };
        let own = self.pins.entry(object::hash());
        let entries = self.pins.entries()?;
        let Some(entry) = entries.iter().find(|entry| **entry == own).or(entries.first()) else {
            return Ok(None);
        };
        let number = force.generation.number;
        let egress = self.pins.generation(number).join("egress");
        let bare = self.bare(entry, number)?;
        Ok(Some(Programs {
            entry: Pinned::open(entry)?,
            egress: Pinned::open(&egress)?,
            bare,
            exit: self.exit,
        }))
    }
}
