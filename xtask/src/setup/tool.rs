//! Programs that cargo builds from their published sources, each at exactly one version.

use anyhow::{Context, Result, bail};

use super::say;
use crate::process;

/// A program whose crate has the same name.
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    /// More for `cargo install`.
    options: &'static [&'static str],
    /// The command of ours that installs it.
    mend: &'static str,
}

/// Links the eBPF programs. From 0.11 on it wants LLVM's development files; this one uses the compiler's LLVM.
pub(crate) const BPF_LINKER: Tool =
    Tool { name: "bpf-linker", version: "0.10.4", options: &[], mend: "cargo xtask setup" };

/// Checks licences, sources and advisories of the dependencies. Unoptimised: it runs for a second, and its
/// release profile (whole-program optimisation) takes many minutes to build.
pub(crate) const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", options: &["--debug"], mend: "cargo xtask setup --ci" };

/// Builds fuzz targets with libFuzzer and a sanitizer. Unoptimised: it only calls cargo.
pub(crate) const CARGO_FUZZ: Tool =
    Tool { name: "cargo-fuzz", version: "0.13.2", options: &["--debug"], mend: "cargo xtask fuzz" };

impl Tool {
    pub(crate) fn provide(&self) -> Result<()> {
        let Self { name, version, options, .. } = self;
        if self.found().as_deref() == Some(version) {
            say(name, format_args!("{version} present"));
            return Ok(());
        }
        match self.found() {
            Some(other) => say(name, format_args!("{other} is here, {version} is needed; installing it")),
            None => say(name, format_args!("missing; installing {version}, a minute or two")),
        }
        let home = process::cargo_home()?;
        let mut install = process::cargo();
        // --force: also in place of another version, whoever put it there.
        install.args(["install", name, "--version", version, "--locked", "--force", "--quiet"]);
        install.args(*options).arg("--root").arg(&home);
        process::run(&mut install)
            .with_context(|| format!("{name} cannot be installed; it needs a network and a C compiler"))?;
        match self.found() {
            Some(found) if found == *version => {
                say(name, format_args!("{version} installed in {}", home.join("bin").display()));
                Ok(())
            }
            _ => bail!(
                "{name} {version} is installed in {home}/bin, but {found} comes first; mend it with: export PATH=\"{home}/bin:$PATH\"",
                home = home.display(),
                found = process::find(name).unwrap_or_else(|| name.into()).display(),
            ),
        }
    }

    pub(crate) fn require(&self) -> Result<()> {
        let Self { name, version, mend, .. } = self;
        match self.found() {
            Some(found) if found == *version => Ok(()),
            Some(found) => bail!("{name} is {found} and not {version}; mend it with: {mend}"),
            None => bail!("{name} is missing; mend it with: {mend}"),
        }
    }

    /// The version that the search path leads to.
    fn found(&self) -> Option<String> {
        let output = process::output(process::command(self.name).arg("--version")).ok()?;
        output.split_whitespace().nth(1).map(str::to_owned)
    }
}
