//! Traces of single packets, while debugging.

use std::io;

use aya_log::EbpfLogger;
use log::Log;
use tokio::io::unix::AsyncFd;

use super::error::DataplaneError;

/// Carries what the programs of one generation trace to the log. Needs [`super::Options::trace`].
pub struct TraceLog {
    logger: AsyncFd<EbpfLogger<&'static dyn Log>>,
}

impl TraceLog {
    pub(super) fn open(program: u32) -> Result<Self, DataplaneError> {
        let failed = |error: io::Error| DataplaneError::bpf("cannot read traces")(error);
        let logger = EbpfLogger::init_from_id(program).map_err(|error| failed(io::Error::other(error)))?;
        // SAFETY: the logger keeps its descriptor, and the same one, until it is dropped.
        let logger = unsafe { AsyncFd::register(logger) }.map_err(|error| failed(error.into()))?;
        Ok(Self { logger })
    }

    /// Waits for traces and logs them.
    pub async fn forward(&mut self) -> Result<(), DataplaneError> {
        let mut guard =
            self.logger.readable_mut().await.map_err(DataplaneError::bpf("cannot read traces"))?;
        guard.clear_ready();
        guard.get_inner_mut().flush();
        Ok(())
    }
}
