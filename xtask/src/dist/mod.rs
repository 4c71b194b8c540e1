//! `cargo xtask dist`: the Debian package.
//!
//! One static program with the eBPF object inside, and around it what is made from the program itself (manual pages,
//! completions), from the crates that are in it (bill of materials, licences) and from the tree (units, dashboards).

pub(crate) mod binary;
mod components;
mod debian;
mod licences;
mod sbom;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{process, setup};
use debian::Package;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where the package and the bill of materials are written
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Pack this program instead of building one, uncompressed. For tests: it may need libraries that the package does
    /// not name
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Added to the version, as `+1`
    #[arg(long, value_name = "SUFFIX", default_value = "")]
    suffix: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    ensure!(
        process::find("dpkg-deb").is_some(),
        "a Debian package takes dpkg-deb: on Debian it is always there"
    );
    let out = match &arguments.out {
        Some(out) => std::path::absolute(out).context("the current directory is gone")?,
        None => process::workspace_root().join("target/dist"),
    };
    let program = if let Some(binary) = &arguments.binary {
        std::path::absolute(binary).context("the current directory is gone")?
    } else {
        setup::require_build_chain()?;
        binary::build()?
    };
    let components = components::of("clinigate")?;
    let version = format!("{}{}", components.version, arguments.suffix);
    let package = Package {
        program: &program,
        version: &version,
        components: &components,
        compressed: arguments.binary.is_none(),
    };
    let file = package.write(&out)?;
    say(&format!("{} ({} KiB)", file.display(), size(&file)? / 1024));
    Ok(ExitCode::SUCCESS)
}

fn size(file: &Path) -> Result<u64> {
    Ok(std::fs::metadata(file).with_context(|| format!("no {}", file.display()))?.len())
}

fn say(words: &str) {
    eprintln!("dist: {words}");
}
