//! What must pass and what must not, in the reference hospital with `policies/hospital`.
//!
//! Names of rules and segments are those of that policy: this is the one place in the lab that
//! knows them.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use clinigate_tests::frames::{self, ETHERNET, Packet};
use clinigate_tests::hospital::Deployment;
use etherparse::IpNumber;
use gateway_common::reason::Reason;

use crate::attempts::{Scene, Seen, datagram, packet};

/// One line of the demo.
#[derive(Debug)]
pub(crate) struct Expectation {
    /// What is tried, in a few words.
    pub(crate) what: &'static str,
    /// What is to come of it.
    pub(crate) expected: Expected,
    /// How it is tried.
    pub(crate) attempt: fn(&Scene) -> Result<Seen>,
    /// Why it would be stopped without Clinigate too; `None`: it would pass.
    pub(crate) stopped_anyway: Option<&'static str>,
    /// Where there is nothing to try: the frame or its addressee does not get that far.
    pub(crate) not_with: &'static [Deployment],
}

/// What is to come of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// It passes, by this flow.
    Passes(&'static str),
    /// It is dropped.
    Stopped {
        /// Segment that it comes from.
        from: &'static str,
        /// Why.
        reason: Reason,
        /// For [`Reason::Denied`]: the deny that forbids it.
        deny: Option<&'static str>,
        /// Packets dropped: exactly so many.
        packets: u64,
    },
}

/// Some lines of the demo under one title.
#[derive(Debug)]
pub(crate) struct Group {
    /// Title.
    pub(crate) title: &'static str,
    /// Nobody but the counters sees what becomes of it: there is nothing to try without Clinigate.
    pub(crate) counters_only: bool,
    /// Lines.
    pub(crate) expectations: Vec<Expectation>,
}

/// Hosts that the worm looks for.
const SCANNED: &[&str] = &["his", "integration", "pacs", "ris", "mr-1", "viewer", "lis", "pump-server-1"];

/// All of the demo.
pub(crate) fn all() -> Vec<Group> {
    vec![care(), bedside(), attacks(), outside(), forgeries(), trunk()]
}

/// All of the demo that can be tried in a deployment.
pub(crate) fn of(deployment: Deployment) -> Vec<Group> {
    let mut groups = all();
    for group in &mut groups {
        group.expectations.retain(|expectation| !expectation.not_with.contains(&deployment));
    }
    groups
}

/// What is tried besides, where XDP forwards: real programs across the trunk.
pub(crate) fn annex() -> Group {
    Group {
        title: "Second building, behind the trunk, forwarded by XDP",
        counters_only: false,
        expectations: vec![
            passes("VLAN 41: scanner stores an image, bytes compared", "store-studies", |s| {
                Ok(s.dicom_store("mr-2", "pacs"))
            }),
            passes("VLAN 41: scanner fetches its worklist", "worklist", |s| s.tcp("mr-2", "ris", 104)),
            passes("VLAN 61: analyser reports to the laboratory system", "analyser-results", |s| {
                s.tcp("analyser-2", "lis", 5000)
            }),
            passes("VLAN 41: the gateway is the first hop of a traceroute", "clinical-basics", |s| {
                s.first_hop("mr-2", "infrastructure", 53)
            }),
            passes("VLAN 61: a link of 1400 bytes on the way is found", "clinical-basics", |s| {
                s.path_mtu("analyser-2", "infrastructure", 53)
            }),
            passes("VLAN 41: scanner pings the gateway with 3000 bytes", "ping-gateway", |s| {
                s.ping_gateway("mr-2", 3000)
            }),
            stopped(
                "VLAN 41: scanner tries the analyser in VLAN 61",
                "modalities-b",
                Reason::NoFlow,
                1,
                |s| s.tcp("mr-2", "analyser-2", 5000),
            ),
        ],
    }
}

fn care() -> Group {
    Group {
        title: "Imaging and records: allowed",
        counters_only: false,
        expectations: vec![
            passes("CT scanner asks the archive for an echo (C-ECHO)", "store-studies", |s| {
                Ok(s.dicom_echo("ct-1", "pacs"))
            }),
            passes("CT scanner stores an image (C-STORE), bytes compared", "store-studies", |s| {
                Ok(s.dicom_store("ct-1", "pacs"))
            }),
            passes("archive sends the image to a viewer, bytes compared", "send-to-viewers", |s| {
                Ok(s.dicom_store("pacs", "viewer"))
            }),
            passes("viewer asks the archive for an echo (C-ECHO)", "query-archive", |s| {
                Ok(s.dicom_echo("viewer", "pacs"))
            }),
            passes("archive reaches the long-term archive", "archive-long-term", |s| {
                s.tcp("pacs", "vna", 11112)
            }),
            passes("CT scanner fetches its worklist", "worklist", |s| s.tcp("ct-1", "ris", 104)),
            passes("HIS sends an HL7 message and gets its ACK", "his-to-integration", |s| {
                s.hl7("his", "integration")
            }),
            passes("integration engine answers with one of its own", "integration-to-his", |s| {
                s.hl7("integration", "his")
            }),
            passes("integration engine sends an order to radiology", "integration-to-departments", |s| {
                s.hl7("integration", "ris")
            }),
            passes("laboratory sends one over IPv6 and gets its ACK", "departments-to-integration", |s| {
                s.hl7_v6("lis", "integration")
            }),
            passes("viewer opens a record in the HIS (HTTPS)", "open-record", |s| s.https("viewer", "his")),
            passes("analyser reports to the laboratory system", "analyser-results", |s| {
                s.tcp("analyser", "lis", 5000)
            }),
            passes("bedside test reports to it", "bedside-results", |s| s.tcp("bedside-test", "lis", 5550)),
            not_with_a_wire(passes("CT scanner pings the gateway", "ping-gateway", |s| {
                s.ping_gateway("ct-1", 56)
            })),
            not_with_a_wire(passes(
                "CT scanner pings it with 3000 bytes, in fragments",
                "ping-gateway",
                |s| s.ping_gateway("ct-1", 3000),
            )),
        ],
    }
}

fn bedside() -> Group {
    Group {
        title: "Bedside and infrastructure: allowed",
        counters_only: false,
        expectations: vec![
            passes("pump reports to the pump server", "pumps-to-server", |s| {
                s.tcp("pump", "pump-server-1", 3613)
            }),
            passes("monitor gateway reads a monitor", "read-monitors", |s| {
                s.udp("monitor-gateway", "monitor", 24105)
            }),
            passes("monitor announces itself, over IPv6", "monitors-announce", |s| {
                s.udp_v6("monitor", "monitor-gateway", 24005)
            }),
            passes("pump asks for a name (DNS)", "clinical-basics", |s| s.udp("pump", "infrastructure", 53)),
            passes("building management asks for the time (NTP)", "building-basics", |s| {
                s.udp("building", "infrastructure", 123)
            }),
            passes("archive logs to the SIEM (syslog over TLS)", "server-logs", |s| {
                s.tcp("pacs", "infrastructure", 6514)
            }),
            passes("isolated device asks for an address", "quarantine-address", |s| {
                s.udp("quarantined", "infrastructure", 67)
            }),
            passes("pump without an address asks for one (broadcast)", "dhcp-relay", |s| {
                let (nobody, all) = (SocketAddr::from(([0; 4], 68)), SocketAddr::from(([255; 4], 67)));
                s.broadcast("pump", |link| udp(link, nobody, all))
            }),
            passes("CT scanner reports to its vendor (HTTPS)", "ct-telemetry", |s| s.https("ct-1", "vendor")),
            not_with_a_wire(passes(
                "vendor opens its tunnel to the gateway (IKE)",
                "ct-vendor-tunnel",
                |s| s.udp_to_gateway("vendor", 500),
            )),
        ],
    }
}

fn attacks() -> Group {
    Group {
        title: "Inside: forbidden",
        counters_only: false,
        expectations: vec![
            denied("worm on the CT scanner looks for SMB on 8 hosts", "modalities-a", "worm-paths", 8, |s| {
                s.scan("ct-1", SCANNED, 445)
            }),
            denied(
                "jump host looks for SMB on the legacy CT scanner",
                "vendor-dmz",
                "legacy-windows",
                1,
                |s| s.tcp("jump-ct", "ct-1", 445),
            ),
            denied("office PC opens RDP to the archive", "information", "worm-paths", 1, |s| {
                s.tcp("office-pc", "pacs", 3389)
            }),
            denied("office PC opens the HIS (HTTPS)", "information", "information-to-clinical", 1, |s| {
                s.tcp("office-pc", "his", 443)
            }),
            denied("guest asks the hospital's DNS", "guest", "guest-to-inside", 1, |s| {
                s.udp("guest", "infrastructure", 53)
            }),
            stopped("pump calls the internet", "pumps", Reason::NoFlow, 1, |s| {
                s.tcp("pump", "attacker", 443)
            }),
            stopped("pump asks a DNS server in the internet", "pumps", Reason::NoFlow, 1, |s| {
                s.udp("pump", "attacker", 53)
            }),
            stopped("pump server opens a connection to a pump", "pump-server", Reason::NoFlow, 1, |s| {
                s.tcp("pump-server-1", "pump", 3613)
            }),
            stopped("isolated device asks for more than an address", "quarantine", Reason::NoFlow, 1, |s| {
                s.udp("quarantined", "infrastructure", 53)
            }),
            stopped("technician's jump host outside any grant", "vendor-dmz", Reason::NoFlow, 1, |s| {
                s.tcp("jump-ct", "ct-1", 443)
            }),
        ],
    }
}

fn outside() -> Group {
    Group {
        title: "From the world: forbidden",
        counters_only: false,
        expectations: vec![
            stopped("attacker reaches for a monitor", "wan", Reason::NoFlow, 1, |s| {
                s.udp("attacker", "monitor", 24105)
            }),
            stopped("the same over IPv6", "wan", Reason::NoFlow, 1, |s| {
                s.udp_v6("attacker", "monitor", 24105)
            }),
            not_with_a_wire(stopped("attacker opens ssh to the gateway", "wan", Reason::NoFlow, 1, |s| {
                s.tcp_to_gateway("attacker", 22)
            })),
            not_with_a_wire(stopped(
                "attacker tries the vendor's tunnel (IKE)",
                "wan",
                Reason::NoFlow,
                1,
                |s| s.udp_to_gateway("attacker", 500),
            )),
            stopped("vendor goes past its tunnel to the CT scanner", "wan", Reason::NoFlow, 1, |s| {
                s.tcp("vendor", "ct-1", 443)
            }),
            not_with_a_wire(stopped("attacker pretends to be a pump", "wan", Reason::Spoofed, 2, |s| {
                let (pump, server) = (s.at("pump", 40_000), s.at("pump-server-1", 3613));
                s.raw("attacker", "pump-server-1", |link| {
                    Ok(vec![udp(link, pump, server)?, packet(link, &[], pump, server).tcp_syn()?])
                })
            })),
        ],
    }
}

fn forgeries() -> Group {
    Group {
        title: "Forged and malformed frames from the CT scanner's port: dropped",
        counters_only: false,
        expectations: vec![
            stopped("spoofed pump reports to the pump server", MODALITIES, Reason::Spoofed, 1, |s| {
                let (pump, server) = (s.at("pump", 40_000), s.at("pump-server-1", 3613));
                s.raw("ct-1", "pump-server-1", |link| Ok(vec![packet(link, &[], pump, server).tcp_syn()?]))
            }),
            stopped("the same over IPv6", MODALITIES, Reason::Spoofed, 1, |s| {
                let (pump, server) = (s.at_v6("pump", 40_000), s.at_v6("pump-server-1", 3613));
                s.raw("ct-1", "pump-server-1", |link| Ok(vec![packet(link, &[], pump, server).tcp_syn()?]))
            }),
            stopped("ARP that claims the archive's address", MODALITIES, Reason::SpoofedNeighbour, 1, |s| {
                s.arp_claim("ct-1", Ipv4Addr::new(10, 10, 30, 10))
            }),
            stopped("TCP segment of no connection", MODALITIES, Reason::NotInConnection, 1, |s| {
                to_archive(s, Packet::tcp_middle)
            }),
            stopped("TCP with SYN and FIN", MODALITIES, Reason::TcpFlags, 1, |s| {
                to_archive(s, Packet::tcp_syn_fin)
            }),
            stopped("UDP longer than its packet", MODALITIES, Reason::MalformedTransport, 1, |s| {
                to_archive(s, |packet| Ok(frames::with_long_datagram(packet.udp()?)))
            }),
            stopped("later fragment without a first", MODALITIES, Reason::UnknownFragment, 1, |s| {
                fragment(s, IpNumber::UDP, 1480)
            }),
            stopped("fragment over a TCP header", MODALITIES, Reason::InvalidFragment, 1, |s| {
                fragment(s, IpNumber::TCP, 8)
            }),
            Expectation {
                stopped_anyway: Some("the kernel drops it too"),
                ..stopped("IPv4 header cut short", MODALITIES, Reason::Truncated, 1, |s| {
                    to_archive(s, |packet| Ok(packet.udp()?[..ETHERNET + 12].to_vec()))
                })
            },
            Expectation {
                stopped_anyway: Some("the kernel drops it too"),
                ..stopped("IPv4 header of four words", MODALITIES, Reason::MalformedIpv4, 1, |s| {
                    to_archive(s, |packet| Ok(frames::with_header_length(packet.udp()?, 4)))
                })
            },
            Expectation {
                stopped_anyway: Some("the kernel knows no such VLAN"),
                // A switch takes it for one of the port's own VLAN.
                not_with: Deployment::SWITCHED,
                ..stopped("tag where none belongs", "unknown", Reason::UnknownVlan, 1, |s| {
                    let (from, to) = (s.at("ct-1", 40_002), s.at("pacs", 11112));
                    s.raw("ct-1", "pacs", |link| Ok(vec![packet(link, &[40], from, to).tcp_syn()?]))
                })
            },
        ],
    }
}

fn trunk() -> Group {
    let expectations = vec![
        passes("VLAN 61: analyser reports to the laboratory system", "analyser-results", |s| {
            s.trunk(|link| {
                let from = SocketAddr::from(([10, 10, 61, 77], 40_000));
                Ok(vec![packet(link, &[61], from, s.at("lis", 5000)).tcp_syn()?])
            })
        }),
        passes("VLAN 41: scanner fetches its worklist, over IPv6", "worklist", |s| {
            s.trunk(|link| {
                let from = "[fd00:41::77]:40000".parse()?;
                Ok(vec![packet(link, &[41], from, s.at_v6("ris", 104)).tcp_syn()?])
            })
        }),
        denied("VLAN 41: worm looks for SMB in the archive", "modalities-b", "worm-paths", 1, |s| {
            s.trunk(|link| {
                let from = SocketAddr::from(([10, 10, 41, 77], 40_000));
                Ok(vec![packet(link, &[41], from, s.at("pacs", 445)).tcp_syn()?])
            })
        }),
        stopped("VLAN 61: a pump's address", "analysers", Reason::Spoofed, 1, |s| {
            s.trunk(|link| {
                Ok(vec![udp(link, s.at("pump", 40_000), s.at("lis", 5000)).map(|f| tagged(f, 61))?])
            })
        }),
        stopped("VLAN 99: not on this trunk", "unknown", Reason::UnknownVlan, 1, |s| {
            s.trunk(|link| {
                Ok(vec![tagged(udp(link, s.at("pump", 40_000), s.at("pump-server-1", 3613))?, 99)])
            })
        }),
        stopped("no tag", "unknown", Reason::UnknownVlan, 1, |s| {
            s.trunk(|link| Ok(vec![udp(link, s.at("analyser", 40_000), s.at("lis", 5000))?]))
        }),
        stopped("two tags", "unknown", Reason::UnknownVlan, 1, |s| {
            s.trunk(|link| {
                let frame = packet(link, &[100, 61], s.at("analyser", 40_000), s.at("lis", 5000)).udp()?;
                Ok(vec![frame])
            })
        }),
    ];
    let title = "Tagged frames on the trunk: verdicts and counters";
    Group { title, counters_only: true, expectations }
}

const MODALITIES: &str = "modalities-a";

fn passes(what: &'static str, flow: &'static str, attempt: fn(&Scene) -> Result<Seen>) -> Expectation {
    Expectation { what, expected: Expected::Passes(flow), attempt, stopped_anyway: None, not_with: &[] }
}

/// A bump in the wire has no address in any segment, and what the world sends is its router's to check.
fn not_with_a_wire(mut expectation: Expectation) -> Expectation {
    expectation.not_with = &[Deployment::Wire];
    expectation
}

fn stopped(
    what: &'static str,
    from: &'static str,
    reason: Reason,
    packets: u64,
    attempt: fn(&Scene) -> Result<Seen>,
) -> Expectation {
    let expected = Expected::Stopped { from, reason, deny: None, packets };
    Expectation { what, expected, attempt, stopped_anyway: None, not_with: &[] }
}

fn denied(
    what: &'static str,
    from: &'static str,
    deny: &'static str,
    packets: u64,
    attempt: fn(&Scene) -> Result<Seen>,
) -> Expectation {
    let expected = Expected::Stopped { from, reason: Reason::Denied, deny: Some(deny), packets };
    Expectation { what, expected, attempt, stopped_anyway: None, not_with: &[] }
}

fn udp(link: frames::Link, from: SocketAddr, to: SocketAddr) -> Result<Vec<u8>> {
    packet(link, &[], from, to).udp()
}

/// `frame` with an 802.1Q tag.
fn tagged(mut frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    frame.splice(12..12, [0x81, 0x00, high, low]);
    frame
}

/// A frame from the CT scanner to the archive's DICOM port.
fn to_archive(s: &Scene, make: impl FnOnce(&Packet) -> Result<Vec<u8>>) -> Result<Seen> {
    let (from, to) = (s.at("ct-1", 40_001), s.at("pacs", 11112));
    s.raw("ct-1", "pacs", |link| Ok(vec![make(&packet(link, &[], from, to))?]))
}

fn fragment(s: &Scene, protocol: IpNumber, offset: u16) -> Result<Seen> {
    let between = (s.v4("ct-1"), s.v4("pacs"));
    let content = datagram(40_001, 11112);
    s.raw("ct-1", "pacs", |link| {
        Ok(vec![frames::ipv4_fragment(link, between, protocol, (offset, false), &content)?])
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;
    use std::fs;

    use clinigate_tests::policy;

    use super::*;

    /// A flow that nobody tries could be deleted without notice.
    #[test]
    fn every_flow_and_every_deny_of_the_hospital_is_tried() {
        let tried: BTreeSet<_> = all()
            .iter()
            .flat_map(|group| &group.expectations)
            .filter_map(|expectation| match expectation.expected {
                Expected::Passes(flow) => Some(flow),
                Expected::Stopped { deny, .. } => deny,
            })
            .collect();
        for file in ["flows.yaml", "deny.yaml"] {
            let text = fs::read_to_string(policy::hospital().join(file)).unwrap();
            let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  - name: ")).collect();
            assert!(!names.is_empty());
            let untried: Vec<_> = names.into_iter().filter(|name| !tried.contains(name)).collect();
            assert!(untried.is_empty(), "{file}: {untried:?}");
        }
    }
}
