//! Why a change was refused, and how that is said.

use super::super::control::ErrorKind;
use super::super::prepare::PrepareError;
use super::super::repository::{GitError, Unverified};
use super::super::review::Held;
use super::super::status::CommitState;
use crate::dataplane::DataplaneError;

/// Why a change was refused.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The policy has mistakes, or does not fit.
    #[error(transparent)]
    Policy(#[from] PrepareError),
    /// The kernel or the machine refuses it.
    #[error(transparent)]
    Machine(#[from] DataplaneError),
    /// A commit is not put into force.
    #[error(transparent)]
    Commit(#[from] Obstacle),
    /// Something was ordered that cannot be.
    #[error("{0}")]
    Order(String),
    /// The policy was taken off.
    #[error("the service has been detached and is ending")]
    Detached,
}

/// What keeps a commit out of force, besides its policy.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// There is none.
    #[error("the repository has not been reached yet: {0}")]
    Unreached(String),
    /// Nobody who may has signed it.
    #[error("the commit is refused: {0}")]
    Unverified(#[from] Unverified),
    /// It does not descend from the last one that was accepted.
    #[error(
        "the commit is refused: it does not come after {accepted}, the last accepted one; history was rewritten, or \
         an old commit was put back"
    )]
    Rewritten {
        /// The last accepted commit.
        accepted: String,
    },
    /// It does what it does not say that it means to do.
    #[error("the commit is held: {held}. {}", self.way_out())]
    Held {
        /// What it does.
        held: Held,
        /// Words of its trailers that nothing is known about.
        unknown: Vec<String>,
    },
    /// It was in force, and was taken back.
    #[error(
        "this policy was taken back, and does not come into force again by itself: {why}. `clinigate apply` asks for it by hand"
    )]
    Withdrawn {
        /// Why.
        why: String,
    },
    /// What is in force waits for its confirmation.
    #[error("a change waits for its confirmation: `clinigate confirm` or `clinigate rollback` first")]
    Unconfirmed,
    /// Nothing waits for a confirmation.
    #[error(
        "no change waits for a confirmation: none was made with --confirm-within, or it has gone back by now"
    )]
    NothingToConfirm,
    /// A change that must be confirmed has nothing to go back to.
    #[error(
        "there is no copy of the policy in force that an unconfirmed change could go back to: apply it once without"
    )]
    NothingToGoBackTo,
    /// What must outlive a crash cannot be written.
    #[error("cannot write what must outlive a crash")]
    NotKept {
        /// Why.
        source: std::io::Error,
    },
    /// There is no such generation, or its text is not kept any more.
    #[error(
        "there is no such generation to go back to: see `clinigate generations` (orders and restarts make generations of \
         the same policy; going back is to another one)"
    )]
    NoSuchGeneration,
    /// What is allowed to commits means nothing for a directory.
    #[error("no repository is followed here: --allow and --accept-rewritten are about its commits")]
    NoRepository,
    /// git.
    #[error(transparent)]
    Git(GitError),
}

impl Obstacle {
    fn way_out(&self) -> String {
        let Self::Held { held, unknown } = self else { return String::new() };
        let missing = held.missing().join(", ");
        let unknown = match unknown.as_slice() {
            [] => String::new(),
            words => format!(" (its trailers have words that mean nothing: {})", words.join(", ")),
        };
        let wait = if held.widens.is_none() { "; else it waits until nothing would be cut" } else { "" };
        format!(
            "If that is meant, say so in a trailer of the commit, `Clinigate-Allow: {missing}`, or ask for \
             `clinigate apply --allow {missing}`{wait}{unknown}"
        )
    }
}

impl ChangeError {
    /// What a commit is found to be.
    pub(in crate::daemon) fn state(&self) -> CommitState {
        match self {
            Self::Commit(Obstacle::Held { .. } | Obstacle::Unconfirmed) => CommitState::Held,
            Self::Commit(Obstacle::Withdrawn { .. }) => CommitState::Withdrawn,
            _ => CommitState::Refused,
        }
    }

    /// Why, in words for metrics.
    pub(in crate::daemon) fn reasons(&self) -> Vec<String> {
        let reason = match self {
            Self::Policy(error) => error.reason(),
            Self::Machine(_)
            | Self::Detached
            | Self::Commit(
                Obstacle::NothingToConfirm
                | Obstacle::NothingToGoBackTo
                | Obstacle::NoSuchGeneration
                | Obstacle::NoRepository
                | Obstacle::NotKept { .. },
            ) => "machine",
            Self::Commit(Obstacle::Held { held, .. }) => {
                return held.missing().into_iter().map(str::to_owned).collect();
            }
            Self::Commit(
                Obstacle::Unverified(Unverified::Git(_)) | Obstacle::Git(_) | Obstacle::Unreached(_),
            ) => "git",
            Self::Commit(Obstacle::Unverified(_)) => "signature",
            Self::Commit(Obstacle::Rewritten { .. }) => "history",
            Self::Commit(Obstacle::Withdrawn { .. }) => "withdrawn",
            Self::Commit(Obstacle::Unconfirmed) => "unconfirmed",
            Self::Order(_) => "order",
        };
        vec![reason.to_owned()]
    }

    /// Whether another look at the same commit would find the same.
    pub(in crate::daemon) fn is_final(&self) -> bool {
        match self {
            // The keys may have been added, the connections may end, the machine may come to itself.
            Self::Policy(PrepareError::Unreadable(_)) | Self::Machine(_) | Self::Commit(_) => false,
            Self::Policy(_) | Self::Detached | Self::Order(_) => true,
        }
    }

    pub(in crate::daemon) fn kind(&self) -> ErrorKind {
        match self {
            // Nothing is known about a policy that cannot be read.
            Self::Policy(PrepareError::Unreadable(_)) | Self::Machine(_) | Self::Detached => {
                ErrorKind::Machine
            }
            Self::Policy(_) => ErrorKind::Policy,
            Self::Commit(
                Obstacle::Unreached(_)
                | Obstacle::Git(_)
                | Obstacle::Unverified(Unverified::Git(_))
                | Obstacle::NothingToConfirm
                | Obstacle::NothingToGoBackTo
                | Obstacle::NoSuchGeneration
                | Obstacle::NoRepository
                | Obstacle::NotKept { .. },
            ) => ErrorKind::Machine,
            Self::Commit(_) => ErrorKind::Held,
            Self::Order(_) => ErrorKind::Refused,
        }
    }

    /// In one line, for somebody who has each mistake before his eyes already.
    pub(in crate::daemon) fn brief(&self) -> String {
        match self {
            Self::Policy(error) => error.brief(),
            other => chain(other),
        }
    }
}

/// An error and its causes, in one line.
pub(in crate::daemon) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
