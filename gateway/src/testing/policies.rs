//! Random resolved policies: overlapping rules, denies, ranges, both families, modes, trunks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use gateway_common::place::SEGMENT_FIRST;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use crate::policy::model::{
    ANY_PORT, AddressSet, Condition, Interface, InterfaceKind, ModeSetting, Origin, Policy, Ranges, Rule,
    RuleKind, Segment, SegmentId, Service, ServiceClass, ServiceMatch, Settings, Tunnel,
};

/// A policy of a few segments and up to sixteen rules.
pub fn policy() -> impl Strategy<Value = Policy> {
    sized(1..=6, 0..=16)
}

/// A policy of any size: most are small, a few have dozens of segments and hundreds of rules.
pub fn of_any_size() -> impl Strategy<Value = Policy> {
    prop_oneof![
        8 => policy(),
        3 => sized(4..=16, 10..=60),
        1 => sized(16..=40, 60..=300),
    ]
}

/// A policy of this many segments of its own and this many rules.
pub fn sized(segments: RangeInclusive<usize>, rules: RangeInclusive<usize>) -> impl Strategy<Value = Policy> {
    let services = vec(service(), 1..4 + segments.end() / 2);
    (segments, services).prop_flat_map(move |(own, services)| {
        let count = usize::from(SEGMENT_FIRST) + own;
        let parts = (
            self::segments(own),
            interfaces(count),
            vec(rule(count, services.len()), rules.clone()),
            Just(services),
            settings(),
        );
        parts.prop_map(|(segments, interfaces, rules, services, settings)| Policy {
            hash: "0".repeat(64),
            interfaces,
            segments,
            services,
            rules: numbered(rules),
            settings,
            ..Policy::default()
        })
    })
}

/// The same with rules that hold only at times, quarantines, flows that are kept there, and broken glass, from
/// `start` on; without limits that are soon reached.
pub fn at_times(policy: impl Strategy<Value = Policy>, start: u64) -> impl Strategy<Value = Policy> {
    let index = any::<prop::sample::Index>;
    let edge =
        prop::sample::select(vec![0, 1, 2, 10, 30, 90, 400, 4000]).prop_map(move |seconds| match seconds {
            0 => 0,
            seconds => start + seconds * 1_000_000_000,
        });
    let condition = btree_set(edge.clone(), 1..6).prop_map(|edges| {
        let edges: Vec<u64> = edges.into_iter().collect();
        let until = |pair: &[u64]| pair.get(1).copied().unwrap_or(u64::MAX);
        Condition { intervals: edges.chunks(2).map(|pair| (pair[0], until(pair))).collect() }
    });
    let timed = vec((index(), index(), 0..4u8), 0..9);
    let isolated = vec((ranges(1), index()), 0..3);
    let broken = vec((index(), edge), 0..3);
    let parts = (policy, vec(condition, 1..4), timed, isolated, broken);
    parts.prop_map(|(mut policy, conditions, timed, isolated, broken)| {
        policy.settings.connections = policy.settings.connections.max(4096);
        policy.settings.neighbour_rate = 1_000_000;
        for (rule, condition, kind) in timed {
            if policy.rules.is_empty() {
                break;
            }
            let rule = rule.get_mut(&mut policy.rules);
            rule.condition = Some(condition.index(conditions.len()));
            if kind == 0 {
                rule.kind = RuleKind::Kept;
            }
        }
        let everything = [
            ServiceMatch::Tcp { source: ANY_PORT, destination: ANY_PORT },
            ServiceMatch::Udp { source: ANY_PORT, destination: ANY_PORT },
            ServiceMatch::Icmp((0, 255)),
            ServiceMatch::Icmpv6((0, 255)),
        ];
        policy
            .services
            .push(named_service(everything.into_iter().chain((0..=255).filter_map(other)).collect()));
        let segments = (0..policy.segments.len())
            .map(|index| u16::try_from(index).map_or(SegmentId::UNKNOWN, SegmentId));
        let segments = segments.filter(|id| *id != SegmentId::UNKNOWN);
        let everywhere = AddressSet { segments: segments.collect(), ranges: Ranges::default() };
        for (ranges, condition) in isolated {
            let ends = [AddressSet { ranges, ..AddressSet::default() }, everywhere.clone()];
            for (from, to) in [(0, 1), (1, 0)] {
                policy.rules.push(Rule {
                    name: String::new(),
                    kind: RuleKind::Quarantine,
                    from: ends[from].clone(),
                    to: ends[to].clone(),
                    services: vec![policy.services.len() - 1],
                    purpose: None,
                    owner: None,
                    review: None,
                    unenforced: false,
                    condition: Some(condition.index(conditions.len())),
                    through: None,
                    limits: None,
                    origin: origin(),
                });
            }
        }
        let count = policy.segments.len();
        let id = |index: prop::sample::Index| {
            u16::try_from(index.index(count)).map_or(SegmentId::UNKNOWN, SegmentId)
        };
        policy.break_glass = broken
            .into_iter()
            .map(|(segment, until)| (id(segment), until))
            .filter(|(segment, _)| *segment != SegmentId::UNKNOWN)
            .collect();
        policy.rules = numbered(policy.rules);
        policy.conditions = conditions;
        policy
    })
}

/// The same with interfaces that are the ends of tunnels, beside others with the same behind them, and rules that hold
/// only for what arrives on one way.
pub fn with_tunnels(policy: impl Strategy<Value = Policy>) -> impl Strategy<Value = Policy> {
    let index = any::<prop::sample::Index>;
    let way = || prop::sample::select(Tunnel::ALL.to_vec());
    let ends = vec((index(), way()), 1..4);
    (policy, ends, vec((index(), way()), 1..8)).prop_map(|(mut policy, ends, ways)| {
        for ((interface, way), number) in ends.into_iter().zip(0..) {
            let Interface { kind, routed, .. } = interface.get(&policy.interfaces).clone();
            let tunnel = Some(way).filter(|way| *way != Tunnel::Direct);
            let name = format!("end{number}");
            policy.interfaces.push(Interface { name, kind, routed, tunnel, origin: origin() });
        }
        for (rule, way) in ways {
            // A quarantine is one wherever packets come from.
            let mut rules: Vec<&mut Rule> =
                policy.rules.iter_mut().filter(|rule| rule.kind != RuleKind::Quarantine).collect();
            if !rules.is_empty() {
                rule.get_mut(&mut rules).through = Some(way);
            }
        }
        policy
    })
}

/// A protocol that has neither ports nor types.
fn other(protocol: u8) -> Option<ServiceMatch> {
    (![1, 6, 17, 58].contains(&protocol)).then_some(ServiceMatch::Protocol(protocol))
}

/// Some connection tables are soon full, some timeouts short, some senders soon at their rate.
fn settings() -> impl Strategy<Value = Settings> {
    let timeouts =
        prop_oneof![3 => Just(Settings::default().timeouts), 1 => prop::array::uniform11(1u32..=90)];
    let connections = prop_oneof![4 => Just(4096u32), 1 => prop::sample::select(vec![16u32, 32, 64])];
    let neighbour_rate = prop_oneof![3 => Just(1_000_000u32), 1 => 1u32..=4];
    (any::<bool>(), connections, timeouts, neighbour_rate).prop_map(
        |(midstream, connections, timeouts, neighbour_rate)| Settings {
            midstream,
            connections,
            timeouts,
            neighbour_rate,
            ..Settings::default()
        },
    )
}

/// Names and lines by number, so that a failure can be read.
fn numbered(mut rules: Vec<Rule>) -> Vec<Rule> {
    for (rule, line) in rules.iter_mut().zip(1..) {
        rule.name = format!("rule-{}", line - 1);
        rule.origin.line = line;
    }
    rules
}

fn origin() -> Origin {
    Origin { file: "random.yaml".into(), line: 0, column: 1 }
}

/// An IPv4 address, as a number: few different ones, so that ranges touch and overlap.
pub fn v4() -> impl Strategy<Value = u32> {
    let near = [
        0,
        0x0a00_0000,
        0x0a00_0100,
        0x0a00_ff00,
        0x0a01_0000,
        0x7f00_0000,
        0xa9fe_0000,
        0xcb00_7100,
        0xe000_0000,
        0xe000_0100,
        0xefff_fffa,
        0xf000_0000,
        u32::MAX,
    ];
    let edge =
        (prop::sample::select(near.to_vec()), -3i32..=3).prop_map(|(at, off)| at.saturating_add_signed(off));
    prop_oneof![
        3 => edge,
        6 => 0x0a00_0000u32..0x0a00_0400,
        1 => any::<u32>(),
    ]
}

/// An IPv6 address, as a number: likewise.
pub fn v6() -> impl Strategy<Value = u128> {
    let near = [
        0,
        1,
        0xffff << 32,
        0x0a00_0000 | 0xffff << 32,
        0x2001_0db8 << 96,
        0xfd00_0070 << 96,
        (0xfd00_0070 << 96) | (1 << 64),
        0xfe80 << 112,
        0xfec0 << 112,
        0xff00 << 112,
        0xff01 << 112,
        0xff02 << 112,
        0xff03 << 112,
        0xff12 << 112,
        0xff15 << 112,
        u128::MAX,
    ];
    let edge =
        (prop::sample::select(near.to_vec()), -3i128..=3).prop_map(|(at, off)| at.saturating_add_signed(off));
    prop_oneof![
        3 => edge,
        6 => (0u128..0x400).prop_map(|host| (0xfd00_0070 << 96) | host),
        1 => any::<u128>(),
    ]
}

/// Inclusive ranges between two random addresses, at most this many of each family.
pub fn ranges(most: usize) -> impl Strategy<Value = Ranges> {
    let prefix_v4 = (v4(), 0u32..=32).prop_map(|(at, length)| {
        let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
        (at & !hosts, at | hosts)
    });
    let prefix_v6 = (v6(), 0u32..=128).prop_map(|(at, length)| {
        let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
        (at & !hosts, at | hosts)
    });
    let single_v4 = prop_oneof![(v4(), v4()), v4().prop_map(|at| (at, at)), prefix_v4];
    let single_v6 = prop_oneof![(v6(), v6()), v6().prop_map(|at| (at, at)), prefix_v6];
    (vec(single_v4, 0..=most), vec(single_v6, 0..=most)).prop_map(|(v4, v6)| Ranges {
        v4: merged(v4, |last| last.checked_add(1)),
        v6: merged(v6, |last| last.checked_add(1)),
    })
}

/// Sorts and merges ranges that overlap or touch.
fn merged<T: Ord + Copy>(ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    let mut ranges: Vec<(T, T)> = ranges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if after(before.1).is_none_or(|next| first <= next) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// Built-in segments, then `own` more. Each address space is cut at random points and the
/// parts are dealt out.
fn segments(own: usize) -> impl Strategy<Value = Vec<Segment>> {
    let first = usize::from(SEGMENT_FIRST);
    // 0 stands for nobody.
    let owner = || 0..=own;
    let cuts = 12 + 2 * own;
    let v4 = btree_map(v4(), owner(), 0..cuts);
    let v6 = btree_map(v6(), owner(), 0..cuts);
    let traits = vec((mode(), any::<bool>(), btree_set(ethertype(), 0..3)), first + own);
    (v4, v6, gateway(), traits).prop_map(move |(v4, v6, gateway, traits)| {
        let named = |(index, (mode, routers, ethertypes))| Segment {
            name: format!("segment-{index}"),
            vlan: None,
            ranges: Ranges::default(),
            zone: None,
            mode,
            ethertypes,
            routers,
            origin: origin(),
        };
        let mut segments: Vec<Segment> = traits.into_iter().enumerate().map(named).collect();
        for (index, range) in dealt(&v4, u32::MAX, |at| at - 1) {
            segments[first + index].ranges.v4.push(range);
        }
        for (index, range) in dealt(&v6, u128::MAX, |at| at - 1) {
            segments[first + index].ranges.v6.push(range);
        }
        for segment in &mut segments[first..] {
            segment.ranges.v4 = merged(std::mem::take(&mut segment.ranges.v4), |last| last.checked_add(1));
            segment.ranges.v6 = merged(std::mem::take(&mut segment.ranges.v6), |last| last.checked_add(1));
        }
        segments[usize::from(SegmentId::GATEWAY.0)].ranges = gateway;
        segments
    })
}

/// The gateway's own addresses: mostly a few, seldom whole ranges.
fn gateway() -> impl Strategy<Value = Ranges> {
    let few = (vec(v4(), 0..4), vec(v6(), 0..4)).prop_map(|(v4, v6)| Ranges {
        v4: merged(v4.into_iter().map(|at| (at, at)).collect(), |last| last.checked_add(1)),
        v6: merged(v6.into_iter().map(|at| (at, at)).collect(), |last| last.checked_add(1)),
    });
    prop_oneof![5 => few, 1 => ranges(2)]
}

/// The part from each cut to the next, for its owner.
fn dealt<T: Ord + Copy>(
    cuts: &BTreeMap<T, usize>,
    highest: T,
    before: impl Fn(T) -> T,
) -> Vec<(usize, (T, T))> {
    let ends = cuts.keys().skip(1).map(|&next| before(next)).chain([highest]);
    let parts = cuts.iter().zip(ends).filter(|((_, owner), _)| **owner > 0);
    parts.map(|((&start, &owner), end)| (owner - 1, (start, end))).collect()
}

/// An EtherType, mostly one that hospitals have.
pub fn ethertype() -> impl Strategy<Value = u16> {
    let common = prop::sample::select(vec![0u16, 0x0600, 0x8892, 0x88cc, 0x88f7, 0xffff]);
    prop_oneof![4 => common, 1 => any::<u16>()]
}

fn mode() -> impl Strategy<Value = ModeSetting> {
    prop::sample::select(vec![ModeSetting::Observe, ModeSetting::Audit, ModeSetting::Enforce])
}

fn segment_id(count: usize) -> impl Strategy<Value = SegmentId> {
    let count = u16::try_from(count).expect("few segments");
    (0..count)
        .prop_filter("nothing is in segment unknown", |id| *id != SegmentId::UNKNOWN.0)
        .prop_map(SegmentId)
}

fn interfaces(count: usize) -> impl Strategy<Value = Vec<Interface>> {
    let own = (SEGMENT_FIRST..u16::try_from(count).expect("few segments")).prop_map(SegmentId);
    let known = || prop::sample::select(vec![0u16, 1, 10, 20, 70, 4094]);
    let vlan = prop_oneof![2 => known(), 1 => 1..4095u16];
    let trunk = (known(), btree_map(vlan, own.clone(), 2..6 + count / 2));
    let kind = prop_oneof![
        3 => own.prop_map(InterfaceKind::Access),
        2 => trunk.prop_map(|(outer, vlans)| InterfaceKind::Trunk { outer, vlans }),
        2 => Just(InterfaceKind::Wan),
    ];
    let routed = prop::bool::weighted(0.2);
    vec((kind, routed), 1..5 + count / 8).prop_map(|kinds| {
        let named = |(index, (kind, routed))| {
            let routed = routed && kind != InterfaceKind::Wan;
            Interface { name: format!("port{index}"), kind, routed, tunnel: None, origin: origin() }
        };
        kinds.into_iter().enumerate().map(named).collect()
    })
}

/// A port number, mostly from a few.
pub fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        4 => prop::sample::select(vec![0u16, 1, 66, 67, 68, 80, 104, 443, 1023, 1024, 11112, 65534, 65535]),
        1 => any::<u16>(),
    ]
}

fn port_range() -> impl Strategy<Value = (u16, u16)> {
    prop_oneof![
        (port(), port()).prop_map(|(a, b)| (a.min(b), a.max(b))),
        port().prop_map(|at| (at, at)),
        Just(ANY_PORT)
    ]
}

fn source_ports() -> impl Strategy<Value = (u16, u16)> {
    prop_oneof![6 => Just(ANY_PORT), 1 => port_range()]
}

/// An ICMP type, mostly a common one.
pub fn icmp_type() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![0u8, 3, 5, 8, 9, 13, 127, 128, 129, 130, 200, 255])
}

/// A protocol number that has no ports.
pub fn protocol() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![0u8, 2, 47, 50, 51, 89, 132, 255])
}

fn service_match() -> impl Strategy<Value = ServiceMatch> {
    let types = || (icmp_type(), icmp_type()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        3 => (source_ports(), port_range()).prop_map(|(source, destination)| ServiceMatch::Tcp { source, destination }),
        3 => (source_ports(), port_range()).prop_map(|(source, destination)| ServiceMatch::Udp { source, destination }),
        1 => types().prop_map(ServiceMatch::Icmp),
        1 => types().prop_map(ServiceMatch::Icmpv6),
        1 => protocol().prop_map(ServiceMatch::Protocol),
    ]
}

fn service() -> impl Strategy<Value = Service> {
    vec(service_match(), 1..4).prop_map(named_service)
}

fn named_service(matches: Vec<ServiceMatch>) -> Service {
    Service {
        name: format!("{matches:?}"),
        matches,
        class: ServiceClass::Unknown,
        phi: false,
        cleartext: false,
        standard: None,
        origin: None,
    }
}

/// A set of addresses, of a policy with this many segments.
pub fn address_set(segments: usize) -> impl Strategy<Value = AddressSet> {
    let whole = || {
        let few = btree_set(segment_id(segments), 0..4);
        let zone = btree_set(segment_id(segments), 0..segments);
        prop_oneof![4 => few, 1 => zone]
    };
    prop_oneof![
        2 => whole().prop_map(|segments| AddressSet { segments, ranges: Ranges::default() }),
        2 => ranges(3).prop_map(|ranges| AddressSet { segments: BTreeSet::new(), ranges }),
        1 => (whole(), ranges(3)).prop_map(|(segments, ranges)| AddressSet { segments, ranges }),
    ]
}

fn rule(segments: usize, services: usize) -> impl Strategy<Value = Rule> {
    let kind = prop_oneof![
        3 => Just(RuleKind::Flow),
        1 => Just(RuleKind::Vendor),
        1 => Just(RuleKind::Deny),
    ];
    let named = btree_set(0..services, 1..4);
    let parts = (kind, address_set(segments), address_set(segments), named, prop::bool::weighted(0.1));
    parts.prop_map(|(kind, from, to, services, unenforced)| Rule {
        name: String::new(),
        kind,
        from,
        to,
        services: services.into_iter().collect(),
        purpose: None,
        owner: None,
        review: None,
        unenforced,
        condition: None,
        through: None,
        limits: None,
        origin: origin(),
    })
}
