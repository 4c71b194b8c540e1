//! Which gateway a policy is read for.

use anyhow::anyhow;
use clap::Args;

use crate::policy::{Label, Selection};

/// Labels of the gateway: they select files with the key `gateways`.
#[derive(Clone, Debug, Args)]
pub(super) struct Labels {
    /// A label of the gateway, such as site=north; may be given more than once. Files of the policy with
    /// a key `gateways` count only where the labels match.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<Label>,
}

impl Labels {
    /// Which files count.
    pub(super) fn selection(&self) -> anyhow::Result<Selection> {
        Selection::of(&self.labels).map_err(|error| anyhow!("{error}"))
    }
}
