//! Policies into force: asked for, found in force, fallen back to.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{error, info, warn};

use super::super::control::Change;
use super::super::history::{self, Cause, Confirmation, Confirmed, Generation};
use super::super::last_good::{self, Kept};
use super::super::prepare::{PrepareError, Prepared, Text};
use super::super::repository::Allowed;
use super::super::review::Plan;
use super::super::status::LastApply;
use super::super::{binary, clock, standby};
use super::error::{ChangeError, Obstacle, chain};
use super::follow::Wish;
use super::{How, Service, lock, milliseconds, unix_now};
use crate::dataplane::{self, Active, Reconciled, Record};
use crate::policy::Selection;

impl Service {
    /// Puts the policy of a directory into force, unless it is in force already. On an error,
    /// what was in force still is.
    pub(in crate::daemon) fn apply(
        &self,
        directory: &Path,
        confirm_within: Option<Duration>,
    ) -> Result<Change, ChangeError> {
        let _turn = lock(&self.changing);
        let begun = Instant::now();
        let how = How { confirm_within, ..How::of(Cause::Apply) };
        let text = Text::read(directory, &self.settings.selection).map_err(ChangeError::from);
        let result = text.and_then(|text| {
            // By hand beside a repository: its newest commit does not come back by itself.
            let beside = self.following.is_some() && !self.is_active(&text.policy.hash)?;
            if beside && lock(&self.memory).unconfirmed.is_none() {
                self.withdraw(&format!("{} was applied by hand", directory.display()))?;
            }
            self.put(text, begun, how)
        });
        self.remember(directory, begun, &result);
        match (&result, &self.following) {
            (Ok(_), None) => directory.clone_into(&mut lock(&self.memory).directory),
            (_, Some(following)) => following.unsettle(),
            (Err(_), None) => {}
        }
        result
    }

    fn is_active(&self, hash: &str) -> Result<bool, ChangeError> {
        self.with_dataplane(|dataplane| {
            dataplane.active().is_some_and(|active| active.record.policy_hash == hash)
        })
    }

    /// Reads the policy in force again from its directory, or asks the repository.
    pub(in crate::daemon) fn reload(&self, wish: Wish) -> Result<Change, ChangeError> {
        if let Some(following) = &self.following {
            return self.follow(following, wish);
        }
        if wish.allowed != Allowed::default() || wish.rewritten {
            return Err(Obstacle::NoRepository.into());
        }
        let directory = lock(&self.memory).directory.clone();
        self.apply(&directory, wish.confirm_within)
    }

    /// The first policy of this run, where a repository is followed: what is found in force stays; after a
    /// reboot the last good one is taken, whether the repository answers or not. Only where there is neither,
    /// the repository is waited for.
    pub(in crate::daemon) fn start_following(&self) -> Result<(), ChangeError> {
        self.metrics.rollout.follows();
        let begun = Instant::now();
        let state = &self.settings.dataplane.state_dir;
        {
            let _turn = lock(&self.changing);
            if self.resume()? {
                return Ok(());
            }
        }
        let adopted = self.with_dataplane(|dataplane| dataplane.active().cloned())?;
        if let Some(kept) = last_good::origin(state) {
            let _turn = lock(&self.changing);
            let is_in_force =
                adopted.as_ref().is_some_and(|active| active.record.policy_hash == kept.policy_hash);
            let result = match self.last_good(kept.source, kept.commit).map_err(ChangeError::from) {
                // What was put into force and not kept is left to the repository.
                _ if adopted.is_some() && !is_in_force => return Ok(()),
                Ok(prepared) => match self.unchanged(&prepared, begun)? {
                    Some(change) => {
                        self.hold_found(prepared);
                        Ok(change)
                    }
                    None => self.put_prepared(prepared, begun, How::of(Cause::Start)),
                },
                Err(error) => Err(error),
            };
            match result {
                Ok(change) => {
                    self.metrics.adopted();
                    info!(generation = change.generation, "the last good policy is in force");
                    return Ok(());
                }
                Err(error) => error!("the last good policy cannot be put into force: {}", chain(&error)),
            }
        }
        if adopted.is_some() {
            return Ok(());
        }
        let Some(following) = &self.following else { return Err(ChangeError::Detached) };
        self.follow(following, Wish::default()).map(drop)
    }

    /// The first policy of this run. What is adopted stays where the policy asked for has
    /// mistakes; where nothing is, the last good one is taken.
    pub(in crate::daemon) fn start(&self, text: Result<Text, PrepareError>) -> Result<(), ChangeError> {
        let _turn = lock(&self.changing);
        let begun = Instant::now();
        if self.resume()? {
            return Ok(());
        }
        let asked = self.settings.source.name();
        // What was taken back is taken up again by those who ask for it, not by a restart.
        let result =
            text.map_err(ChangeError::from).and_then(|text| match self.withdrawn(&text.policy.hash) {
                Some(withdrawn) => Err(Obstacle::Withdrawn { why: withdrawn.why }.into()),
                None => self.put(text, begun, How::of(Cause::Start)),
            });
        self.remember(&asked, begun, &result);
        let Err(refused) = result else { return Ok(()) };
        let kept = last_good::origin(&self.settings.dataplane.state_dir);
        let adopted = self.with_dataplane(|dataplane| dataplane.active().cloned())?;
        if let Some(active) = adopted {
            warn!(generation = active.generation, "the policy found in force stays in force");
            if kept.is_some_and(|kept| kept.policy_hash == active.record.policy_hash)
                && let Ok(prepared) = self.last_good(active.record.source.into(), active.record.commit)
            {
                self.hold_found(prepared);
            }
            return Ok(());
        }
        let Some(kept) = kept else { return Err(refused) };
        error!(
            from = %kept.source.display(),
            hash = kept.policy_hash,
            "falling back to the last policy that was in force"
        );
        let fallback = self.last_good(kept.source, kept.commit).map_err(ChangeError::from);
        match fallback.and_then(|prepared| self.put_prepared(prepared, begun, How::of(Cause::Start))) {
            Ok(change) => {
                warn!(generation = change.generation, "the last good policy came into force");
                Ok(())
            }
            Err(error) => {
                error!("the last good policy cannot be put into force either: {}", chain(&error));
                Err(refused)
            }
        }
    }

    pub(super) fn last_good(
        &self,
        source: PathBuf,
        commit: Option<String>,
    ) -> Result<Prepared, PrepareError> {
        // Files for other gateways were left out before it was kept.
        let directory = last_good::directory(&self.settings.dataplane.state_dir, Kept::LastGood);
        let text = Text::read(&directory, &Selection::Everything)?;
        self.prepare(Text { source, commit, ..text }, dataplane::local_addresses().unwrap_or_default())
    }

    fn put(&self, text: Text, begun: Instant, mut how: How) -> Result<Change, ChangeError> {
        let prepared = self.prepare(text, dataplane::local_addresses()?)?;
        if let Some(unchanged) = self.unchanged(&prepared, begun)? {
            self.hold_found(prepared);
            return Ok(unchanged);
        }
        self.is_free_to_change()?;
        prepared.prove()?;
        let old = lock(&self.memory).in_force.as_ref().map(|in_force| in_force.text.policy.clone());
        let plan = old.map(|old| Plan::of_text(&old, &prepared.text.policy));
        let is_by_repository = self.following.is_some();
        how.plan = plan;
        let change = self.put_prepared(prepared, begun, how)?;
        if !is_by_repository {
            self.readmit();
        }
        Ok(change)
    }

    /// An unconfirmed change is confirmed or taken back before another one is made: else nobody knows what
    /// it would go back to.
    pub(super) fn is_free_to_change(&self) -> Result<(), ChangeError> {
        match &lock(&self.memory).unconfirmed {
            Some(_) => Err(Obstacle::Unconfirmed.into()),
            None => Ok(()),
        }
    }

    /// The answer where this very policy is in force.
    pub(super) fn unchanged(
        &self,
        prepared: &Prepared,
        begun: Instant,
    ) -> Result<Option<Change>, ChangeError> {
        let Some(generation) = self.is_in_force(prepared)? else { return Ok(None) };
        let policy_hash = prepared.image.manifest.hash.clone();
        // A crash may have come between the change and the copy.
        let kept = last_good::origin(&self.settings.dataplane.state_dir);
        let is_to_stay = lock(&self.memory).unconfirmed.is_none();
        if is_to_stay && kept.is_none_or(|kept| kept.policy_hash != policy_hash) {
            self.keep_last_good(prepared);
        }
        Ok(Some(Change {
            generation,
            unchanged: true,
            policy_hash,
            took_ms: milliseconds(begun.elapsed()),
            warnings: prepared.text.warnings,
            ..Change::default()
        }))
    }

    pub(super) fn put_prepared(
        &self,
        prepared: Prepared,
        begun: Instant,
        how: How,
    ) -> Result<Change, ChangeError> {
        let armed = how.confirm_within.map(|within| self.arm(&prepared, within)).transpose()?;
        let record = Record {
            source: prepared.text.source.display().to_string(),
            commit: prepared.text.commit.clone(),
            policy_hash: prepared.image.manifest.hash.clone(),
            applied_at: unix_now(),
            duration_us: 0,
            binary: binary::identity(self.settings.dataplane.trace),
            files: prepared.text.files.iter().map(|file| file.name.to_string()).collect(),
            tables: prepared.tables(),
            orders: prepared.laying.basis.clone(),
            beginning: prepared.laying.beginning,
        };
        let applied = self
            .with_dataplane(|dataplane| match how.cause {
                Cause::NotConfirmed | Cause::Rollback => {
                    let since = self.left(dataplane.active(), &record.policy_hash);
                    dataplane.put_back(&prepared.image, record, since)
                }
                Cause::Start | Cause::Apply | Cause::Commit | Cause::Addresses | Cause::Orders => {
                    dataplane.apply(&prepared.image, record)
                }
            })
            .and_then(|applied| applied.map_err(ChangeError::from));
        if applied.is_err() && armed.is_some() {
            self.forget_unconfirmed();
        }
        let applied = applied?;
        for warning in &applied.warnings {
            warn!("{warning}");
        }
        for (interface, feature) in &applied.offloads {
            info!(interface, feature, "turned off an offload that hides what must be seen");
        }
        if applied.layout_replaced {
            warn!(
                "connections and health counters began anew: this version keeps them otherwise than the one before"
            );
        }
        if armed.is_some() {
            self.metrics.rollout.waits(true);
            lock(&self.memory).unconfirmed.clone_from(&armed);
            standby::start(&self.settings.dataplane);
        }
        // The same text for new addresses is as unconfirmed as before.
        let is_unconfirmed =
            matches!(how.cause, Cause::Addresses | Cause::Orders) && lock(&self.memory).unconfirmed.is_some();
        let kept = if armed.is_some() || is_unconfirmed { Kept::Unconfirmed } else { Kept::LastGood };
        if kept == Kept::LastGood {
            self.keep_last_good(&prepared);
        }
        let change = Change {
            generation: applied.generation,
            unchanged: false,
            policy_hash: prepared.image.manifest.hash.clone(),
            took_ms: milliseconds(begun.elapsed()),
            attached: applied.attached,
            detached: applied.detached,
            warnings: prepared.text.warnings,
            confirm_within_s: armed.as_ref().map(|armed| armed.within_s),
        };
        self.record(&prepared, &change, kept, how);
        self.hold(prepared);
        self.warn_of_generic_mode();
        Ok(change)
    }

    /// When the policy of this hash was left for what is in force now. Where nobody knows, and where that was before the machine
    /// was started, so that all programs are younger: now.
    fn left(&self, active: Option<&Active>, hash: &str) -> SystemTime {
        let started = u64::try_from(clock::now().beginning()).unwrap_or_default();
        let known = active
            .and_then(|active| history::left(&self.settings.dataplane.state_dir, active.generation, hash));
        // Where the record could not be written, what is in force knows at least when it was laid itself.
        let other = active.filter(|active| active.record.policy_hash != hash);
        let left = known.or(other.map(|other| other.record.applied_at)).filter(|left| *left > started);
        left.map_or_else(SystemTime::now, |left| UNIX_EPOCH + Duration::from_millis(left))
    }

    /// Writes the record of a generation that came into force: for people, so that nothing depends on it.
    fn record(&self, prepared: &Prepared, change: &Change, kept: Kept, how: How) {
        let state = &self.settings.dataplane.state_dir;
        let waiting = |within_s| Confirmation { within_s, result: Confirmed::Waiting, at: None };
        let generation = Generation {
            generation: change.generation,
            applied_at: unix_now(),
            took_ms: change.took_ms,
            cause: how.cause,
            source: prepared.text.source.display().to_string(),
            commit: prepared.text.commit.clone(),
            about: prepared.text.about.clone(),
            policy_hash: change.policy_hash.clone(),
            plan: how.plan,
            restores: how.restores,
            confirmation: change.confirm_within_s.map(waiting),
        };
        let from = last_good::directory(state, kept);
        if let Err(error) = history::keep(state, &generation, &from, &prepared.text.files) {
            self.metrics.rollout.state_not_written();
            error!(%error, directory = %state.display(), "cannot write the record of the generation");
        }
    }

    /// The generation in force, if this very policy is: same text from the same place, compiled
    /// by this binary for the addresses that the gateway has, on every interface.
    fn is_in_force(&self, prepared: &Prepared) -> Result<Option<u32>, ChangeError> {
        let hash = &prepared.image.manifest.hash;
        let are_lost = self.are_orders_lost();
        let same = |record: &Record| {
            record.policy_hash == *hash
                && record.binary == binary::identity(self.settings.dataplane.trace)
                // Another commit of a repository with the same text for this gateway changes nothing here.
                && (record.commit == prepared.text.commit || prepared.text.about.is_some())
                && (record.orders == prepared.laying.basis || are_lost)
                && Path::new(&record.source) == prepared.text.source
        };
        self.with_dataplane(|dataplane| {
            let Some(generation) =
                dataplane.active().filter(|active| same(&active.record)).map(|it| it.generation)
            else {
                return Ok(None);
            };
            let Reconciled { missing, failed, addresses_changed, .. } = dataplane.reconcile()?;
            Ok((missing.is_empty() && failed.is_empty() && !addresses_changed).then_some(generation))
        })?
    }

    /// A copy that cannot be kept is no reason to refuse a policy that is in force already.
    fn keep_last_good(&self, prepared: &Prepared) {
        let state = &self.settings.dataplane.state_dir;
        if let Err(error) = last_good::keep(state, Kept::LastGood, &prepared.text.files, &prepared.origin()) {
            self.metrics.rollout.state_not_written();
            error!(%error, directory = %state.display(), "cannot keep a copy of the policy for the next boot");
        }
    }

    pub(super) fn remember(&self, directory: &Path, begun: Instant, result: &Result<Change, ChangeError>) {
        let took = begun.elapsed();
        let source = directory.display();
        self.audit_change(directory, result);
        match result {
            Ok(change) if change.unchanged => {
                self.metrics.adopted();
                info!(generation = change.generation, %source, "the policy is in force already");
            }
            Ok(change) => {
                self.metrics.applied(took);
                info!(
                    generation = change.generation,
                    hash = change.policy_hash,
                    %source,
                    took_ms = change.took_ms,
                    attached = change.attached.join(" "),
                    detached = change.detached.join(" "),
                    warnings = change.warnings,
                    "a policy came into force"
                );
            }
            Err(refused) => {
                self.metrics.refused(took);
                error!("refused the policy of {source}; nothing in force was changed: {}", chain(refused));
            }
        }
        lock(&self.memory).last_apply = Some(LastApply {
            at: unix_now(),
            took_ms: milliseconds(took),
            source: directory.to_owned(),
            error: result.as_ref().err().map(|error| chain(error)),
        });
    }
}
