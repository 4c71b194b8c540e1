//! The kernel's modules that a guest loads, each after those that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process;

/// What tests and deployments use, where it is not built in.
const WANTED: [&str; 26] = [
    "virtio_pci",
    "virtio_net",
    "e1000",
    "veth",
    "dummy",
    "tun",
    "ipip",
    "ip_gre",
    "xfrm_interface",
    "8021q",
    "bridge",
    "br_netfilter",
    "bonding",
    "vrf",
    "macvlan",
    "ifb",
    "sch_ingress",
    "cls_bpf",
    "act_vlan",
    "nf_conntrack",
    "nf_tables",
    "nft_ct",
    "nft_limit",
    "nft_log",
    "nft_fib_inet",
    "nft_reject_inet",
];

/// What modules ask the kernel for by the name of an algorithm as they begin, which no list of theirs says; some kernels
/// have it inside, or do without.
const ASKED_FOR: [&str; 1] = ["crc32c_generic"];

/// The modules to load, in order, and the names of those that this kernel has neither as a file nor inside.
pub(super) fn order(folder: &Path) -> Result<(Vec<PathBuf>, Vec<&'static str>)> {
    let mut files = BTreeMap::new();
    collect(&folder.join("kernel"), &mut files)?;
    let list = folder.join("modules.builtin");
    let built_in = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let built_in: BTreeSet<String> = built_in.lines().map(|line| name(Path::new(line))).collect();
    let mut order = Order { files, seen: BTreeSet::new(), paths: Vec::new() };
    for module in ASKED_FOR {
        order.add(module)?;
    }
    let mut absent = Vec::new();
    for wanted in WANTED {
        if order.files.contains_key(wanted) {
            order.add(wanted)?;
        } else if !built_in.contains(wanted) {
            absent.push(wanted);
        }
    }
    Ok((order.paths, absent))
}

/// A module's bytes, uncompressed.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let mut xz = process::command("xz");
        let output = xz.arg("--decompress").arg("--stdout").arg(path).output().context("cannot start xz")?;
        anyhow::ensure!(output.status.success(), "xz cannot read {}", path.display());
        return Ok(output.stdout);
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Modules in the order in which they are loaded.
struct Order {
    files: BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    paths: Vec<PathBuf>,
}

impl Order {
    fn add(&mut self, module: &str) -> Result<()> {
        if !self.seen.insert(module.to_owned()) {
            return Ok(());
        }
        // What is not a file is inside the kernel.
        let Some(path) = self.files.get(module).cloned() else { return Ok(()) };
        for needed in dependencies(&read(&path)?) {
            self.add(&needed)?;
        }
        self.paths.push(path);
        Ok(())
    }
}

/// The modules that a module names as needed in its own description (`depends=a,b`, the section `.modinfo`).
/// `modules.dep` has the same, but it is made where a kernel is installed.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let list = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list).into_owned();
    list.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let failed = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.file_name().is_some_and(|file| file.to_string_lossy().contains(".ko")) {
            files.insert(name(&path), path);
        }
    }
    Ok(())
}

/// A module's name: that of its file without what says its form, with the underscores that the kernel knows it by.
fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split(".ko").next().unwrap_or_default().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_dependencies_are_the_kernel_s() {
        assert_eq!(name(Path::new("kernel/net/netfilter/nft_fib_inet.ko.xz")), "nft_fib_inet");
        assert_eq!(name(Path::new("kernel/drivers/virtio/virtio-ring.ko")), "virtio_ring");
        let module = b"\x7fELF..license=GPL\0depends=nft_fib,nf-tables\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["nft_fib", "nf_tables"]);
        assert!(dependencies(b"license=GPL\0depends=\0").is_empty());
        assert!(dependencies(b"no description").is_empty());
    }
}
