//! What the service tells about itself and what is in force.

use super::super::look::{Look, interface_reading, policy_reading};
use super::super::order_book;
use super::super::status::{EventStatus, ServiceStatus, Status};
use super::error::{ChangeError, chain};
use super::follow::Following;
use super::{Service, lock};
use crate::policy::{Labels, Selection};
use crate::telemetry::reading::{InterfaceReading, PolicyReading};

impl Service {
    /// Looks at everything.
    pub(in crate::daemon) fn look(&self) -> Result<Look, ChangeError> {
        Ok(self.with_dataplane(|dataplane| Look::at(dataplane))??)
    }

    /// The policy in force and its interfaces, as far as they are known without the kernel's counters.
    pub(in crate::daemon) fn in_force(&self) -> (Option<PolicyReading>, Vec<InterfaceReading>) {
        self.with_dataplane(|dataplane| {
            let interfaces = dataplane.interfaces();
            (dataplane.active().map(policy_reading), interfaces.iter().map(interface_reading).collect())
        })
        .unwrap_or_default()
    }

    pub(in crate::daemon) fn status(&self) -> Result<Status, ChangeError> {
        let look = self.look()?;
        let mut status = look.status();
        let generation = status.policy.as_ref().map(|policy| policy.generation);
        status.unconfirmed = self.unconfirmed_status(generation);
        status.withdrawn = self.withdrawn_status();
        let (read, unlisted) = self.metrics.events_so_far();
        status.events = EventStatus { read, unlisted, ..status.events };
        status.orders = self.standing();
        let memory = lock(&self.memory);
        status.service = Some(ServiceStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.since,
            policy_dir: memory.directory.clone(),
            metrics: self.settings.metrics,
            labels: match &self.settings.selection {
                Selection::For(labels) => labels.clone(),
                Selection::Everything => Labels::new(),
            },
        });
        status.last_apply.clone_from(&memory.last_apply);
        status.trouble.clone_from(&memory.trouble);
        if self.orders_unread {
            status.trouble.push(
                "quarantines, grants and broken glass could be neither read at the start nor put aside: they are NOT kept, and what \
                 is still laid goes with the next change; see to the disk, order again what is missing, and restart the service"
                    .to_owned(),
            );
        }
        if let Some(aside) = order_book::set_aside(&self.settings.dataplane.state_dir) {
            status.trouble.push(format!(
                "quarantines, grants and broken glass could not be read at a start: they are NOT kept, and what is still laid \
                 goes with the next change, or when the file is removed; look at {0}, order again what is missing, and remove it: rm {0}",
                aside.display()
            ));
        }
        status.repository = self.following.as_ref().map(Following::status);
        Ok(status)
    }

    /// Whether the gateway does its work, in a sentence.
    pub(in crate::daemon) fn health(&self) -> Result<String, String> {
        let (generation, interfaces) = self
            .with_dataplane(|dataplane| {
                (dataplane.active().map(|active| active.generation), dataplane.interfaces())
            })
            .map_err(|error| chain(&error))?;
        let Some(generation) = generation else { return Err("no policy is in force".to_owned()) };
        let unattached = interfaces.iter().filter(|interface| interface.mode.is_none());
        let unattached: Vec<&str> = unattached.map(|interface| interface.name.as_str()).collect();
        if !unattached.is_empty() {
            return Err(format!("not enforced: {}", unattached.join(" ")));
        }
        Ok(format!("generation {generation} is in force on {} interfaces", interfaces.len()))
    }
}
