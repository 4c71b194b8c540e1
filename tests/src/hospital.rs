//! The reference hospital of `policies/hospital`, as hosts in namespaces: one access port of the
//! gateway for each segment, a trunk, and the world behind a WAN port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};

use crate::frames::{Link, Wire};
use crate::namespace::{End, Namespace, wire};
use crate::run::Run;

/// Interface of every host.
pub const HOST_INTERFACE: &str = "eth0";
/// Port of the gateway that takes tagged frames.
pub const TRUNK: &str = "trunk0";
/// Port of the gateway to the world.
pub const WAN: &str = "wan0";
/// The gateway's own address to the world.
pub const WAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const PROVIDER_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A host of the table below.
#[derive(Clone, Copy, Debug)]
struct Site {
    /// Name of the host.
    host: &'static str,
    /// Name of its segment in the policy.
    segment: &'static str,
    /// Its access port on the gateway.
    port: &'static str,
    /// VLAN identifier: third octet of its IPv4 subnet, fourth group of its IPv6 prefix.
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
    site("integration", "integration", "integ0", 25, 10),
    site("pacs", "pacs", "pacs0", 30, 10),
    site("ris", "ris", "ris0", 32, 10),
    site("modality", "modalities-a", "modal0", 40, 11),
    site("viewer", "viewers", "viewer0", 50, 11),
    site("lis", "lis", "lis0", 60, 10),
    site("pump", "pumps", "pump0", 70, 11),
    site("pump-server", "pump-server", "pumpsrv0", 71, 10),
    site("monitor", "monitors", "mon0", 80, 11),
    site("monitor-gateway", "monitor-gateway", "mongw0", 81, 10),
];

/// The information network has another plan: 10.20.0.0/16.
const INFORMATION: Site = site("information", "information", "office0", 200, 11);

/// A host of the hospital, or of the world outside.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name in the lab.
    pub name: &'static str,
    /// Name of its segment in the policy.
    pub segment: &'static str,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its addresses.
    pub v4: Ipv4Addr,
    /// Its IPv6 address; outside there is none.
    pub v6: Option<Ipv6Addr>,
    /// From it to its router.
    pub link: Link,
}

impl Host {
    /// An IPv4 socket address on it.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.v4, port))
    }

    /// An IPv6 socket address on it.
    ///
    /// # Panics
    /// For a host outside: they have none.
    pub fn at_v6(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.v6.expect("hosts inside have an IPv6 address"), port))
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
    hosts: Vec<Host>,
    _provider: Namespace,
    // Dropped last: it removes what the namespaces leave.
    run: Run,
}

impl Hospital {
    /// Builds it.
    pub fn build() -> Result<Self> {
        let run = Run::new()?;
        let gateway = run.namespace("gateway")?;
        gateway.sysctl("ipv4/ip_forward", "1")?;
        gateway.sysctl("ipv6/conf/all/forwarding", "1")?;
        let mut hosts = Vec::new();
        for site in SITES.iter().chain([&INFORMATION]) {
            let host = inside(&run, &gateway, *site);
            hosts.push(host.with_context(|| format!("cannot build the host {}", site.host))?);
        }
        let switch = run.namespace("switch")?;
        wire(&end(&gateway, TRUNK, mac(1, 1), &[]), &end(&switch, HOST_INTERFACE, mac(1, 2), &[]))?;
        let provider = run.namespace("provider")?;
        provider.sysctl("ipv4/ip_forward", "1")?;
        wire(
            &end(&gateway, WAN, mac(2, 1), &[(WAN_ADDRESS.into(), 24)]),
            &end(&provider, "customer0", mac(2, 2), &[(PROVIDER_ADDRESS.into(), 24)]),
        )?;
        gateway.batch(&[format!("route add default via {PROVIDER_ADDRESS}")])?;
        provider.batch(&[format!("route add 10.0.0.0/8 via {WAN_ADDRESS}")])?;
        let vendor = (Ipv4Addr::new(203, 0, 113, 17), Ipv4Addr::new(203, 0, 113, 22), 29);
        hosts.push(outside(&run, &provider, "vendor", 3, vendor)?);
        let attacker = (Ipv4Addr::new(198, 51, 100, 66), Ipv4Addr::new(198, 51, 100, 1), 24);
        hosts.push(outside(&run, &provider, "attacker", 4, attacker)?);
        Ok(Self { gateway, switch, hosts, _provider: provider, run })
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

fn inside(run: &Run, gateway: &Namespace, site: Site) -> Result<Host> {
    let namespace = run.namespace(site.host)?;
    namespace.sysctl("ipv4/ping_group_range", "0 2147483647")?;
    let v4 = |number| match site.vlan {
        200 => Ipv4Addr::new(10, 20, 0, number),
        vlan => Ipv4Addr::new(10, 10, vlan, number),
    };
    let length = if site.vlan == 200 { 16 } else { 24 };
    // A VLAN's number is read in IPv6 as it is written: fd00:70::/64 is VLAN 70.
    let group =
        u16::from_str_radix(&site.vlan.to_string(), 16).context("decimal digits are hexadecimal ones")?;
    let v6 = |number: u8| Ipv6Addr::new(0xfd00, group, 0, 0, 0, 0, 0, hexadecimal(number));
    let addresses = |number| [(IpAddr::V4(v4(number)), length), (IpAddr::V6(v6(number)), 64)];
    wire(
        &end(gateway, site.port, mac(site.vlan, 1), &addresses(1)),
        &end(&namespace, HOST_INTERFACE, mac(site.vlan, 2), &addresses(site.number)),
    )?;
    namespace.batch(&[
        format!("route add default via {}", v4(1)),
        format!("-6 route add default via {}", v6(1)),
    ])?;
    Ok(Host {
        name: site.host,
        segment: site.segment,
        namespace,
        v4: v4(site.number),
        v6: Some(v6(site.number)),
        link: Link { from: mac(site.vlan, 2), to: mac(site.vlan, 1) },
    })
}

fn outside(
    run: &Run,
    provider: &Namespace,
    name: &'static str,
    number: u8,
    (v4, router, length): (Ipv4Addr, Ipv4Addr, u8),
) -> Result<Host> {
    let namespace = run.namespace(name)?;
    namespace.sysctl("ipv4/ping_group_range", "0 2147483647")?;
    wire(
        &end(provider, name, mac(number, 1), &[(router.into(), length)]),
        &end(&namespace, HOST_INTERFACE, mac(number, 2), &[(v4.into(), length)]),
    )?;
    namespace.batch(&[format!("route add default via {router}")])?;
    let link = Link { from: mac(number, 2), to: mac(number, 1) };
    Ok(Host { name, segment: "wan", namespace, v4, v6: None, link })
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

/// 11 as ::11.
fn hexadecimal(number: u8) -> u16 {
    let (tens, ones) = (number / 10, number % 10);
    u16::from(tens) * 16 + u16::from(ones)
}
