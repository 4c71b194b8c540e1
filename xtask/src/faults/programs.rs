//! The programs in the kernel, built alone: tests that are built already take them from a file. Whatever has
//! its fault there is tried in a fraction of the time that everything would take.

use std::env;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::EBPF_CRATE;
use crate::process;

/// The environment variable by which tests are told of other programs than those that were built into them.
pub(crate) const VARIABLE: &str = "CLINIGATE_OBJECT";

const TARGET: &str = "bpfel-unknown-none";
const PROGRAM: &str = "clinigate-ebpf";

/// A cargo that builds the programs of the tree at `root` into `build`, as the controller's build script does.
pub(crate) fn cargo(root: &Path, build: &Path) -> Command {
    let mut cargo = process::cargo();
    cargo.current_dir(root.join(EBPF_CRATE));
    cargo.args(["build", "--release", "--quiet", "--package", EBPF_CRATE, "--bin", PROGRAM]);
    cargo.args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"]).arg(build);
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", flags());
    cargo
}

/// Where that cargo leaves them.
pub(crate) fn object(build: &Path) -> PathBuf {
    build.join(TARGET).join("release").join(PROGRAM)
}

fn flags() -> String {
    let architecture = format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH);
    let flags = include_str!("../../../gateway-ebpf/rustflags").lines().filter(|line| !line.starts_with('#'));
    iter::once(architecture.as_str()).chain(flags).collect::<Vec<_>>().join("\x1f")
}
