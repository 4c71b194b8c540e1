//! What the numbers of a generation stand for.

use crate::policy::model::{Forwarding, InterfaceKind, Policy, Rule, Segment};

use super::image::{InterfaceEntry, Manifest, RuleEntry, SegmentEntry};
use super::place::segments_of;
use gateway_common::reason::Mode;

pub(super) fn manifest(policy: &Policy, table_bytes: u64) -> Manifest {
    Manifest {
        hash: policy.hash.clone(),
        segments: policy.segments.iter().map(segment).collect(),
        rules: policy.rules.iter().map(rule).collect(),
        interfaces: policy
            .interfaces
            .iter()
            .map(|interface| InterfaceEntry {
                name: interface.name.clone(),
                trunk: matches!(interface.kind, InterfaceKind::Trunk { .. }),
                segments: segments_of(interface),
                tunnel: interface.tunnel.is_some(),
            })
            .collect(),
        table_bytes,
        forwarding: policy.settings.forwarding == Forwarding::Xdp,
    }
}

fn segment(segment: &Segment) -> SegmentEntry {
    SegmentEntry { name: segment.name.clone(), mode: Mode::from(segment.mode) as u8 }
}

fn rule(rule: &Rule) -> RuleEntry {
    RuleEntry {
        name: rule.name.clone(),
        kind: rule.kind,
        origin: rule.origin.clone(),
        purpose: rule.purpose.clone(),
        owner: rule.owner.clone(),
    }
}
