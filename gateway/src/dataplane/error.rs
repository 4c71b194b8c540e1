//! What can go wrong between the controller and the kernel.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// An error of the dataplane. Unless it says otherwise, nothing in force has changed.
#[derive(Debug, Error)]
pub enum DataplaneError {
    /// Another process owns the pins or the state.
    #[error("{} is owned by another clinigate{}", path.display(), holder(*pid))]
    Owned {
        /// The locked directory.
        path: PathBuf,
        /// Process that holds it, where the kernel says so.
        pid: Option<u32>,
    },
    /// The pin root is not on a BPF filesystem, and none could be mounted.
    #[error("{} is not on a BPF filesystem; mount one with: mount -t bpf bpf {}", path.display(), parent.display())]
    NoBpffs {
        /// The pin root.
        path: PathBuf,
        /// Where one is to be mounted.
        parent: PathBuf,
        /// Why mounting failed, where it was tried.
        source: io::Error,
    },
    /// The process lacks capabilities.
    #[error("missing capabilities: {0}; run as root, or grant them to the service")]
    Capabilities(String),
    /// The kernel lacks a feature.
    #[error("this kernel ({release}) has no {feature}: {needs}")]
    Kernel {
        /// What is missing.
        feature: &'static str,
        /// Where it is to be had.
        needs: &'static str,
        /// `uname -r`.
        release: String,
    },
    /// Interfaces that the policy names do not exist.
    #[error("no such interface: {}", .0.join(", "))]
    MissingInterfaces(Vec<String>),
    /// Somebody else's XDP program is on an interface.
    #[error(
        "{interface} already carries the XDP program {name:?} (id {id}), which is not ours; see it with: bpftool prog \
         show id {id}; take it off with: ip link set dev {interface} xdp off"
    )]
    ForeignProgram {
        /// Interface.
        interface: String,
        /// Program's number.
        id: u32,
        /// Program's name.
        name: String,
    },
    /// A program could not be attached.
    #[error("cannot attach the {hook} program to {interface}{hint}")]
    Attach {
        /// Interface.
        interface: String,
        /// `XDP` or `egress`.
        hook: &'static str,
        /// What to do about it, or empty.
        hint: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An interface of a kind whose packets the programs cannot read, or not as the policy stands.
    #[error("{interface} cannot be enforced: {}", link(*.kind))]
    Link {
        /// Interface.
        interface: String,
        /// `ARPHRD_*` (`include/uapi/linux/if_arp.h`), where that is not known; else it has no link layer, and the policy
        /// does not say that it is the end of a tunnel.
        kind: Option<u16>,
    },
    /// An offload hides from XDP what must be seen, and cannot be turned off.
    #[error(
        "{interface}: {what}, so it cannot be enforced; turn it off with: ethtool -K {interface} {feature} off"
    )]
    Offload {
        /// Interface.
        interface: String,
        /// ethtool's name of the feature.
        feature: &'static str,
        /// What it hides.
        what: &'static str,
        /// The driver's answer.
        source: io::Error,
    },
    /// An interface with frames that the kernel copies in pieces, which makes it panic.
    #[error(
        "{interface}: frames for an MTU of {mtu} are copied before programs see them (veth, or generic mode), which makes \
         this kernel panic, so it cannot be enforced; make it less with: ip link set dev {interface} mtu {largest}"
    )]
    Pieces {
        /// Interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// The largest MTU that does no harm.
        largest: u32,
    },
    /// The eBPF object could not be loaded.
    #[error("cannot load the eBPF object")]
    Object(#[source] Box<aya::EbpfError>),
    /// The eBPF object lacks something: a defect of the build.
    #[error("the eBPF object has no {0}")]
    Incomplete(String),
    /// The kernel refused a program.
    #[error("the kernel refuses the program `{name}`")]
    Program {
        /// The program.
        name: &'static str,
        /// The kernel's answer, with the verifier's log.
        source: Box<aya::programs::ProgramError>,
    },
    /// A table of the policy is larger than a map can be.
    #[error("table {0} is larger than a map can be")]
    TooLarge(&'static str),
    /// A bpf(2) call failed.
    #[error("{what}")]
    Bpf {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file or a socket failed.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A frame that a test run cannot take.
    #[error("a test run takes frames from {least} to {most} bytes, not of {length}")]
    Frame {
        /// Its length.
        length: usize,
        /// The shortest that the kernel takes.
        least: usize,
        /// The longest.
        most: usize,
    },
    /// A test run ended without a judgement: a defect.
    #[error("the test run ended without a judgement")]
    NotJudged,
}

impl DataplaneError {
    pub(super) fn bpf(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Bpf { what: what.into(), source }
    }

    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}

fn link(kind: Option<u16>) -> String {
    match kind {
        Some(kind) => format!(
            "what stands before its packets is not known, or not always the same (hardware type {kind}); end the tunnel \
             in a network namespace, or on another box, and name the Ethernet device that leads there"
        ),
        None => {
            "its packets have no link layer; if it is the end of a tunnel, say so: `wan: true` with `tunnel`"
                .to_owned()
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}
