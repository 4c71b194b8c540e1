//! Chains against the oracle: every hop that is shown is one, and no packet leads further than was found.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::collection::vec;
use proptest::prelude::*;

use gateway_common::reason::Reason;

use super::*;
use crate::assure::tests::is_of_its_family;
use crate::compile::compile;
use crate::oracle::Oracle;
use crate::packet::Arrival;
use crate::policy::{SourceFile, resolve};
use crate::testing::packets::{Edges, draw};
use crate::testing::policies;

fn policy(text: &str) -> Policy {
    let resolved = resolve(vec![SourceFile::new("policy.yaml", text)]);
    resolved.policy.unwrap_or_else(|| panic!("{:?}", resolved.diagnostics))
}

const WARD: &str = r#"
interfaces:
  trunk0: { trunk: [1, 2, 3, 4] }
segments:
  ward: { vlan: 1, subnets: 10.0.1.0/24 }
  server: { vlan: 2, subnets: [10.0.2.0/24, "fd00:2::/64"] }
  archive: { vlan: 3, subnets: [10.0.3.0/24, "fd00:3::/64"] }
  vault: { vlan: 4, subnets: 10.0.4.0/24 }
devices:
  hub: { segment: server, addresses: [10.0.2.5, "fd00:2::5"] }
  spare: { segment: server, address: 10.0.2.6 }
flows:
  - { name: to-hub, from: ward, to: 10.0.2.5, services: https }
  - { name: hub-on, from: "fd00:2::5", to: archive, services: dicom }
  - { name: spare-on, from: spare, to: vault, services: ssh }
"#;

/// The rules of each hop from the ward to a segment.
fn way(policy: &Policy, to: &str, limit: usize, neighbours: bool) -> Option<Vec<Vec<String>>> {
    let image = compile(policy).unwrap();
    let space = Space::new(&image);
    let set = |name: &str| {
        let index = policy.segments.iter().position(|segment| segment.name == name).unwrap();
        AddressSet { segments: [SegmentId(u16::try_from(index).unwrap())].into(), ..AddressSet::default() }
    };
    let from = set("ward");
    let services: Vec<usize> = (0..policy.services.len()).collect();
    let question = Question { from: &from, services: &services, neighbours, limit };
    let chain = shortest(policy, &space, question, &set(to))?;
    let rules = |hop: &Hop| hop.permits.iter().map(|permit| permit.rule.name.clone()).collect();
    Some(chain.hops.iter().map(rules).collect())
}

#[test]
fn a_hop_lands_on_hosts_and_not_on_their_segment() {
    let policy = policy(WARD);
    let hops = way(&policy, "archive", usize::MAX, false).unwrap();
    assert_eq!(hops, [["to-hub"], ["hub-on"]], "a device is one host, whatever its addresses");
    assert_eq!(way(&policy, "vault", usize::MAX, false), None, "the spare stands beside the hub");
    let hops = way(&policy, "vault", usize::MAX, true).unwrap();
    assert_eq!(hops, [vec!["to-hub"], vec![], vec!["spare-on"]], "neighbours meet past the gateway");
}

#[test]
fn chains_are_no_longer_than_was_asked() {
    let policy = policy(WARD);
    assert!(way(&policy, "archive", 1, false).is_none());
    assert!(way(&policy, "archive", 2, false).is_some());
    assert!(way(&policy, "vault", 2, true).is_none());
    assert!(way(&policy, "vault", 3, true).is_some());
}

#[test]
fn hosts_of_a_whole_segment_have_all_its_addresses() {
    let flow = "\n  - { name: on, from: 10.0.3.0/24, to: vault, services: smb }\n";
    let hops = way(&policy(&(WARD.to_owned() + flow)), "vault", usize::MAX, false).unwrap();
    assert_eq!(hops, [["to-hub"], ["hub-on"], ["on"]], "landed over IPv6, gone on over IPv4");
    let part = WARD.replace("to: archive", "to: \"fd00:3::/65\"");
    assert_eq!(way(&policy(&(part + flow)), "vault", usize::MAX, false), None, "a part of them may not");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the oracle allows from a host that was reached leads to a host that was reached one hop
    /// later at most.
    #[test]
    fn no_packet_leads_further(mut policy in policies::policy(), draws in vec(draw(), 300), start in any::<prop::sample::Index>()) {
        policy.rules.iter_mut().for_each(|rule| rule.unenforced = false);
        let image = compile(&policy).unwrap();
        let space = Space::new(&image);
        let own = 4..policy.segments.len();
        prop_assume!(!own.is_empty());
        let id = SegmentId(u16::try_from(own.start + start.index(own.len())).unwrap());
        let from = AddressSet { segments: [id].into(), ..AddressSet::default() };
        let services: Vec<usize> = (0..policy.services.len()).collect();
        let question = Question { from: &from, services: &services, neighbours: false, limit: usize::MAX };
        let mut search = Search::new(&policy, &space, question);
        search.run(None);
        let mut reached = vec![addresses(&space.sources(&from))];
        for level in &search.levels {
            let fresh = addresses(level.landings.iter().map(|landing| &landing.party));
            reached.push(reached.last().unwrap().union(&fresh));
        }
        let edges = Edges::of(&policy);
        for draw in &draws {
            let (port, packet) = edges.packet(draw);
            let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
            let decision = Oracle::new(&policy).decide(arrival, &packet);
            let is_nameless = policy.segment_of(packet.source) != decision.source_segment;
            if decision.reason != Reason::Flow || is_nameless || !is_of_its_family(&packet) {
                continue;
            }
            let Some(hops) = reached.iter().position(|all| all.contains(packet.source)) else { continue };
            if hops > 0 && decision.source_segment == SegmentId::GATEWAY {
                continue;
            }
            let next = reached.get(hops + 1).unwrap_or(&reached[hops]);
            prop_assert!(next.contains(packet.destination), "{packet:?} after {hops} hops: {reached:?}");
        }
    }

    /// Every hop of a chain is a packet that the oracle allows, and starts where the one before it landed.
    #[test]
    fn every_hop_that_is_shown_is_one(mut policy in policies::policy(), start in any::<prop::sample::Index>()) {
        policy.rules.iter_mut().for_each(|rule| rule.unenforced = false);
        let image = compile(&policy).unwrap();
        let space = Space::new(&image);
        let count = u16::try_from(policy.segments.len()).unwrap();
        let id = SegmentId(u16::try_from(start.index(usize::from(count))).unwrap());
        let from = AddressSet { segments: [id].into(), ..AddressSet::default() };
        let services: Vec<usize> = (0..policy.services.len()).collect();
        let question = Question { from: &from, services: &services, neighbours: false, limit: usize::MAX };
        for to in (0..count).map(SegmentId).filter(|id| *id != SegmentId::UNKNOWN) {
            let to = AddressSet { segments: [to].into(), ..AddressSet::default() };
            let Some(chain) = shortest(&policy, &space, question, &to) else { continue };
            let samples: Vec<_> = chain.hops.iter().map(|hop| hop.example.unwrap()).collect();
            for pair in samples.windows(2) {
                let (landed, starts) = (pair[0].packet.destination, pair[1].packet.source);
                let other_family = landed.is_ipv4() != starts.is_ipv4();
                prop_assert!(landed == starts || other_family || is_one_device(&policy, landed, starts));
            }
            for sample in samples {
                let decision = Oracle::new(&policy).decide(sample.arrival, &sample.packet);
                prop_assert_eq!(decision.reason, Reason::Flow, "{}", sample);
            }
        }
    }
}

fn is_one_device(policy: &Policy, one: IpAddr, other: IpAddr) -> bool {
    policy.devices.iter().any(|it| it.addresses.contains(&one) && it.addresses.contains(&other))
}
