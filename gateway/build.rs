//! Builds the eBPF object that the controller carries inside.
//!
//! `aya-build` does the same but leaves no way to choose the instruction set: we want v3 (32-bit
//! registers and compares; every kernel since 5.12 has it).
#![allow(clippy::print_stdout, reason = "a build script talks to cargo on standard output")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// What `cargo xtask setup` installs.
const LINKER: &str = "bpf-linker";

fn main() {
    if let Err(message) = build() {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), String> {
    let ebpf = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../gateway-ebpf");
    println!("cargo::rerun-if-changed={}", ebpf.display());
    println!("cargo::rerun-if-changed={}", ebpf.join("../gateway-common").display());
    println!("cargo::rerun-if-env-changed=PATH");
    let cargo = variable("CARGO")?;
    let rustc = variable("RUSTC")?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    // The benchmark's programs are built beside them, for those who build with feature `testing`.
    let testing = env::var_os("CARGO_FEATURE_TESTING").is_some();
    let programs = if testing { &["clinigate-ebpf", "clinigate-bench"][..] } else { &["clinigate-ebpf"] };
    require_core_source(&rustc)?;
    require_linker()?;

    let target_dir = out.join("ebpf");
    let mut command = Command::new(cargo);
    // Profile settings in the environment are meant for the controller.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PROFILE_")) {
        command.env_remove(name);
    }
    let output = command
        .args(["build", "--release", "--quiet", "--package", "gateway-ebpf"])
        .args(programs.iter().flat_map(|program| ["--bin", program]))
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        .current_dir(&ebpf)
        // The stable compiler builds `core` only when told that unstable options are wanted.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start cargo for the eBPF programs: {error}"))?;
    let diagnostics = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("the eBPF programs do not build:\n{diagnostics}"));
    }
    for line in diagnostics.lines() {
        println!("cargo::warning={line}");
    }
    for program in programs {
        let built = target_dir.join("bpfel-unknown-none/release").join(program);
        fs::copy(&built, out.join(program).with_extension("o"))
            .map_err(|error| format!("cannot copy {}: {error}", built.display()))?;
    }
    Ok(())
}

fn flags() -> Result<String, String> {
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let bpf_arch = format!("--cfg=bpf_target_arch=\"{arch}\"");
    let flags = include_str!("../gateway-ebpf/rustflags").lines().filter(|line| !line.starts_with('#'));
    Ok(std::iter::once(bpf_arch.as_str()).chain(flags).collect::<Vec<_>>().join("\x1f"))
}

fn require_core_source(rustc: &str) -> Result<(), String> {
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|error| format!("cannot start {rustc}: {error}"))?;
    let sysroot = String::from_utf8_lossy(&output.stdout);
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    if source.is_dir() {
        return Ok(());
    }
    Err("the source of Rust's `core` is missing; mend it with: cargo xtask setup".to_owned())
}

fn require_linker() -> Result<(), String> {
    let found = Command::new(LINKER).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("{LINKER} is missing; mend it with: cargo xtask setup")),
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
