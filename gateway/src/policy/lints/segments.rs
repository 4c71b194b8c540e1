//! Segments and interfaces that look forgotten, and modes that leave the gateway open.

use std::collections::HashSet;

use crate::policy::diagnostic::Diagnostic;
use crate::policy::model::{AddressSet, ModeSetting, Policy, Ranges, Segment, SegmentId};
use crate::policy::ranges;

use super::Findings;
use super::extent::World;

pub(super) fn lint(policy: &Policy, world: &World, findings: &mut Findings) {
    let numbered = || (0u16..).zip(&policy.segments).map(|(number, segment)| (SegmentId(number), segment));
    let (builtin, own): (Vec<_>, Vec<_>) = numbered().partition(|(id, _)| *id <= SegmentId::UNKNOWN);

    if policy.interfaces.is_empty() {
        if let Some((_, segment)) = own.first() {
            let message = "no interface is named: nothing will be enforced";
            findings.push(
                Diagnostic::warning("no-interface", &segment.origin, message)
                    .help("name the router's interfaces under `interfaces`"),
            );
        }
    } else {
        let lost = own.iter().filter(|(id, _)| world.places(*id) == 0);
        findings.extend(lost.map(|(_, segment)| {
            let message = format!("no interface carries segment `{}`", segment.name);
            Diagnostic::warning("segment-without-interface", &segment.origin, message)
        }));
    }

    let named = named_by_rules(policy);
    let unnamed = own.iter().filter(|(id, segment)| {
        // A segment that is observed is still being learned: it has no rules yet.
        segment.mode != ModeSetting::Observe
            && !named.segments.contains(id)
            && named.ranges.is_disjoint(&segment.ranges)
    });
    findings.extend(unnamed.map(|(_, segment)| {
        let message = format!("no rule names segment `{}`: nothing passes to or from it", segment.name);
        Diagnostic::warning("segment-without-rule", &segment.origin, message)
    }));

    findings.extend(builtin.iter().filter_map(|(id, segment)| lax(*id, segment)));
}

/// A built-in segment whose mode the text lowers.
fn lax(id: SegmentId, segment: &Segment) -> Option<Diagnostic> {
    let is_set = segment.origin.line > 0 && id != SegmentId::UNKNOWN;
    (is_set && segment.mode != ModeSetting::Enforce).then(|| {
        let mode = if segment.mode == ModeSetting::Audit { "audit" } else { "observe" };
        let message = format!(
            "`{}` is set to {mode}: what no flow allows passes where the other end does not enforce",
            segment.name
        );
        Diagnostic::warning("builtin-not-enforced", &segment.origin, message)
    })
}

/// All that any rule names.
fn named_by_rules(policy: &Policy) -> AddressSet {
    // Rules share sets: each is looked at once.
    let sets: HashSet<&AddressSet> = policy.rules.iter().flat_map(|rule| [&rule.from, &rule.to]).collect();
    let segments = sets.iter().flat_map(|set| &set.segments).copied().collect();
    let v4 = sets.iter().flat_map(|set| &set.ranges.v4).copied().collect();
    let v6 = sets.iter().flat_map(|set| &set.ranges.v6).copied().collect();
    AddressSet { segments, ranges: Ranges { v4: ranges::normalise(v4), v6: ranges::normalise(v6) } }
}
