//! Plausible hospitals with any number of rules, as policy text, and the packets of their hosts.
//!
//! A hospital has sites, each with the same kinds of segments: clients (pumps, modalities, viewers and so
//! on) and the servers that they work with. The first rules are between segments; what is beyond them
//! names single devices: most of a large policy. A few are a vendor's, a few deny. The same
//! number of rules always gives the same hospital.

mod rules;
mod traffic;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use traffic::{Flow, Traffic};

use crate::policy::SourceFile;
use rules::Rule;

/// Kinds of segments whose hosts open connections.
pub(crate) const CLIENTS: [&str; 8] =
    ["workstations", "modalities", "viewers", "analysers", "pumps", "monitors", "points-of-care", "building"];
/// Kinds of segments with the servers.
pub(crate) const SERVERS: [&str; 7] =
    ["pacs", "ris", "lis", "integration", "pump-servers", "monitor-gateways", "infrastructure"];
/// Segments of a site.
pub(crate) const KINDS: usize = CLIENTS.len() + SERVERS.len();
/// Sites at most: segments are limited to 188.
const SITES_MAX: usize = 12;
/// Rules of one file.
const RULES_OF_FILE: usize = 5000;
/// Segment whose frames bear no tag.
pub(crate) const UNTAGGED: usize = 0;

/// A hospital.
#[derive(Clone, Debug)]
pub struct Hospital {
    sites: usize,
    /// Devices of each client kind at each site.
    clients: usize,
    /// Likewise of servers.
    servers: usize,
    rules: Vec<Rule>,
}

/// A segment, by its place in the order of sites and kinds.
pub(crate) type SegmentIndex = usize;

/// A host: a segment and its number there. Devices are the hosts with the first numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) segment: SegmentIndex,
    pub(crate) number: usize,
}

impl Host {
    /// Its address. Hosts are numbered from 16 on, in a /20 and a /64.
    pub(crate) fn address(self, v6: bool) -> IpAddr {
        let (site, kind) = (self.segment / KINDS, self.segment % KINDS);
        let host = u32::try_from(16 + self.number).expect("hosts of a /20");
        if v6 {
            let network = 0xfd00_u128 << 112 | (site as u128 + 1) << 96 | (kind as u128) << 64;
            return Ipv6Addr::from_bits(network | u128::from(host)).into();
        }
        let network = 10 << 24 | (16 + site) << 16 | kind << 12;
        Ipv4Addr::from_bits(u32::try_from(network).expect("32 bits") | host).into()
    }
}

impl Hospital {
    /// The hospital with this many rules, at least ten.
    pub fn of(rules: usize) -> Self {
        let sites = (rules / 400).clamp(1, SITES_MAX);
        let between_segments = rules.min(sites * rules::BETWEEN_SEGMENTS.len());
        let rest = rules - between_segments;
        let (vendors, denies) = (rest * 3 / 100, rest * 2 / 100);
        // Five rules a device.
        let clients = (rest - vendors - denies).div_ceil(5 * sites * CLIENTS.len());
        let servers = (rules / 200).min(500).div_ceil(sites * SERVERS.len()).max(1);
        let mut hospital = Self { sites, clients, servers, rules: Vec::new() };
        hospital.rules = rules::make(&hospital, between_segments, vendors, denies, rules);
        hospital
    }

    /// Its policy, all on one interface of this name: a trunk that also carries one segment untagged.
    pub fn policy(&self, interface: &str) -> Vec<SourceFile> {
        let mut files = vec![
            SourceFile::new("segments.yaml", self.segments(interface)),
            SourceFile::new("devices.yaml", self.devices()),
        ];
        for (part, number) in self.rules.chunks(RULES_OF_FILE).zip(0..) {
            let text = rules::text(part, number * RULES_OF_FILE);
            files.push(SourceFile::new(&format!("rules-{number}.yaml"), text));
        }
        files
    }

    /// How many rules it has.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    fn segments(&self, interface: &str) -> String {
        let mut text = format!("interfaces:\n  {interface}:\n    untagged: {}\n    trunk:\n", name(UNTAGGED));
        let all = 0..self.sites * KINDS;
        for segment in all.clone().filter(|segment| *segment != UNTAGGED) {
            line(&mut text, format_args!("      - {}", name(segment)));
        }
        text += "segments:\n";
        for segment in all {
            let first = |v6| match (Host { segment, number: 0 }).address(v6) {
                IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xfff).to_string(),
                IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !0xffff).to_string(),
            };
            line(
                &mut text,
                format_args!(
                    "  {}: {{ vlan: {}, subnets: [{}/20, \"{}/64\"], zone: {} }}",
                    name(segment),
                    vlan(segment),
                    first(false),
                    first(true),
                    if segment % KINDS < CLIENTS.len() { "clients" } else { "servers" },
                ),
            );
        }
        text
    }

    fn devices(&self) -> String {
        let mut text = String::from("devices:\n");
        for segment in 0..self.sites * KINDS {
            for number in 0..self.devices_of(segment) {
                let host = Host { segment, number };
                line(
                    &mut text,
                    format_args!(
                        "  {}: {{ segment: {}, addresses: [{}, \"{}\"] }}",
                        device(host),
                        name(segment),
                        host.address(false),
                        host.address(true)
                    ),
                );
            }
        }
        text
    }

    fn devices_of(&self, segment: SegmentIndex) -> usize {
        if segment % KINDS < CLIENTS.len() { self.clients } else { self.servers }
    }
}

fn name(segment: SegmentIndex) -> String {
    let (site, kind) = (segment / KINDS, segment % KINDS);
    let kind = CLIENTS.iter().chain(&SERVERS).nth(kind).expect("fewer than KINDS");
    format!("s{site}-{kind}")
}

fn device(host: Host) -> String {
    format!("{}-{}", name(host.segment), host.number)
}

/// VLAN identifier of a segment.
pub(crate) fn vlan(segment: SegmentIndex) -> u16 {
    u16::try_from(100 + segment).expect("fewer than 200 segments")
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a String does not fail");
}

/// Numbers that look random and are the same in every run (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^= value >> 31;
        usize::try_from(value % limit as u64).expect("below a usize")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::policy::resolve;

    #[test]
    fn a_hospital_has_the_rules_that_were_asked_for_and_no_mistake() {
        for rules in [10, 100, 1000] {
            let hospital = Hospital::of(rules);
            let resolved = resolve(hospital.policy("trunk0"));
            assert!(resolved.diagnostics.is_empty(), "{:#?}", resolved.diagnostics);
            assert_eq!(resolved.policy.unwrap().rules.len(), rules);
        }
    }
}
