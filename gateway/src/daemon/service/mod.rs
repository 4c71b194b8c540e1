//! The service itself: what is in force, and how that changes.
//!
//! Everything here blocks: compiling takes a second for a large policy, and system calls are
//! system calls. The runtime's tasks call it on threads of their own.

mod announce;
mod change;
mod error;
mod follow;
mod network;
mod orders;
mod report;
mod rollback;
mod strangers;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};
use tracing::{error, warn};

pub use error::ChangeError;
pub(super) use error::chain;
pub(super) use follow::{Following, Wish};
use strangers::Strangers;

use super::history::Cause;
use super::prepare::{Laying, PrepareError, Prepared, Text, with_addresses};
use super::reports::Names;
use super::review::Plan;
use super::status::LastApply;
use super::unconfirmed::Unconfirmed;
use super::{Settings, clock, order_book};
use crate::audit;
use crate::dataplane::{self, Dataplane, Detached};
use crate::orders::{Clock, Orders};
use crate::policy::model::Policy;
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
    /// What was ordered over the policy.
    orders: Mutex<Orders>,
    /// They could be neither read nor put aside.
    orders_unread: bool,
    /// Opened when it is first written.
    audit_log: Mutex<Option<audit::Log>>,
    strangers: Mutex<Strangers>,
    names: watch::Sender<Names>,
    /// The repository that is followed, where one is.
    following: Option<Following>,
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
    /// What is in force waits for its confirmation.
    unconfirmed: Option<Unconfirmed>,
    /// What the last reconciliation could not mend, so that it is said once.
    trouble: Vec<String>,
    /// Compiling for new addresses failed: until when it is not tried again, and why.
    pause: Option<(Instant, String)>,
    /// Laying orders anew failed, likewise.
    orders_pause: Option<(Instant, String)>,
}

/// How a policy comes into force.
#[derive(Clone, Debug)]
struct How {
    cause: Cause,
    /// It goes back unless it is confirmed within this time.
    confirm_within: Option<Duration>,
    /// What it changes, where that was looked at.
    plan: Option<Plan>,
    /// The generation whose text it brings back.
    restores: Option<u32>,
}

impl How {
    fn of(cause: Cause) -> Self {
        Self { cause, confirm_within: None, plan: None, restores: None }
    }
}

/// The text in force, and the gateway's addresses that it was compiled for.
#[derive(Debug)]
struct InForce {
    text: Text,
    addresses: Vec<IpAddr>,
    laying: Laying,
}

impl InForce {
    /// What the text means on this gateway.
    fn policy(&self) -> Arc<Policy> {
        Arc::new(with_addresses(&self.text.policy, &self.addresses))
    }

    /// Whether windows come up that the tables do not have, or the wall clock was set.
    fn is_stale(&self, clock: &Clock) -> bool {
        let Laying { stale, beginning, .. } = &self.laying;
        let was_set =
            beginning.is_some_and(|beginning| beginning.abs_diff(clock.beginning()) > CLOCK_TOLERANCE);
        was_set || stale.is_some_and(|stale| stale <= clock.kernel)
    }
}

impl From<Prepared> for InForce {
    fn from(Prepared { text, addresses, laying, .. }: Prepared) -> Self {
        Self { text, addresses, laying }
    }
}

/// Milliseconds by which the wall clock may be set before windows are laid anew.
const CLOCK_TOLERANCE: u64 = 1000;

impl Service {
    pub(super) fn new(
        settings: Settings,
        dataplane: Dataplane,
        metrics: Arc<Metrics>,
        following: Option<Following>,
    ) -> Self {
        let state = &settings.dataplane.state_dir;
        let mut orders_unread = false;
        let orders = order_book::read(state).unwrap_or_else(|error| {
            // What is in force keeps its quarantines; a new policy would not have them.
            error!(%error, "THE ORDERS CANNOT BE READ: quarantines, grants and broken glass are forgotten");
            match order_book::put_aside(state) {
                Ok(aside) => error!("they stand in {}", aside.display()),
                Err(error) => {
                    error!(%error, "they cannot be put aside");
                    orders_unread = true;
                }
            }
            Orders::default()
        });
        let memory = Memory {
            directory: settings.source.name(),
            in_force: None,
            last_apply: None,
            unconfirmed: None,
            trouble: Vec::new(),
            pause: None,
            orders_pause: None,
        };
        let service = Self {
            since: unix_now(),
            metrics,
            dataplane: Mutex::new(Some(dataplane)),
            changing: Mutex::new(()),
            memory: Mutex::new(memory),
            orders: Mutex::new(orders),
            orders_unread,
            audit_log: Mutex::new(None),
            strangers: Mutex::default(),
            names: watch::Sender::new(Names::default()),
            ended: Notify::new(),
            following,
            settings,
        };
        service.tell_names();
        service.show_orders(&clock::now());
        service
    }

    /// What was prepared before its turn came, with what was ordered since.
    fn with_latest_orders(&self, prepared: Prepared) -> Result<Prepared, PrepareError> {
        if *lock(&self.orders) == prepared.laying.orders {
            return Ok(prepared);
        }
        self.prepare(prepared.text, prepared.addresses)
    }

    /// A text for this gateway, with what was ordered over it.
    fn prepare(&self, text: Text, addresses: Vec<IpAddr>) -> Result<Prepared, PrepareError> {
        text.prepare(addresses, &lock(&self.orders), &clock::now())
    }

    /// Names for the reports, now and after every change.
    pub(super) fn names(&self) -> watch::Receiver<Names> {
        self.names.subscribe()
    }

    pub(super) fn with_dataplane<T>(&self, work: impl FnOnce(&mut Dataplane) -> T) -> Result<T, ChangeError> {
        lock(&self.dataplane).as_mut().map(work).ok_or(ChangeError::Detached)
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

    /// Remembers what is in force.
    fn hold(&self, prepared: Prepared) {
        lock(&self.memory).in_force = Some(prepared.into());
        self.tell_names();
    }

    /// Remembers what was found in force: with what was laid over it then, which need not be what is ordered now.
    fn hold_found(&self, mut prepared: Prepared) {
        let record = self.with_dataplane(|dataplane| dataplane.active().map(|active| active.record.clone()));
        if let Ok(Some(record)) = record {
            let laying = &mut prepared.laying;
            laying.is_lost = record.orders != laying.basis && self.are_orders_lost();
            if laying.is_lost {
                // No clock ends what nobody can lay again.
                (laying.stale, laying.beginning) = (None, None);
            } else if record.orders != laying.basis {
                laying.stale = Some(0);
            }
            laying.beginning = laying.beginning.map(|_| record.beginning.unwrap_or_default());
        }
        self.hold(prepared);
    }

    /// The orders could not be read, and nobody gave others since: what is laid of them stays as long as nothing else comes.
    fn are_orders_lost(&self) -> bool {
        let is_empty = *lock(&self.orders) == Orders::default();
        is_empty
            && (self.orders_unread || order_book::set_aside(&self.settings.dataplane.state_dir).is_some())
    }

    fn tell_names(&self) {
        let policy = lock(&self.memory).in_force.as_ref().map(InForce::policy);
        let names = self.with_dataplane(|dataplane| Names {
            generation: dataplane
                .active()
                .map(|active| (active.generation, Arc::new(active.manifest.clone()))),
            interfaces: dataplane
                .interfaces()
                .into_iter()
                .flat_map(|interface| {
                    let indices = interface.ifindex.into_iter().chain(interface.links);
                    indices.map(|index| (index, interface.name.clone())).collect::<Vec<_>>()
                })
                .collect::<HashMap<u32, String>>(),
            policy,
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
