//! Somebody beside the service who takes an unconfirmed change back, should the service be gone by then.
//!
//! A process of its own, started with the change: it waits until the change is confirmed or taken back, and
//! acts only when the time is over and nobody owns the pins. The service, where it runs, comes before it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use super::service::{Service, chain};
use super::unconfirmed::Unconfirmed;
use super::{RunError, Settings, Source};
use crate::dataplane::{Dataplane, DataplaneError, Options, XdpMode};
use crate::policy::Selection;
use crate::telemetry::metrics::Metrics;

/// The hidden subcommand that [`stand_by`] is called by.
const COMMAND: &str = "stand-by";
/// How often it looks.
const PERIOD: Duration = Duration::from_millis(500);
/// How long the service has to do it itself.
const PRECEDENCE: Duration = Duration::from_secs(3);
/// How long after a failure it tries again.
const AGAIN: Duration = Duration::from_secs(30);

/// Starts the process. Without it a change goes back when the service runs again.
pub(super) fn start(options: &Options) {
    let mut command = Command::new("/proc/self/exe");
    command.arg(COMMAND).arg("--pin-root").arg(&options.pin_root).arg("--state-dir").arg(&options.state_dir);
    if options.xdp_mode == XdpMode::Generic {
        command.args(["--xdp-mode", "generic"]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: `setsid` is one system call, and neither allocates nor locks. Needed, so that what ends the session or
    // the terminal of the service does not end this one.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from)) };
    match command.spawn() {
        Ok(mut child) => drop(thread::spawn(move || child.wait())),
        Err(error) => {
            warn!(%error, "nobody stands by: should the service end, the change goes back when it runs again");
        }
    }
}

/// Waits for the end of an unconfirmed change's time, and takes it back where no service does.
pub fn stand_by(options: &Options) -> Result<(), RunError> {
    let mut patience = PRECEDENCE;
    while let Some(change) = Unconfirmed::read(&options.state_dir) {
        thread::sleep(PERIOD);
        if change.remaining().is_some() {
            continue;
        }
        if let Some(left) = patience.checked_sub(PERIOD) {
            patience = left;
            continue;
        }
        match Dataplane::open(options.clone()) {
            Ok(dataplane) => {
                warn!("the service is gone, and nobody confirmed its change: taking it back");
                let settings = Settings {
                    source: Source::Directory(options.state_dir.clone()),
                    selection: Selection::Everything,
                    dataplane: options.clone(),
                    socket: options.state_dir.join("none"),
                    groups: super::control::Groups::default(),
                    metrics: ([127, 0, 0, 1], 0).into(),
                    event_log: None,
                    learn_talkers: Duration::ZERO,
                };
                let service = Service::new(settings, dataplane, Arc::new(Metrics::new()?), None);
                service.resume_alone().map_err(RunError::NoPolicy)?;
                // Where something is in the way, that is written down each time.
                patience = AGAIN;
            }
            // A service runs again, or somebody looks at the pins.
            Err(DataplaneError::Owned { .. }) => {}
            Err(error) => warn!("cannot take the change back yet: {}", chain(&error)),
        }
    }
    info!("nothing waits for a confirmation");
    Ok(())
}
