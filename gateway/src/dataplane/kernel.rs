//! What the kernel and the process must bring along, looked at before anything is changed.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};

use super::error::DataplaneError;
use super::features::Features;

/// Fails where the process lacks a capability or the kernel something essential.
pub(super) fn check() -> Result<Features, DataplaneError> {
    check_capabilities()?;
    let features = Features::probe();
    features.require()?;
    Ok(features)
}

// include/uapi/linux/capability.h
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Fails where the process lacks a capability.
pub(super) fn check_capabilities() -> Result<(), DataplaneError> {
    let path = Path::new("/proc/self/status");
    let status = fs::read_to_string(path).map_err(DataplaneError::io("cannot read", path))?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let missing = missing_capabilities(effective);
    if missing.is_empty() { Ok(()) } else { Err(DataplaneError::Capabilities(missing.join(", "))) }
}

fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    // CAP_SYS_ADMIN includes what was split off from it (capabilities(7)).
    let lacks = |bit: u32| !has(bit) && (bit == CAP_NET_ADMIN || !has(CAP_SYS_ADMIN));
    CAPABILITIES.iter().filter(|(bit, _)| lacks(*bit)).map(|(_, name)| *name).collect()
}

/// Makes the pin root, mounting a BPF filesystem where it would stand on none.
pub(super) fn prepare_pin_root(root: &Path) -> Result<(), DataplaneError> {
    let parent = root.parent().unwrap_or(root);
    if !is_bpffs(nearest_existing(root)) {
        let no_bpffs =
            |source| DataplaneError::NoBpffs { path: root.to_owned(), parent: parent.to_owned(), source };
        fs::create_dir_all(parent).map_err(no_bpffs)?;
        // Never over files of somebody.
        if fs::read_dir(parent).map_err(no_bpffs)?.next().is_some() {
            return Err(no_bpffs(io::Error::other(
                "not mounted there by itself: the directory is not empty",
            )));
        }
        let options: Option<&str> = None;
        mount(
            Some("bpf"),
            parent,
            Some("bpf"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            options,
        )
        .map_err(|error| no_bpffs(error.into()))?;
    }
    fs::create_dir_all(root).map_err(DataplaneError::io("cannot create", root))
}

/// Whether a pin root is on a BPF filesystem, or would be.
pub(super) fn is_on_bpffs(root: &Path) -> bool {
    is_bpffs(nearest_existing(root))
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn is_bpffs(path: &Path) -> bool {
    // include/uapi/linux/magic.h
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == FsType(BPF_FS_MAGIC as _))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named() {
        assert_eq!(missing_capabilities(0), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing_capabilities(1 << CAP_SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert!(missing_capabilities(u64::MAX).is_empty());
    }
}
