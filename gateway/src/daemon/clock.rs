//! Both clocks of this machine.

use std::fs;

use nix::time::{ClockId, clock_gettime};

use super::service::unix_now;
use crate::orders::Clock;

/// The time now.
pub(crate) fn now() -> Clock {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let kernel = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    });
    Clock { boot: boot.trim().to_owned(), unix: unix_now(), kernel }
}
