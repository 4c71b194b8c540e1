//! What is in force, in numbers and names: the answer to `clinigate status`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::control::Standing;
use super::repository::Commit;
use super::review::Plan;
pub use super::unconfirmed::Withdrawn;
use crate::duration;
use crate::policy::Labels;

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
    /// The repository that is followed; absent where none is, and where no service runs.
    #[serde(default)]
    pub repository: Option<RepositoryStatus>,
    /// What is in force waits for its confirmation.
    #[serde(default)]
    pub unconfirmed: Option<UnconfirmedStatus>,
    /// A policy that was taken back, and does not come into force again by itself.
    #[serde(default)]
    pub withdrawn: Option<Withdrawn>,
    /// What keeps the policy in force from being held everywhere.
    pub trouble: Vec<String>,
    /// What was ordered over the policy: quarantine, grants, break-glass.
    #[serde(default)]
    pub orders: Vec<Standing>,
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
    /// Labels of this gateway, by which files of a policy are selected.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// A change that goes back unless somebody confirms it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnconfirmedStatus {
    /// The generation in force.
    pub generation: u32,
    /// Commit, where it is known.
    pub commit: Option<String>,
    /// Seconds within which it must be confirmed.
    pub within_s: u64,
    /// When it goes back.
    pub until: u64,
}

/// The repository that is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryStatus {
    /// Where it is, without a password.
    pub url: String,
    /// The branch that is followed.
    pub branch: String,
    /// Directory of the policy in it.
    pub path: String,
    /// Labels of this gateway.
    pub labels: BTreeMap<String, String>,
    /// Only signed commits count.
    pub requires_signature: bool,
    /// Seconds between two looks at it.
    pub interval_s: u64,
    /// When it was last asked.
    pub checked_at: Option<u64>,
    /// When it last answered.
    pub fetched_at: Option<u64>,
    /// Why it did not answer the last time.
    pub fetch_error: Option<String>,
    /// The last commit that was put into force.
    pub accepted: Option<String>,
    /// The newest commit.
    pub head: Option<CommitStatus>,
}

/// A commit, and what it was found to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitStatus {
    /// What it says about itself.
    #[serde(flatten)]
    pub commit: Commit,
    /// What it was found to be.
    pub state: CommitState,
    /// Why it is not in force, in words such as `signature`, `invariant`, `cut-connections`.
    pub reasons: Vec<String>,
    /// The same for people.
    pub message: Option<String>,
    /// Found so since.
    pub since: u64,
    /// What it would change, as far as that was looked at.
    pub plan: Option<Plan>,
}

/// What a commit was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitState {
    /// Its policy is in force.
    InForce,
    /// It does what somebody should first say that it means to do.
    Held,
    /// It cannot be put into force.
    Refused,
    /// It was taken back.
    Withdrawn,
    /// It is in force, and waits for its confirmation.
    Unconfirmed,
}

impl CommitState {
    /// As in JSON and on labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::InForce => "in-force",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
            Self::Unconfirmed => "unconfirmed",
        }
    }
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
    /// How the program at its exit is attached: `tcx`, or `clsact` on kernels without that; absent while none is.
    #[serde(default)]
    pub exit: Option<String>,
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

impl RepositoryStatus {
    fn findings(&self) -> impl Iterator<Item = String> {
        let lost = self
            .fetch_error
            .as_ref()
            .map(|error| format!("the repository cannot be asked, the policy stays as it is: {error}"));
        let head = self
            .head
            .as_ref()
            .filter(|head| !matches!(head.state, CommitState::InForce | CommitState::Unconfirmed))
            .map(|head| {
                let id = head.commit.id.get(..12).unwrap_or(&head.commit.id);
                let why = head.reasons.join(", ");
                format!(
                    "the newest commit, {id}, is not in force, but {} ({why}): see below",
                    head.state.name()
                )
            });
        lost.into_iter().chain(head)
    }
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
            (None, None) => findings.push(
                "no policy is in force; to put one into force: systemctl start clinigate, or clinigate run --policy DIR"
                    .to_owned(),
            ),
            (Some(_), None) => findings.push("no policy is in force".to_owned()),
            (Some(_), Some(_)) => {}
        }
        findings.extend(self.trouble.iter().cloned());
        for order in self.orders.iter().filter(|order| order.kind == "break-glass") {
            let Standing { subject, reason, by, .. } = order;
            findings.push(match order.remaining_s {
                Some(seconds) => format!(
                    "BREAK-GLASS: segment {subject} is open for {} more ({reason}, by {by}); what the policy forbids there \
                     passes; to close it: clinigate break-glass end {subject}",
                    duration::words(Duration::from_secs(seconds))
                ),
                None => format!(
                    "BREAK-GLASS: segment {subject} was open ({reason}, by {by}); review what went through: \
                     clinigate break-glass review {subject} --note WHAT"
                ),
            });
        }
        // The service says why, once it has tried.
        let explained = |name: &str| self.trouble.iter().any(|trouble| trouble.contains(name));
        for InterfaceStatus { name, ifindex, mode, .. } in &self.interfaces {
            if mode.is_none() && !explained(name) {
                let why = if ifindex.is_some() { "nothing is attached" } else { "it does not exist" };
                findings.push(format!("interface {name} is not enforced: {why}"));
            }
        }
        if let Some(unconfirmed) = &self.unconfirmed {
            findings.push(format!(
                "generation {} goes back by itself unless somebody confirms it: `clinigate confirm`",
                unconfirmed.generation
            ));
        }
        if let (Some(withdrawn), None) = (&self.withdrawn, &self.repository) {
            findings.push(format!(
                "a policy was taken back and is not taken up again by a restart: {}",
                withdrawn.why
            ));
        }
        if let Some(repository) = &self.repository {
            findings.extend(repository.findings());
        } else if let Some(LastApply { error: Some(_), source, .. }) = &self.last_apply {
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
        let mut notes = Vec::new();
        if !names.is_empty() {
            notes.push(format!("generic XDP, which is slow, on {}", names.join(", ")));
        }
        let clsact = |interface: &&InterfaceStatus| interface.exit.as_deref() == Some("clsact");
        let names: Vec<&str> = self.interfaces.iter().filter(clsact).map(|it| it.name.as_str()).collect();
        if !names.is_empty() {
            notes.push(format!(
                "the programs at the exits of {} are attached by clsact, as this kernel has no tcx (Linux 6.6): `tc` can take \
                 them off, and the controller puts them back within seconds",
                names.join(", ")
            ));
        }
        for order in &self.orders {
            match &order.vendor {
                Some(vendor) => {
                    notes.push(format!("{vendor} has a grant for {} ({})", order.subject, order.reason));
                }
                None if order.kind == "quarantine" => {
                    notes.push(format!("{} is in quarantine ({})", order.subject, order.reason));
                }
                None => {}
            }
        }
        notes
    }
}
