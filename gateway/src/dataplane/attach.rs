//! Links between programs and interfaces.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::programs::{ProgramInfo, loaded_programs};
use nix::net::if_::if_nametoindex;

use super::XdpMode;
use super::error::DataplaneError;
use super::netlink;
use super::pins::{self, Hook, Pins};
use super::sys;
use crate::compile::image::Manifest;

/// An interface to be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) ifindex: u32,
    pub(super) trunk: bool,
}

/// A pinned program.
pub(super) struct Pinned {
    fd: OwnedFd,
    id: u32,
}

impl Pinned {
    pub(super) fn open(path: &Path) -> Result<Self, DataplaneError> {
        let failed = |error| DataplaneError::io("cannot open the program", path)(error);
        let fd = sys::open_pin(path).map_err(failed)?;
        let id = ProgramInfo::from_pin(path).map_err(|error| failed(io::Error::other(error)))?.id();
        Ok(Self { fd, id })
    }
}

/// The programs that interfaces shall run.
pub(super) struct Programs {
    pub(super) entry: Pinned,
    pub(super) egress: Pinned,
}

/// What was done to links, so that it can be undone.
#[derive(Default)]
pub(super) struct Journal {
    steps: Vec<Step>,
    /// Interfaces that were attached anew.
    pub(super) attached: Vec<String>,
}

enum Step {
    Created(PathBuf),
    Updated { link: OwnedFd, before: OwnedFd },
}

impl Journal {
    /// Undoes all of it, the last first.
    pub(super) fn undo(self) {
        for step in self.steps.into_iter().rev() {
            let undone = match step {
                Step::Created(path) => pins::unpin(&path),
                Step::Updated { link, before } => sys::update_link(link.as_fd(), before.as_fd())
                    .map_err(DataplaneError::bpf("cannot restore a link")),
            };
            if let Err(error) = undone {
                tracing::error!(%error, "cannot undo a change of links");
            }
        }
    }
}

/// Finds the interfaces of a policy; changes nothing. Fails where one is missing or carries
/// somebody else's XDP program.
pub(super) fn survey(pins: &Pins, manifest: &Manifest) -> Result<Vec<Target>, DataplaneError> {
    let (targets, missing) = find(manifest);
    if !missing.is_empty() {
        return Err(DataplaneError::MissingInterfaces(missing));
    }
    for target in &targets {
        refuse_foreign(pins, target)?;
    }
    Ok(targets)
}

/// The interfaces of a policy that exist, and the names of those that do not.
pub(super) fn find(manifest: &Manifest) -> (Vec<Target>, Vec<String>) {
    let (mut targets, mut missing) = (Vec::new(), Vec::new());
    for interface in &manifest.interfaces {
        match if_nametoindex(interface.name.as_str()) {
            Ok(ifindex) => {
                targets.push(Target { name: interface.name.clone(), ifindex, trunk: interface.trunk })
            }
            Err(_) => missing.push(interface.name.clone()),
        }
    }
    (targets, missing)
}

fn refuse_foreign(pins: &Pins, target: &Target) -> Result<(), DataplaneError> {
    let attached = netlink::attached_xdp(target.ifindex)
        .map_err(DataplaneError::bpf(format!("cannot look at interface {}", target.name)))?;
    let Some(attached) = attached else { return Ok(()) };
    if find_link(pins, target, Hook::Xdp)?.is_some() {
        return Ok(());
    }
    let info = loaded_programs().filter_map(Result::ok).find(|program| program.id() == attached.program);
    let name = info.and_then(|info| info.name_as_str().map(str::to_owned)).unwrap_or_default();
    Err(DataplaneError::ForeignProgram { interface: target.name.clone(), id: attached.program, name })
}

/// Makes the interface run both programs: attaches where nothing of ours is, replaces where an
/// older program is, in one step. Egress comes first, so that no connection of the gateway's own
/// is missed by the time its replies are judged.
pub(super) fn converge(
    pins: &Pins,
    target: &Target,
    programs: &Programs,
    mode: XdpMode,
    journal: &mut Journal,
) -> Result<(), DataplaneError> {
    for (hook, program) in [(Hook::Egress, &programs.egress), (Hook::Xdp, &programs.entry)] {
        let failed = |source: io::Error| DataplaneError::Attach {
            interface: target.name.clone(),
            hook: hook.name(),
            hint: hint(hook, mode, &source),
            source,
        };
        let path = pins.link(&target.name, hook);
        if let Some((link, running, found)) = find_link(pins, target, hook)? {
            if found != path {
                // The interface has another name now.
                fs::rename(&found, &path).map_err(failed)?;
            }
            if running != program.id {
                let before = sys::program_by_id(running).map_err(failed)?;
                sys::update_link(link.as_fd(), program.fd.as_fd()).map_err(failed)?;
                journal.steps.push(Step::Updated { link, before });
            }
            continue;
        }
        // A pin that is left of an interface that is gone.
        pins::unpin(&path)?;
        let link = create(program.fd.as_fd(), target.ifindex, hook, mode).map_err(failed)?;
        sys::pin(link.as_fd(), &path).map_err(failed)?;
        journal.steps.push(Step::Created(path));
        if hook == Hook::Xdp {
            journal.attached.push(target.name.clone());
        }
    }
    Ok(())
}

/// Takes the programs off all interfaces but these; returns whose.
pub(super) fn detach_others(pins: &Pins, keep: &[Target]) -> Result<Vec<String>, DataplaneError> {
    let mut detached = Vec::new();
    for (interface, hook, path) in pins.all_links()? {
        if keep.iter().all(|target| target.name != interface) {
            pins::unpin(&path)?;
            if hook == Hook::Xdp {
                detached.push(interface);
            }
        }
    }
    Ok(detached)
}

/// Whether every link of these interfaces runs these programs.
pub(super) fn is_converged(
    pins: &Pins,
    targets: &[Target],
    programs: &Programs,
) -> Result<bool, DataplaneError> {
    for target in targets {
        for (hook, program) in [(Hook::Egress, &programs.egress), (Hook::Xdp, &programs.entry)] {
            if find_link(pins, target, hook)?.is_none_or(|(_, running, _)| running != program.id) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Our live link of an interface, whatever name the interface had: link, program, pin.
fn find_link(
    pins: &Pins,
    target: &Target,
    hook: Hook,
) -> Result<Option<(OwnedFd, u32, PathBuf)>, DataplaneError> {
    for (_, _, path) in pins.all_links()?.into_iter().filter(|(_, found, _)| *found == hook) {
        let failed = |error| DataplaneError::io("cannot look at the link", &path)(error);
        let link = sys::open_pin(&path).map_err(failed)?;
        let info = sys::link_info(link.as_fd()).map_err(failed)?;
        if info.ifindex == target.ifindex {
            return Ok(Some((link, info.program, path)));
        }
    }
    Ok(None)
}

fn create(program: BorrowedFd<'_>, ifindex: u32, hook: Hook, mode: XdpMode) -> io::Result<OwnedFd> {
    // enum bpf_attach_type, flags of include/uapi/linux/if_link.h and include/uapi/linux/bpf.h.
    const XDP: u32 = 37;
    const TCX_EGRESS: u32 = 47;
    const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
    const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
    // First of the hook's programs: one before it could end the chain.
    const BPF_F_BEFORE: u32 = 1 << 3;
    match hook {
        Hook::Egress => sys::create_link(program, ifindex, TCX_EGRESS, BPF_F_BEFORE),
        Hook::Xdp => {
            let flags = match mode {
                XdpMode::Native => XDP_FLAGS_DRV_MODE,
                XdpMode::Generic => XDP_FLAGS_SKB_MODE,
            };
            sys::create_link(program, ifindex, XDP, flags)
        }
    }
}

fn hint(hook: Hook, mode: XdpMode, error: &io::Error) -> &'static str {
    match (hook, mode, error.raw_os_error()) {
        (Hook::Xdp, XdpMode::Native, Some(libc::EOPNOTSUPP)) => {
            ": its driver has no native XDP; --xdp-mode generic works with any driver, slowly"
        }
        (Hook::Xdp, _, Some(libc::EBUSY)) => ": it already carries an XDP program",
        (Hook::Xdp, XdpMode::Native, Some(libc::EINVAL)) => {
            ": its driver refuses the program, perhaps for its MTU or its offloads (ethtool -k)"
        }
        _ => "",
    }
}
