//! A network namespace with the policy's interfaces, in which a ruleset judges packets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use clinigate::export::nftables::{self, State};
use clinigate::oracle::packet::Packet;
use clinigate::policy::model::Policy;
use clinigate_tests::frames::Wire;
use clinigate_tests::namespace::{Namespace, tool};
use serde_json::Value;

use crate::packets::frame;

/// Notes by serial number what arrives before the ruleset, and what is left behind it; nothing goes
/// further.
const PROBE: &str = "
add table inet probe
delete table inet probe
table inet probe {
	set arrived4 { typeof ip id; size 65535; flags dynamic; }
	set arrived6 { typeof ip6 flowlabel; size 65535; flags dynamic; }
	set passed4 { typeof ip id; size 65535; flags dynamic; }
	set passed6 { typeof ip6 flowlabel; size 65535; flags dynamic; }
	chain before {
		type filter hook prerouting priority -450;
		add @arrived4 { ip id }
		add @arrived6 { ip6 flowlabel }
	}
	chain after {
		type filter hook prerouting priority -149;
		add @passed4 { ip id } drop
		add @passed6 { ip6 flowlabel } drop
	}
}
";

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It did not come as far as the ruleset.
    Nothing,
    Dropped,
    Passed,
}

/// What one run showed.
#[derive(Debug)]
pub(crate) struct Run {
    /// In the order of the packets.
    pub(crate) packets: Vec<Seen>,
    /// The ruleset's counters that are not zero.
    pub(crate) counters: BTreeMap<String, u64>,
}

/// A namespace with devices, each with the other end of its wire.
///
/// A VLAN device is a device like any other here: the ruleset knows it by its name alone, and a kernel
/// without VLANs is good enough to try it.
pub(crate) struct Bench {
    namespace: Namespace,
    wires: BTreeMap<String, Wire>,
}

impl Bench {
    pub(crate) fn new() -> Result<Self> {
        // Tests of one process run at once.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace::create(format!("clinigate-nft-{}-{number}", std::process::id()))?;
        // What the machine says by itself would be counted.
        namespace.sysctl("ipv6/conf/default/addr_gen_mode", "1")?;
        Ok(Self { namespace, wires: BTreeMap::new() })
    }

    /// Makes those of these devices that are not there yet.
    fn make(&mut self, devices: &BTreeSet<String>) -> Result<()> {
        let missing: Vec<&String> = devices.iter().filter(|name| !self.wires.contains_key(*name)).collect();
        let wires: Vec<String> =
            (self.wires.len()..).take(missing.len()).map(|n| format!("wire{n}")).collect();
        let mut lines = Vec::new();
        for (device, wire) in missing.iter().zip(&wires) {
            lines.push(format!(
                "link add {device} address 02:00:00:00:00:01 type veth \
                 peer name {wire} address 02:00:00:00:00:02"
            ));
            lines.extend([format!("link set {wire} up"), format!("link set {device} up")]);
        }
        self.namespace.batch(&lines)?;
        for (device, wire) in missing.into_iter().zip(wires) {
            self.namespace.sysctl(&format!("ipv6/conf/{wire}/disable_ipv6"), "1")?;
            self.wires.insert(device.clone(), Wire::open(&self.namespace, &wire)?);
        }
        if !lines.is_empty() {
            self.namespace.wait_up()?;
        }
        Ok(())
    }

    /// Gives the machine addresses.
    pub(crate) fn give(&self, addresses: &[IpAddr]) -> Result<()> {
        self.addresses("add", addresses)
    }

    /// Takes them away.
    pub(crate) fn take(&self, addresses: &[IpAddr]) -> Result<()> {
        self.addresses("del", addresses)
    }

    fn addresses(&self, verb: &str, addresses: &[IpAddr]) -> Result<()> {
        let lines: Vec<String> = addresses
            .iter()
            .map(|address| {
                format!("address {verb} {address}/{} dev lo", if address.is_ipv4() { 32 } else { 128 })
            })
            .collect();
        self.namespace.batch(&lines)
    }

    /// Loads the ruleset of a policy, sends the packets, and tells what became of them.
    pub(crate) fn run(
        &mut self,
        policy: &Policy,
        state: State,
        packets: &[(String, &Packet)],
    ) -> Result<Run> {
        self.make(&packets.iter().map(|(device, _)| device.clone()).collect())?;
        // It takes the place of the policy's before it.
        self.load(&nftables::export(policy, state).ruleset)?;
        self.load(PROBE)?;
        if state == State::Tracked {
            // The frames have no checksums above IP. The setting is there once a ruleset asks for tracking.
            self.namespace.sysctl("netfilter/nf_conntrack_checksum", "0")?;
        }
        for ((device, packet), serial) in packets.iter().zip(1u16..) {
            self.wires[device].send(&frame(packet, serial))?;
        }
        let serials = self.serials()?;
        let noted = |sets: [&str; 2], serial| sets.iter().any(|set| serials[*set].contains(&serial));
        let seen = |(_, serial): (&_, u64)| {
            if !noted(["arrived4", "arrived6"], serial) {
                Seen::Nothing
            } else if noted(["passed4", "passed6"], serial) {
                Seen::Passed
            } else {
                Seen::Dropped
            }
        };
        let packets = packets.iter().zip(1..).map(seen).collect();
        Ok(Run { packets, counters: self.counters()? })
    }

    fn load(&self, ruleset: &str) -> Result<()> {
        let mut nft = self
            .namespace
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start nft")?;
        nft.stdin.take().context("it is piped")?.write_all(ruleset.as_bytes())?;
        let output = nft.wait_with_output()?;
        if !output.status.success() {
            bail!("{ruleset}\nnft: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn list(&self, what: &[&str]) -> Result<Vec<Value>> {
        let text = tool(self.namespace.command("nft").args(["-j", "list"]).args(what))?;
        let Value::Object(mut answer) = serde_json::from_str(&text)? else { bail!("no object: {text}") };
        match answer.remove("nftables") {
            Some(Value::Array(objects)) => Ok(objects),
            _ => bail!("no list: {text}"),
        }
    }

    /// The serial numbers in each set of the probe, by its name.
    fn serials(&self) -> Result<BTreeMap<String, BTreeSet<u64>>> {
        let mut serials = BTreeMap::new();
        for object in self.list(&["table", "inet", "probe"])? {
            let set = &object["set"];
            let Some(name) = set["name"].as_str() else { continue };
            let elements = set["elem"].as_array().cloned().unwrap_or_default();
            let numbers: Option<BTreeSet<u64>> = elements.iter().map(Value::as_u64).collect();
            serials.insert(name.to_owned(), numbers.with_context(|| format!("{set} has not only numbers"))?);
        }
        Ok(serials)
    }

    fn counters(&self) -> Result<BTreeMap<String, u64>> {
        let mut counters = BTreeMap::new();
        for object in self.list(&["counters", "table", "inet", "clinigate"])? {
            let counter = &object["counter"];
            let (Some(name), Some(packets)) = (counter["name"].as_str(), counter["packets"].as_u64()) else {
                continue;
            };
            if packets > 0 {
                counters.insert(name.to_owned(), packets);
            }
        }
        Ok(counters)
    }
}
