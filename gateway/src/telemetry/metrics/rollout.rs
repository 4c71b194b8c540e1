//! Where the policy comes from, and what keeps its newest commit out of force.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// What the newest commit of a repository can be found to be.
const STATES: [&str; 5] = ["in-force", "held", "refused", "withdrawn", "unconfirmed"];
/// Why a commit can be kept out of force.
const REASONS: [&str; 13] = [
    "signature",
    "history",
    "mistakes",
    "invariant",
    "tests",
    "too-large",
    "unreadable",
    "cut-connections",
    "widen-zones",
    "withdrawn",
    "unconfirmed",
    "machine",
    "git",
];

/// What is counted about the way of policies into force.
pub struct Rollout {
    fetches: IntCounterVec,
    fetched_at: IntGauge,
    state: IntGaugeVec,
    reason: IntGaugeVec,
    commits: IntCounterVec,
    unwritten: IntCounter,
    waiting: IntGauge,
    went_back: IntCounterVec,
}

impl Rollout {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let rollout = Self {
            fetches: IntCounterVec::new(
                Opts::new("clinigate_repository_fetches_total", "Times that the repository was asked."),
                &["result"],
            )?,
            fetched_at: IntGauge::new(
                "clinigate_repository_last_fetch_timestamp_seconds",
                "When the repository last answered, in Unix time; 0 where it never has.",
            )?,
            state: IntGaugeVec::new(
                Opts::new(
                    "clinigate_repository_commit_state",
                    "1 for what the newest commit of the repository is found to be, 0 for the rest.",
                ),
                &["state"],
            )?,
            reason: IntGaugeVec::new(
                Opts::new(
                    "clinigate_repository_commit_blocked",
                    "1 for each reason that keeps the newest commit of the repository out of force.",
                ),
                &["reason"],
            )?,
            commits: IntCounterVec::new(
                Opts::new(
                    "clinigate_repository_commits_total",
                    "What commits of the repository were found to be, one after the other.",
                ),
                &["state"],
            )?,
            unwritten: IntCounter::new(
                "clinigate_state_write_failures_total",
                "Records for the next boot that could not be written; enforcement went on.",
            )?,
            waiting: IntGauge::new(
                "clinigate_policy_unconfirmed",
                "1 while the policy in force goes back by itself unless somebody confirms it.",
            )?,
            went_back: IntCounterVec::new(
                Opts::new("clinigate_policy_rollbacks_total", "Earlier policies that were put back."),
                &["cause"],
            )?,
        };
        registry.register(Box::new(rollout.fetches.clone()))?;
        registry.register(Box::new(rollout.fetched_at.clone()))?;
        registry.register(Box::new(rollout.state.clone()))?;
        registry.register(Box::new(rollout.reason.clone()))?;
        registry.register(Box::new(rollout.commits.clone()))?;
        registry.register(Box::new(rollout.unwritten.clone()))?;
        registry.register(Box::new(rollout.waiting.clone()))?;
        registry.register(Box::new(rollout.went_back.clone()))?;
        for cause in ["by-hand", "not-confirmed"] {
            rollout.went_back.with_label_values(&[cause]);
        }
        Ok(rollout)
    }

    /// A repository is followed: its series exist from the start, so that an alert sees the first change.
    pub fn follows(&self) {
        for result in ["answered", "failed"] {
            self.fetches.with_label_values(&[result]);
        }
        for state in STATES {
            self.state.with_label_values(&[state]);
            self.commits.with_label_values(&[state]);
        }
        for reason in REASONS {
            self.reason.with_label_values(&[reason]);
        }
    }

    /// The repository was asked.
    pub fn fetched(&self, answered: bool) {
        self.fetches.with_label_values(&[if answered { "answered" } else { "failed" }]).inc();
        if answered {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.fetched_at.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// The newest commit was found to be something else than before, or is another one.
    pub fn concluded(&self, state: &str, reasons: &[String]) {
        for known in STATES {
            self.state.with_label_values(&[known]).set(i64::from(known == state));
        }
        for known in REASONS {
            let holds = reasons.iter().any(|reason| reason == known);
            self.reason.with_label_values(&[known]).set(i64::from(holds));
        }
        if STATES.contains(&state) {
            self.commits.with_label_values(&[state]).inc();
        }
    }

    /// Whether what is in force waits for its confirmation.
    pub fn waits(&self, waits: bool) {
        self.waiting.set(i64::from(waits));
    }

    /// An earlier policy was put back: `by-hand`, or because it was `not-confirmed`.
    pub fn went_back(&self, cause: &str) {
        self.went_back.with_label_values(&[cause]).inc();
    }

    /// Something that the next boot would need could not be written.
    pub fn state_not_written(&self) {
        self.unwritten.inc();
    }
}
