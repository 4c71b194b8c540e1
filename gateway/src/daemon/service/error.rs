//! Why a change was refused, and how that is said.

use super::super::control::ErrorKind;
use super::super::prepare::PrepareError;
use crate::dataplane::DataplaneError;

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
    pub(in crate::daemon) fn kind(&self) -> ErrorKind {
        match self {
            // Nothing is known about a policy that cannot be read.
            Self::Policy(PrepareError::Unreadable(_)) | Self::Machine(_) | Self::Detached => {
                ErrorKind::Machine
            }
            Self::Policy(_) => ErrorKind::Policy,
        }
    }

    /// In one line, for somebody who has each mistake before his eyes already.
    pub(in crate::daemon) fn brief(&self) -> String {
        match self {
            Self::Policy(error) => error.brief(),
            other => chain(other),
        }
    }
}

/// An error and its causes, in one line.
pub(in crate::daemon) fn chain(error: &dyn std::error::Error) -> String {
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
