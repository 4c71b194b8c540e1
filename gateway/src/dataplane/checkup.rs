//! What this machine brings along, looked at without changing anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gateway_common::layout;
use nix::net::if_::{if_indextoname, if_nameindex};
use serde::Serialize;

use super::classifiers::Way;
use super::devices::{Device, Kind, Link};
use super::ethtool::Ethtool;
use super::features::{Features, Need};
use super::netlink::{self, AttachedXdp};
use super::{XdpMode, attach, classifiers, copies, devices, kernel, offload};

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
    /// Where it is a VLAN device, the interface below it, on which its frames are judged.
    pub above: Option<String>,
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
const NATIVE: [&str; 26] = [
    "atlantic",
    "bnxt_en",
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
/// Drivers of cards that do not.
const NOT_NATIVE: [&str; 4] = ["e1000", "e1000e", "r8169", "tg3"];
/// Nor do those of devices that nobody names in a policy.
const VIRTUAL: [&str; 5] = ["802.1Q VLAN Support", "bridge", "dummy", "macvlan", "vrf"];

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
    let named = !interfaces.is_empty();
    let interfaces = if named { interfaces.to_vec() } else { present() };
    let devices = devices::list().unwrap_or_default();
    let look = |name: &String| interface(name, &devices, named, &mut findings);
    let interfaces = interfaces.iter().filter_map(look).collect();
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
        interfaces,
        findings,
    }
}

/// Looks at one interface. What speaks against naming it in a policy is said of cards and bonds, and of others where somebody asks for them.
fn interface(
    name: &str,
    devices: &BTreeMap<u32, Device>,
    named: bool,
    findings: &mut Vec<Finding>,
) -> Option<InterfaceCheckup> {
    let Ok(ifindex) = nix::net::if_::if_nametoindex(name) else {
        note(findings, true, format!("there is no interface {name}"), "ip link");
        return None;
    };
    let driver = offload::driver(name);
    let device = devices.get(&ifindex);
    let links = links(devices, ifindex);
    let native = is_native_here(device, driver.as_deref(), &links);
    let is_card = driver.as_deref().is_some_and(|driver| NOT_NATIVE.contains(&driver));
    let is_bond = device.is_some_and(|device| matches!(device.kind, Kind::Bond { .. }));
    if named || is_card || is_bond {
        for (what, mend) in device.iter().flat_map(|device| objections(name, device, native, &links)) {
            note(findings, false, what, mend);
        }
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
        above: device.and_then(|device| if_name(device.vlan?.lower)),
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

/// What speaks against naming an interface in a policy, each with what mends it.
fn objections(name: &str, device: &Device, native: Option<bool>, links: &[String]) -> Vec<(String, String)> {
    if let Some(vlan) = device.vlan {
        let lower = if_name(vlan.lower).unwrap_or_else(|| "the interface below it".to_owned());
        let what = format!("{name} is a VLAN device: XDP works below it");
        return vec![(what, format!("name {lower} in the policy, with {} in its `trunk`", vlan.identifier))];
    }
    let mut objections = Vec::new();
    let mut note = |what: String, mend: &str| objections.push((what, mend.to_owned()));
    match (device.link, device.kind) {
        (Link::Other(kind), _) => note(
            format!(
                "nobody knows what packets of {name} begin with (hardware type {kind}): it cannot be enforced"
            ),
            "name the Ethernet device that leads there in the policy",
        ),
        (Link::Bare, _) => note(
            format!("{name} has no link layer: it is judged by the stack, as the end of a tunnel alone"),
            "`wan: true` with `tunnel` in the policy",
        ),
        (Link::Ethernet, Kind::Bond { .. }) if native == Some(false) => note(
            format!(
                "the bond {name} takes no native XDP: its mode, its hash policy, or the driver of a link has none"
            ),
            "another mode (docs/deploy.md) or other links; or clinigate run --xdp-mode generic, which holds for all interfaces",
        ),
        (Link::Ethernet, _) if native == Some(false) => note(
            format!("the driver of {name} has no native XDP: it is judged by the stack, slowly"),
            "clinigate run --xdp-mode generic, which holds for all interfaces",
        ),
        (Link::Ethernet, _) => {}
    }
    let mode = if native == Some(false) { XdpMode::Generic } else { XdpMode::Native };
    let receiving: Vec<String> = links.iter().cloned().chain([name.to_owned()]).collect();
    if copies::are_in_pieces(device.mtu, &receiving, mode) {
        let what = format!(
            "{name}: frames for an MTU of {} are copied before programs see them, which makes this kernel panic, so it is refused",
            device.mtu
        );
        note(what, &format!("ip link set dev {name} mtu {}", copies::LARGEST));
    }
    objections
}

/// Whether programs run in an interface's driver, or in those of a bond's links.
fn is_native_here(device: Option<&Device>, driver: Option<&str>, links: &[String]) -> Option<bool> {
    match device.map(|device| (device.link, device.kind)) {
        Some((Link::Bare, _) | (_, Kind::Bond { native: false })) => Some(false),
        Some((_, Kind::Bond { native: true })) => {
            let known = links.iter().map(|link| offload::driver(link).as_deref().and_then(is_native));
            let known: Vec<Option<bool>> = known.collect();
            if known.contains(&Some(false)) {
                return Some(false);
            }
            (!known.is_empty() && known.iter().all(Option::is_some)).then_some(true)
        }
        _ => driver.and_then(is_native),
    }
}

fn is_native(driver: &str) -> Option<bool> {
    if NATIVE.contains(&driver) {
        return Some(true);
    }
    (NOT_NATIVE.contains(&driver) || VIRTUAL.contains(&driver)).then_some(false)
}

/// Names of the links of a bond.
fn links(devices: &BTreeMap<u32, Device>, ifindex: u32) -> Vec<String> {
    devices::links(devices, ifindex).into_iter().filter_map(if_name).collect()
}

fn if_name(ifindex: u32) -> Option<String> {
    if_indextoname(ifindex).ok()?.into_string().ok()
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
        assert!(NATIVE.iter().all(|driver| !NOT_NATIVE.contains(driver) && !VIRTUAL.contains(driver)));
    }

    fn device(link: Link, kind: Kind) -> Device {
        Device { mac: [2, 0, 0, 0, 0, 1], master: None, vlan: None, kind, mtu: 1500, queues: 1, link }
    }

    #[test]
    fn what_a_bond_and_a_bare_device_run_does_not_follow_from_their_driver() {
        let bond = |native| device(Link::Ethernet, Kind::Bond { native });
        assert_eq!(is_native_here(Some(&bond(true)), Some("bonding"), &[]), None, "no link to ask");
        assert_eq!(is_native_here(Some(&bond(false)), Some("bonding"), &[]), Some(false));
        let bare = device(Link::Bare, Kind::Other);
        assert_eq!(is_native_here(Some(&bare), Some("tun"), &[]), Some(false));
        assert_eq!(is_native_here(Some(&device(Link::Ethernet, Kind::Other)), Some("ice"), &[]), Some(true));
    }
}
