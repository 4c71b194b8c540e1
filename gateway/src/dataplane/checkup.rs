//! What this machine brings along, looked at without changing anything.

use std::fs;
use std::path::Path;

use gateway_common::layout;
use nix::net::if_::if_nameindex;
use serde::Serialize;

use super::classifiers::Way;
use super::devices::Link;
use super::ethtool::Ethtool;
use super::features::{Features, Need};
use super::netlink::{self, AttachedXdp};
use super::{attach, classifiers, devices, kernel, offload};

/// What a look at the machine found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// Kernel and what it can; nothing where the process may not ask.
    pub kernel: Option<Features>,
    /// How programs at the exits of interfaces are attached.
    pub exit: Option<&'static str>,
    /// Programs are compiled to machine code.
    pub jit: bool,
    /// The pin root would stand on a BPF filesystem; where not, one is mounted for it.
    pub bpffs: bool,
    /// The kernel's clock source.
    pub clock_source: String,
    /// The clock is kept in time by somebody.
    pub synchronised: bool,
    /// Files that this process may have open.
    pub open_files: u64,
    /// The kernel forwards IPv4, IPv6.
    pub forwards: (bool, bool),
    /// Interfaces of this network namespace.
    pub interfaces: Vec<InterfaceCheckup>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceCheckup {
    /// Name.
    pub name: String,
    /// Driver, where it names one.
    pub driver: Option<String>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Receive queues: as many processors can judge its frames at a time.
    pub queues: u32,
    /// Its driver runs XDP programs itself; where it is not known, an attach will tell.
    pub native: Option<bool>,
    /// Offloads that hide frames from programs and are on, as `ethtool -K` calls them; turned off at attach.
    pub offloads: Vec<&'static str>,
    /// The XDP program that it runs: number and name.
    pub xdp: Option<(u32, String)>,
    /// Programs and classifiers at its entry, behind XDP: those of others, and ours.
    pub entry: Vec<String>,
    /// The same at its exit.
    pub exit: Vec<String>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Nothing can be enforced as long as it lasts.
    pub essential: bool,
    /// What is the matter, and what follows.
    pub what: String,
    /// What mends it.
    pub mend: String,
}

/// Drivers that run XDP programs themselves, by the name that ethtool shows (Linux 6.1 and later).
const NATIVE: [&str; 27] = [
    "atlantic",
    "bnxt_en",
    "bonding",
    "dpaa2",
    "ena",
    "fec",
    "fsl_enetc",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ionic",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "nfp",
    "qede",
    "sfc",
    "tun",
    "veth",
    "virtio_net",
];
/// Drivers that do not.
const NOT_NATIVE: [&str; 9] =
    ["802.1Q VLAN Support", "bridge", "dummy", "e1000", "e1000e", "macvlan", "r8169", "tg3", "vrf"];

/// Looks at the machine: the interfaces of these names, or where there are none all but loopback.
pub fn examine(pin_root: &Path, interfaces: &[String]) -> Checkup {
    let mut findings = Vec::new();
    let kernel = match kernel::check_capabilities() {
        Ok(()) => Some(Features::probe()),
        Err(error) => {
            note(&mut findings, true, error.to_string(), "sudo clinigate doctor");
            None
        }
    };
    for feature in kernel.iter().flat_map(|kernel| &kernel.list).filter(|feature| !feature.present) {
        let what = format!("the kernel has no {}: {}", feature.name, feature.without);
        note(&mut findings, feature.need == Need::Essential, what, feature.needs);
    }
    let jit = read("/proc/sys/net/core/bpf_jit_enable") != "0";
    if !jit {
        let what = "programs are interpreted: packets take many times as long";
        note(&mut findings, false, what, "sysctl net.core.bpf_jit_enable=1");
    }
    if read("/proc/sys/net/core/bpf_jit_harden") == "2" {
        let what = "constants are blinded in root's programs too: packets take longer";
        note(&mut findings, false, what, "sysctl net.core.bpf_jit_harden=1");
    }
    let synchronised = is_synchronised();
    if !synchronised {
        let what =
            "nobody keeps the clock in time: what is limited in time opens and closes by a wrong clock";
        note(&mut findings, false, what, "run chrony or systemd-timesyncd");
    }
    let forwards = |path| read(path) == "1";
    let interfaces = if interfaces.is_empty() { present() } else { interfaces.to_vec() };
    Checkup {
        exit: kernel.as_ref().map(|kernel| kernel.exit().name()),
        kernel,
        jit,
        bpffs: kernel::is_on_bpffs(pin_root),
        clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        synchronised,
        open_files: open_files(),
        forwards: (
            forwards("/proc/sys/net/ipv4/conf/all/forwarding"),
            forwards("/proc/sys/net/ipv6/conf/all/forwarding"),
        ),
        interfaces: interfaces.iter().filter_map(|name| interface(name, &mut findings)).collect(),
        findings,
    }
}

fn interface(name: &str, findings: &mut Vec<Finding>) -> Option<InterfaceCheckup> {
    let Ok(ifindex) = nix::net::if_::if_nametoindex(name) else {
        note(findings, true, format!("there is no interface {name}"), "ip link");
        return None;
    };
    let driver = offload::driver(name);
    let native = driver.as_deref().and_then(is_native);
    let device = devices::list().ok().and_then(|devices| devices.get(&ifindex).copied());
    if let Some(vlan) = device.and_then(|device| device.vlan) {
        let what = format!("{name} is a VLAN device: XDP works below it");
        let mend = format!(
            "name the interface with index {} in the policy, with tag {} in its `trunk`",
            vlan.lower, vlan.identifier
        );
        note(findings, false, what, mend);
    } else if let Some(Link::Other(kind)) = device.map(|device| device.link) {
        let what = format!(
            "nobody knows what packets of {name} begin with (hardware type {kind}): it cannot be enforced"
        );
        note(findings, false, what, "name the Ethernet device that leads there in the policy");
    } else if device.is_some_and(|device| device.link == Link::Bare) {
        let what =
            format!("{name} has no link layer: it is judged by the stack, as the end of a tunnel alone");
        note(findings, false, what, "`wan: true` with `tunnel` in the policy");
    } else if native == Some(false) {
        let what = format!("the driver of {name} has no native XDP: it is judged by the stack, slowly");
        note(findings, false, what, "clinigate run --xdp-mode generic");
    }
    let xdp = netlink::attached_xdp(ifindex).ok().flatten();
    let xdp = xdp.map(|AttachedXdp { program, .. }| (program, attach::program_name(program)));
    // Without rights a program has no name: it may well be ours, and taking it off would open the network.
    let ours = [layout::PROGRAM_ENTRY, layout::PROGRAM_BARE_ENTRY];
    let foreign = |called: &String| !called.is_empty() && !ours.contains(&called.as_str());
    if let Some((program, called)) = xdp.as_ref().filter(|(_, called)| foreign(called)) {
        let what = format!("{name} carries the XDP program {called:?} ({program}), which is not ours");
        note(findings, false, what, format!("ip link set dev {name} xdp off"));
    }
    let active = Ethtool::open(name).and_then(|ethtool| ethtool.active()).unwrap_or_default();
    Some(InterfaceCheckup {
        mtu: device.map_or(0, |device| device.mtu),
        queues: device.map_or(0, |device| device.queues),
        offloads: offload::hiding(&active),
        entry: classifiers::names(name, ifindex, Way::Entry),
        exit: classifiers::names(name, ifindex, Way::Exit),
        name: name.to_owned(),
        driver,
        native,
        xdp,
    })
}

fn is_native(driver: &str) -> Option<bool> {
    if NATIVE.contains(&driver) {
        return Some(true);
    }
    NOT_NATIVE.contains(&driver).then_some(false)
}

/// All interfaces but loopback, by name.
fn present() -> Vec<String> {
    let Ok(list) = if_nameindex() else { return Vec::new() };
    let names = list.iter().map(|interface| interface.name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != "lo").collect();
    names.sort();
    names
}

/// Whether the kernel was told lately what time it is (adjtimex(2)).
fn is_synchronised() -> bool {
    // SAFETY: all zeros asks and changes nothing.
    let mut time: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: writes one `timex`.
    let state = unsafe { libc::adjtimex(&raw mut time) };
    state >= 0 && time.status & libc::STA_UNSYNC == 0
}

fn open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one `rlimit`.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur
}

/// A small file of the kernel's; empty where there is none.
fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn note(findings: &mut Vec<Finding>, essential: bool, what: impl Into<String>, mend: impl Into<String>) {
    findings.push(Finding { essential, what: what.into(), mend: mend.into() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_known_or_left_open() {
        assert_eq!(is_native("virtio_net"), Some(true));
        assert_eq!(is_native("e1000"), Some(false));
        assert_eq!(is_native("a driver of next year"), None);
        assert!(NATIVE.iter().all(|driver| !NOT_NATIVE.contains(driver)));
    }
}
