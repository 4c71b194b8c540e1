//! What is said of segments and their interfaces.

use super::*;

/// Multicast has no TCP; with another protocol beside it such a rule has a meaning.
#[test]
fn only_tcp_cannot_reach_a_group() {
    let dead = |to: &AddressSet, matches: Vec<ServiceMatch>| {
        let mut policy = policy(vec![flow(whole(A), to.clone(), &[0])]);
        policy.services[0].matches = matches;
        let found = lint(&policy).into_iter().find(|found| found.code == "dead-rule");
        found.map(|found| found.message)
    };
    let (tcp, any) = (ServiceMatch::Tcp { source: ANY_PORT, destination: (80, 80) }, 0x0a00_0200);
    let (multicast, group) = (whole(SegmentId::MULTICAST), |last| AddressSet {
        segments: BTreeSet::new(),
        ranges: Ranges { v4: vec![(0xef00_0001, last)], v6: Vec::new() },
    });
    let why = Some("flow `rule` can never match: TCP cannot reach a multicast group".to_owned());
    for to in [&multicast, &group(0xef00_0001), &group(0xefff_ffff)] {
        assert_eq!(dead(to, vec![tcp]), why);
        for other in
            [udp(80), ServiceMatch::Icmp((8, 8)), ServiceMatch::Icmpv6((1, 1)), ServiceMatch::Protocol(50)]
        {
            // The group has no IPv6 address.
            if to.segments.is_empty() && matches!(other, ServiceMatch::Icmpv6(_)) {
                continue;
            }
            assert_eq!(dead(to, vec![tcp, other]), None, "{other:?}");
            assert_eq!(dead(to, vec![other]), None, "{other:?}");
        }
    }
    let mut wider = multicast;
    wider.ranges.v4.push((any, any));
    assert_eq!(dead(&wider, vec![tcp]), None);
    let gateway = AddressSet { segments: [SegmentId::MULTICAST, SegmentId::GATEWAY].into(), ..wider };
    assert_eq!(dead(&gateway, vec![tcp]), None);
}

#[test]
fn a_trunk_carries_its_segments() {
    let mut trunk = policy(vec![flow(whole(A), whole(B), &[0])]);
    trunk.interfaces[0].kind = InterfaceKind::Trunk { outer: 0, vlans: [(10, A), (20, B)].into() };
    trunk.interfaces.remove(1);
    assert!(codes(&trunk).is_empty());
    trunk.interfaces.remove(0);
    assert_eq!(codes(&trunk), ["dead-rule", "segment-without-interface", "segment-without-interface"]);
    trunk.rules[0].to = whole(A);
    trunk.interfaces[0].kind = InterfaceKind::Trunk { outer: 0, vlans: [(10, A), (20, B)].into() };
    assert_eq!(codes(&trunk), ["segment-without-rule", "within-segment"]);
    trunk.interfaces[0].kind = InterfaceKind::Trunk { outer: 0, vlans: [(10, A), (11, A), (20, B)].into() };
    assert_eq!(codes(&trunk), ["segment-without-rule"], "between two tags of one segment the gateway stands");
}

#[test]
fn hosts_of_one_vlan_do_not_need_the_gateway() {
    assert_eq!(codes_of(vec![flow(whole(A), part(0x0105, 0x0105), &[0])]), ["within-segment"]);
    assert_eq!(codes_of(vec![flow(part(0x0101, 0x0101), part(0x0105, 0x0105), &[0])]), ["within-segment"]);
    let mut policy = policy(vec![flow(whole(A), whole(A), &[0]), flow(whole(A), whole(B), &[0])]);
    policy.interfaces.push(Interface { name: "a1".to_owned(), ..policy.interfaces[0].clone() });
    assert!(codes(&policy).is_empty(), "between two interfaces of one segment the gateway stands");
    assert!(
        codes_of(vec![flow(whole(SegmentId::WAN), whole(SegmentId::WAN), &[0])]).is_empty(),
        "nor in the world"
    );
    assert_eq!(codes_of(vec![flow(part(0x0101, 0x0101), part(0x01f0, 0x0200), &[0])]), [] as [&str; 0]);
    assert_eq!(codes_of(vec![flow(part(0x01f0, 0x0200), part(0x0105, 0x0105), &[0])]), [] as [&str; 0]);
}

#[test]
fn segments_that_look_forgotten() {
    let mut policy = policy(vec![flow(whole(A), part(1, 1), &[0])]);
    assert_eq!(codes(&policy), ["segment-without-rule"]);
    policy.segments[5].mode = ModeSetting::Observe;
    assert!(codes(&policy).is_empty());
    policy.interfaces.remove(1);
    assert_eq!(codes(&policy), ["segment-without-interface"]);
    policy.interfaces.clear();
    assert_eq!(codes(&policy), ["no-interface"]);
}

#[test]
fn a_built_in_segment_that_does_not_enforce() {
    let mut policy = policy(vec![flow(whole(A), whole(B), &[0])]);
    policy.segments[0].mode = ModeSetting::Audit;
    assert!(codes(&policy).is_empty(), "only what the text sets");
    policy.segments[0].origin = origin(5);
    assert_eq!(codes(&policy), ["builtin-not-enforced"]);
    let says = |policy: &Policy, mode: &str| {
        let start = format!("`wan` is set to {mode}: ");
        lint(policy).iter().any(|found| found.message.starts_with(&start))
    };
    assert!(says(&policy, "audit"));
    policy.segments[0].mode = ModeSetting::Observe;
    assert!(says(&policy, "observe"));
    policy.segments[0].mode = ModeSetting::Enforce;
    let unknown = &mut policy.segments[usize::from(SegmentId::UNKNOWN.0)];
    (unknown.mode, unknown.origin) = (ModeSetting::Observe, origin(6));
    assert!(codes(&policy).is_empty(), "what is unknown has no mode of its own");
}
