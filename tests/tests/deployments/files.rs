//! The files of docs/deploy.md, read by systemd-networkd and keepalived themselves.

use std::fs;
use std::path::Path;

use clinigate_tests::namespace::{Namespace, Process, tool};
use clinigate_tests::run::Run;
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nameindex;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::site::eventually;
use super::turn;

const PAGE: &str = include_str!("../../../docs/deploy.md");

const NETWORKD: &str = "/usr/lib/systemd/systemd-networkd";
/// Where it looks for files that are gone after a reboot, and for those of the machine.
const RUN: &str = "/run/systemd";
const ETC: &str = "/etc/systemd";
/// Where it writes down, below the first, how far it is with each device.
const STATES: &str = "netif/links";
/// Where it looks for what udev knows of devices, and for those whom it tells.
const UDEV: &str = "/run/udev";
const DBUS: &str = "/run/dbus";

/// VLANs of the page's drawings; it shows the files of the last.
const VLANS: [&str; 3] = ["10", "30", "40"];

/// The page leaves addresses to the world to its reader.
const WAN: &str = "[Match]\nName=wan0\n[Network]\nAddress=192.0.2.2/24\nAddress=2001:db8:c::2/64\n\
                   Gateway=192.0.2.1\nGateway=2001:db8:c::1\nIPv6AcceptRA=no\n";

/// What `ip -details link` says of a device that makes itself no address.
const NO_ADDRESS: &str = "addrgenmode none";

/// Names below `/etc/systemd`, and texts.
type Files = Vec<(String, String)>;

/// The text below a heading of the page, up to the next one of any level.
fn section(title: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("# {title}\n")).unwrap_or_else(|| panic!("no section {title}"));
    rest.split_once("\n## ").map_or(rest, |(text, _)| text).split("\n### ").next().unwrap()
}

/// The files of a section that belong into `/etc/systemd`, by their names there.
fn files(title: &str) -> Files {
    let blocks = section(title).split("```ini\n# /etc/systemd/").skip(1);
    let files = blocks.map(|block| {
        let (name, text) = block.split_once("```").unwrap().0.split_once('\n').unwrap();
        (name.split(',').next().unwrap().to_owned(), text.to_owned())
    });
    files.collect()
}

/// The files of VLAN 40 as the others have them too.
fn for_each_vlan(files: Files) -> Files {
    let each = files.into_iter().flat_map(|(name, text)| {
        let vlans = if name.contains(".40.") { &VLANS[..] } else { &VLANS[2..] };
        vlans.iter().map(move |vlan| {
            let others = |text: &str| {
                text.replace("trunk0.40", &format!("trunk0.{vlan}"))
                    .replace("Id=40", &format!("Id={vlan}"))
                    .replace("10.10.40.", &format!("10.10.{vlan}."))
                    .replace("fd00:40:", &format!("fd00:{vlan}:"))
            };
            (others(&name), others(&text))
        })
    });
    each.collect()
}

/// A gateway that systemd-networkd sets up.
struct Gateway {
    namespace: Namespace,
    networkd: Process,
}

impl Gateway {
    /// What a command says in there; an error is its answer, too.
    fn says(&self, command: &str) -> String {
        let mut words = command.split(' ');
        let mut program = self.namespace.command(words.next().unwrap());
        tool(program.args(words)).unwrap_or_else(|error| error.to_string())
    }

    /// Waits until a command says all of these.
    fn comes_to(&self, command: &str, words: &[&str]) {
        let holds = || words.iter().all(|word| self.says(command).contains(word));
        eventually(&format!("`{command}` says {words:?}"), holds);
    }

    /// Starts systemd-networkd again, as an upgrade of it does. It takes it that udev has long seen the devices: only then does it look what
    /// stands on them before it sets them up.
    fn restart(&mut self) {
        let networkd = Pid::from_raw(self.networkd.id().try_into().unwrap());
        signal::kill(networkd, Signal::SIGTERM).unwrap();
        self.networkd.child().wait().unwrap();
        fs::remove_dir_all(Path::new(RUN).join(STATES)).unwrap();
        let known = Path::new(UDEV).join("data");
        fs::create_dir(&known).unwrap();
        for device in &if_nameindex().unwrap() {
            fs::write(known.join(format!("n{}", device.index())), "I:1\nV:1\n").unwrap();
        }
        let nothing = None::<&str>;
        mount(nothing, "/sys", nothing, MsFlags::MS_REMOUNT, nothing).unwrap();
        self.networkd = start(&self.namespace);
    }
}

/// Waits until systemd-networkd is done with this many devices.
fn wait_configured(devices: usize) {
    let done = || {
        let files = fs::read_dir(Path::new(RUN).join(STATES)).into_iter().flatten().flatten();
        let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        texts.filter(|text| text.contains("ADMIN_STATE=configured\n")).count() == devices
    };
    eventually("systemd-networkd is done", done);
}

fn start(namespace: &Namespace) -> Process {
    Process::start(&mut namespace.command(NETWORKD)).unwrap()
}

/// Has systemd-networkd set up a gateway with these ports by these files, and looks at it.
fn set_up(ports: &[&str], files: &[(String, String)], look: impl FnOnce(&mut Gateway) + Send) {
    let run = Run::new().unwrap();
    let (gateway, cables) = (run.namespace("gateway").unwrap(), run.namespace("cables").unwrap());
    for port in ports {
        let peer = format!("link add {port} type veth peer name {port} netns {}", cables.name());
        gateway.batch(&[peer]).unwrap();
        cables.batch(&[format!("link set {port} up")]).unwrap();
    }
    let inside = gateway.run(|| {
        hide_the_machine();
        for (name, text) in files {
            let file = Path::new(RUN).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        look(&mut Gateway { namespace: gateway.clone(), networkd: start(&gateway) });
    });
    inside.unwrap();
}

/// Gives this thread, and what it starts, folders of their own for systemd-networkd, and this namespace's `/sys`. That cannot be written
/// to, by which systemd-networkd knows that there is no udev to wait for.
fn hide_the_machine() {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::MS_RDONLY, nothing).unwrap();
    for folder in [RUN, UDEV] {
        fs::create_dir_all(folder).unwrap();
    }
    for folder in [RUN, UDEV, ETC, DBUS].into_iter().filter(|folder| Path::new(folder).exists()) {
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    }
}

fn trunk() -> Files {
    for_each_vlan(files("Router with VLAN devices on one trunk"))
}

#[test]
fn a_trunk_gets_its_vlan_devices() {
    let Some(_turn) = turn() else { return };
    set_up(&["trunk0"], &trunk(), |gateway| {
        for vlan in VLANS {
            let device = format!("trunk0.{vlan}");
            let addresses = [format!("10.10.{vlan}.1/24"), format!("fd00:{vlan}::1/64")];
            gateway.comes_to(
                &format!("ip -brief address show dev {device}"),
                &addresses.each_ref().map(String::as_str),
            );
            gateway
                .comes_to(&format!("ip -details link show dev {device}"), &[&format!("802.1Q id {vlan} ")]);
        }
        gateway.comes_to("ip -details link show dev trunk0", &[NO_ADDRESS]);
    });
}

#[test]
fn a_port_of_a_segment_gets_the_routers_addresses() {
    let Some(_turn) = turn() else { return };
    set_up(&["pacs0"], &files("Router with a port for each segment"), |gateway| {
        gateway.comes_to("ip -brief address show dev pacs0", &["10.10.30.1/24", "fd00:30::1/64"]);
    });
}

/// Tags as they are, none of the bridge's own, and nothing passes before somebody brings it up.
#[test]
fn a_wire_knows_its_vlans_and_waits() {
    let Some(_turn) = turn() else { return };
    set_up(&["trunk0", "core0"], &files("Bump in the wire"), |gateway| {
        for port in ["trunk0", "core0"] {
            let vlans = format!("bridge vlan show dev {port}");
            let told = |said: &str| said.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
            let expected = format!("{port} 10 30 40");
            eventually(&expected, || told(&gateway.says(&vlans)) == expected);
        }
        wait_configured(3);
        let bridge =
            ["vlan_filtering 1", "vlan_default_pvid 0", "mcast_snooping 0", "stp_state 0", NO_ADDRESS];
        gateway.comes_to("ip -details link show dev br0", &bridge);
        assert!(!gateway.says("ip link show dev br0").contains(",UP"), "the wire is up before a policy");
    });
}

#[test]
fn isolated_ports_wait_too() {
    let Some(_turn) = turn() else { return };
    let as_the_wire =
        files("Bump in the wire").into_iter().filter(|(name, _)| name == "network/20-br0.network");
    let bridge = as_the_wire.map(|(name, text)| (name, text.replace("br0", "ward0")));
    let all = files("Ports of the gateway's own").into_iter().chain(bridge).collect::<Files>();
    set_up(&["bed1", "bed2", "station0"], &all, |gateway| {
        for port in ["bed1", "bed2", "station0"] {
            gateway.comes_to(&format!("ip link show dev {port}"), &["master ward0", ",UP"]);
        }
        wait_configured(4);
        gateway.comes_to("ip -details link show dev ward0", &["mcast_snooping 0", "stp_state 0", NO_ADDRESS]);
        assert!(!gateway.says("ip link show dev ward0").contains(",UP"), "it is up before a policy");
    });
}

#[test]
fn a_bond_gets_its_links_and_vlan_devices() {
    let Some(_turn) = turn() else { return };
    let all = trunk().into_iter().chain(files("Bonded trunk")).collect::<Files>();
    set_up(&["link1", "link2"], &all, |gateway| {
        let bond = ["mode 802.3ad", "miimon 100", "xmit_hash_policy layer3+4", "lacp_rate fast"];
        gateway.comes_to("ip -details link show dev trunk0", &bond);
        for link in ["link1", "link2"] {
            gateway.comes_to(&format!("ip link show dev {link}"), &["master trunk0", ",UP"]);
        }
        gateway.comes_to("ip -brief address show dev trunk0.40", &["10.10.40.1/24", "fd00:40::1/64"]);
    });
}

#[test]
fn a_zone_gets_its_tables() {
    let Some(_turn) = turn() else { return };
    let mut all = trunk();
    all.push(("network/20-wan0.network".to_owned(), WAN.to_owned()));
    // What the page adds to files that are there stands behind them.
    for (name, text) in for_each_vlan(files("VRF for each zone")) {
        match all.iter_mut().find(|(there, _)| *there == name) {
            Some((_, before)) => before.push_str(&text),
            None => all.push((name, text)),
        }
    }
    set_up(&["trunk0", "wan0"], &all, |gateway| {
        let least = "metric 4278198272";
        let ways =
            ["default via 192.0.2.1 dev wan0", "unreachable default", least, "10.10.40.0/24 dev trunk0.40"];
        gateway.comes_to("ip route show table 1020", &ways);
        let ways = [
            "default via 2001:db8:c::1 dev wan0",
            "unreachable default",
            least,
            "fd00:40::/64 dev trunk0.40",
        ];
        gateway.comes_to("ip -6 route show table 1020", &ways);
        gateway
            .comes_to("ip route show table main", &["default via 192.0.2.1", "10.10.40.0/24 dev trunk0.40"]);
        gateway.comes_to(
            "ip -6 route show table main",
            &["default via 2001:db8:c::1", "fd00:40::/64 dev trunk0.40"],
        );
        gateway.comes_to("ip link show dev trunk0.40", &["master vrf-clini", ",UP"]);
    });
}

/// What keepalived sets is nothing that systemd-networkd takes away, and its file says what it understands.
#[test]
fn a_pair_keeps_what_keepalived_sets() {
    let Some(_turn) = turn() else { return };
    // The later of a name is written over the earlier.
    let all = trunk().into_iter().chain(for_each_vlan(files("Failover pair"))).collect::<Files>();
    set_up(&["trunk0", "wan0", "hb0"], &all, |gateway| {
        gateway.comes_to("ip -brief address show dev hb0", &["172.16.0.1/24"]);
        for device in ["trunk0.30", "trunk0.40", "wan0", "hb0"] {
            gateway.comes_to(&format!("ip -brief address show dev {device}"), &["fe80::"]);
        }
        let set = [
            ("address add 172.16.0.254/32 dev hb0", "-oneline address show dev hb0"),
            ("address add 192.0.2.2/24 dev wan0", "-oneline address show dev wan0"),
            ("address add 2001:db8:c::2/64 dev wan0", "-oneline address show dev wan0"),
            ("address add 10.10.40.1/24 dev trunk0.40", "-oneline address show dev trunk0.40"),
            ("address add fd00:40::1/64 dev trunk0.40", "-oneline address show dev trunk0.40"),
            ("route add 0.0.0.0/0 via 192.0.2.1 dev wan0 proto 18", "route show default"),
            ("route add ::/0 via 2001:db8:c::1 dev wan0 proto 18", "-6 route show default"),
        ];
        gateway.namespace.batch(&set.map(|(line, _)| line.to_owned())).unwrap();
        let shown = |gateway: &Gateway| set.map(|(_, shown)| gateway.says(&format!("ip {shown}")));
        let before = shown(gateway);
        assert!(!before.contains(&String::new()), "{before:?}");
        gateway.restart();
        // Three VLANs and three ports.
        wait_configured(6);
        for (before, after) in before.iter().zip(shown(gateway)) {
            assert_eq!(*before, after);
        }
        let (_, block) = section("Failover pair")
            .split_once("/etc/keepalived/keepalived.conf` (B has `priority 100`):\n```\n")
            .unwrap();
        let file = Path::new(RUN).join("keepalived.conf");
        fs::write(&file, block.split_once("```").unwrap().0).unwrap();
        let mut check = gateway.namespace.command("keepalived");
        let said = check.arg("--config-test").arg("--use-file").arg(&file).output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    });
}
