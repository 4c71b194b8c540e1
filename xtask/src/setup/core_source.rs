//! The source of `core`: the eBPF programs are built with a `core` of their own, because none is shipped
//! for the kernel's instruction set.

use anyhow::{Result, bail};

use super::sysroot::Sysroot;
use super::{component, debian, say};

const STEP: &str = "core source";

pub(super) fn provide(sysroot: &Sysroot) -> Result<()> {
    if sysroot.has_core_source() {
        say(STEP, "present");
        return Ok(());
    }
    if sysroot.is_the_distribution_s() {
        bail!(
            "the source of Rust's `core` is missing, and this compiler is the distribution's; \
             mend it with the distribution's package of Rust's sources, on Debian: sudo apt-get install rust-src"
        );
    }
    say(STEP, "missing; asking rustup for it");
    let by_rustup = component::add("rust-src");
    if by_rustup.is_ok() && sysroot.has_core_source() {
        say(STEP, "installed by rustup");
        return Ok(());
    }
    let (why_not_rustup, mend) = match by_rustup {
        Ok(()) => (
            "rustup counts it as installed, but it is not there".to_owned(),
            "rustup component remove rust-src && rustup component add rust-src",
        ),
        Err(error) => (format!("{error:#}"), "rustup component add rust-src"),
    };
    say(STEP, format_args!("not from rustup ({why_not_rustup})"));
    say(STEP, format_args!("trying Debian's package of Rust {}", sysroot.release));
    match debian::library_source(&sysroot.release, |library| sysroot.adopt_library(library)) {
        Ok(version) => {
            say(STEP, format_args!("installed from Debian's rust-src {version}"));
            Ok(())
        }
        Err(error) => bail!(
            "the source of Rust's `core` is missing and neither rustup nor Debian's archive gave it ({error:#}); \
             mend it where there is a network with: {mend}"
        ),
    }
}
