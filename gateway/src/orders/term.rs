//! For how long an order holds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const SECOND: u64 = 1_000_000_000;

/// Both clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Which boot of the machine: the kernel's clock begins anew with each.
    pub boot: String,
    /// Milliseconds since 1970.
    pub unix: u64,
    /// Nanoseconds on the kernel's monotonic clock.
    pub kernel: u64,
}

impl Clock {
    /// Nanoseconds on the kernel's clock at a time of the wall's.
    pub fn kernel_at(&self, unix: u64) -> u64 {
        let ahead = i128::from(unix) - i128::from(self.unix);
        u64::try_from((i128::from(self.kernel) + ahead * 1_000_000).max(0)).unwrap_or(u64::MAX)
    }

    /// Milliseconds since 1970 at which the kernel's clock began.
    pub fn beginning(&self) -> i64 {
        i64::try_from(i128::from(self.unix) - i128::from(self.kernel / 1_000_000)).unwrap_or(i64::MAX)
    }
}

/// From when on, and for how long. The kernel's clock counts; a wall clock that is set wrong lengthens nothing. Only
/// across a reboot it is asked what time has passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Milliseconds since 1970 at which it began.
    pub begun: u64,
    /// How long; absent until somebody ends it.
    pub seconds: Option<u64>,
    boot: String,
    kernel: u64,
}

impl Term {
    /// One that begins now.
    pub fn new(clock: &Clock, seconds: Option<u64>) -> Self {
        Self { begun: clock.unix, seconds, boot: clock.boot.clone(), kernel: clock.kernel }
    }

    /// Tells one term from another. Unlike the end, which across a reboot follows from two clocks, it is the same whenever it is asked.
    pub(super) fn mark(&self) -> String {
        format!("{}+{:?}", self.begun, self.seconds)
    }

    /// Whether its end depends on what the wall clock says now.
    pub(super) fn follows_wall(&self, clock: &Clock) -> bool {
        self.seconds.is_some() && self.boot != clock.boot
    }

    /// Nanoseconds on the kernel's clock at which it ends; `None` for never.
    pub fn end(&self, clock: &Clock) -> Option<u64> {
        let length = self.seconds?.saturating_mul(SECOND);
        if self.boot == clock.boot {
            return Some(self.kernel.saturating_add(length));
        }
        let passed = clock.unix.saturating_sub(self.begun).saturating_mul(1_000_000);
        Some(clock.kernel.saturating_add(length.saturating_sub(passed)))
    }

    /// Whether it has ended.
    pub fn is_over(&self, clock: &Clock) -> bool {
        self.end(clock).is_some_and(|end| end <= clock.kernel)
    }

    /// What is left of it; `None` for no end.
    pub fn remaining(&self, clock: &Clock) -> Option<Duration> {
        self.end(clock).map(|end| Duration::from_nanos(end.saturating_sub(clock.kernel)))
    }

    /// Milliseconds since 1970 at which it ends, by the wall clock that it began with.
    pub fn until(&self) -> Option<u64> {
        self.seconds.map(|seconds| self.begun.saturating_add(seconds.saturating_mul(1000)))
    }
}
