//! The service itself: what is in force, and how that changes.
//!
//! Everything here blocks: compiling takes a second for a large policy, and system calls are
//! system calls. The runtime's tasks call it on threads of their own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::control::{Change, ErrorKind};
use super::last_good;
use super::look::Look;
use super::prepare::{PrepareError, Prepared, Text};
use super::reports::Names;
use super::status::{EventStatus, LastApply, ServiceStatus, Status};
use super::{Settings, binary};
use crate::dataplane::{self, Dataplane, DataplaneError, Detached, Reconciled, Record};
use crate::telemetry::metrics::Metrics;

/// The service, shared by its tasks.
pub(super) struct Service {
    settings: Settings,
    since: u64,
    pub(super) metrics: Arc<Metrics>,
    /// Absent once detached.
    dataplane: Mutex<Option<Dataplane>>,
    /// Held while a policy is read, compiled and applied: one after the other.
    changing: Mutex<()>,
    memory: Mutex<Memory>,
    names: watch::Sender<Names>,
    /// Rings when nothing is left to do: detached.
    pub(super) ended: Notify,
}

/// What the service remembers between changes.
#[derive(Debug)]
struct Memory {
    /// Directory that a reload reads.
    directory: PathBuf,
    /// What is in force, to be compiled again when the gateway's addresses change; absent where
    /// the text of what was adopted is nowhere to be found.
    in_force: Option<InForce>,
    last_apply: Option<LastApply>,
    /// What the last reconciliation could not mend, so that it is said once.
    trouble: Vec<String>,
    /// Compiling for new addresses failed: until when it is not tried again, and why.
    pause: Option<(Instant, String)>,
}

/// The text in force, and the gateway's addresses that it was compiled for.
#[derive(Debug)]
struct InForce {
    text: Text,
    addresses: Vec<IpAddr>,
}

impl From<Prepared> for InForce {
    fn from(Prepared { text, addresses, .. }: Prepared) -> Self {
        Self { text, addresses }
    }
}

/// The policy in force was adopted, and its text is nowhere to be found.
const TEXT_LOST: &str =
    "the gateway's addresses changed, and the text of the policy in force is not at hand: apply it again";

/// How long a policy that could not be compiled for new addresses is left alone.
const PAUSE: Duration = Duration::from_mins(1);

/// Why a change was refused.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The policy has mistakes, or does not fit.
    #[error(transparent)]
    Policy(#[from] PrepareError),
    /// The kernel or the machine refuses it.
    #[error(transparent)]
    Machine(#[from] DataplaneError),
    /// The policy was taken off.
    #[error("the service has been detached and is ending")]
    Detached,
}

impl ChangeError {
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            // Nothing is known about a policy that cannot be read.
            Self::Policy(PrepareError::Unreadable(_)) | Self::Machine(_) | Self::Detached => {
                ErrorKind::Machine
            }
            Self::Policy(_) => ErrorKind::Policy,
        }
    }

    /// In one line, for somebody who has each mistake before his eyes already.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Policy(error) => error.brief(),
            other => chain(other),
        }
    }
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
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

impl Service {
    pub(super) fn new(settings: Settings, dataplane: Dataplane, metrics: Arc<Metrics>) -> Self {
        let memory = Memory {
            directory: settings.policy.clone(),
            in_force: None,
            last_apply: None,
            trouble: Vec::new(),
            pause: None,
        };
        let service = Self {
            since: unix_now(),
            metrics,
            dataplane: Mutex::new(Some(dataplane)),
            changing: Mutex::new(()),
            memory: Mutex::new(memory),
            names: watch::Sender::new(Names::default()),
            ended: Notify::new(),
            settings,
        };
        service.tell_names();
        service
    }

    /// Names for the reports, now and after every change.
    pub(super) fn names(&self) -> watch::Receiver<Names> {
        self.names.subscribe()
    }

    pub(super) fn with_dataplane<T>(&self, work: impl FnOnce(&mut Dataplane) -> T) -> Result<T, ChangeError> {
        lock(&self.dataplane).as_mut().map(work).ok_or(ChangeError::Detached)
    }

    /// Puts the policy of a directory into force, unless it is in force already. On an error,
    /// what was in force still is.
    pub(super) fn apply(&self, directory: &Path) -> Result<Change, ChangeError> {
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
    pub(super) fn reload(&self) -> Result<Change, ChangeError> {
        let directory = lock(&self.memory).directory.clone();
        self.apply(&directory)
    }

    /// The first policy of this run. What is adopted stays where the policy asked for has
    /// mistakes; where nothing is, the last good one is taken.
    pub(super) fn start(&self, text: Result<Text, PrepareError>) -> Result<(), ChangeError> {
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
            return Ok(change);
        }
        prepared.prove()?;
        self.put_prepared(prepared, begun)
    }

    fn put_prepared(&self, prepared: Prepared, begun: Instant) -> Result<Change, ChangeError> {
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

    /// Attaches interfaces that came back, and compiles the policy in force again where the
    /// gateway's addresses changed.
    pub(super) fn reconcile(&self) {
        let _turn = lock(&self.changing);
        let trouble = match self.try_reconcile() {
            Ok(trouble) => trouble,
            Err(ChangeError::Detached) => return,
            Err(error) => vec![chain(&error)],
        };
        let mut memory = lock(&self.memory);
        if memory.trouble != trouble {
            if trouble.is_empty() {
                info!("every interface of the policy is enforced again");
            } else {
                error!("cannot hold the policy in force everywhere: {}", trouble.join("; "));
            }
            memory.trouble = trouble;
        }
    }

    fn try_reconcile(&self) -> Result<Vec<String>, ChangeError> {
        let reconciled = self.with_dataplane(Dataplane::reconcile)??;
        if !reconciled.attached.is_empty() {
            info!(interfaces = reconciled.attached.join(" "), "attached to interfaces that came back");
            self.tell_names();
            self.warn_of_generic_mode();
        }
        let mut trouble: Vec<String> =
            reconciled.missing.iter().map(|name| format!("interface {name} does not exist")).collect();
        trouble.extend(reconciled.failed.iter().map(|(name, error)| format!("{name}: {}", chain(error))));

        // Interfaces that are missing would make an apply fail: their return brings us here again.
        if reconciled.missing.is_empty()
            && let Err(error) = self.follow_addresses(reconciled.addresses_changed)
        {
            trouble.push(error);
        }
        Ok(trouble)
    }

    /// Compiles the policy in force again where it was compiled for other addresses than the
    /// gateway has. `changed`: the dataplane has seen that they are others.
    fn follow_addresses(&self, changed: bool) -> Result<(), String> {
        let addresses = dataplane::local_addresses().map_err(|error| chain(&error))?;
        let text = {
            let memory = lock(&self.memory);
            match (&memory.in_force, &memory.pause) {
                (Some(in_force), _) if !changed && in_force.addresses == addresses => return Ok(()),
                (None, _) if !changed => return Ok(()),
                (None, _) => return Err(TEXT_LOST.to_owned()),
                (_, Some((until, why))) if Instant::now() < *until => return Err(why.clone()),
                (Some(in_force), _) => in_force.text.clone(),
            }
        };
        info!("the gateway's addresses changed: compiling the policy in force again");
        let begun = Instant::now();
        let prepared = text.prepare(addresses).map_err(ChangeError::from);
        match prepared.and_then(|prepared| self.put_prepared(prepared, begun)) {
            Ok(change) => {
                info!(generation = change.generation, took_ms = change.took_ms, "it came into force");
                lock(&self.memory).pause = None;
                Ok(())
            }
            Err(error) => {
                let why = format!("the policy does not take the gateway's new addresses: {}", chain(&error));
                lock(&self.memory).pause = Some((Instant::now() + PAUSE, why.clone()));
                Err(why)
            }
        }
    }

    /// Takes everything off.
    pub(super) fn detach(&self) -> Result<Detached, ChangeError> {
        let _turn = lock(&self.changing);
        let dataplane = lock(&self.dataplane).take().ok_or(ChangeError::Detached)?;
        match dataplane.detach() {
            Ok(detached) => {
                warn!(
                    interfaces = detached.interfaces.join(" "),
                    "detached on request: nothing is enforced any more"
                );
                Ok(detached)
            }
            Err(error) => {
                error!("cannot detach: {}", chain(&error));
                // What is left goes on under this service, if it lets itself be taken up again.
                *lock(&self.dataplane) = Dataplane::open(self.settings.dataplane.clone()).ok();
                Err(error.into())
            }
        }
    }

    /// Looks at everything.
    pub(super) fn look(&self) -> Result<Look, ChangeError> {
        Ok(self.with_dataplane(|dataplane| Look::at(dataplane))??)
    }

    pub(super) fn status(&self) -> Result<Status, ChangeError> {
        let look = self.look()?;
        let mut status = look.status();
        let (read, unlisted) = self.metrics.events_so_far();
        status.events = EventStatus { read, unlisted, ..status.events };
        let memory = lock(&self.memory);
        status.service = Some(ServiceStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.since,
            policy_dir: memory.directory.clone(),
            metrics: self.settings.metrics,
        });
        status.last_apply.clone_from(&memory.last_apply);
        status.trouble.clone_from(&memory.trouble);
        Ok(status)
    }

    /// Whether the gateway does its work, in a sentence.
    pub(super) fn health(&self) -> Result<String, String> {
        let (generation, interfaces) = self
            .with_dataplane(|dataplane| {
                (dataplane.active().map(|active| active.generation), dataplane.interfaces())
            })
            .map_err(|error| chain(&error))?;
        let Some(generation) = generation else { return Err("no policy is in force".to_owned()) };
        let unattached = interfaces.iter().filter(|interface| interface.mode.is_none());
        let unattached: Vec<&str> = unattached.map(|interface| interface.name.as_str()).collect();
        if !unattached.is_empty() {
            return Err(format!("not enforced: {}", unattached.join(" ")));
        }
        Ok(format!("generation {generation} is in force on {} interfaces", interfaces.len()))
    }

    fn tell_names(&self) {
        let names = self.with_dataplane(|dataplane| Names {
            generation: dataplane
                .active()
                .map(|active| (active.generation, Arc::new(active.manifest.clone()))),
            interfaces: dataplane
                .interfaces()
                .into_iter()
                .filter_map(|interface| Some((interface.ifindex?, interface.name)))
                .collect::<HashMap<u32, String>>(),
        });
        if let Ok(names) = names {
            self.names.send_replace(names);
        }
    }

    fn warn_of_generic_mode(&self) {
        let generic = self.with_dataplane(|dataplane| {
            let interfaces = dataplane.interfaces().into_iter();
            let generic = interfaces.filter(|it| it.mode == Some(dataplane::AttachedMode::Generic));
            generic.map(|interface| interface.name).collect::<Vec<_>>().join(" ")
        });
        if let Ok(interfaces) = generic
            && !interfaces.is_empty()
        {
            warn!(
                interfaces,
                "GENERIC XDP MODE: every frame takes the slow path through the stack before it is judged"
            );
        }
    }
}

/// A thread that panicked ends the process (panic = "abort"), so no lock is ever poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds)
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
