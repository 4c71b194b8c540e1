//! A place of its own for each test: a network namespace with the clinic's interfaces, a BPF
//! filesystem, a state directory.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::thread;

use clinigate::dataplane::{Dataplane, DataplaneError, Options, Record, XdpMode};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// The place. Its namespace is that of the test's thread.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    /// Namespace of the hosts at the other ends.
    peers: OwnedFd,
}

/// Runs a test in a place of its own.
pub(crate) fn run(test: impl FnOnce(&Place) + Send + 'static) {
    let thread = thread::spawn(move || {
        let peers = new_namespace();
        ip("link set lo up");
        let _own = new_namespace();
        ip("link set lo up");
        let directory = tempfile::tempdir().unwrap();
        let bpf = directory.path().join("bpf");
        fs::create_dir(&bpf).unwrap();
        let options: Option<&str> = None;
        mount(Some("bpf"), &bpf, Some("bpf"), MsFlags::empty(), options).unwrap();
        let place = Place { directory, peers };
        place.add_interface("m0");
        place.add_interface("a0");
        test(&place);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let unmounted = umount2(&self.directory.path().join("bpf"), MntFlags::MNT_DETACH);
        assert!(unmounted.is_ok() || thread::panicking());
    }
}

impl Place {
    pub(crate) fn options(&self) -> Options {
        Options {
            pin_root: self.directory.path().join("bpf/clinigate"),
            state_dir: self.directory.path().join("state"),
            xdp_mode: XdpMode::Native,
            trace: false,
            exit: None,
        }
    }

    pub(crate) fn open(&self) -> Result<Dataplane, DataplaneError> {
        Dataplane::open(self.options())
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Makes an interface, its other end with the peers.
    pub(crate) fn add_interface(&self, name: &str) {
        let peer = format!("{name}-p");
        ip(&format!("link add {name} type veth peer name {peer}"));
        ip(&format!("link set {peer} netns /proc/{}/fd/{}", std::process::id(), raw(&self.peers)));
        ip(&format!("link set {name} up"));
        self.at_the_peers(|| ip(&format!("link set {peer} up")));
    }

    /// Runs `act` in the namespace of the hosts.
    pub(crate) fn at_the_peers<T>(&self, act: impl FnOnce() -> T) -> T {
        let own = namespace();
        setns(self.peers.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        let result = act();
        setns(own.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        result
    }
}

/// A socket on an interface, below the stack and above XDP.
pub(crate) struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// On `interface` of the namespace of this thread.
    pub(crate) fn on(interface: &str) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap();
        let index = nix::net::if_::if_nametoindex(interface).unwrap();
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        address.sll_ifindex = index.cast_signed();
        let length = u32::try_from(size_of_val(&address)).unwrap();
        // SAFETY: the address lives until the call returns.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(bound, 0);
        Self { socket }
    }

    /// Sends a frame as a host would.
    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.socket, frame), Ok(frame.len()));
    }

    /// How many frames equal to this one have come by since the last call.
    pub(crate) fn count(&self, frame: &[u8]) -> usize {
        let mut buffer = [0; 2048];
        let mut count = 0;
        while let Ok(length) = nix::unistd::read(&self.socket, &mut buffer) {
            count += usize::from(buffer[..length] == *frame);
        }
        count
    }
}

/// A record that says where it comes from.
pub(crate) fn record(source: &str) -> Record {
    let policy_hash = format!("hash of {source}");
    Record { source: source.to_owned(), policy_hash, applied_at: 1_700_000_000_000, ..Record::default() }
}

/// Runs `ip` in the namespace of this thread.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Gives an interface of this thread's namespace another name.
pub(crate) fn rename(from: &str, to: &str) {
    ip(&format!("link set {from} down"));
    ip(&format!("link set {from} name {to}"));
    ip(&format!("link set {to} up"));
}

/// Directory of what outlives programs.
pub(crate) fn layout() -> String {
    format!("v{}", gateway_common::layout::VERSION)
}

/// Names of what stands in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn new_namespace() -> OwnedFd {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    namespace()
}

fn namespace() -> OwnedFd {
    fs::File::open("/proc/thread-self/ns/net").unwrap().into()
}

fn raw(fd: &OwnedFd) -> i32 {
    fd.as_raw_fd()
}
