//! The life of the service: start, serve, end. Enforcement has its own life.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use caps::errors::CapsError;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::control::{ListenError, Listener};
use super::event_log::Writer;
use super::http;
use super::prepare::{PrepareError, Text};
use super::repository::GitError;
use super::requests::Handle;
use super::service::{ChangeError, Following, Service, Wish, chain};
use super::watching::Watching;
use super::{Settings, Source, notify, privileges, reports, talkers, traces};
use crate::dataplane::{self, Dataplane, DataplaneError, NetworkChanges};
use crate::telemetry::metrics::Metrics;

/// How often interfaces and addresses are looked at even when the kernel reports no change.
const RECONCILE: Duration = Duration::from_secs(2);
/// How long the kernel's reports of changes are gathered: a new interface makes a handful.
const SETTLE: Duration = Duration::from_millis(20);
/// How long another owner of the pins is waited for.
const OWNER_PATIENCE: Duration = Duration::from_secs(2);

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop; the policy stays in force.
    Stopped,
    /// It was told to detach; nothing is in force.
    Detached,
}

/// Why a service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ListenError),
    /// The metrics port.
    #[error("cannot serve metrics on {address}")]
    Metrics {
        /// Address and port.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No policy is in force, and none can be put there.
    #[error("no policy is in force: {}", .0.brief())]
    NoPolicy(ChangeError),
    /// The repository's copy on this machine.
    #[error(transparent)]
    Repository(#[from] GitError),
    /// The kernel or the machine.
    #[error(transparent)]
    Machine(#[from] DataplaneError),
    /// Its rights.
    #[error("cannot give up rights that are not needed")]
    Privileges(#[from] CapsError),
    /// The process itself.
    #[error("cannot start")]
    Process(#[from] io::Error),
    /// The metrics themselves: a defect.
    #[error("cannot count")]
    Counting(#[from] prometheus::Error),
}

/// Runs the service until it is told to end.
pub fn run(settings: Settings) -> Result<Ended, RunError> {
    dataplane::prepare(&settings.dataplane)?;
    privileges::give_up()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // What has begun on a thread of its own, such as an apply, is finished before this returns.
    runtime.block_on(live(settings))
}

/// Signals that have a meaning. Taken before anything else, so that none ends the process halfway.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

async fn live(settings: Settings) -> Result<Ended, RunError> {
    let signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hang_up: signal(SignalKind::hangup())?,
    };
    // Everything that can fail without a change comes first.
    let text = match &settings.source {
        Source::Directory(directory) => {
            let (directory, selection) = (directory.clone(), settings.selection.clone());
            Some(blocking(move || Text::read(&directory, &selection)).await)
        }
        Source::Repository(_) => None,
    };
    let listener = Listener::bind(&settings.socket, settings.groups)?;
    let web = listen(settings.metrics).await?;
    let changes = NetworkChanges::listen()?;
    let metrics = Arc::new(Metrics::new()?);

    let service = {
        let (settings, metrics) = (settings.clone(), Arc::clone(&metrics));
        blocking(move || start(settings, metrics, text)).await?
    };
    let events = service.with_dataplane(Dataplane::events).map_err(RunError::NoPolicy)??;
    let (stop, stopped) = oneshot::channel();
    let file = settings.event_log.clone().map(|log| Writer::start(log, Arc::clone(&metrics))).transpose()?;
    let reopen = Arc::new(Notify::new());
    let watching = Arc::new(Watching::new(settings.dataplane.clone()));
    let reports = tokio::spawn(reports::gather(
        events,
        service.names(),
        Arc::clone(&metrics),
        Arc::clone(&watching),
        file,
        Arc::clone(&reopen),
        stopped,
    ));
    let state_dir = settings.dataplane.state_dir.clone();
    tokio::spawn(talkers::notice(Arc::clone(&watching), metrics, state_dir, settings.learn_talkers));
    if settings.dataplane.trace {
        tokio::spawn(traces::carry(Arc::clone(&service)));
    }
    let handle = Arc::new(Handle::new(Arc::clone(&service), watching));
    let control = tokio::spawn({
        let handle = Arc::clone(&handle);
        async move { listener.serve(handle).await }
    });
    let pages = tokio::spawn(http::serve(web, handle));
    let follow = tokio::spawn(follow(Arc::clone(&service), settings.source.clone()));
    info!(socket = %settings.socket.display(), metrics = %settings.metrics, "serving");
    notify::ready("a policy is in force");

    let ended = serve(&service, signals, changes, &reopen).await;
    notify::stopping();
    follow.abort();
    pages.abort();
    control.abort();
    // The listener takes its socket's file with it.
    let _ = control.await;
    drop(stop);
    let _ = reports.await;
    match ended {
        Ended::Stopped => info!("stopped; the policy stays in force, until `clinigate detach`"),
        Ended::Detached => info!("ended; nothing is enforced"),
    }
    Ok(ended)
}

/// Asks the repository now and then, for ever. By the monotonic clock: the one on the wall may jump.
async fn follow(service: Arc<Service>, source: Source) {
    let Source::Repository(repository) = source else { return };
    loop {
        let service = Arc::clone(&service);
        blocking(move || service.poll()).await;
        tokio::time::sleep(repository.interval).await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    if !address.ip().is_loopback() {
        warn!(%address, "metrics are served beyond this machine: they tell names of segments and rules");
    }
    TcpListener::bind(address).await.map_err(|source| RunError::Metrics { address, source })
}

/// Takes possession of the dataplane and brings the first policy into force.
fn start(
    settings: Settings,
    metrics: Arc<Metrics>,
    text: Option<Result<Text, PrepareError>>,
) -> Result<Arc<Service>, RunError> {
    let dataplane = open(&settings)?;
    if let Some(active) = dataplane.active() {
        info!(generation = active.generation, hash = active.record.policy_hash, "found a policy in force");
    }
    let following = match &settings.source {
        Source::Directory(_) => None,
        Source::Repository(repository) => {
            Some(Following::open(repository, &settings.selection, &settings.dataplane.state_dir)?)
        }
    };
    let service = Arc::new(Service::new(settings, dataplane, metrics, following));
    match text {
        Some(text) => service.start(text),
        None => service.start_following(),
    }
    .map_err(RunError::NoPolicy)?;
    Ok(service)
}

/// A `clinigate status` that found no service holds the lock for a moment.
fn open(settings: &Settings) -> Result<Dataplane, DataplaneError> {
    let deadline = Instant::now() + OWNER_PATIENCE;
    loop {
        match Dataplane::open(settings.dataplane.clone()) {
            Err(DataplaneError::Owned { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

async fn serve(
    service: &Arc<Service>,
    mut signals: Signals,
    changes: NetworkChanges,
    reopen: &Notify,
) -> Ended {
    let mut changes = Some(changes);
    let period = notify::watchdog().map_or(RECONCILE, |watchdog| watchdog.min(RECONCILE));
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ended::Stopped,
            _ = signals.interrupt.recv() => return Ended::Stopped,
            () = service.ended.notified() => return Ended::Detached,
            _ = signals.hang_up.recv() => {
                notify::reloading();
                reopen.notify_one();
                let service = Arc::clone(service);
                let result = blocking(move || service.reload(Wish::default())).await;
                notify::ready(if result.is_ok() { "a policy is in force" } else { "the last reload was refused" });
            }
            () = changed(&mut changes) => {
                tokio::time::sleep(SETTLE).await;
                reconcile(service).await;
            }
            _ = ticks.tick() => reconcile(service).await,
        }
    }
}

/// Waits for a change of the network; for ever where the kernel no longer tells.
async fn changed(changes: &mut Option<NetworkChanges>) {
    if let Some(listening) = changes {
        match listening.changed().await {
            Ok(()) => return,
            Err(error) => {
                error!("changes of the network are found late from now on: {}", chain(&error));
                *changes = None;
            }
        }
    }
    std::future::pending::<()>().await;
}

async fn reconcile(service: &Arc<Service>) {
    let service = Arc::clone(service);
    blocking(move || service.reconcile()).await;
    notify::alive();
}

/// Work that blocks, on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.expect("a panic ends the process before it gets here")
}
