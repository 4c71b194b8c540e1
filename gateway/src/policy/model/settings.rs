//! Settings of a segment and of the whole gateway.

use gateway_common::connection::State;
use gateway_common::reason::Mode;
use serde::{Deserialize, Serialize};

/// Who sends allowed packets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// The kernel's stack, with its firewall and its counters.
    Kernel,
    /// XDP, by the kernel's routes and neighbours; what is unusual is left to the kernel.
    Xdp,
}

/// [`Mode`] with serialization.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ModeSetting {
    /// See [`Mode::Observe`].
    Observe,
    /// See [`Mode::Audit`].
    Audit,
    /// See [`Mode::Enforce`].
    Enforce,
}

impl From<ModeSetting> for Mode {
    fn from(mode: ModeSetting) -> Self {
        match mode {
            ModeSetting::Observe => Self::Observe,
            ModeSetting::Audit => Self::Audit,
            ModeSetting::Enforce => Self::Enforce,
        }
    }
}

/// Settings of the whole gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// TCP connections may be taken up in their middle.
    pub midstream: bool,
    /// Who sends allowed packets on.
    pub forwarding: Forwarding,
    /// Connections that the table holds, at most; rounded up to a power of two.
    pub connections: u32,
    /// Seconds of idleness after which a connection ends, by [`State`].
    pub timeouts: [u32; State::COUNT],
    /// ARP and neighbour discovery packets a second and sender.
    pub neighbour_rate: u32,
    /// Events a second and CPU.
    pub event_rate: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            midstream: false,
            forwarding: Forwarding::Kernel,
            connections: 1 << 17,
            timeouts: State::ALL.map(State::default_timeout),
            neighbour_rate: 50,
            event_rate: 500,
        }
    }
}
