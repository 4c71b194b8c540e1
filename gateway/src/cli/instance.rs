//! Which gateway of this machine a command means.

use std::path::PathBuf;

use clap::Args;

use crate::daemon::control::DEFAULT_SOCKET;
use crate::dataplane::Options;

/// Where a gateway keeps its things.
#[derive(Clone, Debug, Args)]
pub(super) struct Instance {
    /// Directory of the pinned programs and tables, on a BPF file system.
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().pin_root)]
    pub(super) pin_root: PathBuf,
    /// Directory of what must outlive a reboot.
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().state_dir)]
    pub(super) state_dir: PathBuf,
    /// Socket on which the service is asked.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(super) socket: PathBuf,
}

impl Instance {
    /// As the dataplane wants it.
    pub(super) fn options(&self) -> Options {
        Options { pin_root: self.pin_root.clone(), state_dir: self.state_dir.clone(), ..Options::default() }
    }
}
