//! The control socket: how other processes of this machine talk to the service.
//!
//! A stream of lines, each one JSON object: a [`Request`] from the client, a [`Reply`] from the
//! service for each. What a peer may ask depends on who it is, which the kernel says
//! (`SO_PEERCRED`), not the peer. The client's side is blocking and needs no runtime.

mod client;
mod order;
mod peer;
mod server;

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError};
pub use order::{Clinical, Found, Order, Ordered, Standing};
pub use peer::{Groups, Peer, Rights};
pub use server::{Handler, ListenError, Listener};

use super::status::Status;
use super::watching::Traffic;
use crate::telemetry::flow::{FlowFilter, FlowList};

/// Default path of the socket.
pub const DEFAULT_SOCKET: &str = "/run/clinigate/control.sock";
/// Seconds that blocked flows are listed back, unless the client says otherwise.
pub const DEFAULT_WINDOW: u64 = 300;
/// Bytes of a request, its newline included, at most.
pub const REQUEST_LIMIT: usize = 64 * 1024;

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What is in force? Peers that may read may ask.
    Status {},
    /// Put the policy of a directory into force.
    Apply {
        /// Absolute path, read by the service.
        dir: PathBuf,
        /// Seconds within which it must be confirmed; else it goes back by itself.
        #[serde(default)]
        confirm_within_s: Option<u64>,
    },
    /// Read the policy in force again from its directory, or ask the repository now.
    Reload {
        /// What the newest commit may do, whatever its trailers say.
        #[serde(default)]
        allow: Vec<Permission>,
        /// Also where it does not come after the last accepted one.
        #[serde(default)]
        rewritten: bool,
        /// Seconds within which it must be confirmed; else it goes back by itself.
        #[serde(default)]
        confirm_within_s: Option<u64>,
    },
    /// A change that waits for its confirmation stays.
    Confirm {},
    /// Put an earlier policy into force.
    Rollback {
        /// How many changes back, where no generation is named.
        #[serde(default = "one")]
        back: u32,
        /// That of this generation.
        #[serde(default)]
        generation: Option<u32>,
    },
    /// Who talks to whom, and who may not? Peers that may read may ask.
    Flows {
        /// Which flows.
        #[serde(default)]
        filter: FlowFilter,
        /// How many seconds back blocked flows are listed.
        #[serde(default = "default_window")]
        seconds: u64,
    },
    /// What was counted? Peers that may read may ask.
    Traffic {},
    /// Something is ordered at the gateway: quarantine, a grant, break-glass.
    Order {
        /// What.
        order: Order,
    },
    /// Take everything off the interfaces and end.
    Detach {},
}

impl Request {
    /// What a peer must be allowed to, to ask it.
    pub fn needs(&self) -> Rights {
        match self {
            Self::Status {} | Self::Flows { .. } | Self::Traffic {} => Rights::ReadOnly,
            Self::Order { order } if order.is_read_only() => Rights::ReadOnly,
            Self::Order { .. } => Rights::Operate,
            Self::Apply { .. }
            | Self::Reload { .. }
            | Self::Confirm {}
            | Self::Rollback { .. }
            | Self::Detach {} => Rights::Full,
        }
    }

    /// Its name in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status {} => "status",
            Self::Apply { .. } => "apply",
            Self::Reload { .. } => "reload",
            Self::Confirm {} => "confirm",
            Self::Rollback { .. } => "rollback",
            Self::Flows { .. } => "flows",
            Self::Traffic {} => "traffic",
            Self::Order { order } => order.name(),
            Self::Detach {} => "detach",
        }
    }
}

/// What a guarded change may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// End connections that are running.
    CutConnections,
    /// Open what crosses zones.
    WidenZones,
}

fn one() -> u32 {
    1
}

fn default_window() -> u64 {
    DEFAULT_WINDOW
}

/// What the service answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status {
        /// What is in force.
        status: Box<Status>,
    },
    /// To [`Request::Apply`] and [`Request::Reload`]: the policy is in force.
    Applied {
        /// What changed.
        change: Change,
    },
    /// To [`Request::Flows`].
    Flows {
        /// Those that fit.
        flows: FlowList,
    },
    /// To [`Request::Traffic`].
    Traffic {
        /// Everything that was counted.
        traffic: Traffic,
    },
    /// To [`Request::Confirm`].
    Confirmed {
        /// The generation that stays.
        generation: u32,
    },
    /// To [`Order::List`].
    Orders {
        /// What is in force, by kind and number.
        orders: Vec<Standing>,
    },
    /// To [`Order::Look`].
    Found {
        /// What is known.
        found: Box<Found>,
    },
    /// To every other [`Order`]: it is in force.
    Ordered {
        /// What came of it.
        ordered: Ordered,
    },
    /// To [`Request::Detach`]: nothing is enforced any more, and the service ends.
    Detached {
        /// Interfaces that were enforced.
        interfaces: Vec<String>,
        /// Generations whose tables were removed.
        generations: Vec<u32>,
    },
    /// The request was not carried out; what was in force before still is.
    Error {
        /// What kind of error.
        kind: ErrorKind,
        /// What is wrong, for people; several lines for a policy with mistakes.
        message: String,
    },
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// It could not be understood.
    Malformed,
    /// Its peer may not ask this.
    Forbidden,
    /// The service has too many peers at once.
    Busy,
    /// The policy has mistakes.
    Policy,
    /// A commit is refused or held.
    Held,
    /// What was ordered cannot be.
    Refused,
    /// The kernel, or the machine, did not accept it.
    Machine,
}

/// What a policy changed by coming into force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Generation now in force.
    pub generation: u32,
    /// It was in force already: nothing was changed.
    pub unchanged: bool,
    /// SHA-256 of the policy's text.
    pub policy_hash: String,
    /// Milliseconds from reading the text to being in force.
    pub took_ms: u64,
    /// Interfaces that are enforced now and were not before.
    pub attached: Vec<String>,
    /// Interfaces that were enforced before and are not now.
    pub detached: Vec<String>,
    /// Warnings of the check.
    pub warnings: usize,
    /// Seconds within which it must be confirmed; else it goes back by itself.
    #[serde(default)]
    pub confirm_within_s: Option<u64>,
}

#[cfg(test)]
mod tests;
