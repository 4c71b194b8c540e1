//! Programs onto interfaces.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::programs::{ProgramInfo, loaded_programs};
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::XdpMode;
use super::devices::Link;
use super::error::DataplaneError;
use super::features::Exit;
use super::links::Links;
use super::pins::{self, Hook, Pins};
use super::{clsact, devices, netlink, sys};
use crate::compile::image::Manifest;

/// An interface to be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) ifindex: u32,
    /// Where it is a bond, the indices of its links: programs run there, and see their index.
    pub(super) links: Vec<u32>,
    /// Largest packet, in bytes.
    pub(super) mtu: u32,
    /// What stands before its packets.
    pub(super) link: Link,
    /// The policy says that it is the end of a tunnel.
    pub(super) tunnel: bool,
}

impl Target {
    /// Names of the devices that receive for it: its own, and those of its links.
    pub(super) fn names(&self) -> Vec<String> {
        // A link that is gone by now needs nothing.
        let links = self.links.iter().filter_map(|link| if_indextoname(*link).ok()?.into_string().ok());
        links.chain([self.name.clone()]).collect()
    }

    /// Whether there is no such device any more, or another one by that name.
    pub(super) fn is_gone(&self) -> bool {
        if_nametoindex(self.name.as_str()) != Ok(self.ifindex)
    }

    /// Whether its packets begin at the IP header.
    pub(super) fn is_bare(&self) -> bool {
        self.link == Link::Bare
    }

    /// How programs run on it, where `wanted` is what was asked for.
    pub(super) fn mode(&self, wanted: XdpMode) -> XdpMode {
        // No driver of a device without a link layer has XDP.
        if self.is_bare() { XdpMode::Generic } else { wanted }
    }

    /// Refuses it where the programs would read its packets as something that they are not.
    fn check(&self) -> Result<(), DataplaneError> {
        let kind = match self.link {
            Link::Other(kind) => Some(kind),
            Link::Bare if !self.tunnel => None,
            Link::Ethernet | Link::Bare => return Ok(()),
        };
        Err(DataplaneError::Link { interface: self.name.clone(), kind })
    }
}

/// A pinned program.
pub(super) struct Pinned {
    pub(super) fd: OwnedFd,
    pub(super) id: u32,
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
    /// The same for devices without a link layer; the policy may have none.
    pub(super) bare: Option<Bare>,
    /// How the programs at exits are attached.
    pub(super) exit: Exit,
}

/// Programs for devices without a link layer.
pub(super) struct Bare {
    pub(super) entry: Pinned,
    pub(super) egress: Pinned,
}

impl Programs {
    /// Egress first, so that no connection of the gateway's own is missed by the time its replies
    /// are judged.
    pub(super) fn by_hook(&self, target: &Target) -> Result<[(Hook, &Pinned); 2], DataplaneError> {
        target.check()?;
        let (entry, egress) = match &self.bare {
            Some(bare) if target.is_bare() => (&bare.entry, &bare.egress),
            None if target.is_bare() => {
                return Err(DataplaneError::Link { interface: target.name.clone(), kind: None });
            }
            _ => (&self.entry, &self.egress),
        };
        Ok([(Hook::Egress, egress), (Hook::Xdp, entry)])
    }
}

/// What was done to links, so that it can be undone.
#[derive(Default)]
pub(super) struct Journal {
    pub(super) steps: Vec<Step>,
    /// Interfaces that were attached anew.
    pub(super) attached: Vec<String>,
    /// Interfaces that are known by another name now: before and after.
    pub(super) renamed: Vec<(String, String)>,
}

pub(super) enum Step {
    Created(PathBuf),
    Updated { link: OwnedFd, before: OwnedFd },
    Replaced { ifindex: u32, before: OwnedFd },
    Renamed { from: PathBuf, to: PathBuf },
}

impl Journal {
    /// Undoes all of it, the last first.
    pub(super) fn undo(self) {
        for step in self.steps.into_iter().rev() {
            let undone = match step {
                Step::Created(path) => pins::take_off(&path),
                Step::Updated { link, before } => sys::update_link(link.as_fd(), before.as_fd())
                    .map_err(DataplaneError::bpf("cannot restore a link")),
                Step::Replaced { ifindex, before } => clsact::attach(ifindex, before.as_fd())
                    .map_err(DataplaneError::bpf("cannot restore a classifier")),
                Step::Renamed { from, to } => {
                    fs::rename(&to, &from).map_err(DataplaneError::io("cannot rename the pin", &to))
                }
            };
            if let Err(error) = undone {
                tracing::error!(%error, "cannot undo a change of links");
            }
        }
    }
}

/// Finds the interfaces of a policy, and the names of those that do not exist; changes nothing. Fails where there are such, unless
/// that `may_be`, or where one carries somebody else's XDP program.
pub(super) fn survey(
    links: &Links,
    manifest: &Manifest,
    may_be: bool,
) -> Result<(Vec<Target>, Vec<String>), DataplaneError> {
    let (targets, missing) = find(manifest)?;
    if !missing.is_empty() && !may_be {
        return Err(DataplaneError::MissingInterfaces(missing));
    }
    for target in &targets {
        target.check()?;
        refuse_foreign(links, target)?;
    }
    Ok((targets, missing))
}

/// The interfaces of a policy that exist, and the names of those that do not.
pub(super) fn find(manifest: &Manifest) -> Result<(Vec<Target>, Vec<String>), DataplaneError> {
    let devices = devices::list().map_err(DataplaneError::bpf("cannot list the network devices"))?;
    let (mut targets, mut missing) = (Vec::new(), Vec::new());
    for interface in &manifest.interfaces {
        match if_nametoindex(interface.name.as_str()) {
            Ok(ifindex) => {
                let name = interface.name.clone();
                let Some(device) = devices.get(&ifindex) else {
                    // Made, or gone, while we looked.
                    missing.push(name);
                    continue;
                };
                let (links, link, mtu) = (devices::links(&devices, ifindex), device.link, device.mtu);
                targets.push(Target { name, ifindex, links, mtu, link, tunnel: interface.tunnel });
            }
            Err(_) => missing.push(interface.name.clone()),
        }
    }
    Ok((targets, missing))
}

fn refuse_foreign(links: &Links, target: &Target) -> Result<(), DataplaneError> {
    if links.find(target.ifindex, Hook::Xdp).is_some() {
        return Ok(());
    }
    let attached = netlink::attached_xdp(target.ifindex)
        .map_err(DataplaneError::bpf(format!("cannot look at interface {}", target.name)))?;
    let Some(attached) = attached else { return Ok(()) };
    let name = program_name(attached.program);
    Err(DataplaneError::ForeignProgram { interface: target.name.clone(), id: attached.program, name })
}

/// Name of a program of the kernel's; empty where it has none or is gone.
pub(super) fn program_name(id: u32) -> String {
    let info = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
    info.and_then(|info| info.name_as_str().map(str::to_owned)).unwrap_or_default()
}

/// Makes the interface run both programs: attaches where nothing of ours is, replaces where an
/// older program is, in one step.
pub(super) fn converge(
    pins: &Pins,
    links: &Links,
    target: &Target,
    programs: &Programs,
    mode: XdpMode,
    journal: &mut Journal,
) -> Result<(), DataplaneError> {
    let mode = target.mode(mode);
    for (hook, program) in programs.by_hook(target)? {
        let failed = |source: io::Error| DataplaneError::Attach {
            interface: target.name.clone(),
            hook: hook.name(),
            hint: hint(hook, mode, &source),
            source,
        };
        if let Some(live) = links.find(target.ifindex, hook) {
            if live.program != program.id {
                journal.steps.extend(live.replace(program).map_err(failed)?);
            }
            live.name_pin(pins, &target.name, journal)?;
            continue;
        }
        let path = pins.link(&target.name, target.ifindex, hook);
        // What is left of an interface that is gone and had the same index.
        pins::unpin(&path)?;
        if hook == Hook::Egress && programs.exit == Exit::Clsact {
            // Noted first: a classifier that nobody knows of would stay for ever.
            pins::note(&path)?;
            journal.steps.push(Step::Created(path));
            clsact::attach(target.ifindex, program.fd.as_fd()).map_err(failed)?;
            continue;
        }
        let link = create(program.fd.as_fd(), target.ifindex, hook, mode).map_err(failed)?;
        sys::pin(link.as_fd(), &path).map_err(failed)?;
        journal.steps.push(Step::Created(path));
        if hook == Hook::Xdp {
            journal.attached.push(target.name.clone());
        }
    }
    Ok(())
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
            ": its driver refuses the program, perhaps for its MTU (ip link set dev <interface> mtu 1500) or its offloads \
             (ethtool -K <interface> lro off rx-gro-hw off)"
        }
        (Hook::Egress, _, Some(libc::ENOENT | libc::EOPNOTSUPP)) => {
            ": on this kernel it takes sch_ingress and cls_bpf (modprobe sch_ingress cls_bpf)"
        }
        (Hook::Egress, _, Some(libc::EEXIST | libc::EINVAL)) => {
            ": somebody else's classifier or queueing discipline is in its place (tc filter show dev <interface> egress; \
             tc qdisc show dev <interface>)"
        }
        _ => "",
    }
}
