//! Policies into force: asked for, found in force, fallen back to.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tracing::{error, info, warn};

use super::super::control::Change;
use super::super::prepare::{PrepareError, Prepared, Text};
use super::super::status::LastApply;
use super::super::{binary, last_good};
use super::error::{ChangeError, chain};
use super::{Service, lock, milliseconds, unix_now};
use crate::dataplane::{self, Reconciled, Record};

impl Service {
    /// Puts the policy of a directory into force, unless it is in force already. On an error,
    /// what was in force still is.
    pub(in crate::daemon) fn apply(&self, directory: &Path) -> Result<Change, ChangeError> {
        let _turn = lock(&self.changing);
        let begun = Instant::now();
        let result = Text::read(directory).map_err(ChangeError::from).and_then(|text| self.put(text, begun));
        self.remember(directory, begun, &result);
        if result.is_ok() {
            directory.clone_into(&mut lock(&self.memory).directory);
        }
        result
    }

    /// Reads the policy in force again from its directory.
    pub(in crate::daemon) fn reload(&self) -> Result<Change, ChangeError> {
        let directory = lock(&self.memory).directory.clone();
        self.apply(&directory)
    }

    /// The first policy of this run. What is adopted stays where the policy asked for has
    /// mistakes; where nothing is, the last good one is taken.
    pub(in crate::daemon) fn start(&self, text: Result<Text, PrepareError>) -> Result<(), ChangeError> {
        let _turn = lock(&self.changing);
        let begun = Instant::now();
        let asked = self.settings.policy.clone();
        let result = text.map_err(ChangeError::from).and_then(|text| self.put(text, begun));
        self.remember(&asked, begun, &result);
        let Err(refused) = result else { return Ok(()) };
        let kept = last_good::origin(&self.settings.dataplane.state_dir);
        let adopted = self.with_dataplane(|dataplane| dataplane.active().cloned())?;
        if let Some(active) = adopted {
            warn!(generation = active.generation, "the policy found in force stays in force");
            if kept.is_some_and(|kept| kept.policy_hash == active.record.policy_hash)
                && let Ok(prepared) = self.last_good(active.record.source.into(), active.record.commit)
            {
                lock(&self.memory).in_force = Some(prepared.into());
                self.tell_names();
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
        match fallback.and_then(|prepared| self.put_prepared(prepared, begun)) {
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

    fn last_good(&self, source: PathBuf, commit: Option<String>) -> Result<Prepared, PrepareError> {
        let text = Text::read(&last_good::directory(&self.settings.dataplane.state_dir))?;
        Text { source, commit, ..text }.prepare(dataplane::local_addresses().unwrap_or_default())
    }

    fn put(&self, text: Text, begun: Instant) -> Result<Change, ChangeError> {
        let prepared = text.prepare(dataplane::local_addresses()?)?;
        if let Some(generation) = self.is_in_force(&prepared)? {
            let change = Change {
                generation,
                unchanged: true,
                policy_hash: prepared.image.manifest.hash.clone(),
                took_ms: milliseconds(begun.elapsed()),
                warnings: prepared.text.warnings,
                ..Change::default()
            };
            lock(&self.memory).in_force = Some(prepared.into());
            self.tell_names();
            return Ok(change);
        }
        prepared.prove()?;
        self.put_prepared(prepared, begun)
    }

    pub(super) fn put_prepared(&self, prepared: Prepared, begun: Instant) -> Result<Change, ChangeError> {
        let record = Record {
            source: prepared.text.source.display().to_string(),
            commit: prepared.text.commit.clone(),
            policy_hash: prepared.image.manifest.hash.clone(),
            applied_at: unix_now(),
            duration_us: 0,
            binary: binary::identity(self.settings.dataplane.trace),
            files: prepared.text.files.iter().map(|file| file.name.to_string()).collect(),
            tables: prepared.tables(),
        };
        let applied = self.with_dataplane(|dataplane| dataplane.apply(&prepared.image, record))??;
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
        self.keep_last_good(&prepared);
        let change = Change {
            generation: applied.generation,
            unchanged: false,
            policy_hash: prepared.image.manifest.hash.clone(),
            took_ms: milliseconds(begun.elapsed()),
            attached: applied.attached,
            detached: applied.detached,
            warnings: prepared.text.warnings,
        };
        lock(&self.memory).in_force = Some(prepared.into());
        self.tell_names();
        self.warn_of_generic_mode();
        Ok(change)
    }

    /// The generation in force, if this very policy is: same text from the same place, compiled
    /// by this binary for the addresses that the gateway has, on every interface.
    fn is_in_force(&self, prepared: &Prepared) -> Result<Option<u32>, ChangeError> {
        let hash = &prepared.image.manifest.hash;
        let same = |record: &Record| {
            record.policy_hash == *hash
                && record.binary == binary::identity(self.settings.dataplane.trace)
                && record.commit == prepared.text.commit
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
        let origin = last_good::Origin {
            policy_hash: prepared.image.manifest.hash.clone(),
            source: prepared.text.source.clone(),
            commit: prepared.text.commit.clone(),
        };
        let state = &self.settings.dataplane.state_dir;
        if let Err(error) = last_good::keep(state, &prepared.text.files, &origin) {
            error!(%error, directory = %state.display(), "cannot keep a copy of the policy for the next boot");
        }
    }

    fn remember(&self, directory: &Path, begun: Instant, result: &Result<Change, ChangeError>) {
        let took = begun.elapsed();
        let source = directory.display();
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
