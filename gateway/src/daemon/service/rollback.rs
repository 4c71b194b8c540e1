//! Back to what was in force before: because somebody asks, or because nobody confirmed a change.

use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::super::control::Change;
use super::super::history::{self, Cause, Confirmation, Confirmed, Generation};
use super::super::last_good::{self, Kept};
use super::super::prepare::{Prepared, Text};
use super::super::standby;
use super::super::status::UnconfirmedStatus;
use super::super::unconfirmed::{Unconfirmed, Withdrawn};
use super::error::{ChangeError, Obstacle, chain};
use super::{How, Service, lock, milliseconds, unix_now};
use crate::dataplane;
use crate::policy::Selection;

impl Service {
    /// A change that waits for its confirmation stays.
    pub(in crate::daemon) fn confirm(&self) -> Result<u32, ChangeError> {
        let _turn = lock(&self.changing);
        let generation = self.in_force_now()?;
        if lock(&self.memory).unconfirmed.is_none() {
            return Err(Obstacle::NothingToConfirm.into());
        }
        let state = &self.settings.dataplane.state_dir;
        // From here on a boot takes it; what is left over is cleared away at the next start.
        last_good::promote(state).map_err(|source| Obstacle::NotKept { source })?;
        self.forget_unconfirmed();
        self.note(generation, Confirmed::Confirmed);
        // Its commit is accepted when the repository is next looked at: that lock is not taken under this one.
        if let Some(following) = &self.following {
            following.unsettle();
        }
        info!(generation, "the change was confirmed and stays");
        Ok(generation)
    }

    /// Puts an earlier policy into force: that of a generation, or the one so many changes back.
    pub(in crate::daemon) fn rollback(
        &self,
        back: u32,
        generation: Option<u32>,
    ) -> Result<Change, ChangeError> {
        let _turn = lock(&self.changing);
        let begun = Instant::now();
        let is_unconfirmed = lock(&self.memory).unconfirmed.is_some();
        let result = if is_unconfirmed && generation.is_none() && back == 1 {
            self.go_back("somebody took it back before it was confirmed", Cause::Rollback)
        } else {
            self.roll_back(back, generation, begun)
        };
        if let Some(following) = &self.following {
            following.unsettle();
        }
        self.remember(&self.settings.source.name(), begun, &result);
        result
    }

    fn roll_back(&self, back: u32, generation: Option<u32>, begun: Instant) -> Result<Change, ChangeError> {
        let state = &self.settings.dataplane.state_dir;
        let current = self.in_force_now()?;
        let past = history::generations(state);
        let target = match generation {
            Some(number) => past.iter().find(|it| it.generation == number),
            None => history::back(&past, current, back as usize),
        };
        let target = target.ok_or(Obstacle::NoSuchGeneration)?;
        let prepared = self.kept_text(&past, target)?;
        if lock(&self.memory).unconfirmed.is_some() {
            self.forget_unconfirmed();
            self.note(current, Confirmed::WentBack);
        }
        self.withdraw(&format!("generation {} was put back in its place", target.generation))?;
        let how = How { restores: Some(target.generation), ..How::of(Cause::Rollback) };
        let change = self.put_prepared(prepared, begun, how)?;
        self.metrics.rollout.went_back("by-hand");
        warn!(generation = change.generation, restores = target.generation, "an earlier policy was put back");
        Ok(change)
    }

    fn kept_text(&self, past: &[Generation], target: &Generation) -> Result<Prepared, ChangeError> {
        // Of many generations with the same text the latest have it still.
        let same = past.iter().rev().filter(|it| it.policy_hash == target.policy_hash);
        let mut texts = same.map(|it| history::text(&self.settings.dataplane.state_dir, it.generation));
        let directory = texts.find(|directory| directory.is_dir()).ok_or(Obstacle::NoSuchGeneration)?;
        let text = Text::read(&directory, &Selection::Everything)?;
        let Generation { source, commit, about, .. } = target.clone();
        let text = Text { source: source.into(), commit, about, ..text };
        Ok(self.prepare(text, dataplane::local_addresses()?)?)
    }

    /// Goes back where the time for a confirmation is over. Called at every reconciliation.
    pub(super) fn check_deadline(&self) {
        let is_over = lock(&self.memory).unconfirmed.as_ref().is_some_and(|it| it.remaining().is_none());
        if is_over {
            let begun = Instant::now();
            let result = self.go_back("nobody confirmed it in time", Cause::NotConfirmed);
            if let Some(following) = &self.following {
                following.unsettle();
            }
            // It is tried again every few seconds, and told where something else is in the way.
            let why = result.as_ref().err().map(|error| chain(error));
            let told = lock(&self.memory).last_apply.as_ref().and_then(|last| last.error.clone());
            if why.is_none() || why != told {
                self.remember(&self.settings.source.name(), begun, &result);
            }
        }
    }

    /// Takes an unconfirmed change back: the last good policy comes into force.
    fn go_back(&self, why: &str, cause: Cause) -> Result<Change, ChangeError> {
        let begun = Instant::now();
        let generation = self.in_force_now()?;
        let state = &self.settings.dataplane.state_dir;
        let kept = last_good::origin(state).ok_or(Obstacle::NoSuchGeneration)?;
        let prepared = self.last_good(kept.source, kept.commit)?;
        self.withdraw(why)?;
        let past = history::generations(state);
        let restores = history::back(&past, generation, 1)
            .filter(|it| it.policy_hash == kept.policy_hash)
            .map(|it| it.generation);
        let change = self.put_prepared(prepared, begun, How { restores, ..How::of(cause) })?;
        self.forget_unconfirmed();
        self.note(generation, Confirmed::WentBack);
        let word = if cause == Cause::NotConfirmed { "not-confirmed" } else { "by-hand" };
        self.metrics.rollout.went_back(word);
        warn!(
            generation = change.generation,
            took_back = generation,
            "the policy before was put back: {why}"
        );
        Ok(change)
    }

    /// Writes down what must be known after a crash, before a change that must be confirmed is made.
    pub(super) fn arm(&self, prepared: &Prepared, within: Duration) -> Result<Unconfirmed, ChangeError> {
        let state = &self.settings.dataplane.state_dir;
        let active = self.with_dataplane(|dataplane| dataplane.active().cloned())?;
        let kept = last_good::origin(state);
        let is_kept =
            active.zip(kept).is_some_and(|(active, kept)| active.record.policy_hash == kept.policy_hash);
        if !is_kept {
            return Err(Obstacle::NothingToGoBackTo.into());
        }
        let hash = prepared.image.manifest.hash.clone();
        let change = Unconfirmed::new(hash, prepared.text.commit.clone(), within);
        let written = last_good::keep(state, Kept::Unconfirmed, &prepared.text.files, &prepared.origin())
            .and_then(|()| change.write(state));
        written.map_err(|source| Obstacle::NotKept { source })?;
        Ok(change)
    }

    /// Takes back what a service left unconfirmed that is no more.
    pub(in crate::daemon) fn resume_alone(&self) -> Result<(), ChangeError> {
        let _turn = lock(&self.changing);
        self.resume().map(drop)
    }

    /// Takes up what an earlier service left unconfirmed; whether that is in force.
    pub(super) fn resume(&self) -> Result<bool, ChangeError> {
        let state = &self.settings.dataplane.state_dir;
        let Some(change) = Unconfirmed::read(state) else { return Ok(false) };
        let active = self.with_dataplane(|dataplane| dataplane.active().cloned())?;
        let is_confirmed =
            last_good::origin(state).is_some_and(|kept| kept.policy_hash == change.policy_hash);
        let is_in_force =
            active.as_ref().is_some_and(|active| active.record.policy_hash == change.policy_hash);
        if is_confirmed || (!is_in_force && change.remaining().is_some()) {
            // The crash came after the confirmation, or before the change was in force, or after it went back.
            self.forget_unconfirmed();
            return Ok(false);
        }
        if !is_in_force {
            self.write(&Withdrawn {
                policy_hash: change.policy_hash,
                commit: change.commit,
                at: unix_now(),
                why: "the machine was started anew before it was confirmed".to_owned(),
            });
            self.forget_unconfirmed();
            return Ok(false);
        }
        let directory = last_good::directory(state, Kept::Unconfirmed);
        if let (Some(active), Ok(text)) = (active, Text::read(&directory, &Selection::Everything)) {
            let text = Text { source: active.record.source.into(), commit: active.record.commit, ..text };
            if let Ok(prepared) = self.prepare(text, dataplane::local_addresses().unwrap_or_default()) {
                self.hold_found(prepared);
            }
        }
        info!(hash = change.policy_hash, "found a change in force that waits for its confirmation");
        self.metrics.rollout.waits(true);
        if change.remaining().is_some() {
            standby::start(&self.settings.dataplane);
        }
        lock(&self.memory).unconfirmed = Some(change);
        self.check_deadline();
        Ok(true)
    }

    /// The policy in force does not come back by itself.
    pub(super) fn withdraw(&self, why: &str) -> Result<(), ChangeError> {
        let Some(active) = self.with_dataplane(|dataplane| dataplane.active().cloned())? else {
            return Ok(());
        };
        let (policy_hash, commit) = (active.record.policy_hash, active.record.commit);
        self.write(&Withdrawn { policy_hash, commit, at: unix_now(), why: why.to_owned() });
        Ok(())
    }

    /// Going back must not fail for want of room on the disk.
    fn write(&self, withdrawn: &Withdrawn) {
        if let Err(error) = withdrawn.write(&self.settings.dataplane.state_dir) {
            self.metrics.rollout.state_not_written();
            error!(%error, "cannot write down which policy was taken back: a restart may take it up again");
        }
    }

    /// Whether this policy was taken back, and why.
    pub(super) fn withdrawn(&self, hash: &str) -> Option<Withdrawn> {
        Withdrawn::read(&self.settings.dataplane.state_dir).filter(|it| it.policy_hash == hash)
    }

    /// Another policy came into force: what was taken back before may come again.
    pub(super) fn readmit(&self) {
        if let Err(error) = Withdrawn::remove(&self.settings.dataplane.state_dir) {
            error!(%error, "cannot forget which policy was taken back");
        }
    }

    pub(super) fn forget_unconfirmed(&self) {
        let state = &self.settings.dataplane.state_dir;
        lock(&self.memory).unconfirmed = None;
        self.metrics.rollout.waits(false);
        for result in [Unconfirmed::remove(state), last_good::remove(state, Kept::Unconfirmed)] {
            if let Err(error) = result {
                error!(%error, "cannot clear away what was written about an unconfirmed change");
            }
        }
    }

    fn note(&self, generation: u32, result: Confirmed) {
        let amended = history::amend(&self.settings.dataplane.state_dir, generation, |record| {
            let within_s = record.confirmation.as_ref().map_or(0, |it| it.within_s);
            record.confirmation = Some(Confirmation { within_s, result, at: Some(unix_now()) });
        });
        if let Err(error) = amended {
            self.metrics.rollout.state_not_written();
            error!(%error, generation, "cannot write the record of a generation");
        }
    }

    fn in_force_now(&self) -> Result<u32, ChangeError> {
        let active = self.with_dataplane(|dataplane| dataplane.active().map(|active| active.generation))?;
        Ok(active.ok_or(Obstacle::NoSuchGeneration)?)
    }

    pub(super) fn unconfirmed_status(&self, generation: Option<u32>) -> Option<UnconfirmedStatus> {
        let change = lock(&self.memory).unconfirmed.clone()?;
        let remaining = milliseconds(change.remaining().unwrap_or_default());
        Some(UnconfirmedStatus {
            generation: generation.unwrap_or_default(),
            commit: change.commit,
            within_s: change.within_s,
            until: unix_now() + remaining,
        })
    }

    pub(super) fn withdrawn_status(&self) -> Option<Withdrawn> {
        Withdrawn::read(&self.settings.dataplane.state_dir)
    }
}
