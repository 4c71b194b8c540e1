#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::IpAddr;

use gateway_common::reason::{Reason, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::oracle::{Oracle, Party};
use crate::packet::{Arrival, PacketView, Transport};
use crate::policy::model::{Rule, SegmentId};
use crate::testing::packets::{self, Edges};
use crate::testing::policies;

/// The segment that a host of `source` is taken to be in: its own, or `near` without an address.
fn allows(policy: &Policy, near: &str, packet: &PacketView) -> bool {
    let oracle = Oracle::new(policy);
    let nowhere = SegmentId::UNKNOWN;
    let home = match policy.segment_of(packet.source) {
        SegmentId::GATEWAY => {
            let named = policy.segments.iter().position(|segment| segment.name == near);
            named.map_or(nowhere, |index| SegmentId(u16::try_from(index).unwrap()))
        }
        home => home,
    };
    let destination = oracle.destination_segment(packet.destination);
    match oracle.admit(home, false, packet) {
        Ok(sender) if oracle.confine(sender, destination).is_ok() && home != nowhere => {
            oracle.rule(sender, oracle.party(packet.destination), packet.transport).0 == Reason::Flow
        }
        _ => false,
    }
}

/// How many products of the changes have the packet, whose sender is in segment `near` if it has no address.
fn count(
    difference: &Difference,
    changes: &[Change],
    policy: &Policy,
    near: &str,
    packet: &PacketView,
) -> usize {
    let (family, bits): (_, fn(IpAddr) -> u128) = match packet.source {
        IpAddr::V4(_) => (Family::V4, number),
        IpAddr::V6(_) => (Family::V6, number),
    };
    let within = |ranges: &[(u128, u128)], address| crate::policy::ranges::contains(ranges, bits(address));
    let oracle = Oracle::new(policy);
    // Only to sort out sources that nobody can have; the segment does not matter for that.
    let home = policy.segment_of(packet.source);
    let Ok(sender) = oracle.admit(home, false, packet) else { return 0 };
    let to_gateway = policy.segment_of(packet.destination) == SegmentId::GATEWAY;
    let products = changes.iter().flat_map(|change| &change.products);
    let has = |product: &&Product| {
        let from = match sender {
            Party::Nameless(_) => to_gateway && product.from.nameless.contains(near),
            Party::Host(address, _) => within(&product.from.ranges, address),
        };
        let to = if to_gateway { product.to.gateway } else { within(&product.to.ranges, packet.destination) };
        product.family == family
            && from
            && to
            && difference.atoms.contains(&product.services, packet.transport)
    };
    products.filter(has).count()
}

/// ICMP of the other IP version is a protocol that no service names: see [`Transport::Other`].
fn possible(packet: PacketView) -> PacketView {
    let transport = match (packet.source, packet.transport) {
        (IpAddr::V4(_), Transport::Icmpv6(_)) => Transport::Other(58),
        (IpAddr::V6(_), Transport::Icmp(_)) => Transport::Other(1),
        (_, transport) => transport,
    };
    PacketView { transport, ..packet }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Parts of one policy put into another: changes as people make them.
#[derive(Clone, Debug)]
enum Edit {
    Remove(Index),
    Take(Index),
    Kind(Index),
    Segments,
    Mode(Index),
    Interfaces,
    Everything,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => any::<Index>().prop_map(Edit::Remove),
        3 => any::<Index>().prop_map(Edit::Take),
        2 => any::<Index>().prop_map(Edit::Kind),
        1 => Just(Edit::Segments),
        1 => any::<Index>().prop_map(Edit::Mode),
        1 => Just(Edit::Interfaces),
        1 => Just(Edit::Everything),
    ]
}

fn edited(old: &Policy, other: &Policy, edits: &[Edit]) -> Policy {
    let mut new = old.clone();
    for edit in edits {
        match edit {
            Edit::Remove(index) if !new.rules.is_empty() => {
                drop(new.rules.remove(index.index(new.rules.len())));
            }
            Edit::Take(index) if !other.rules.is_empty() => {
                let rule = index.get(&other.rules);
                let services = rule.services.iter().map(|service| service % new.services.len()).collect();
                new.rules.push(Rule { services, ..rule.clone() });
            }
            Edit::Kind(index) if !new.rules.is_empty() => {
                let at = index.index(new.rules.len());
                let kind = &mut new.rules[at].kind;
                *kind = if *kind == RuleKind::Deny { RuleKind::Flow } else { RuleKind::Deny };
            }
            Edit::Segments => {
                let common = new.segments.len().min(other.segments.len());
                new.segments[..common].clone_from_slice(&other.segments[..common]);
                // Segments of two policies may overlap: those that are left over have no address.
                for segment in &mut new.segments[common..] {
                    segment.ranges = crate::policy::model::Ranges::default();
                }
            }
            Edit::Mode(index) => {
                let at = index.index(new.segments.len());
                new.segments[at].mode = other.segments[at % other.segments.len()].mode;
            }
            Edit::Interfaces => {
                let segments = u16::try_from(new.segments.len()).unwrap();
                new.interfaces.clone_from(&other.interfaces);
                for interface in &mut new.interfaces {
                    match &mut interface.kind {
                        crate::policy::model::InterfaceKind::Access(id) => id.0 = id.0.min(segments - 1),
                        crate::policy::model::InterfaceKind::Trunk { vlans, .. } => {
                            for id in vlans.values_mut() {
                                id.0 = id.0.min(segments - 1);
                            }
                        }
                        crate::policy::model::InterfaceKind::Wan => {}
                    }
                }
            }
            Edit::Everything => new = other.clone(),
            _ => {}
        }
    }
    for policy_rule in &mut new.rules {
        policy_rule.from.segments.retain(|id| usize::from(id.0) < new.segments.len());
        policy_rule.to.segments.retain(|id| usize::from(id.0) < new.segments.len());
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A packet is in the difference if and only if the oracle decides it differently, and in one
    /// product only. The gateway's own addresses are outside of what a plan knows: both policies
    /// have the same.
    #[test]
    fn the_difference_is_what_the_oracle_decides_differently(
        old in policies::policy(),
        other in policies::policy(),
        edits in vec(edit(), 0..4),
        draws in vec(packets::draw(), 200),
    ) {
        let mut new = edited(&old, &other, &edits);
        new.segments[usize::from(SegmentId::GATEWAY.0)].ranges =
            old.segments[usize::from(SegmentId::GATEWAY.0)].ranges.clone();
        let difference = compare(&old, &new).unwrap();
        let effect = difference.effect();
        let (of_old, of_new) = (Edges::of(&old), Edges::of(&new));
        for (draw, number) in draws.iter().zip(0usize..) {
            let (port, packet) = if number % 2 == 0 { of_old.packet(draw) } else { of_new.packet(draw) };
            let packet = possible(packet);
            // Nobody stands in a segment that has no place.
            let homes = (0..).zip(&old.segments).filter(|(id, _)| SegmentId(*id).has_hosts());
            for (_, segment) in homes {
                let near = &segment.name;
                let (was, is) = (allows(&old, near, &packet), allows(&new, near, &packet));
                let widens = count(&difference, &difference.widening, &new, near, &packet);
                let narrows = count(&difference, &difference.narrowing, &old, near, &packet);
                let expected = (usize::from(is && !was), usize::from(was && !is));
                prop_assert_eq!((widens, narrows), expected, "{:?} near {}", packet, near);
            }
            // Whatever passes at a place that both name, and did not, is announced.
            let named = |policy: &Policy| policy.interfaces.iter().any(|i| i.name == port.interface);
            if named(&old) && named(&new) {
                let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
                let passes = |policy| Oracle::new(policy).decide(arrival, &packet).verdict != Verdict::Drop;
                let (was, is) = (passes(&old), passes(&new));
                prop_assert!(!is || was || effect.widens, "{:?} {:?} passes now", port, packet);
                prop_assert!(is || !was || effect.narrows, "{:?} {:?} is dropped now", port, packet);
            }
        }
    }

    #[test]
    fn a_policy_does_not_differ_from_itself(policy in policies::policy()) {
        let difference = compare(&policy, &policy).unwrap();
        prop_assert_eq!(difference.effect(), Effect::default());
        prop_assert!(difference.setup.is_empty());
    }

    /// Allowed is the union of all flows but what a deny names: the order of rules has no part in it.
    #[test]
    fn order_of_rules_never_matters(policy in policies::policy(), places in vec(any::<Index>(), 0..8)) {
        let mut other = policy.clone();
        other.rules.reverse();
        for place in places.iter().filter(|_| !policy.rules.is_empty()) {
            let last = other.rules.len() - 1;
            other.rules.swap(place.index(last + 1), last);
        }
        prop_assert_eq!(compare(&policy, &other).unwrap().effect(), Effect::default());
    }

    /// What opens in one direction closes in the other.
    #[test]
    fn going_back_undoes_it(old in policies::policy(), new in policies::policy()) {
        let (there, back) = (compare(&old, &new).unwrap(), compare(&new, &old).unwrap());
        prop_assert_eq!(there.widening.is_empty(), back.narrowing.is_empty());
        prop_assert_eq!(there.narrowing.is_empty(), back.widening.is_empty());
    }
}

#[test]
fn other_tunnels_are_announced() {
    let policy = |interface: &str, access: &str| {
        let text = format!(
            "interfaces: {{ w0: {{ wan: true }}, t0: {{ wan: true{interface} }}, a0: {{ access: a }} }}\nsegments: {{ a: {{ \
             subnets: 10.0.1.0/24 }} }}\nvendors: {{ v: {{ sources: 203.0.113.5, access: [{{ {access}to: a, services: ssh }}] \
             }} }}\n"
        );
        let resolved = crate::policy::resolve(vec![crate::policy::SourceFile::new("policy.yaml", text)]);
        resolved.policy.unwrap_or_else(|| panic!("{:?}", resolved.diagnostics))
    };
    let said = |old: &Policy, new: &Policy| {
        let difference = compare(old, new).unwrap();
        let setup = difference.setup.into_iter();
        setup.map(|it| (it.what, it.effect.word())).collect::<Vec<_>>()
    };
    let ipsec = policy(", tunnel: ipsec", "name: x, through: ipsec, ");
    let open = policy(", tunnel: ipsec", "name: x, ");
    let renamed = policy(", tunnel: ipsec", "name: y, ");
    let both = policy(", tunnel: wireguard", "name: x, through: wireguard, ");
    let say = |what: &str, effect: &'static str| vec![(what.to_owned(), effect)];
    assert_eq!(
        said(&ipsec, &open),
        say("`x` needed to arrive through ipsec and needs to no more", "widening")
    );
    assert_eq!(
        said(&ipsec, &renamed),
        say("`y` needed to arrive through ipsec and needs to no more", "widening")
    );
    assert_eq!(said(&open, &ipsec), say("`x` needs to arrive through ipsec now", "narrowing"));
    assert_eq!(
        said(&ipsec, &both),
        [
            ("interface t0: tunnel from ipsec to wireguard".to_owned(), "both"),
            (
                "`x` needed to arrive through ipsec and needs to arrive through wireguard now".to_owned(),
                "both"
            ),
        ]
    );
}

#[test]
fn a_router_on_an_interface_also_narrows_where_the_segment_only_observes() {
    let policy = |router: &str, mode: &str| {
        let text = format!(
            "interfaces: {{ a0: {{ access: a{router} }} }}\nsegments: {{ a: {{ subnets: 10.0.1.0/24, mode: {mode} }} }}\n"
        );
        let resolved = crate::policy::resolve(vec![crate::policy::SourceFile::new("policy.yaml", text)]);
        resolved.policy.unwrap_or_else(|| panic!("{:?}", resolved.diagnostics))
    };
    let said = |mode: &str, before: &str, after: &str| {
        let difference = compare(&policy(before, mode), &policy(after, mode)).unwrap();
        let setup: Vec<_> = difference.setup.iter().map(|entry| entry.what.clone()).collect();
        (setup.join("; "), difference.effect().word())
    };
    let routed = ", routed: true";
    // A sender whom no segment knows was watched as one of `a`, and is dropped as a stranger.
    for (mode, before, after, what, effect) in [
        (
            "observe",
            "",
            routed,
            "senders of every segment are accepted, each by the mode of that segment",
            "both",
        ),
        ("audit", routed, "", "senders of other segments meet the mode of its own", "both"),
        ("enforce", "", routed, "senders of every segment are accepted", "widening"),
        ("enforce", routed, "", "senders of its own segments alone are accepted", "narrowing"),
    ] {
        assert_eq!(said(mode, before, after), (format!("interface a0: {what}"), effect));
    }
}
