//! What the service's sockets ask of it: requests of the control socket, pages for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::error;

use super::control::{self, ErrorKind, Peer, Permission, Reply, Request, Rights};
use super::http::Pages;
use super::repository::Allowed;
use super::run::blocking;
use super::service::{Service, Wish, chain};
use super::watching::{Traffic, Watching};

/// The service as its sockets see it.
pub(super) struct Handle {
    service: Arc<Service>,
    watching: Arc<Watching>,
    /// Held while the kernel's counters are read for a page: readers that give up early and come again must not have many
    /// read at once, each slowing down the others and whoever changes what is in force.
    reading: Arc<Mutex<()>>,
}

impl Handle {
    pub(super) fn new(service: Arc<Service>, watching: Arc<Watching>) -> Self {
        Self { service, watching, reading: Arc::default() }
    }

    async fn ask<T: Send + 'static>(&self, work: impl FnOnce(&Service) -> T + Send + 'static) -> T {
        let service = Arc::clone(&self.service);
        blocking(move || work(&service)).await
    }
}

impl control::Handler for Handle {
    async fn handle(&self, peer: Peer, request: Request) -> Reply {
        if request.needs() == Rights::Full {
            let (peer, action) = (peer.clone(), request.name());
            self.ask(move |service| service.asked(&peer, action)).await;
        }
        let reply = match request {
            Request::Status {} => {
                self.ask(Service::status).await.map(|status| Reply::Status { status: Box::new(status) })
            }
            Request::Apply { dir, confirm_within_s } if dir.is_absolute() => {
                let within = confirm_within_s.map(Duration::from_secs);
                self.ask(move |service| service.apply(&dir, within))
                    .await
                    .map(|change| Reply::Applied { change })
            }
            Request::Apply { dir, .. } => {
                let message = format!("{} is not an absolute path", dir.display());
                return Reply::Error { kind: ErrorKind::Malformed, message };
            }
            Request::Order { order } => self.ask(move |service| service.order(&peer, &order)).await,
            Request::Reload { allow, rewritten, confirm_within_s } => {
                let allowed = Allowed {
                    cuts: allow.contains(&Permission::CutConnections),
                    widens: allow.contains(&Permission::WidenZones),
                };
                let confirm_within = confirm_within_s.map(Duration::from_secs);
                let wish = Wish { allowed, rewritten, by_hand: true, confirm_within };
                self.ask(move |service| service.reload(wish)).await.map(|change| Reply::Applied { change })
            }
            Request::Flows { filter, seconds } => {
                let watching = Arc::clone(&self.watching);
                let window = Duration::from_secs(seconds);
                self.ask(move |service| watching.asked_for_flows(service, &filter, window))
                    .await
                    .map(|flows| Reply::Flows { flows })
            }
            Request::Traffic {} => {
                self.ask(Service::look).await.map(|look| Reply::Traffic { traffic: Traffic::of(&look) })
            }
            Request::Confirm {} => {
                self.ask(Service::confirm).await.map(|generation| Reply::Confirmed { generation })
            }
            Request::Rollback { back, generation } => self
                .ask(move |service| service.rollback(back, generation))
                .await
                .map(|change| Reply::Applied { change }),
            Request::Detach {} => self.ask(Service::detach).await.map(|detached| Reply::Detached {
                interfaces: detached.interfaces,
                generations: detached.generations,
            }),
        };
        reply.unwrap_or_else(|error| Reply::Error { kind: error.kind(), message: chain(&error) })
    }

    async fn forbidden(&self, peer: Peer, request: Request) {
        self.ask(move |service| service.forbidden(&peer, request.name())).await;
    }

    fn answered(&self, reply: &Reply) {
        if matches!(reply, Reply::Detached { .. }) {
            self.service.ended.notify_one();
        }
    }
}

impl Pages for Handle {
    async fn metrics(&self) -> Result<Vec<u8>, String> {
        // Who has gone meanwhile waits no more; who reads holds it to the end.
        let turn = Arc::clone(&self.reading).lock_owned().await;
        self.ask(move |service| {
            let _turn = turn;
            let page = match service.look() {
                Ok(look) => service.metrics.page(&look.reading()),
                Err(error) => {
                    error!("cannot read the kernel's counters: {}", chain(&error));
                    let (policy, interfaces) = service.in_force();
                    service.metrics.page_without_counters(policy.as_ref(), &interfaces)
                }
            };
            page.map_err(|error| error.to_string())
        })
        .await
    }

    async fn health(&self) -> Result<String, String> {
        self.ask(Service::health).await
    }
}
