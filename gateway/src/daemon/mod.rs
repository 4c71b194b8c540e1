//! The running service: where policies come from, what is in force, and who may ask.

mod binary;
mod clock;
mod commit;
pub mod control;
mod event_log;
pub mod history;
pub mod http;
mod last_good;
mod look;
mod notify;
mod order_book;
mod prepare;
mod privileges;
mod reports;
pub mod repository;
mod requests;
pub mod review;
mod run;
mod running;
mod service;
mod standby;
pub mod status;
mod talkers;
mod traces;
mod unconfirmed;
pub mod watching;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use last_good::Kept;

pub use look::Look;
pub use prepare::{PrepareError, Text, with_addresses};
pub use run::{Ended, RunError, run};
pub use running::{Running, survey};
pub use service::ChangeError;
pub use standby::stand_by;

use crate::dataplane;
use crate::orders;
use crate::policy::Selection;
use crate::policy::model::Policy;
use crate::telemetry::event_log::EventLogSettings;
use control::Groups;

/// Directory of the text of the last policy that came into force, below the state directory.
pub fn kept_policy(state: &Path) -> PathBuf {
    let unconfirmed = last_good::directory(state, Kept::Unconfirmed);
    if unconfirmed.is_dir() { unconfirmed } else { last_good::directory(state, Kept::LastGood) }
}

/// Where a policy comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory; absolute.
    Directory(PathBuf),
    /// A repository that is followed.
    Repository(Box<repository::Settings>),
}

impl Source {
    /// What it is called.
    pub fn name(&self) -> PathBuf {
        match self {
            Self::Directory(directory) => directory.clone(),
            Self::Repository(settings) => settings.name(),
        }
    }
}

/// What was ordered at a gateway whose service does not run, as its state directory has it.
///
/// # Errors
/// Where it cannot be read.
pub fn standing_orders(state: &Path) -> std::io::Result<Vec<control::Standing>> {
    Ok(order_book::standing(&order_book::read(state)?, &clock::now()))
}

/// A policy as the gateway with this state directory has it now, with what was ordered there.
///
/// # Errors
/// Where the orders cannot be read.
pub fn as_now(policy: Policy, state: &Path) -> std::io::Result<Policy> {
    let clock = clock::now();
    Ok(orders::lay(policy, &order_book::read(state)?, &clock).at(&clock))
}

/// How a service runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the policy comes from.
    pub source: Source,
    /// Which of its files count.
    pub selection: Selection,
    /// Where things are pinned, and how programs are attached.
    pub dataplane: dataplane::Options,
    /// The control socket.
    pub socket: PathBuf,
    /// Groups whose members may look, and order.
    pub groups: Groups,
    /// Where `/metrics` and `/healthz` are served.
    pub metrics: SocketAddr,
    /// The log of blocked flows as a file, beside the journal.
    pub event_log: Option<EventLogSettings>,
    /// For how long addresses that are seen for the first time are learned without being reported.
    pub learn_talkers: Duration,
}
