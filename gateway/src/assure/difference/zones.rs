//! What a change opens between zones: the part of a widening that a review must not miss.

use std::collections::BTreeSet;

use crate::policy::model::{Policy, Segment, SegmentId};

use super::{Change, Difference, Family};

/// Sentences about what a change opens across zones, or opens in ways that no zone bounds: places,
/// modes, settings. Empty where it does neither.
///
/// A segment without a zone is one by itself, and so are the world and the gateway.
pub fn crossings(old: &Policy, new: &Policy, difference: &Difference) -> Vec<String> {
    let mut found: Vec<String> =
        difference.widening.iter().filter_map(|change| crossing(new, change)).collect();
    found.extend(difference.setup.iter().filter(|setup| setup.effect.widens).map(|setup| setup.what.clone()));
    // What crosses today must not cross unseen tomorrow because a border was moved in between.
    for segment in new.own_segments() {
        let before = old.own_segments().iter().find(|before| before.name == segment.name);
        if let Some(before) = before.filter(|before| before.zone != segment.zone) {
            found.push(format!(
                "segment {} moves from zone {} to {}",
                segment.name,
                before.zone.as_deref().unwrap_or("none"),
                segment.zone.as_deref().unwrap_or("none")
            ));
        }
    }
    found
}

fn crossing(policy: &Policy, change: &Change) -> Option<String> {
    let mut pairs = BTreeSet::new();
    for product in &change.products {
        let mut from = zones(policy, product.family, &product.from.ranges);
        for name in &product.from.nameless {
            let segment = policy.segments.iter().find(|segment| segment.name == *name);
            from.insert(segment.map_or_else(|| name.clone(), zone));
        }
        let mut to = zones(policy, product.family, &product.to.ranges);
        if product.to.gateway {
            to.insert(policy.segment(SegmentId::GATEWAY).name.clone());
        }
        for source in &from {
            pairs.extend(to.iter().filter(|it| *it != source).map(|it| (source.clone(), it.clone())));
        }
    }
    let rule = &policy.rules[change.allow];
    let pairs: Vec<String> = pairs.iter().map(|(from, to)| format!("{from} -> {to}")).collect();
    (!pairs.is_empty()).then(|| {
        format!("`{}` ({}:{}) opens {}", rule.name, rule.origin.file, rule.origin.line, pairs.join(", "))
    })
}

/// What a segment's border is called.
fn zone(segment: &Segment) -> String {
    segment.zone.as_ref().map_or_else(|| segment.name.clone(), |zone| format!("zone/{zone}"))
}

/// Zones that addresses lie in; what lies in no segment is the world's.
fn zones(policy: &Policy, family: Family, ranges: &[(u128, u128)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut covered: Vec<(u128, u128)> = Vec::new();
    for segment in policy.own_segments() {
        let own: Vec<(u128, u128)> = match family {
            Family::V4 => segment.ranges.v4.iter().map(|&(a, b)| (a.into(), b.into())).collect(),
            Family::V6 => segment.ranges.v6.clone(),
        };
        let meets = |one: &(u128, u128)| ranges.iter().any(|it| it.0 <= one.1 && one.0 <= it.1);
        if own.iter().any(meets) {
            found.insert(zone(segment));
        }
        covered.extend(own);
    }
    covered.sort_unstable();
    let is_covered = |&(first, last): &(u128, u128)| {
        let mut next = first;
        for &(start, end) in &covered {
            if start <= next && next <= end {
                if end >= last {
                    return true;
                }
                next = end + 1;
            }
        }
        false
    };
    if !ranges.iter().all(is_covered) {
        found.insert(policy.segment(SegmentId::WAN).name.clone());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::compare;
    use super::*;
    use crate::policy::{SourceFile, resolve};

    const NETWORK: &str = "interfaces: { a0: { access: a }, b0: { access: b }, c0: { access: c }, w0: { wan: true } }\n\
        segments:\n  a: { subnets: [10.0.1.0/24, \"fd00:1::/64\"], zone: clinical }\n  \
        b: { subnets: 10.0.2.0/24, zone: clinical }\n  c: { subnets: 10.0.3.0/24, zone: office }\n";

    fn policy(more: &str) -> Policy {
        let files = vec![SourceFile::new("n.yaml", NETWORK), SourceFile::new("r.yaml", more)];
        let resolved = resolve(files);
        resolved.policy.unwrap_or_else(|| panic!("{:?}", resolved.diagnostics))
    }

    fn opened(before: &str, after: &str) -> Vec<String> {
        let (old, new) = (policy(before), policy(after));
        crossings(&old, &new, &compare(&old, &new).expect("small policies"))
    }

    fn flow(from: &str, to: &str) -> String {
        format!("flows: [{{ name: x, from: {from}, to: {to}, services: dicom }}]\n")
    }

    #[test]
    fn within_a_zone_nothing_crosses() {
        assert_eq!(opened("", &flow("a", "b")), Vec::<String>::new());
        assert_eq!(opened(&flow("a", "c"), ""), Vec::<String>::new(), "narrowing");
    }

    #[test]
    fn what_crosses_is_named() {
        assert_eq!(opened("", &flow("a", "c")), ["`x` (r.yaml:1) opens zone/clinical -> zone/office"]);
        assert_eq!(opened("", &flow("a", "[b, c]")), ["`x` (r.yaml:1) opens zone/clinical -> zone/office"]);
        assert_eq!(opened("", &flow("a", "gateway")), ["`x` (r.yaml:1) opens zone/clinical -> gateway"]);
        assert_eq!(opened("", &flow("wan", "b")), ["`x` (r.yaml:1) opens wan -> zone/clinical"]);
        let half = opened("", &flow("10.0.2.0/24", "203.0.113.0/24"));
        assert_eq!(half, ["`x` (r.yaml:1) opens zone/clinical -> wan"]);
    }

    #[test]
    fn a_mode_that_enforces_no_more_and_a_border_that_moves_count() {
        let relaxed = NETWORK.replace("zone: office }", "zone: office, mode: audit }");
        let moved = NETWORK.replace("zone: office", "zone: clinical");
        for (text, words) in [(relaxed, "mode of segment c"), (moved, "segment c moves from zone office")] {
            let new = resolve(vec![SourceFile::new("n.yaml", text)]).policy.expect("sound");
            let old = resolve(vec![SourceFile::new("n.yaml", NETWORK)]).policy.expect("sound");
            let found = crossings(&old, &new, &compare(&old, &new).expect("small policies"));
            assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
        }
    }
}
