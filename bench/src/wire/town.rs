//! The policy of the wire: clients on one port, servers on another, and as many rules as wanted, each for one
//! client; and the same rules for nftables.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use clinigate::policy::SourceFile;
use clinigate::testing::hospital::Flow;

/// Ports of the gateway: towards clients, servers, and guests, who may do nothing.
pub(crate) const PORTS: [&str; 3] = ["in0", "out0", "guests0"];
/// The networks behind them, in the same order.
pub(crate) const NETWORKS: [(Ipv4Addr, u8); 3] =
    [(Ipv4Addr::new(10, 16, 0, 0), 12), (Ipv4Addr::new(10, 32, 0, 0), 16), (Ipv4Addr::new(10, 48, 0, 0), 16)];
/// The one port on which servers listen, UDP and TCP.
pub(crate) const SERVICE: u16 = 5000;
const SERVERS: usize = 64;

/// Where traffic comes from, and whether rules allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// From clients to their servers.
    Allowed,
    /// From clients to hosts anywhere among the servers, on ports that nobody may use.
    Denied,
    /// Likewise from guests.
    Guests,
}

impl Traffic {
    /// A word for namespaces.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Guests => "guests",
        }
    }
}

/// Who lives in the town, by the number of its rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Town {
    pub(crate) rules: usize,
}

/// Address of a host of a network ([`NETWORKS`]).
pub(crate) fn host(network: usize, number: usize) -> Ipv4Addr {
    let number = u32::try_from(16 + number).expect("hosts of a /12");
    Ipv4Addr::from_bits(NETWORKS[network].0.to_bits() + number)
}

impl Town {
    /// The policy; `forwarding` and `more` are settings of it.
    pub(crate) fn policy(self, forwarding: &str, more: &str) -> Vec<SourceFile> {
        let [clients, servers, guests] = NETWORKS.map(|(address, length)| format!("{address}/{length}"));
        let [inside, outside, elsewhere] = PORTS;
        let mut text = format!(
            "interfaces:\n  {inside}: {{ access: clients }}\n  {outside}: {{ access: servers }}\n  \
             {elsewhere}: {{ access: guests }}\nsegments:\n  clients: {{ vlan: 10, subnets: [{clients}] }}\n  \
             servers: {{ vlan: 20, subnets: [{servers}] }}\n  guests: {{ vlan: 30, subnets: [{guests}] }}\n\
             services:\n  readings: {{ tcp: [{SERVICE}], udp: [{SERVICE}] }}\n\
             settings: {{ forwarding: {forwarding}{more} }}\ndevices:\n"
        );
        for (segment, network, count) in [("clients", 0, self.rules), ("servers", 1, SERVERS)] {
            for number in 0..count {
                let address = host(network, number);
                line(
                    &mut text,
                    format_args!("  {segment}-{number}: {{ segment: {segment}, address: {address} }}"),
                );
            }
        }
        text += "flows:\n";
        for number in 0..self.rules {
            line(
                &mut text,
                format_args!(
                    "  - {{ name: r{number}, from: [clients-{number}], to: [servers-{}], services: [readings], \
                     purpose: Readings, owner: network }}",
                    number % SERVERS
                ),
            );
        }
        vec![SourceFile::new("town.yaml", text)]
    }

    /// Both ends of a rule.
    pub(crate) fn ends(number: usize) -> [Ipv4Addr; 2] {
        [host(0, number), host(1, number % SERVERS)]
    }

    /// What nftables finds in one lookup.
    pub(crate) fn set(self) -> String {
        let elements = (0..self.rules).map(|number| {
            let [from, to] = Self::ends(number);
            format!("{from} . {to} . {SERVICE}")
        });
        let elements: Vec<String> = elements.collect();
        format!(
            "set rules {{ type ipv4_addr . ipv4_addr . inet_service; elements = {{ {} }} }}",
            elements.join(", ")
        )
    }

    /// A line for each rule, as routers without sets have them.
    pub(crate) fn chain(self) -> String {
        let mut text = String::new();
        for number in 0..self.rules {
            let [from, to] = Self::ends(number);
            line(&mut text, format_args!("ip saddr {from} ip daddr {to} udp dport {SERVICE} accept"));
        }
        text
    }

    /// `count` connections, always the same ones.
    pub(crate) fn traffic(self, traffic: Traffic, count: usize) -> Vec<Flow> {
        let flows = (0..count).map(|number| {
            // A client of the town, by a stride that meets them all.
            let client = number * 7919 % self.rules;
            let anywhere = host(1, number * 40_503 % 60_000);
            let ([source, destination], destination_port) = match traffic {
                Traffic::Allowed => (Self::ends(client), SERVICE),
                Traffic::Denied => ([host(0, client), anywhere], 4444),
                Traffic::Guests => ([host(2, number * 7919 % 60_000), anywhere], 4444),
            };
            Flow {
                source: source.into(),
                destination: destination.into(),
                source_port: u16::try_from(20_000 + number % 40_000).expect("below 60,000"),
                destination_port,
                vlan: 0,
                back_vlan: 0,
            }
        });
        flows.collect()
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a String does not fail");
}
