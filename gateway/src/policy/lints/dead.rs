//! Rules that no packet can ever match, whatever the other rules say.

use crate::policy::diagnostic::Diagnostic;
use crate::policy::model::{AddressSet, Policy, Rule, SegmentId};

use super::extent::{World, groups};
use super::rules::{Rules, kind};

/// Why no packet can match `rule`, if none can.
pub(super) fn never_matches(
    policy: &Policy,
    world: &World,
    rules: &Rules,
    number: usize,
) -> Option<Diagnostic> {
    // Without any interface nothing arrives at all: said once, elsewhere.
    if policy.interfaces.is_empty() {
        return None;
    }
    let rule = &policy.rules[number];
    let term = rules.terms[number];
    let (from, to) = (&rules.sources[term.from], &rules.destinations[term.to]);
    let services = rules.services[term.services].as_ref()?;
    let why = if from.is_empty() {
        why_no_source(policy, world, rule)
    } else if to.is_empty() && rule.to.ranges.is_empty() {
        "what `to` names has no addresses".to_owned()
    } else if to.is_empty() {
        "its destinations end at the gateway; to allow them, name `gateway` in `to`".to_owned()
    } else if rules.families(number).is_empty() {
        "`from`, `to` and `services` have no IP version in common".to_owned()
    } else if services.is_only_tcp() && to.atoms.is_empty() && to.ranges.is_subset(&groups()) {
        "TCP cannot reach a multicast group".to_owned()
    } else {
        return within_segment(policy, world, rules, number);
    };
    let message = format!("{} `{}` can never match: {why}", kind(rule), rule.name);
    Some(Diagnostic::warning("dead-rule", &rule.origin, message))
}

fn why_no_source(policy: &Policy, world: &World, rule: &Rule) -> String {
    if rule.from == AddressSet::default() {
        return "`from` names nothing".to_owned();
    }
    let only_gateway = rule.from.segments.iter().all(|&id| id == SegmentId::GATEWAY);
    if only_gateway && rule.from.ranges.is_empty() {
        return "connections of the gateway itself need no rule".to_owned();
    }
    let homeless = |&id: &SegmentId| {
        let named = rule.from.segments.contains(&id) || !world.segment(id).is_disjoint(&rule.from.ranges);
        named && world.places(id) == 0 && id.has_hosts()
    };
    let numbers = (0u16..).zip(&policy.segments).map(|(number, _)| SegmentId(number));
    match numbers.into_iter().find(homeless) {
        Some(id) => format!("no interface carries segment `{}`", policy.segment(id).name),
        None => "no packet can come from where it says".to_owned(),
    }
}

/// Rules between hosts of one VLAN: they reach each other without the gateway.
fn within_segment(policy: &Policy, world: &World, rules: &Rules, number: usize) -> Option<Diagnostic> {
    let rule = &policy.rules[number];
    let term = rules.terms[number];
    let (from, to) = (&rules.sources[term.from], &rules.destinations[term.to]);
    let first = from.atoms.first().copied();
    let mut numbers = (0u16..).zip(&policy.segments).map(|(number, _)| SegmentId(number));
    let id = first.or_else(|| numbers.find(|&id| from.ranges.is_subset(world.segment(id))))?;
    let ranges = world.segment(id);
    let is_within = world.places(id) <= 1
        && id != SegmentId::WAN
        && from.atoms.iter().all(|&atom| atom == id)
        && from.ranges.is_subset(ranges)
        && to.atoms.is_empty()
        && to.ranges.is_subset(ranges);
    is_within.then(|| {
        let message = format!(
            "both ends of {} `{}` are in segment `{}`: its hosts reach each other without the gateway",
            kind(rule),
            rule.name,
            policy.segment(id).name
        );
        Diagnostic::warning("within-segment", &rule.origin, message)
    })
}
