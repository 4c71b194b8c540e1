//! `clinigate schema`: the JSON Schema of policy files.

use clap::Args;

use super::{Outcome, print_json};
use crate::policy;

/// Print the JSON Schema of policy files, with which editors complete and check.
#[derive(Debug, Args)]
pub(super) struct Schema {}

impl Schema {
    pub(super) fn run() -> anyhow::Result<Outcome> {
        print_json(&policy::schema())?;
        Ok(Outcome::Fine)
    }
}
