//! `clinigate schema`: the JSON Schema of policy files.

use clap::Args;

use super::{Outcome, print_json};
use crate::policy;

/// Print the JSON Schema of policy files, with which editors complete and check.
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// Of the files in a policy's directory `tests` instead.
    #[arg(long)]
    tests: bool,
}

impl Schema {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        print_json(&if self.tests { policy::tests_schema() } else { policy::schema() })?;
        Ok(Outcome::Fine)
    }
}
