//! Traces of single packets, while debugging: from the programs to the log.

use std::sync::Arc;

use tracing::{error, warn};

use super::service::{Service, chain};
use crate::dataplane::{Dataplane, TraceLog};

/// Carries traces to the log, for ever, from each generation in its turn.
pub(super) async fn carry(service: Arc<Service>) {
    warn!("single packets are being traced: this is slow, and the log names addresses");
    let mut names = service.names();
    loop {
        names.mark_unchanged();
        let opened = service.with_dataplane(|dataplane: &mut Dataplane| dataplane.traces());
        let mut traces = match opened {
            Ok(Ok(traces)) => traces,
            Ok(Err(error)) => {
                error!("cannot trace: {}", chain(&error));
                None
            }
            Err(_detached) => return,
        };
        tokio::select! {
            () = forward(&mut traces) => {}
            changed = names.changed() => if changed.is_err() { return },
        }
    }
}

async fn forward(traces: &mut Option<TraceLog>) {
    while let Some(log) = traces {
        if let Err(error) = log.forward().await {
            error!("tracing pauses until the next policy: {}", chain(&error));
            *traces = None;
        }
    }
    std::future::pending::<()>().await;
}
