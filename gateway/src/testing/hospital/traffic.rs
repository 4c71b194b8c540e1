//! Packets of a hospital's hosts.

use std::net::IpAddr;

use super::rules::{End, Kind, Rule};
use super::{Dice, Hospital, Host, KINDS, UNTAGGED, vlan};

/// What packets are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// TCP connections that flows allow.
    Tcp,
    /// UDP connections that flows allow.
    Udp,
    /// TCP connections that no flow allows: half of them on a strange port to a server that the host works
    /// with, half to hosts anywhere.
    Denied,
    /// TCP from an address of another segment.
    Spoofed,
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who opens it.
    pub source: IpAddr,
    /// Who listens.
    pub destination: IpAddr,
    /// From 20,000 to 29,999.
    pub source_port: u16,
    /// Port of the listener.
    pub destination_port: u16,
    /// VLAN identifier of the segment where it begins.
    pub vlan: u16,
    /// VLAN identifier of the listener's segment.
    pub back_vlan: u16,
}

/// Hosts of a segment that talk, named or not.
const HOSTS: usize = 2000;
/// Ports on which no rule allows anything.
const STRANGE: [u16; 2] = [4444, 5555];

impl Hospital {
    /// `count` connections, spread over the whole hospital: half by rules between segments, from and
    /// to any of their hosts, half by rules of single devices, where there are any. Only sources of the
    /// segment whose frames bear no tag, or only of the others.
    pub fn traffic(&self, traffic: Traffic, v6: bool, tagged: bool, count: usize) -> Vec<Flow> {
        let protocol = if traffic == Traffic::Udp { 17 } else { 6 };
        let [wide, narrow] = self.sorted(protocol, tagged);
        let mut dice = Dice(count as u64);
        let flows = (0..count).map(|number| {
            let rules = if number % 2 == 0 || narrow.is_empty() { &wide } else { &narrow };
            let rule = rules[dice.below(rules.len())];
            let (source, mut destination) = (host(rule.from, &mut dice), host(rule.to, &mut dice));
            let mut arrival = source.segment;
            let mut destination_port = rule.service.2;
            match traffic {
                Traffic::Denied => {
                    destination_port = STRANGE[dice.below(STRANGE.len())];
                    if dice.below(2) == 0 {
                        destination = host(End::Segment(dice.below(self.sites * KINDS)), &mut dice);
                    }
                }
                Traffic::Spoofed if tagged => {
                    // Any other than its own and the one without a tag.
                    let others = self.sites * KINDS - 2;
                    arrival = 1 + (source.segment - 1 + 1 + dice.below(others)) % (others + 1);
                }
                Traffic::Tcp | Traffic::Udp | Traffic::Spoofed => {}
            }
            let source = if traffic == Traffic::Spoofed && !tagged {
                Host { segment: 1 + dice.below(self.sites * KINDS - 1), ..source }
            } else {
                source
            };
            Flow {
                source: source.address(v6),
                destination: destination.address(v6),
                source_port: source_port(&mut dice),
                destination_port,
                vlan: vlan(arrival),
                back_vlan: vlan(destination.segment),
            }
        });
        flows.collect()
    }

    /// Flows of a protocol from where tags are or are not: those between segments, and those of devices.
    fn sorted(&self, protocol: u8, tagged: bool) -> [Vec<&Rule>; 2] {
        let fits = |rule: &&Rule| {
            let segment = match rule.from {
                End::Segment(segment) | End::Device(Host { segment, .. }) => segment,
                End::Vendor(_) => return false,
            };
            rule.kind == Kind::Flow && rule.service.1 == protocol && (segment != UNTAGGED) == tagged
        };
        let (wide, narrow) =
            self.rules.iter().filter(fits).partition(|rule| matches!(rule.from, End::Segment(_)));
        [wide, narrow]
    }
}

fn host(end: End, dice: &mut Dice) -> Host {
    match end {
        End::Segment(segment) => Host { segment, number: dice.below(HOSTS) },
        End::Device(host) => host,
        End::Vendor(_) => unreachable!("vendors' rules are left out"),
    }
}

fn source_port(dice: &mut Dice) -> u16 {
    u16::try_from(20_000 + dice.below(10_000)).expect("less than 30,000")
}
