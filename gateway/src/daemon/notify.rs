//! Word to systemd (`sd_notify(3)`). Without systemd, none of it does anything.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// A policy is in force, and the service answers.
pub(super) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload has begun; [`ready`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot tell systemd of a reload"),
    }
}

/// The service ends, of its own will.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The service is well.
pub(super) fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often systemd wants to hear [`alive`]; `None` where it does not.
pub(super) fn watchdog() -> Option<Duration> {
    // Half of the time limit, as sd_watchdog_enabled(3) recommends.
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot reach systemd");
    }
}
