//! The reference hospital of `policies/hospital`, as hosts in namespaces: one access port of the
//! gateway for each segment, a trunk, and the world behind a WAN port; or, on kernels that have what it takes,
//! wired up as other hospitals are ([`Deployment`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};

use crate::frames::{Link, Wire};
use crate::namespace::{End, Namespace, wire};
use crate::run::Run;
use crate::switch::Switch;

mod annex;
mod deployment;

pub use deployment::{Deployment, HEARTBEAT, has_cards, is_possible, vlan_device};

/// Interface of every host.
pub const HOST_INTERFACE: &str = "eth0";
/// Port of the gateway that takes tagged frames.
pub const TRUNK: &str = "trunk0";
/// Port of the gateway to the world.
pub const WAN: &str = "wan0";
const CUSTOMER: &str = "customer0";
/// The gateway's own address to the world.
pub const WAN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The gateway's own IPv6 address to the world.
pub const WAN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 2);
const PROVIDER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PROVIDER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);

/// A host of the table below.
#[derive(Clone, Copy, Debug)]
struct Site {
    /// Name of the host.
    host: &'static str,
    /// Name of its segment in the policy.
    segment: &'static str,
    /// Its access port on the gateway.
    port: &'static str,
    /// VLAN identifier, which is the third octet of its IPv4 subnet but for [`V4_NETWORKS`].
    vlan: u8,
    /// Last octet, last group.
    number: u8,
}

const fn site(host: &'static str, segment: &'static str, port: &'static str, vlan: u8, number: u8) -> Site {
    Site { host, segment, port, vlan, number }
}

const SITES: &[Site] = &[
    site("infrastructure", "infrastructure", "infra0", 10, 10),
    site("his", "his", "his0", 20, 10),
    site("integration", "integration", "engine0", 25, 10),
    site("pacs", "pacs", "pacs0", 30, 10),
    site("vna", "vna", "vna0", 31, 10),
    site("ris", "ris", "ris0", 32, 10),
    site("ct-1", "modalities-a", "moda0", 40, 11),
    site("mr-1", "modalities-b", "modb0", 41, 12),
    site("viewer", "viewers", "view0", 50, 11),
    site("lis", "lis", "lis0", 60, 10),
    site("analyser", "analysers", "analyser0", 61, 11),
    site("bedside-test", "point-of-care", "poct0", 62, 11),
    site("pump", "pumps", "pumps0", 70, 11),
    site("pump-server-1", "pump-server", "pumpsrv0", 71, 10),
    site("monitor", "monitors", "monitor0", 80, 11),
    site("monitor-gateway", "monitor-gateway", "mongw0", 81, 10),
    site("building", "building", "building0", 90, 10),
    site("jump-ct", "vendor-dmz", "vendor0", 110, 11),
    site("office-pc", "information", "info0", 200, 11),
    site("guest", "guest", "guest0", 250, 11),
    site("quarantined", "quarantine", "quarant0", 251, 11),
];

/// VLANs with an IPv4 network that is not 10.10.VLAN.0/24: first three octets and prefix length.
const V4_NETWORKS: &[(u8, [u8; 3], u8)] = &[(200, [10, 20, 0], 16), (250, [10, 30, 0], 24)];

/// A host outside.
#[derive(Clone, Copy, Debug)]
struct Foreigner {
    host: &'static str,
    link: u8,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    length: u8,
    router: (Ipv4Addr, Ipv6Addr),
}

const OUTSIDE: [Foreigner; 2] = [
    Foreigner {
        host: "vendor",
        link: 3,
        v4: Ipv4Addr::new(203, 0, 113, 17),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x17),
        length: 29,
        router: (Ipv4Addr::new(203, 0, 113, 22), Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x22)),
    },
    Foreigner {
        host: "attacker",
        link: 4,
        v4: Ipv4Addr::new(198, 51, 100, 66),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0x66, 0, 0, 0, 0, 0x66),
        length: 24,
        router: (Ipv4Addr::new(198, 51, 100, 1), Ipv6Addr::new(0x2001, 0xdb8, 0x66, 0, 0, 0, 0, 1)),
    },
];

/// A host of the hospital, or of the world outside.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name in the lab.
    pub name: &'static str,
    /// Name of its segment in the policy.
    pub segment: &'static str,
    /// Its namespace.
    pub namespace: Namespace,
    /// Interface of its router that leads to it.
    pub port: String,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Its router: the gateway's address in its segment.
    pub router_v4: Ipv4Addr,
    /// From it to its router.
    pub link: Link,
}

impl Host {
    /// An IPv4 socket address on it.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.v4, port))
    }

    /// An IPv6 socket address on it.
    pub fn at_v6(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.v6, port))
    }

    /// A packet socket on its interface.
    pub fn wire(&self) -> Result<Wire> {
        Wire::open(&self.namespace, HOST_INTERFACE)
    }
}

/// The hospital, wired up, nothing running in it yet.
#[derive(Debug)]
pub struct Hospital {
    /// The router that Clinigate protects.
    pub gateway: Namespace,
    /// What a switch would be: the far end of the trunk.
    pub switch: Namespace,
    deployment: Deployment,
    hosts: Vec<Host>,
    /// The router of the provider: between the gateway and the world.
    pub provider: Namespace,
    /// The router of the segments, where the gateway is not.
    pub core: Option<Namespace>,
    /// What joins the trunk with the hosts of the second building.
    bridge: Option<Switch>,
    // Dropped last: it removes what the namespaces leave.
    run: Run,
}

impl Hospital {
    /// Builds it with a port of the gateway for each segment.
    pub fn build() -> Result<Self> {
        Self::deployed(Deployment::Ports)
    }

    /// Builds it.
    pub fn deployed(deployment: Deployment) -> Result<Self> {
        let run = Run::new()?;
        let gateway = run.namespace("gateway")?;
        gateway.sysctl("ipv4/ip_forward", "1")?;
        gateway.sysctl("ipv6/conf/all/forwarding", "1")?;
        let switch = run.namespace("switch")?;
        let core = deployment.prepare(&run, &gateway, &switch)?;
        let mut hosts = Vec::new();
        for site in SITES {
            let host = match deployment {
                Deployment::Ports => inside(&run, &gateway, *site),
                deployment => deployment::switched(&run, deployment, &switch, *site),
            };
            hosts.push(host.with_context(|| format!("cannot build the host {}", site.host))?);
        }
        let provider = run.namespace("provider")?;
        provider.sysctl("ipv4/ip_forward", "1")?;
        provider.sysctl("ipv6/conf/all/forwarding", "1")?;
        let router = core.as_ref().unwrap_or(&gateway);
        wire(
            &end(router, WAN, mac(2, 1), &[(WAN_V4.into(), 24), (WAN_V6.into(), 64)]),
            &end(&provider, CUSTOMER, mac(2, 2), &[(PROVIDER_V4.into(), 24), (PROVIDER_V6.into(), 64)]),
        )?;
        router.batch(&[
            format!("route add default via {PROVIDER_V4}"),
            format!("route add ::/0 via {PROVIDER_V6}"),
        ])?;
        deployment.finish(&gateway)?;
        provider.batch(&Self::ways_in())?;
        for foreigner in OUTSIDE {
            let Foreigner { host, link, v4, v6, length, router } = foreigner;
            let plan = Plan { name: host, segment: "wan", link, length, host: (v4, v6) };
            hosts.push(plan.build(run.namespace(host)?, &provider, host, router)?);
        }
        let namespaces =
            hosts.iter().map(|host| &host.namespace).chain([&gateway, &switch, &provider]).chain(&core);
        namespaces.into_iter().try_for_each(Namespace::wait_up)?;
        Ok(Self { gateway, switch, deployment, hosts, provider, core, bridge: None, run })
    }

    /// The provider's ways to the hospital.
    fn ways_in() -> [String; 2] {
        [format!("route replace 10.0.0.0/8 via {WAN_V4}"), format!("route replace fd00::/16 via {WAN_V6}")]
    }

    /// A host by its name.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .expect("the table of hosts has every host that is used")
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The run that it belongs to: scratch directory and bpffs.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// A packet socket on the far end of the trunk, and the hardware addresses from there to the
    /// gateway.
    pub fn trunk(&self) -> Result<(Wire, Link)> {
        Ok((Wire::open(&self.switch, HOST_INTERFACE)?, Link { from: mac(1, 2), to: mac(1, 1) }))
    }
}

/// Addresses of one host.
struct Plan {
    name: &'static str,
    segment: &'static str,
    link: u8,
    length: u8,
    host: (Ipv4Addr, Ipv6Addr),
}

impl Plan {
    /// Wires the host to its router and sends everything there.
    fn build(
        self,
        namespace: Namespace,
        router: &Namespace,
        port: &str,
        (router_v4, router_v6): (Ipv4Addr, Ipv6Addr),
    ) -> Result<Host> {
        let Self { name, segment, link, length, host: (v4, v6) } = self;
        namespace.sysctl("ipv4/ping_group_range", "0 2147483647")?;
        wire(
            &end(router, port, mac(link, 1), &[(router_v4.into(), length), (router_v6.into(), 64)]),
            &end(&namespace, HOST_INTERFACE, mac(link, 2), &[(v4.into(), length), (v6.into(), 64)]),
        )?;
        namespace.batch(&[
            format!("route add default via {router_v4}"),
            format!("route add ::/0 via {router_v6}"),
        ])?;
        let link = Link { from: mac(link, 2), to: mac(link, 1) };
        Ok(Host { name, segment, namespace, port: port.to_owned(), v4, v6, router_v4, link })
    }
}

/// The network of a VLAN.
struct Network {
    v4: [u8; 3],
    /// Length of the IPv4 prefix.
    length: u8,
    /// Second group of the IPv6 addresses.
    group: u16,
}

impl Network {
    fn v4(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.v4;
        Ipv4Addr::new(a, b, c, number)
    }

    fn v6(&self, number: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, self.group, 0, 0, 0, 0, 0, hexadecimal(number))
    }
}

fn network(vlan: u8) -> Result<Network> {
    let usual = (vlan, [10, 10, vlan], 24);
    let (_, v4, length) = *V4_NETWORKS.iter().find(|network| network.0 == vlan).unwrap_or(&usual);
    // A VLAN's number is read in IPv6 as it is written: fd00:70::/64 is VLAN 70.
    let group = u16::from_str_radix(&vlan.to_string(), 16).context("decimal digits are hexadecimal ones")?;
    Ok(Network { v4, length, group })
}

fn inside(run: &Run, gateway: &Namespace, site: Site) -> Result<Host> {
    let network = network(site.vlan)?;
    let host = (network.v4(site.number), network.v6(site.number));
    let (name, segment, link) = (site.host, site.segment, site.vlan);
    let plan = Plan { name, segment, link, length: network.length, host };
    plan.build(run.namespace(name)?, gateway, site.port, (network.v4(1), network.v6(1)))
}

fn end<'a>(
    namespace: &'a Namespace,
    interface: &'a str,
    mac: [u8; 6],
    addresses: &[(IpAddr, u8)],
) -> End<'a> {
    End { namespace, interface, mac, addresses: addresses.to_vec() }
}

/// A locally administered hardware address: link number, then end (1: the gateway's side).
const fn mac(link: u8, end: u8) -> [u8; 6] {
    [0x02, 0xc9, 0, 0, link, end]
}

/// 11 as `::11`.
fn hexadecimal(number: u8) -> u16 {
    let (tens, ones) = (number / 10, number % 10);
    u16::from(tens) * 16 + u16::from(ones)
}
