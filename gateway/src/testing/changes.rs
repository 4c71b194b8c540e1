//! Random changes of a policy, small ones: what running connections meet when an operator applies the next.

use std::collections::BTreeMap;

use gateway_common::connection::State;
use gateway_common::place::SEGMENT_FIRST;
use proptest::sample::Index;

use crate::oracle::packet::flag;
use crate::policy::model::{
    AddressSet, Interface, InterfaceKind, ModeSetting, Policy, RuleId, RuleKind, SegmentId, Settings, Tunnel,
};

/// Another policy, one change away; `what`, `which` and `flags` choose the change.
pub fn change(policy: &Policy, what: Index, which: Index, flags: u8) -> Policy {
    let mut next = policy.clone();
    let own = policy.own_segments().len();
    let first = usize::from(SEGMENT_FIRST);
    match what.index(17) {
        0 => next.settings.midstream = !policy.settings.midstream,
        1 if own > 1 => renumber(&mut next, first + which.index(own), first + (which.index(own) + 1) % own),
        2 if own > 1 => {
            let (one, other) = (first + which.index(own), first + (which.index(own) + 1) % own);
            let ranges = std::mem::take(&mut next.segments[one].ranges);
            next.segments[one].ranges = std::mem::replace(&mut next.segments[other].ranges, ranges);
        }
        3 => {
            let segment = which.get_mut(&mut next.segments);
            segment.mode = match segment.mode {
                ModeSetting::Observe => ModeSetting::Audit,
                ModeSetting::Audit => ModeSetting::Enforce,
                ModeSetting::Enforce => ModeSetting::Observe,
            };
            segment.routers = !segment.routers;
        }
        4 if next.interfaces.len() > 1 => {
            let count = next.interfaces.len();
            let (one, other) = (which.index(count), (which.index(count) + 1) % count);
            let kind = next.interfaces[one].kind.clone();
            next.interfaces[one].kind = std::mem::replace(&mut next.interfaces[other].kind, kind);
        }
        // The gateway gets another address, or loses one.
        10 => {
            let gateway = &mut next.segments[usize::from(SegmentId::GATEWAY.0)].ranges;
            if flags & flag::ACK != 0 {
                gateway.v4.pop();
                gateway.v6.pop();
            } else {
                gateway.v4 = vec![(0x0a00_0001, 0x0a00_0001)];
                gateway.v6 = vec![((0xfd00_0070 << 96) | 1, (0xfd00_0070 << 96) | 1)];
            }
        }
        11 => {
            let are_default = policy.settings.timeouts == Settings::default().timeouts;
            next.settings.timeouts =
                if are_default { [7; State::COUNT] } else { Settings::default().timeouts };
        }
        // Two tags of a trunk change places.
        12 => {
            for interface in &mut next.interfaces {
                if let InterfaceKind::Trunk { vlans, .. } = &mut interface.kind {
                    let tags: Vec<u16> = vlans.keys().copied().collect();
                    let segments: Vec<SegmentId> = vlans.values().copied().collect();
                    *vlans = tags.into_iter().zip(segments.into_iter().cycle().skip(1)).collect();
                }
            }
        }
        13 => {
            let segment =
                u16::try_from(which.index(policy.segments.len())).map_or(SegmentId::UNKNOWN, SegmentId);
            next.break_glass.retain(|_, until| *until % 2 == u64::from(flags & 1));
            if flags & flag::ACK != 0 && segment != SegmentId::UNKNOWN {
                next.break_glass.insert(segment, u64::MAX);
            }
        }
        14 if !next.rules.is_empty() => {
            let rule = which.get_mut(&mut next.rules);
            rule.condition =
                if rule.condition.is_some() || policy.conditions.is_empty() { None } else { Some(0) };
        }
        15 => {
            let interface = which.get_mut(&mut next.interfaces);
            let way = Tunnel::ALL[usize::from(flags) % Tunnel::ALL.len()];
            interface.tunnel = Some(way).filter(|way| *way != Tunnel::Direct);
        }
        16 if !next.rules.is_empty() => {
            let rule = which.get_mut(&mut next.rules);
            let way = next.interfaces.first().map(Interface::way);
            let has_none = rule.through.is_none() && rule.kind != RuleKind::Quarantine;
            rule.through = way.filter(|_| has_none);
        }
        5 if !next.rules.is_empty() => {
            next.rules.remove(which.index(policy.rules.len()));
        }
        6 if !next.rules.is_empty() => {
            let rule = which.get_mut(&mut next.rules);
            std::mem::swap(&mut rule.from, &mut rule.to);
        }
        _ if !next.rules.is_empty() => {
            let rule = which.get_mut(&mut next.rules);
            match (flags & flag::ACK != 0, rule.kind) {
                (true, _) => rule.unenforced = !rule.unenforced,
                (false, RuleKind::Deny) => rule.kind = RuleKind::Flow,
                (false, _) => rule.kind = RuleKind::Deny,
            }
        }
        _ => {}
    }
    next
}

/// Another policy, without what this rule allows: it is gone, not enforced, or a deny.
pub fn against(policy: &Policy, rule: RuleId, flags: u8) -> Policy {
    let mut next = policy.clone();
    // Connections keep the number of a rule until they are judged again: it may be another's by now.
    let index = rule.0 as usize % policy.rules.len().max(1);
    match next.rules.get_mut(index) {
        Some(rule) if flags & flag::SYN != 0 => rule.kind = RuleKind::Deny,
        Some(rule) if flags & flag::FIN != 0 => rule.unenforced = true,
        Some(_) => {
            next.rules.remove(index);
        }
        None => {}
    }
    next
}

/// Swaps the numbers of two segments; the policy means the same.
fn renumber(policy: &mut Policy, one: usize, other: usize) {
    let id = |index: usize| SegmentId(u16::try_from(index).expect("few segments"));
    let (one_id, other_id) = (id(one), id(other));
    let swapped = |id: SegmentId| match id {
        id if id == one_id => other_id,
        id if id == other_id => one_id,
        id => id,
    };
    let set = |set: &mut AddressSet| set.segments = set.segments.iter().map(|&id| swapped(id)).collect();
    policy.segments.swap(one, other);
    for interface in &mut policy.interfaces {
        match &mut interface.kind {
            InterfaceKind::Access(segment) => *segment = swapped(*segment),
            InterfaceKind::Trunk { vlans, .. } => {
                let moved: BTreeMap<u16, SegmentId> =
                    vlans.iter().map(|(&vlan, &segment)| (vlan, swapped(segment))).collect();
                *vlans = moved;
            }
            InterfaceKind::Wan => {}
        }
    }
    for rule in &mut policy.rules {
        set(&mut rule.from);
        set(&mut rule.to);
    }
}
