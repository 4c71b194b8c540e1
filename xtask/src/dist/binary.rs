//! The static program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{build, process};

/// Builds the controller, optimised, with the C library inside: it runs on whatever Linux it is brought to.
///
/// It is glibc, because every machine that builds has it: what glibc does not do by itself when it is linked in (names from
/// the network) is not asked of it, and groups are looked up in files.
pub(crate) fn build() -> Result<PathBuf> {
    let target = build::host()?;
    let flags = format!("target.{target}.rustflags=[\"-C\",\"target-feature=+crt-static\"]");
    let mut cargo = process::cargo();
    cargo.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "clinigate",
        "--target",
        &target,
        "--config",
        &flags,
    ]);
    process::run(&mut cargo)?;
    let program = process::workspace_root().join("target").join(target).join("release/clinigate");
    ensure!(is_static(&program)?, "{} is linked to libraries of this machine", program.display());
    Ok(program)
}

/// Whether a program of 64 bits asks for no interpreter (the dynamic linker): elf(5), `PT_INTERP`.
pub(super) fn is_static(program: &Path) -> Result<bool> {
    const INTERPRETER: u32 = 3;
    let elf = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let field = elf.get(at..at + bytes)?;
        field.iter().rev().try_fold(0, |number: usize, byte| Some(number << 8 | usize::from(*byte)))
    };
    let header = || Some((number(32, 8)?, number(54, 2)?, number(56, 2)?));
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "{} is no program of 64 bits", program.display());
    let (offset, length, count) = header().context("the program's header is cut off")?;
    let kinds = (0..count).map(|index| number(offset + index * length, 4));
    Ok(kinds.flatten().all(|kind| kind != INTERPRETER as usize))
}

#[cfg(test)]
mod tests {
    use super::is_static;

    #[test]
    fn a_program_that_asks_for_an_interpreter_is_not_static() {
        let this = std::env::current_exe().expect("it runs");
        assert!(!is_static(&this).expect("it is a program"), "tests are linked to libraries");
    }
}
