//! The second building: hosts behind the trunk, each in a VLAN that an access port of the main building
//! carries too. Reached only where XDP forwards: the gateway's kernel needs no VLAN devices then.

use anyhow::{Context as _, Result};

use super::{HOST_INTERFACE, Hospital, Host, Site, TRUNK, end, mac, network, site};
use crate::frames::Link;
use crate::namespace::{Namespace, tool, wire};
use crate::switch::Switch;

/// Hosts, each on a port of the building's switch.
const SITES: &[Site] =
    &[site("mr-2", "modalities-b", "mr2", 41, 22), site("analyser-2", "analysers", "analyser2", 61, 22)];

impl Hospital {
    /// Adds the hosts of the second building, and the switch that their trunk ends in. Call [`Self::let_hosts_poll`] before.
    pub fn open_annex(&mut self) -> Result<()> {
        for site in SITES {
            let host = self.annexed(*site);
            self.hosts.push(host.with_context(|| format!("cannot build the host {}", site.host))?);
        }
        self.switch.wait_up()?;
        let ports: Vec<_> = SITES.iter().map(|site| (u16::from(site.vlan), site.port)).collect();
        self.bridge = Some(Switch::start(&self.switch, HOST_INTERFACE, &ports)?);
        Ok(())
    }

    fn annexed(&self, site: Site) -> Result<Host> {
        let network = network(site.vlan)?;
        let (v4, v6) = (network.v4(site.number), network.v6(site.number));
        let (router_v4, router_v6) = (network.v4(1), network.v6(1));
        let namespace = self.run.namespace(site.host)?;
        namespace.sysctl("ipv4/ping_group_range", "0 2147483647")?;
        let link = Link { from: mac(site.vlan, 4), to: mac(1, 1) };
        wire(
            &end(&self.switch, site.port, mac(site.vlan, 3), &[]),
            &end(&namespace, HOST_INTERFACE, link.from, &[(v4.into(), network.length), (v6.into(), 64)]),
        )?;
        namespace.batch(&[
            format!("route add default via {router_v4}"),
            format!("route add ::/0 via {router_v6}"),
        ])?;
        // The kernel answers for IPv6 addresses of that very interface alone.
        self.gateway.batch(&[
            format!("address add {router_v4}/32 dev {TRUNK}"),
            format!("address add {router_v6}/128 dev {TRUNK} nodad"),
            format!("route add {v4}/32 dev {TRUNK} src {router_v4}"),
            format!("route add {v6}/128 dev {TRUNK} src {router_v6}"),
        ])?;
        namespace.wait_up()?;
        let (name, segment, port) = (site.host, site.segment, TRUNK.to_owned());
        Ok(Host { name, segment, namespace, port, v4, v6, router_v4, link })
    }

    /// A veth takes redirected frames only where its other end polls, as network cards always do.
    pub fn let_hosts_poll(&self) -> Result<()> {
        let inside = self.hosts.iter().map(|host| (&host.namespace, HOST_INTERFACE));
        let uplinks = || [HOST_INTERFACE].into_iter().chain(self.deployment.links().iter().copied());
        let others =
            uplinks().map(|uplink| (&self.switch, uplink)).chain([(&self.provider, super::CUSTOMER)]);
        for (namespace, interface) in inside.chain(others) {
            poll(namespace, interface)?;
        }
        uplinks().try_for_each(|uplink| grow_nothing(&self.switch, uplink))
    }
}

/// Lets an end of a veth take redirected frames.
pub(super) fn poll(namespace: &Namespace, interface: &str) -> Result<()> {
    tool(namespace.command("ethtool").args(["-K", interface, "gro", "on"])).map(drop)
}

/// A switch sends on what it receives: nothing may grow there.
pub(super) fn grow_nothing(switch: &Namespace, port: &str) -> Result<()> {
    switch.batch(&[format!("link set {port} gro_max_size 1")])
}
