//! The only way off.

use std::fs;

use super::error::DataplaneError;
use super::lock::Lock;
use super::pins::{self, Hook, Pins};
use super::state::Description;
use super::{Dataplane, Options, sys};

/// What was taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// Interfaces that were enforced.
    pub interfaces: Vec<String>,
    /// Generations whose tables were removed.
    pub generations: Vec<u32>,
}

/// Takes all programs off and removes all maps. Fails where another process owns them: that one
/// is asked instead ([`Dataplane::detach`]).
pub fn detach(options: &Options) -> Result<Detached, DataplaneError> {
    if !options.pin_root.exists() {
        return Ok(Detached::default());
    }
    // Opened whole where that is possible, so that the last counts are kept.
    match Dataplane::open(options.clone()) {
        Ok(dataplane) => dataplane.detach(),
        Err(error @ DataplaneError::Owned { .. }) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "detaching without keeping the last counts");
            let _lock = Lock::take_pins(&options.pin_root)?;
            take_off(&Pins::new(&options.pin_root))
        }
    }
}

impl Dataplane {
    /// Takes all programs off and removes all maps. The totals of the counters stay on disk.
    pub fn detach(mut self) -> Result<Detached, DataplaneError> {
        let interfaces = take_off_links(&self.pins)?;
        if let Err(error) = self.count_last() {
            tracing::warn!(%error, "the last counts are not kept");
        }
        let detached = take_off(&self.pins)?;
        Ok(Detached { interfaces, ..detached })
    }

    fn count_last(&mut self) -> Result<(), DataplaneError> {
        let Some(force) = self.force.take() else { return Ok(()) };
        let number = force.generation.number;
        sys::wait_for_running_programs();
        let counts = force.generation.counts(force.manifest())?;
        self.ledger.retire(number, counts, &[])?;
        self.ledger.run(None)?;
        Description::remove(&self.options.state_dir, number);
        Ok(())
    }
}

fn take_off(pins: &Pins) -> Result<Detached, DataplaneError> {
    let interfaces = take_off_links(pins)?;
    let generations = pins.generations()?;
    for directory in pins.other_layouts()?.into_iter().chain([pins.layout(), pins.links()]) {
        pins::remove_tree(&directory)?;
    }
    // Whatever else stands there is not ours to remove.
    if let Err(error) = fs::remove_dir(pins.root()) {
        tracing::debug!(path = %pins.root().display(), %error, "the pin root stays");
    }
    Ok(Detached { interfaces, generations })
}

fn take_off_links(pins: &Pins) -> Result<Vec<String>, DataplaneError> {
    let mut interfaces = Vec::new();
    for attachment in pins.all_links()? {
        pins::take_off(&attachment.path)?;
        if attachment.hook == Hook::Xdp {
            interfaces.push(attachment.interface);
        }
    }
    Ok(interfaces)
}
