//! What changes around the service: interfaces that come back, addresses of the gateway.

use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::super::history::Cause;
use super::error::{ChangeError, chain};
use super::{How, Service, lock};
use crate::dataplane::{self, Dataplane};

/// The policy in force was adopted, and its text is nowhere to be found.
const TEXT_LOST: &str =
    "the gateway's addresses changed, and the text of the policy in force is not at hand: apply it again";

/// How long a policy that could not be compiled for new addresses is left alone.
const PAUSE: Duration = Duration::from_mins(1);

impl Service {
    /// Attaches interfaces that came back, and compiles the policy in force again where the
    /// gateway's addresses changed.
    pub(in crate::daemon) fn reconcile(&self) {
        let _turn = lock(&self.changing);
        self.check_deadline();
        let trouble = match self.try_reconcile() {
            Ok(trouble) => trouble,
            Err(ChangeError::Detached) => return,
            Err(error) => vec![chain(&error)],
        };
        let mut memory = lock(&self.memory);
        if memory.trouble != trouble {
            if trouble.is_empty() {
                info!("every interface of the policy is enforced again");
            } else {
                error!("cannot hold the policy in force everywhere: {}", trouble.join("; "));
            }
            memory.trouble = trouble;
        }
    }

    fn try_reconcile(&self) -> Result<Vec<String>, ChangeError> {
        let reconciled = self.with_dataplane(Dataplane::reconcile)??;
        if !reconciled.attached.is_empty() {
            info!(interfaces = reconciled.attached.join(" "), "attached to interfaces that came back");
            self.tell_names();
            self.warn_of_generic_mode();
        }
        for (before, now) in &reconciled.renamed {
            warn!(
                before,
                now, "an interface was given another name of the policy, and is in that segment now"
            );
            self.tell_names();
        }
        for (interface, feature) in &reconciled.offloads {
            warn!(interface, "turned off {feature} again: it hides frames from the programs");
        }
        let mut trouble: Vec<String> =
            reconciled.missing.iter().map(|name| format!("interface {name} does not exist")).collect();
        trouble.extend(reconciled.failed.iter().map(|(name, error)| format!("{name}: {}", chain(error))));

        // Neither waits for an interface that is missing: the others are enforced.
        trouble.extend(self.follow_addresses(reconciled.addresses_changed).err());
        trouble.extend(self.follow_orders().err());
        Ok(trouble)
    }

    /// Compiles the policy in force again where it was compiled for other addresses than the
    /// gateway has. `changed`: the dataplane has seen that they are others.
    fn follow_addresses(&self, changed: bool) -> Result<(), String> {
        let addresses = dataplane::local_addresses().map_err(|error| chain(&error))?;
        let text = {
            let memory = lock(&self.memory);
            match (&memory.in_force, &memory.pause) {
                (Some(in_force), _) if !changed && in_force.addresses == addresses => return Ok(()),
                (None, _) if !changed => return Ok(()),
                (None, _) => return Err(TEXT_LOST.to_owned()),
                (_, Some((until, why))) if Instant::now() < *until => return Err(why.clone()),
                (Some(in_force), _) => in_force.text.clone(),
            }
        };
        info!("the gateway's addresses changed: compiling the policy in force again");
        let begun = Instant::now();
        let prepared = self.prepare(text, addresses).map_err(ChangeError::from);
        match prepared.and_then(|prepared| self.put_prepared(prepared, begun, How::of(Cause::Addresses))) {
            Ok(change) => {
                info!(generation = change.generation, took_ms = change.took_ms, "it came into force");
                lock(&self.memory).pause = None;
                Ok(())
            }
            Err(error) => {
                let why = format!("the policy does not take the gateway's new addresses: {}", chain(&error));
                lock(&self.memory).pause = Some((Instant::now() + PAUSE, why.clone()));
                Err(why)
            }
        }
    }
}
