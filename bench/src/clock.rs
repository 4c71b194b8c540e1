//! Time spent: by the clock, and on the CPU.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// When something began.
pub(crate) struct Begun {
    clock: Instant,
    cpu: Duration,
}

/// Time that something took, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Time {
    /// By the clock: with what others on the machine did meanwhile.
    pub(crate) clock: f64,
    /// Of this thread, on the CPU.
    pub(crate) cpu: f64,
}

impl Begun {
    pub(crate) fn now() -> Result<Self> {
        Ok(Self { clock: Instant::now(), cpu: cpu()? })
    }

    pub(crate) fn time(&self) -> Result<Time> {
        let cpu = cpu()?.saturating_sub(self.cpu);
        Ok(Time { clock: self.clock.elapsed().as_secs_f64() * 1e3, cpu: cpu.as_secs_f64() * 1e3 })
    }
}

fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
