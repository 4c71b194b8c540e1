//! What is in force, in numbers and names: the answer to `clinigate status`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The gateway at one moment. Times are milliseconds since 1970 (Unix time).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The running service; absent where the programs enforce on their own.
    pub service: Option<ServiceStatus>,
    /// The policy in force; absent where none is.
    pub policy: Option<PolicyStatus>,
    /// Interfaces that the policy names.
    pub interfaces: Vec<InterfaceStatus>,
    /// The connection table.
    pub connections: ConnectionStatus,
    /// What was decided since the shared maps were made.
    pub traffic: TrafficStatus,
    /// Reports of single packets.
    pub events: EventStatus,
    /// The last policy that was asked for; absent where no service is there to be asked.
    pub last_apply: Option<LastApply>,
    /// What keeps the policy in force from being held everywhere.
    pub trouble: Vec<String>,
}

/// The running service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Process.
    pub pid: u32,
    /// Version of the binary.
    pub version: String,
    /// Running since.
    pub since: u64,
    /// Directory that a reload reads.
    pub policy_dir: PathBuf,
    /// Where `/metrics` and `/healthz` are served.
    pub metrics: SocketAddr,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Number of the generation.
    pub generation: u32,
    /// SHA-256 of the text, in hexadecimal.
    pub hash: String,
    /// Commit that the text came from; ends with `+changes` where files differ from it.
    pub commit: Option<String>,
    /// Directory that the text came from.
    pub source: String,
    /// Its files, relative to the directory.
    pub files: Vec<String>,
    /// In force since.
    pub applied_at: u64,
    /// Milliseconds from reading the text to being in force.
    pub took_ms: u64,
    /// Segments, built-in ones included, by mode.
    pub segments: BTreeMap<String, usize>,
    /// Rules, by kind.
    pub rules: BTreeMap<String, usize>,
    /// Sizes of the tables.
    pub tables: BTreeMap<String, u64>,
    /// Bytes of all tables together.
    pub table_bytes: u64,
}

/// An interface that the policy names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Name in the kernel.
    pub name: String,
    /// Index; absent while the interface is missing.
    pub ifindex: Option<u32>,
    /// `native` or `generic`; absent while nothing is attached.
    pub mode: Option<String>,
    /// Driver, where the kernel says.
    pub driver: Option<String>,
    /// Attached since, where known.
    pub since: Option<u64>,
    /// Carries tagged frames.
    pub trunk: bool,
    /// Names of the segments that arrive on it.
    pub segments: Vec<String>,
}

/// The connection table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Live connections.
    pub live: u64,
    /// Connections that it holds at most.
    pub capacity: u64,
    /// Live ones by state.
    pub by_state: BTreeMap<String, u64>,
    /// Refused for want of room.
    pub refused: u64,
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficStatus {
    /// Packets by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// What did not pass by the policy, by verdict and reason, the most frequent first.
    pub reasons: Vec<ReasonCount>,
}

/// How often something did not pass by the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// `drop`, `audit` or `observe`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// Reports of single packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventStatus {
    /// Read by this service.
    pub read: u64,
    /// Of these, not listed in the blocked-flow log.
    pub unlisted: u64,
    /// Lost because the ring was full.
    pub lost: u64,
    /// Held back by the limit on their rate.
    pub suppressed: u64,
}

/// The last policy that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastApply {
    /// When.
    pub at: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Directory.
    pub source: PathBuf,
    /// Why it was refused; absent where it is in force.
    pub error: Option<String>,
}

impl Status {
    /// What somebody should look at now, one sentence each: a reason for exit code 1.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        match (&self.service, &self.policy) {
            (None, Some(_)) => findings.push(
                "the controller is not running; the policy goes on being enforced, but changes, metrics and the \
                 log of blocked flows wait for it"
                    .to_owned(),
            ),
            (_, None) => findings.push("no policy is in force".to_owned()),
            (Some(_), Some(_)) => {}
        }
        findings.extend(self.trouble.iter().cloned());
        // The service says why, once it has tried.
        let explained = |name: &str| self.trouble.iter().any(|trouble| trouble.contains(name));
        for InterfaceStatus { name, ifindex, mode, .. } in &self.interfaces {
            if mode.is_none() && !explained(name) {
                let why = if ifindex.is_some() { "nothing is attached" } else { "it does not exist" };
                findings.push(format!("interface {name} is not enforced: {why}"));
            }
        }
        if let Some(LastApply { error: Some(_), source, .. }) = &self.last_apply {
            findings.push(format!("the last change, from {}, was refused: see below", source.display()));
        }
        if self.connections.capacity > 0 && self.connections.live * 10 > self.connections.capacity * 9 {
            findings.push(
                "the connection table is nearly full; raise `connections` in the policy's settings"
                    .to_owned(),
            );
        }
        findings
    }

    /// What is worth knowing, and wrong for nobody.
    pub fn notes(&self) -> Vec<String> {
        let generic = |interface: &&InterfaceStatus| interface.mode.as_deref() == Some("generic");
        let names: Vec<&str> = self.interfaces.iter().filter(generic).map(|it| it.name.as_str()).collect();
        if names.is_empty() {
            return Vec::new();
        }
        vec![format!("generic XDP, which is slow, on {}", names.join(", "))]
    }
}
