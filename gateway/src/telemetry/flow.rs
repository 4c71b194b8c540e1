//! A flow as people and programs read it: one line of the log of blocked flows, of `clinigate flows`, and
//! of what the control socket answers.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Packets or connections from one source to one destination and service, with one verdict for one reason.
/// Fields whose value is not known are absent in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// When its first packet was seen (RFC 3339, UTC); absent for connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// When its last was; for connections of an earlier generation absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// `drop`, `audit` for what passed but would have been dropped, or `pass`.
    pub verdict: String,
    /// Why: the name of a [`gateway_common::reason::Reason`].
    pub reason: String,
    /// Deciding rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// File and line of the deciding rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Segment of the source.
    pub source_segment: String,
    /// The policy's name for the source, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_device: Option<String>,
    /// Source address; absent where the frame has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Ethernet source address of the first packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_mac: Option<String>,
    /// Source port of the first packet; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Segment of the destination.
    pub destination_segment: String,
    /// The policy's name for the destination, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_device: Option<String>,
    /// Destination address; absent where the frame has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// Protocol and port or type, as policy text writes it: `tcp/445`, `icmp/8`.
    pub service: String,
    /// What the policy or the catalogue calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// What the service is for: `clinical`, `control`, `vendor`, `infrastructure` or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_class: Option<String>,
    /// Interface on which it arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// VLAN identifier, 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Packets that the reports stand for; absent for connections, whose packets the kernel counts by rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Bytes of their frames, each counted as long as the one that was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Live connections; absent for what was blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Live connections by state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, u64>,
    /// Packets that the deciding rule has decided so far, whichever flow they belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_packets: Option<u64>,
}

/// Which flows are wanted: those for which everything that is set holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowFilter {
    /// Verdicts; none for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<String>,
    /// Segment of either end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// Device at either end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Address at either end, or a prefix that it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpNet>,
    /// Service, by its name or as `tcp/445`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Deciding rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// Flows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowList {
    /// When (RFC 3339, UTC).
    pub at: String,
    /// Flows, the latest first.
    pub flows: Vec<Flow>,
    /// How many more fit, and are left out for want of room.
    pub more: u64,
}

impl Flow {
    /// What tells it apart from others: everything but times and amounts.
    pub fn identity(&self) -> impl Eq + std::hash::Hash + use<> {
        let ends = (self.source, self.destination);
        let segments = (self.source_segment.clone(), self.destination_segment.clone());
        // Where there is no address, the sender is told by its hardware address.
        let sender = self.source.is_none().then(|| self.source_mac.clone());
        let what = (self.verdict.clone(), self.reason.clone(), self.rule.clone(), self.service.clone());
        (ends, segments, sender, what, self.interface.clone(), self.vlan)
    }

    /// Takes in another report of the same flow.
    pub fn merge(&mut self, other: Self) {
        // Times are written in one form and one zone: the text has their order.
        self.first = self.first.take().into_iter().chain(other.first).min();
        self.last = self.last.take().max(other.last);
        let sum =
            |one: Option<u64>, other: Option<u64>| one.map(|one| one + other.unwrap_or_default()).or(other);
        self.packets = sum(self.packets, other.packets);
        self.bytes = sum(self.bytes, other.bytes);
        self.connections = sum(self.connections, other.connections);
        for (state, count) in other.states {
            *self.states.entry(state).or_default() += count;
        }
    }

    /// What it is ordered by in lists: the latest first, then the busiest.
    pub fn order(&self) -> impl Ord + use<> {
        Reverse((self.last.clone(), self.packets, self.connections))
    }
}

impl FlowFilter {
    /// Whether flows with this verdict may be wanted.
    pub fn takes_verdict(&self, verdict: &str) -> bool {
        self.verdicts.is_empty() || self.verdicts.iter().any(|wanted| wanted == verdict)
    }

    /// Whether `flow` is wanted.
    pub fn takes(&self, flow: &Flow) -> bool {
        let either = |wanted: &Option<String>, ends: [Option<&String>; 2]| {
            wanted.as_ref().is_none_or(|wanted| ends.contains(&Some(wanted)))
        };
        self.takes_verdict(&flow.verdict)
            && either(&self.segment, [Some(&flow.source_segment), Some(&flow.destination_segment)])
            && either(&self.device, [flow.source_device.as_ref(), flow.destination_device.as_ref()])
            && either(&self.service, [Some(&flow.service), flow.service_name.as_ref()])
            && either(&self.rule, [flow.rule.as_ref(), None])
            && self.address.is_none_or(|wanted| {
                [flow.source, flow.destination].into_iter().flatten().any(|address| wanted.contains(&address))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smb() -> Flow {
        Flow {
            first: Some("2026-03-02T01:15:15.268Z".to_owned()),
            last: Some("2026-03-02T01:15:19.301Z".to_owned()),
            verdict: "drop".to_owned(),
            reason: "denied".to_owned(),
            rule: Some("worm-paths".to_owned()),
            source_segment: "modalities-a".to_owned(),
            source_device: Some("ct-1".to_owned()),
            source: Some(IpAddr::from([10, 10, 40, 11])),
            destination_segment: "pacs".to_owned(),
            destination: Some(IpAddr::from([10, 10, 30, 10])),
            service: "tcp/445".to_owned(),
            service_name: Some("smb".to_owned()),
            packets: Some(3),
            ..Flow::default()
        }
    }

    #[test]
    fn a_filter_takes_either_end() {
        let text = |text: &str| Some(text.to_owned());
        let none = FlowFilter::default;
        let network = |network: &str| network.parse().ok();
        let cases = [
            (none(), true),
            (FlowFilter { segment: text("pacs"), ..none() }, true),
            (FlowFilter { segment: text("pumps"), ..none() }, false),
            (FlowFilter { device: text("ct-1"), ..none() }, true),
            (FlowFilter { device: text("mr-1"), ..none() }, false),
            (FlowFilter { service: text("smb"), ..none() }, true),
            (FlowFilter { service: text("tcp/445"), ..none() }, true),
            (FlowFilter { service: text("rdp"), ..none() }, false),
            (FlowFilter { address: network("10.10.30.0/24"), ..none() }, true),
            (FlowFilter { address: network("10.10.40.11/32"), ..none() }, true),
            (FlowFilter { address: network("10.10.70.0/24"), ..none() }, false),
            (FlowFilter { rule: text("worm-paths"), segment: text("pacs"), ..none() }, true),
            (FlowFilter { rule: text("worm-paths"), segment: text("his"), ..none() }, false),
            (FlowFilter { verdicts: vec!["audit".to_owned(), "drop".to_owned()], ..none() }, true),
            (FlowFilter { verdicts: vec!["pass".to_owned()], ..none() }, false),
        ];
        for (filter, takes) in cases {
            assert_eq!(filter.takes(&smb()), takes, "{filter:?}");
        }
    }

    #[test]
    fn reports_of_one_flow_are_summed_over_their_whole_time() {
        let later = Flow {
            first: Some("2026-03-02T01:16:00.000Z".to_owned()),
            last: Some("2026-03-02T01:16:01.000Z".to_owned()),
            packets: Some(4),
            ..smb()
        };
        assert!(later.identity() == smb().identity());
        assert!(Flow { service: "tcp/139".to_owned(), ..smb() }.identity() != smb().identity());
        let mut sum = later.clone();
        sum.merge(smb());
        assert_eq!((sum.first, sum.last, sum.packets), (smb().first, later.last, Some(7)));
    }
}
