//! The running service: where policies come from, what is in force, and who may ask.

mod binary;
mod commit;
pub mod control;
pub mod http;
mod last_good;
mod look;
mod notify;
mod prepare;
mod reports;
mod requests;
mod run;
mod service;
pub mod status;
mod traces;
pub mod watching;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::unistd::Gid;

pub use look::Look;
pub use prepare::{PrepareError, Text, with_addresses};
pub use run::{Ended, RunError, run};
pub use service::ChangeError;

use crate::dataplane;

/// Directory of the text of the last policy that came into force, below the state directory.
pub fn kept_policy(state: &Path) -> PathBuf {
    last_good::directory(state)
}

/// How a service runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the policy; absolute.
    pub policy: PathBuf,
    /// Where things are pinned, and how programs are attached.
    pub dataplane: dataplane::Options,
    /// The control socket.
    pub socket: PathBuf,
    /// Group whose members may ask for the status.
    pub readers: Option<Gid>,
    /// Where `/metrics` and `/healthz` are served.
    pub metrics: SocketAddr,
}
