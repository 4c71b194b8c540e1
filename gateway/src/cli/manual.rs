//! `clinigate manual`: the manual pages, made from the arguments that this very program takes.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory};

use super::{Cli, Outcome};

/// Write the manual pages into a directory: one for the program, one for each command.
#[derive(Debug, Args)]
pub(super) struct Manual {
    /// It is made where it does not exist.
    directory: PathBuf,
}

impl Manual {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let directory = self.directory.display();
        fs::create_dir_all(&self.directory).with_context(|| format!("cannot create {directory}"))?;
        clap_mangen::generate_to(Cli::command(), &self.directory)
            .with_context(|| format!("cannot write the manual pages into {directory}"))?;
        Ok(Outcome::Fine)
    }
}
