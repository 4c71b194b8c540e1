//! What the service's sockets ask of it: requests of the control socket, pages for Prometheus.

use std::sync::Arc;

use tracing::error;

use super::control::{self, ErrorKind, Reply, Request};
use super::http::Pages;
use super::run::blocking;
use super::service::{Service, chain};

/// The service as its sockets see it.
pub(super) struct Handle(Arc<Service>);

impl Handle {
    pub(super) fn new(service: Arc<Service>) -> Self {
        Self(service)
    }

    async fn ask<T: Send + 'static>(&self, work: impl FnOnce(&Service) -> T + Send + 'static) -> T {
        let service = Arc::clone(&self.0);
        blocking(move || work(&service)).await
    }
}

impl control::Handler for Handle {
    async fn handle(&self, request: Request) -> Reply {
        let reply = match request {
            Request::Status {} => {
                self.ask(Service::status).await.map(|status| Reply::Status { status: Box::new(status) })
            }
            Request::Apply { dir } if dir.is_absolute() => {
                self.ask(move |service| service.apply(&dir)).await.map(|change| Reply::Applied { change })
            }
            Request::Apply { dir } => {
                let message = format!("{} is not an absolute path", dir.display());
                return Reply::Error { kind: ErrorKind::Malformed, message };
            }
            Request::Reload {} => self.ask(Service::reload).await.map(|change| Reply::Applied { change }),
            Request::Detach {} => self.ask(Service::detach).await.map(|detached| Reply::Detached {
                interfaces: detached.interfaces,
                generations: detached.generations,
            }),
        };
        reply.unwrap_or_else(|error| Reply::Error { kind: error.kind(), message: chain(&error) })
    }

    fn answered(&self, reply: &Reply) {
        if matches!(reply, Reply::Detached { .. }) {
            self.0.ended.notify_one();
        }
    }
}

impl Pages for Handle {
    async fn metrics(&self) -> Result<Vec<u8>, String> {
        self.ask(|service| {
            let look = service.look();
            if let Err(error) = &look {
                error!("cannot read the kernel's counters: {}", chain(error));
            }
            let reading = look.ok().map(|look| look.reading());
            service.metrics.page(reading.as_ref()).map_err(|error| error.to_string())
        })
        .await
    }

    async fn health(&self) -> Result<String, String> {
        self.ask(Service::health).await
    }
}
