//! A gateway in namespaces of its own, between clients, servers and guests, and who judges there.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clinigate::compile::compile;
use clinigate::dataplane::{Dataplane, Options, Record};
use clinigate::policy::resolve;
use clinigate_tests::namespace::{Namespace, mac_text, tool};
use clinigate_tests::run::Run;
use nix::net::if_::if_nametoindex;
use serde::Serialize;

use super::sender::Route;
use super::town::{NETWORKS, PORTS, Town, host};
use crate::driver::Driver;

/// Name of the other end of each port's wire, in its own namespace.
pub(crate) const END: &str = "eth0";
/// Networks that are behind a port: [`NETWORKS`].
pub(crate) const CLIENTS: usize = 0;
pub(crate) const SERVERS: usize = 1;
pub(crate) const GUESTS: usize = 2;

/// Who judges and forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Judge {
    /// Counts and drops everything: what receiving costs.
    Sink,
    /// Forwards everything in XDP, by the kernel's routes.
    Router,
    /// The kernel forwards everything.
    Kernel,
    /// nftables at ingress (netdev), rules in one set.
    Set,
    /// nftables at ingress, a line for each rule.
    Chain,
    /// The kernel forwards, nftables looks at connections, then at a set.
    Conntrack,
    /// Clinigate; the kernel forwards.
    Clinigate,
    /// Clinigate with `forwarding: xdp`.
    ClinigateXdp,
}

impl Judge {
    /// Whether it is Clinigate.
    pub(crate) const fn is_ours(self) -> bool {
        matches!(self, Self::Clinigate | Self::ClinigateXdp)
    }

    /// A word for namespaces and tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Router => "router",
            Self::Kernel => "kernel",
            Self::Set => "nft-set",
            Self::Chain => "nft-chain",
            Self::Conntrack => "nft-conntrack",
            Self::Clinigate => "clinigate",
            Self::ClinigateXdp => "clinigate-xdp",
        }
    }
}

/// What a bed is built from.
#[derive(Clone, Copy)]
pub(crate) struct Design<'a> {
    pub(crate) run: &'a Run,
    /// A word for its namespaces, pins and state.
    pub(crate) name: &'a str,
    pub(crate) judge: Judge,
    pub(crate) town: Town,
    /// Further settings of Clinigate's policy.
    pub(crate) more: &'a str,
}

/// A gateway and its surroundings.
pub(crate) struct Bed {
    gateway: Namespace,
    /// Behind [`PORTS`].
    pub(crate) around: [Namespace; 3],
    /// Where it is Clinigate that judges.
    pub(crate) dataplane: Option<Dataplane>,
}

const fn mac(port: usize, end: u8) -> [u8; 6] {
    [2, 0xc9, 2, 0, port as u8, end]
}

impl Bed {
    /// Builds it.
    pub(crate) fn build(driver: &mut Driver, design: Design<'_>) -> Result<Self> {
        let Design { run, name, .. } = design;
        let gateway = run.namespace(&format!("{name}-gateway"))?;
        let around = ["clients", "servers", "guests"].map(|end| run.namespace(&format!("{name}-{end}")));
        let [clients, servers, guests] = around;
        let around = [clients?, servers?, guests?];
        gateway.sysctl("ipv4/ip_forward", "1")?;
        for namespace in around.iter().chain([&gateway]) {
            // Which would speak by itself, and be counted.
            namespace.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
            namespace.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        }
        for (port, namespace) in around.iter().enumerate() {
            wire(&gateway, namespace, port)?;
        }
        for namespace in around.iter().chain([&gateway]) {
            namespace.wait_up()?;
        }
        let mut bed = Self { gateway, around, dataplane: None };
        bed.judge(driver, design)?;
        Ok(bed)
    }

    fn judge(&mut self, driver: &mut Driver, design: Design<'_>) -> Result<()> {
        let town = design.town;
        match design.judge {
            Judge::Kernel => Ok(()),
            Judge::Sink => driver.attach("bench_sink", &self.gateway, PORTS[CLIENTS]),
            Judge::Router => PORTS.iter().try_for_each(|port| driver.attach("bench_router", &self.gateway, port)),
            Judge::Set => self.load(&format!(
                "table netdev wall {{\n{}\n chain wall {{\ntype filter hook ingress device {} priority 0; policy accept;\n\
                 ip saddr . ip daddr . udp dport @rules accept\ncounter drop\n}}\n}}",
                town.set(),
                PORTS[CLIENTS]
            )),
            Judge::Chain => self.load(&format!(
                "table netdev wall {{\nchain wall {{\ntype filter hook ingress device {} priority 0; policy accept;\n\
                 {}counter drop\n}}\n}}",
                PORTS[CLIENTS],
                town.chain()
            )),
            Judge::Conntrack => {
                self.load(&format!(
                    "table inet wall {{\n{}\n chain wall {{\ntype filter hook forward priority 0; policy drop;\n\
                     ct state established,related accept\n\
                     ip saddr . ip daddr . udp dport @rules counter accept\n\
                     ip saddr . ip daddr . tcp dport @rules counter accept\ncounter drop\n}}\n}}",
                    town.set()
                ))?;
                // Network cards check sums; wires between namespaces leave that to whoever wants to know.
                self.gateway.sysctl("netfilter/nf_conntrack_checksum", "0")
            }
            Judge::Clinigate => self.enforce(design, "kernel"),
            Judge::ClinigateXdp => self.enforce(design, "xdp"),
        }
    }

    fn enforce(&mut self, design: Design<'_>, forwarding: &str) -> Result<()> {
        let Design { run, name, town, more, .. } = design;
        let resolved = resolve(town.policy(forwarding, more));
        let Some(policy) = resolved.policy else { bail!("a mistake: {:?}", resolved.diagnostics.first()) };
        let image = compile(&policy)?;
        let options = Options {
            pin_root: run.bpffs().join(name),
            state_dir: run.directory().join(name),
            ..Options::default()
        };
        let dataplane = self.gateway.run(|| -> Result<Dataplane> {
            let mut dataplane = Dataplane::open(options)?;
            dataplane.apply(&image, Record::default())?;
            Ok(dataplane)
        })?;
        self.dataplane = Some(dataplane?);
        Ok(())
    }

    fn load(&self, ruleset: &str) -> Result<()> {
        let mut nft = self.gateway.command("nft");
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("cannot start nft")?;
        nft.stdin.take().context("it is piped")?.write_all(ruleset.as_bytes())?;
        let status = nft.wait()?;
        if status.success() { Ok(()) } else { bail!("nft takes no part: {status}") }
    }

    /// The way of frames from behind a port to the gateway.
    pub(crate) fn route(&self, port: usize) -> Result<Route<'_>> {
        let namespace = &self.around[port];
        let ifindex = namespace.run(|| if_nametoindex(END))??;
        Ok(Route { namespace, ifindex, macs: [mac(port, 2), mac(port, 1)], back: port == SERVERS })
    }

    /// Frames that came in at a port of the gateway.
    pub(crate) fn received(&self, port: usize) -> Result<u64> {
        settled(&self.gateway, PORTS[port])
    }

    /// Frames that came in behind a port of the gateway.
    pub(crate) fn delivered(&self, port: usize) -> Result<u64> {
        settled(&self.around[port], END)
    }
}

/// Wires a port to the namespace behind it, with a queue for each CPU. All neighbours are known: their
/// resolution is no part of what is measured.
fn wire(gateway: &Namespace, namespace: &Namespace, port: usize) -> Result<()> {
    let queues = crate::cpus().len();
    let queues = format!("numtxqueues {queues} numrxqueues {queues}");
    let [inner, outer] = [1, 2].map(|end| mac_text(mac(port, end)));
    let name = PORTS[port];
    let (link, (network, length)) = (port * 4, NETWORKS[port]);
    gateway.batch(&[
        format!(
            "link add {name} address {inner} {queues} type veth peer name {END} address {outer} {queues} netns {}",
            namespace.name()
        ),
        format!("address add 192.0.2.{}/30 dev {name}", link + 1),
        format!("link set {name} up"),
        format!("neigh add 192.0.2.{} lladdr {outer} dev {name}", link + 2),
        format!("route add {network}/{length} via 192.0.2.{} dev {name}", link + 2),
    ])?;
    namespace.batch(&[
        format!("address add 192.0.2.{}/30 dev {END}", link + 2),
        format!("address add {}/32 dev {END}", host(port, 0)),
        format!("link set {END} up"),
        format!("neigh add 192.0.2.{} lladdr {inner} dev {END}", link + 1),
        format!("route add default via 192.0.2.{} dev {END} src {}", link + 1, host(port, 0)),
    ])?;
    for (namespace, interface) in [(gateway, name), (namespace, END)] {
        // Frames as a wire carries them, whole, of its size and with their sums, and a receiver that polls, as of a
        // network card.
        let off = ["tso", "gso", "tx", "tx-vlan-offload", "rx-vlan-offload"];
        let options = off.iter().flat_map(|feature| [*feature, "off"]).chain(["gro", "on"]);
        tool(namespace.command("ethtool").args(["-K", interface]).args(options))?;
    }
    Ok(())
}

/// Frames that an interface received, once no more are on their way.
fn settled(namespace: &Namespace, interface: &str) -> Result<u64> {
    let mut last = received(namespace, interface)?;
    loop {
        thread::sleep(Duration::from_millis(1));
        let now = received(namespace, interface)?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

fn received(namespace: &Namespace, interface: &str) -> Result<u64> {
    // Of the calling thread: the process as a whole is elsewhere.
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
    // Bytes, then packets.
    let packets = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
    packets.with_context(|| format!("no statistics of {interface}"))
}
