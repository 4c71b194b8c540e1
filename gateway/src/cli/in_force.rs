//! The policy in force, where a command asks about one: the word `running` in place of a directory.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::instance::Instance;
use super::labels::Labels;
use super::order;
use crate::daemon::{self, with_addresses};
use crate::dataplane;
use crate::policy::Selection;
use crate::policy::model::Policy;

/// Word for the policy that came into force last, in place of a directory.
const RUNNING: &str = "running";

/// Where a policy is to be read.
pub(super) struct Place {
    /// Its directory.
    pub(super) directory: PathBuf,
    /// Which of its files count.
    pub(super) selection: Selection,
    /// State directory of the gateway that has it in force, where that was asked for.
    gateway: Option<PathBuf>,
}

impl Place {
    /// What somebody means by a directory, or by `running`.
    pub(super) fn of(directory: &Path, labels: &Labels, instance: &Instance) -> anyhow::Result<Self> {
        if directory != Path::new(RUNNING) {
            let selection = labels.selection()?;
            return Ok(Self { directory: directory.to_owned(), selection, gateway: None });
        }
        let state = &instance.state_dir;
        let directory = daemon::kept_policy(state);
        let known = directory.try_exists();
        if !known.with_context(|| format!("cannot look into {}: run as root", state.display()))? {
            bail!("no policy has been in force here: {} does not exist", directory.display());
        }
        // Files for other gateways were left out before it was kept.
        Ok(Self { directory, selection: Selection::Everything, gateway: Some(state.clone()) })
    }

    /// Whether it is the policy in force.
    pub(super) fn is_in_force(&self) -> bool {
        self.gateway.is_some()
    }

    /// The policy as its gateway has it at this moment: with the gateway's addresses and what was ordered there, with
    /// open windows open and closed ones closed. One that is not in force is left as it is.
    pub(super) fn as_now(&self, policy: Policy) -> anyhow::Result<Policy> {
        let Some(state) = &self.gateway else { return Ok(policy) };
        let policy = with_addresses(&policy, &dataplane::local_addresses()?);
        let unreadable = || format!("cannot read what was ordered from {}: run as root", state.display());
        let policy = daemon::as_now(policy, state).with_context(unreadable)?;
        let orders = daemon::standing_orders(state).with_context(unreadable)?;
        for order in orders.iter().filter(|order| order.open) {
            writeln!(io::stderr(), "note: {}: {}", named(order), order::left(order))?;
        }
        Ok(policy)
    }
}

fn named(order: &daemon::control::Standing) -> String {
    let subject = &order.subject;
    match (order.kind.as_str(), &order.vendor) {
        ("break-glass", _) => {
            format!("the glass of {subject} is broken, and what no rule allows passes there")
        }
        (_, Some(vendor)) => format!("{vendor} has a grant for {subject}"),
        _ => format!("{subject} is in quarantine"),
    }
}
