//! How much slower this machine is than one: what tests wait for takes longer in a virtual machine that is emulated
//! (`cargo xtask vm`), and what they send must leave its processors time for the rest.

use std::env;
use std::time::Duration;

/// `duration` as many times as the environment's `CLINIGATE_SLOWNESS` says, which is once where it says nothing.
pub fn unhurried(duration: Duration) -> Duration {
    let slowness = env::var("CLINIGATE_SLOWNESS").ok().and_then(|text| text.parse().ok());
    duration * slowness.unwrap_or(1)
}
