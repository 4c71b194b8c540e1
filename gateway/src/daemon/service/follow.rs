//! The repository followed: fetched, and its newest commit considered.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::super::control::Change;
use super::super::history::Cause;
use super::super::prepare::{Prepared, Text};
use super::super::repository::{self, Allowed, Commit, Descent, GitError, Mirror, Trailers};
use super::super::review::Plan;
use super::super::status::{CommitState, CommitStatus, RepositoryStatus};
use super::error::{ChangeError, Obstacle, chain};
use super::{How, Service, lock, unix_now};
use crate::dataplane;
use crate::policy::{Labels, Selection};

/// The repository, and what is known about it.
pub(in crate::daemon) struct Following {
    settings: repository::Settings,
    /// Held while git works for us, which may take minutes; nothing else waits for it.
    mirror: Mutex<Mirror>,
    known: Mutex<Known>,
}

/// What is known about the repository.
#[derive(Debug)]
struct Known {
    status: RepositoryStatus,
    /// The newest commit has been considered, and would be found no different.
    settled: bool,
}

/// What somebody says who asks for the newest commit by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Wish {
    /// What it may do besides what its trailers say.
    pub(in crate::daemon) allowed: Allowed,
    /// It may come from elsewhere than from the last accepted commit.
    pub(in crate::daemon) rewritten: bool,
    /// Also where it was taken back.
    pub(in crate::daemon) by_hand: bool,
    /// Within which time it must be confirmed.
    pub(in crate::daemon) confirm_within: Option<Duration>,
}

impl Following {
    pub(in crate::daemon) fn open(
        settings: &repository::Settings,
        selection: &Selection,
        state: &std::path::Path,
    ) -> Result<Self, GitError> {
        let mirror = Mirror::open(settings, state)?;
        let labels = match selection {
            Selection::For(labels) => labels.clone(),
            Selection::Everything => Labels::new(),
        };
        let status = RepositoryStatus {
            url: settings.location.to_string(),
            branch: settings.reference.to_string(),
            path: settings.path.as_str().to_owned(),
            labels,
            requires_signature: settings.require_signature,
            interval_s: settings.interval.as_secs(),
            accepted: mirror.accepted(),
            ..RepositoryStatus::default()
        };
        let known = Mutex::new(Known { status, settled: false });
        Ok(Self { settings: settings.clone(), mirror: Mutex::new(mirror), known })
    }

    /// The newest commit is looked at again.
    pub(super) fn unsettle(&self) {
        lock(&self.known).settled = false;
    }

    /// Where the status is written.
    pub(super) fn status_file(&self) -> Option<&std::path::Path> {
        self.settings.status_file.as_deref()
    }

    /// Command that is told of every outcome.
    pub(super) fn hook(&self) -> Option<&std::path::Path> {
        self.settings.hook.as_deref()
    }

    pub(super) fn status(&self) -> RepositoryStatus {
        lock(&self.known).status.clone()
    }
}

impl Service {
    /// Asks the repository, and puts its newest commit into force, unless something is in the way.
    pub(in crate::daemon) fn poll(&self) {
        let Some(following) = &self.following else { return };
        let mirror = lock(&following.mirror);
        self.fetch(following, &mirror);
        let Some(head) = mirror.head() else { return };
        let is_settled = {
            let known = lock(&following.known);
            known.settled && known.status.head.as_ref().is_some_and(|known| known.commit.id == head)
        };
        if !is_settled {
            // Whatever comes of it is remembered, logged and counted.
            let _ = self.consider(following, &mirror, &head, Wish::default());
        }
    }

    /// Asks the repository on request: what was taken back or is held is looked at again.
    pub(super) fn follow(&self, following: &Following, wish: Wish) -> Result<Change, ChangeError> {
        let mirror = lock(&following.mirror);
        self.fetch(following, &mirror);
        let Some(head) = mirror.head() else {
            let why = lock(&following.known).status.fetch_error.clone();
            return Err(Obstacle::Unreached(why.unwrap_or_default()).into());
        };
        self.consider(following, &mirror, &head, wish)
    }

    fn fetch(&self, following: &Following, mirror: &Mirror) {
        let fetched = mirror.fetch();
        let mut known = lock(&following.known);
        known.status.checked_at = Some(unix_now());
        let before = known.status.fetch_error.take();
        match fetched {
            Ok(()) => {
                known.status.fetched_at = known.status.checked_at;
                self.metrics.rollout.fetched(true);
                if before.is_some() {
                    info!(repository = %following.settings.location, "the repository answers again");
                }
            }
            Err(error) => {
                let error = chain(&error);
                self.metrics.rollout.fetched(false);
                if before.as_ref() != Some(&error) {
                    warn!(
                        repository = %following.settings.location,
                        "the repository cannot be asked, the policy stays as it is: {error}"
                    );
                }
                known.status.fetch_error = Some(error);
            }
        }
    }

    fn consider(
        &self,
        following: &Following,
        mirror: &Mirror,
        head: &str,
        wish: Wish,
    ) -> Result<Change, ChangeError> {
        let begun = Instant::now();
        let about =
            mirror.about(head).unwrap_or_else(|_| Commit { id: head.to_owned(), ..Commit::default() });
        let mut view = View { about, plan: None };
        let result = self.try_commit(following, mirror, &mut view, wish, begun);
        let new = CommitStatus {
            commit: view.about,
            state: match &result {
                Ok(_) if lock(&self.memory).unconfirmed.is_some() => CommitState::Unconfirmed,
                Ok(_) => CommitState::InForce,
                Err(error) => error.state(),
            },
            reasons: result.as_ref().err().map(ChangeError::reasons).unwrap_or_default(),
            message: result.as_ref().err().map(|error| repository::lines(&chain(error), 4000)),
            since: unix_now(),
            plan: view.plan,
        };
        let mut known = lock(&following.known);
        known.settled = match &result {
            Ok(_) => new.state == CommitState::InForce,
            Err(error) => error.is_final(),
        };
        known.status.accepted = mirror.accepted();
        let is_news = known.status.head.as_ref().is_none_or(|old| {
            (&old.commit.id, old.state, &old.reasons) != (&new.commit.id, new.state, &new.reasons)
        });
        if is_news {
            self.metrics.rollout.concluded(new.state.name(), &new.reasons);
            match &result {
                Ok(_) => info!(commit = head, subject = new.commit.subject, "the newest commit is in force"),
                Err(refused) => error!(
                    commit = head,
                    state = new.state.name(),
                    reasons = new.reasons.join(" "),
                    author = new.commit.author,
                    "the newest commit is not put into force; what was in force stays: {}",
                    chain(refused)
                ),
            }
            known.status.head = Some(new);
        } else if let Some(head) = &mut known.status.head {
            // The numbers in it may have changed.
            (head.message, head.plan) = (new.message, new.plan);
        }
        drop(known);
        let was_changed = result.as_ref().is_ok_and(|change| !change.unchanged);
        if is_news || was_changed {
            self.remember(&following.settings.name(), begun, &result);
            self.announce(following);
        }
        result
    }

    fn try_commit(
        &self,
        following: &Following,
        mirror: &Mirror,
        view: &mut View,
        wish: Wish,
        begun: Instant,
    ) -> Result<Change, ChangeError> {
        let settings = &following.settings;
        let head = view.about.id.clone();
        if settings.require_signature {
            view.about.signer = Some(mirror.verify(&head).map_err(Obstacle::from)?);
        }
        let git = |error: GitError| ChangeError::from(Obstacle::Git(error));
        if !wish.rewritten && mirror.descent(&head).map_err(git)? == Descent::Elsewhere {
            let accepted = mirror.accepted().unwrap_or_default();
            return Err(Obstacle::Rewritten { accepted }.into());
        }
        let trailers = mirror.trailers(&head).map_err(git)?;
        let blobs = mirror.read(&head).map_err(git)?;
        let text = Text::of_commit(settings.name(), view.about.clone(), blobs, &self.settings.selection)?;
        let prepared = self.prepare(text, dataplane::local_addresses()?)?;
        prepared.prove()?;
        prepared.test()?;

        let _turn = lock(&self.changing);
        let prepared = self.with_latest_orders(prepared)?;
        let change = self.put_commit(prepared, &trailers, wish, view, begun)?;
        if lock(&self.memory).unconfirmed.is_none()
            && let Err(error) = mirror.accept(&head)
        {
            self.metrics.rollout.state_not_written();
            error!(
                "the commit is in force, and cannot be remembered as the last accepted one: {}",
                chain(&error)
            );
        }
        Ok(change)
    }

    fn put_commit(
        &self,
        prepared: Prepared,
        trailers: &Trailers,
        wish: Wish,
        view: &mut View,
        begun: Instant,
    ) -> Result<Change, ChangeError> {
        if let Some(unchanged) = self.unchanged(&prepared, begun)? {
            self.hold_found(prepared);
            return Ok(unchanged);
        }
        self.is_free_to_change()?;
        if let Some(withdrawn) = self.withdrawn(&prepared.text.policy.hash).filter(|_| !wish.by_hand) {
            return Err(Obstacle::Withdrawn { why: withdrawn.why }.into());
        }
        if self.with_dataplane(|dataplane| dataplane.active().is_some())? {
            let old = lock(&self.memory).in_force.as_ref().map(|in_force| in_force.text.policy.clone());
            let plan = old.map_or_else(Plan::blind, |old| {
                Plan::of(&self.settings.dataplane, &old, &prepared.text.policy)
            });
            let held = plan.held(trailers.allowed.or(wish.allowed));
            view.plan = Some(plan);
            if let Some(held) = held {
                return Err(Obstacle::Held { held, unknown: trailers.unknown.clone() }.into());
            }
        }
        let settings = self.following.as_ref().and_then(|following| following.settings.confirm_within);
        // Where nothing is in force there is nothing to go back to.
        let confirm_within = wish.confirm_within.or(trailers.confirm_within).or(settings);
        let confirm_within = confirm_within.filter(|_| view.plan.is_some());
        let how = How { confirm_within, plan: view.plan.clone(), ..How::of(Cause::Commit) };
        let change = self.put_prepared(prepared, begun, how)?;
        self.readmit();
        Ok(change)
    }
}

/// What came to light about a commit while it was considered.
struct View {
    about: Commit,
    plan: Option<Plan>,
}
