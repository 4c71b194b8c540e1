//! The ways in which a hospital's segments reach the gateway.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::annex::{grow_nothing, poll};
use super::{
    CUSTOMER, HOST_INTERFACE, Hospital, Host, PROVIDER_V4, PROVIDER_V6, SITES, Site, TRUNK, WAN, WAN_V4,
    WAN_V6, end, mac, network,
};
use crate::frames::Link;
use crate::namespace::{End, Namespace, mac_text, tool, wire};
use crate::run::Run;

/// The bridge of the hospital's switch.
const BRIDGE: &str = "br0";

/// How the hospital is wired up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Deployment {
    /// A port of the gateway for each segment.
    Ports,
    /// All segments on one trunk, with a VLAN device of the gateway for each: the hosts are on ports of a switch.
    Trunk,
    /// The same on a trunk of two links (LACP).
    Bond,
    /// The same, with one link at work and one in reserve (active-backup).
    StandbyBond,
    /// As `trunk`, each zone with routing tables of its own (VRF).
    Vrf,
    /// As `trunk`, by the guest's virtio-net cards (`cargo xtask vm`): a driver with native XDP.
    Virtio,
    /// As `trunk`, by an e1000 card of the guest's: a driver without.
    E1000,
    /// The gateway is a bridge between the switch and a router that was there before: a bump in the wire.
    Wire,
}

impl Deployment {
    /// All in which hosts are on ports of a switch.
    pub const SWITCHED: &[Self] =
        &[Self::Trunk, Self::Bond, Self::StandbyBond, Self::Vrf, Self::Virtio, Self::E1000, Self::Wire];

    /// The policy's `interfaces`, where they are not those of the reference hospital.
    pub fn interfaces(self) -> Option<String> {
        let vlans = vlans().map(|vlan| vlan.to_string()).collect::<Vec<_>>().join(", ");
        let beyond = match self {
            Self::Ports => return None,
            Self::Wire => format!("{CORE}: {{ trunk: [{vlans}], routed: true }}"),
            _ => format!("{WAN}: {{ wan: true }}"),
        };
        Some(format!("interfaces:\n  {TRUNK}: {{ trunk: [{vlans}] }}\n  {beyond}\n"))
    }

    /// Lays the trunk between gateway and switch, and what stands at its ends. Returns the router of the segments,
    /// where it is not the gateway.
    pub(super) fn prepare(
        self,
        run: &Run,
        gateway: &Namespace,
        switch: &Namespace,
    ) -> Result<Option<Namespace>> {
        if self == Self::Ports {
            wire(&end(gateway, TRUNK, mac(1, 1), &[]), &end(switch, HOST_INTERFACE, mac(1, 2), &[]))?;
            return Ok(None);
        }
        bridge(switch)?;
        match self {
            Self::Bond => bond(gateway, switch, LACP)?,
            Self::StandbyBond => bond(gateway, switch, ACTIVE_BACKUP)?,
            Self::Virtio => cards(0, gateway, switch)?,
            Self::E1000 => cards(1, gateway, switch)?,
            _ => wire(&end(gateway, TRUNK, mac(1, 1), &[]), &end(switch, HOST_INTERFACE, mac(1, 2), &[]))?,
        }
        join(switch, HOST_INTERFACE)?;
        carry(switch, HOST_INTERFACE)?;
        if self == Self::Wire {
            let core = run.namespace("core")?;
            bump(gateway, &core)?;
            return Ok(Some(core));
        }
        vlans().try_for_each(|vlan| vlan_device(gateway, TRUNK, vlan))?;
        if self == Self::Vrf {
            separate(gateway)?;
        }
        Ok(None)
    }

    /// The links of the trunk, where it is a bond; at both ends.
    pub(super) const fn links(self) -> &'static [&'static str] {
        if matches!(self, Self::Bond | Self::StandbyBond) { &LINKS } else { &[] }
    }

    /// Hardware address of the router of the segments.
    pub(super) const fn router(self) -> [u8; 6] {
        if matches!(self, Self::Wire) { mac(CORE_LINK, 2) } else { mac(1, 1) }
    }

    /// Interface of the gateway on which frames of a VLAN arrive, without their tags.
    fn port(self, vlan: u8) -> String {
        if self == Self::Wire { TRUNK.to_owned() } else { format!("{TRUNK}.{vlan}") }
    }

    /// What is left to do once the gateway has its way to the world.
    pub(super) fn finish(self, gateway: &Namespace) -> Result<()> {
        if self == Self::Vrf { leak(gateway) } else { Ok(()) }
    }
}

impl Hospital {
    /// Adds a link to the bond that the trunk is.
    pub fn add_link(&self, link: &str) -> Result<()> {
        add_link(&self.gateway, &self.switch, link, 13)
    }

    /// Adds a second gateway on the same segments, and a link between the two that no policy names (`hb0`). The router's addresses
    /// and its way to the world are on neither: whoever is in charge takes them ([`Self::router_addresses`], [`Self::router_ways`]).
    pub fn add_standby(&self) -> Result<Namespace> {
        let standby = self.run.namespace("standby")?;
        standby.sysctl("ipv4/ip_forward", "1")?;
        standby.sysctl("ipv6/conf/all/forwarding", "1")?;
        wire(&end(&standby, TRUNK, mac(8, 1), &[]), &end(&self.switch, STANDBY_PORT, mac(8, 2), &[]))?;
        join(&self.switch, STANDBY_PORT)?;
        carry(&self.switch, STANDBY_PORT)?;
        wire(&end(&standby, WAN, mac(9, 1), &[]), &end(&self.provider, STANDBY_PORT, mac(9, 2), &[]))?;
        self.share_the_provider()?;
        for switch in [&self.switch, &self.provider] {
            poll(switch, STANDBY_PORT)?;
            grow_nothing(switch, STANDBY_PORT)?;
        }
        let heartbeat = |number: u8| vec![(IpAddr::from([172, 16, 0, number]), 24)];
        wire(
            &End { addresses: heartbeat(1), ..end(&self.gateway, HEARTBEAT, mac(10, 1), &[]) },
            &End { addresses: heartbeat(2), ..end(&standby, HEARTBEAT, mac(10, 2), &[]) },
        )?;
        for vlan in vlans() {
            let device = format!("{TRUNK}.{vlan}");
            self.gateway.batch(&[format!("address flush dev {device} scope global")])?;
            standby.batch(&[
                format!("link add link {TRUNK} name {device} type vlan id {vlan}"),
                format!("link set {device} up"),
            ])?;
        }
        let away = Self::router_ways().map(|way| format!("route delete {way}"));
        self.gateway.batch(&away)?;
        self.gateway.batch(&[format!("address flush dev {WAN} scope global")])?;
        standby.wait_up()?;
        Ok(standby)
    }

    /// Makes the two cables to the provider one network, as a switch of the provider's would.
    fn share_the_provider(&self) -> Result<()> {
        let members = [CUSTOMER, STANDBY_PORT].map(|port| format!("link set {port} master {BRIDGE}"));
        let address = mac_text(mac(2, 2));
        self.provider.batch(&[
            format!("link add {BRIDGE} address {address} type bridge mcast_snooping 0"),
            format!("address flush dev {CUSTOMER} scope global"),
            format!("link set {BRIDGE} up"),
            format!("address add {PROVIDER_V4}/24 dev {BRIDGE}"),
            format!("address add {PROVIDER_V6}/64 dev {BRIDGE} nodad"),
        ])?;
        self.provider.batch(&members)?;
        self.provider.batch(&Self::ways_in())
    }

    /// The router's ways to the world, as `ip route add` takes them.
    pub fn router_ways() -> [String; 2] {
        [format!("0.0.0.0/0 via {PROVIDER_V4} dev {WAN}"), format!("::/0 via {PROVIDER_V6} dev {WAN}")]
    }

    /// The router's addresses in all segments and to the world, as `ip address add` takes them.
    pub fn router_addresses() -> Result<Vec<String>> {
        let mut addresses = vec![format!("{WAN_V4}/24 dev {WAN}"), format!("{WAN_V6}/64 dev {WAN}")];
        for vlan in vlans() {
            let network = network(vlan)?;
            addresses.push(format!("{}/{} dev {TRUNK}.{vlan}", network.v4(1), network.length));
            addresses.push(format!("{}/64 dev {TRUNK}.{vlan}", network.v6(1)));
        }
        Ok(addresses)
    }
}

/// Port of the switch, and of the provider, that leads to the second gateway.
const STANDBY_PORT: &str = "standby0";
/// Interface between the two gateways.
pub const HEARTBEAT: &str = "hb0";

/// The port of a bump in the wire to the router.
const CORE: &str = "core0";
const CORE_LINK: u8 = 6;

/// The ends of a cable between two cards of a guest, which bear these addresses (`xtask/src/vm/cards.rs`).
fn cards(cable: u8, gateway: &Namespace, switch: &Namespace) -> Result<()> {
    for (namespace, name, end) in [(gateway, TRUNK, 1), (switch, HOST_INTERFACE, 2)] {
        let own = mac_text([2, 0xc9, 0xaa, 0, cable, end - 1]);
        let card = card(&own)?
            .with_context(|| format!("no network card {own}: cargo xtask vm --kernel 6.12-full"))?;
        tool(Command::new("ip").args(["link", "set", "dev", &card, "down"]))?;
        tool(Command::new("ip").args([
            "link",
            "set",
            "dev",
            &card,
            "netns",
            namespace.name(),
            "name",
            name,
        ]))?;
        namespace.batch(&[
            format!("link set {name} address {}", mac_text(mac(1, end))),
            format!("link set {name} up"),
        ])?;
    }
    Ok(())
}

/// The card that was made with a hardware address, where there is one.
fn card(own: &str) -> Result<Option<String>> {
    let links = tool(Command::new("ip").args(["-oneline", "link"]))?;
    let line = links.lines().find(|line| line.contains(own));
    Ok(line.and_then(|line| Some(line.split(": ").nth(1)?.to_owned())))
}

/// Whether a guest has the network cards of a deployment.
pub fn has_cards(deployment: Deployment) -> Result<bool> {
    let cable = u8::from(deployment == Deployment::E1000);
    Ok(card(&mac_text([2, 0xc9, 0xaa, 0, cable, 0]))?.is_some())
}

/// How a bond uses its links, as `ip link add type bond mode` takes it.
const LACP: &str = "802.3ad lacp_rate fast xmit_hash_policy layer2+3";
const ACTIVE_BACKUP: &str = "active-backup";

/// Links of a bond.
const LINKS: [&str; 2] = ["link1", "link2"];

/// Two links between gateway and switch, as one.
fn bond(gateway: &Namespace, switch: &Namespace, mode: &str) -> Result<()> {
    for (namespace, name, end) in [(gateway, TRUNK, 1), (switch, HOST_INTERFACE, 2)] {
        let address = mac_text(mac(1, end));
        namespace.batch(&[format!("link add {name} address {address} type bond mode {mode} miimon 50")])?;
    }
    for (number, link) in (11..).zip(LINKS) {
        add_link(gateway, switch, link, number)?;
    }
    for (namespace, name) in [(gateway, TRUNK), (switch, HOST_INTERFACE)] {
        namespace.batch(&[format!("link set {name} up")])?;
    }
    Ok(())
}

/// Joins the two ends of a bond by another link.
fn add_link(gateway: &Namespace, switch: &Namespace, link: &str, number: u8) -> Result<()> {
    wire(&end(gateway, link, mac(number, 1), &[]), &end(switch, link, mac(number, 2), &[]))?;
    for (namespace, bond) in [(gateway, TRUNK), (switch, HOST_INTERFACE)] {
        namespace.batch(&[format!("link set {link} down"), format!("link set {link} master {bond}")])?;
    }
    Ok(())
}

/// Makes the gateway a bridge between the switch and `core`, which routes between the segments.
fn bump(gateway: &Namespace, core: &Namespace) -> Result<()> {
    gateway.sysctl("ipv4/ip_forward", "0")?;
    bridge(gateway)?;
    wire(&end(gateway, CORE, mac(CORE_LINK, 1), &[]), &end(core, TRUNK, mac(CORE_LINK, 2), &[]))?;
    for port in [TRUNK, CORE] {
        join(gateway, port)?;
        carry(gateway, port)?;
    }
    core.sysctl("ipv4/ip_forward", "1")?;
    core.sysctl("ipv6/conf/all/forwarding", "1")?;
    vlans().try_for_each(|vlan| vlan_device(core, TRUNK, vlan))
}

/// Names of the zones that have routing tables of their own, with the VLANs in them.
const ZONES: &[(&str, u32, &[u8])] = &[
    ("infrastructure", 1010, &[10]),
    ("clinical", 1020, &[20, 25, 30, 31, 32, 40, 41, 50, 60, 61, 62, 70, 71, 80, 81]),
    ("facility", 1090, &[90]),
    ("vendor", 1110, &[110]),
    ("information", 1200, &[200]),
    ("guest", 1250, &[250]),
    ("quarantine", 1251, &[251]),
];

/// Puts each VLAN device into the VRF of its zone.
fn separate(gateway: &Namespace) -> Result<()> {
    for (zone, table, members) in ZONES {
        let name = format!("vrf-{}", zone.get(..6).unwrap_or(zone));
        gateway.batch(&[
            format!("link add {name} type vrf table {table}"),
            format!("link set {name} up"),
            // What the table does not know, the main one shall not know either (Documentation/networking/vrf.rst).
            format!("route add unreachable 0.0.0.0/0 table {table} metric 4278198272"),
            format!("route add unreachable ::/0 table {table} metric 4278198272"),
        ])?;
        for vlan in *members {
            let device = format!("{TRUNK}.{vlan}");
            // A device that enters a VRF loses its IPv6 addresses.
            let v6 = network(*vlan)?.v6(1);
            gateway.batch(&[
                format!("link set {device} master {name}"),
                format!("address replace {v6}/64 dev {device} nodad"),
            ])?;
        }
    }
    Ok(())
}

/// Lets the zones, and the world, reach each other as far as routing goes: what may pass is Clinigate's to say.
fn leak(gateway: &Namespace) -> Result<()> {
    let mut lines = Vec::new();
    for vlan in vlans() {
        let (network, device) = (network(vlan)?, format!("{TRUNK}.{vlan}"));
        let (v4, v6, length) = (network.v4(0), network.v6(0), network.length);
        let others = ZONES.iter().filter(|(_, _, members)| !members.contains(&vlan));
        for table in others.map(|(_, table, _)| table.to_string()).chain(["main".to_owned()]) {
            lines.push(format!("route add {v4}/{length} dev {device} table {table}"));
            lines.push(format!("route add {v6}/64 dev {device} table {table}"));
        }
    }
    for (_, table, _) in ZONES {
        lines.push(format!("route add default via {PROVIDER_V4} dev {WAN} table {table}"));
        lines.push(format!("route add ::/0 via {PROVIDER_V6} dev {WAN} table {table}"));
    }
    gateway.batch(&lines)
}

/// Whether this kernel has bridges and VLAN devices.
pub fn is_possible() -> Result<bool> {
    let run = Run::new()?;
    let namespace = run.namespace("probe")?;
    let bridge = namespace.batch(&["link add probe0 type bridge vlan_filtering 1".to_owned()]);
    let vlan = namespace.batch(&["link add link probe0 name probe1 type vlan id 2".to_owned()]);
    Ok(bridge.is_ok() && vlan.is_ok())
}

/// Gives `gateway` the device of a VLAN above `trunk`, with the gateway's addresses there.
pub fn vlan_device(gateway: &Namespace, trunk: &str, vlan: u8) -> Result<()> {
    let (network, device) = (network(vlan)?, format!("{trunk}.{vlan}"));
    let (v4, v6, length) = (network.v4(1), network.v6(1), network.length);
    gateway.batch(&[
        format!("link add link {trunk} name {device} type vlan id {vlan}"),
        format!("address add {v4}/{length} dev {device}"),
        format!("address add {v6}/64 dev {device} nodad"),
        format!("link set {device} up"),
    ])
}

/// A host on an access port of the switch.
pub(super) fn switched(run: &Run, deployment: Deployment, switch: &Namespace, site: Site) -> Result<Host> {
    let Site { host: name, segment, port, vlan, number } = site;
    let network = network(vlan)?;
    let (v4, v6) = (network.v4(number), network.v6(number));
    let (router_v4, router_v6) = (network.v4(1), network.v6(1));
    let namespace = run.namespace(name)?;
    namespace.sysctl("ipv4/ping_group_range", "0 2147483647")?;
    let link = Link { from: mac(vlan, 2), to: deployment.router() };
    wire(
        &end(switch, port, mac(vlan, 3), &[]),
        &end(&namespace, HOST_INTERFACE, link.from, &[(v4.into(), network.length), (v6.into(), 64)]),
    )?;
    namespace
        .batch(&[format!("route add default via {router_v4}"), format!("route add ::/0 via {router_v6}")])?;
    join(switch, port)?;
    tool(switch.command("bridge").args([
        "vlan",
        "add",
        "dev",
        port,
        "vid",
        &vlan.to_string(),
        "pvid",
        "untagged",
    ]))?;
    Ok(Host { name, segment, namespace, port: deployment.port(vlan), v4, v6, router_v4, link })
}

/// Makes `namespace` a switch that says nothing by itself.
fn bridge(namespace: &Namespace) -> Result<()> {
    for scope in ["all", "default"] {
        namespace.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1")?;
    }
    // A switch does not look into packets; with br_netfilter the kernel's bridge does, unless it is told not to.
    for hook in ["arptables", "iptables", "ip6tables"] {
        if Path::new("/proc/sys/net/bridge").exists() {
            namespace.sysctl(&format!("bridge/bridge-nf-call-{hook}"), "0")?;
        }
    }
    namespace.batch(&[
        format!(
            "link add {BRIDGE} type bridge vlan_filtering 1 vlan_default_pvid 0 mcast_snooping 0 stp_state 0"
        ),
        format!("link set {BRIDGE} up"),
    ])
}

fn join(switch: &Namespace, port: &str) -> Result<()> {
    switch.batch(&[format!("link set {port} master {BRIDGE}")])
}

/// Lets a port carry all VLANs, tagged.
fn carry(switch: &Namespace, port: &str) -> Result<()> {
    let mut lines = String::new();
    for vlan in vlans() {
        writeln!(lines, "vlan add dev {port} vid {vlan}")?;
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), lines)?;
    tool(switch.command("bridge").arg("-batch").arg(file.path())).map(drop)
}

fn vlans() -> impl Iterator<Item = u8> {
    SITES.iter().map(|site| site.vlan)
}
