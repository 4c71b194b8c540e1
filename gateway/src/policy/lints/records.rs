//! What an auditor asks of each entry: a purpose, an owner, a use, and no wider access than named.

use std::collections::BTreeSet;

use crate::policy::diagnostic::Diagnostic;
use crate::policy::model::{AddressSet, Policy, Rule, RuleKind, SegmentId, Tunnel};

use super::Findings;
use super::rules::kind;

pub(super) fn lint(policy: &Policy, findings: &mut Findings) {
    for rule in &policy.rules {
        findings.extend(out_of_reach(policy, rule));
        findings.extend(undocumented(rule));
        findings.extend(wide(rule));
    }
    findings.extend(unused_services(policy));
}

/// Access that no packet can come by as it wants.
fn out_of_reach(policy: &Policy, rule: &Rule) -> Option<Diagnostic> {
    let tunnel = rule.through.filter(|_| policy.is_out_of_reach(rule))?;
    let (what, help) = if tunnel == Tunnel::Direct {
        (
            "every interface is the end of a tunnel".to_owned(),
            "name the interface that the open network is behind",
        )
    } else {
        let what = format!("no interface of the policy is the end of such a tunnel ({})", tunnel.word());
        (what, "say on the interface that it is: `wan: true` with `tunnel`")
    };
    let message = format!("`{}` stays closed: {what}", rule.name);
    Some(Diagnostic::warning("not-enforced", &rule.origin, message).help(help))
}

fn undocumented(rule: &Rule) -> Option<Diagnostic> {
    let is_blank = |text: &Option<String>| text.as_ref().is_none_or(|text| text.trim().is_empty());
    let missing = match (is_blank(&rule.purpose), is_blank(&rule.owner)) {
        (true, true) => "no purpose and no owner",
        (true, false) => "no purpose",
        (false, true) => "no owner",
        (false, false) => return None,
    };
    (rule.kind != RuleKind::Deny).then(|| {
        let message = format!("{} `{}` has {missing}", kind(rule), rule.name);
        Diagnostic::warning("undocumented-rule", &rule.origin, message).help(
            "an allowlist stays maintained only where each entry says why it exists and who answers for it",
        )
    })
}

/// Vendor access that is more than one source to one destination.
fn wide(rule: &Rule) -> Option<Diagnostic> {
    if rule.kind != RuleKind::Vendor {
        return None;
    }
    let (from, to) = (sources(&rule.from), destinations(&rule.to));
    let end = match (from > 1, to > 1) {
        (true, true) => "more than one source and more than one destination",
        (true, false) => "more than one source",
        (false, true) => "more than one destination",
        (false, false) => return None,
    };
    let message = format!("vendor access `{}` has {end}", rule.name);
    let help = "give each source its own access to one device, so that one can be closed without the others";
    Some(Diagnostic::warning("wide-vendor-access", &rule.origin, message).help(help))
}

/// How many sources a vendor has: a prefix is one, and one of each IP version are the same.
fn sources(set: &AddressSet) -> usize {
    // Whole segments, the world above all, are no source that anybody can name.
    let whole = 2 * set.segments.len();
    whole + set.ranges.v4.len().max(set.ranges.v6.len())
}

/// How many hosts a vendor reaches, where that is 0, 1 or more; one address of each IP version are
/// the same host, and the gateway is one host.
fn destinations(set: &AddressSet) -> usize {
    let gateway = usize::from(set.segments.contains(&SegmentId::GATEWAY));
    let whole = 2 * (set.segments.len() - gateway);
    let v4: usize = set.ranges.v4.iter().map(|range| if range.0 == range.1 { 1 } else { 2 }).sum();
    let v6: usize = set.ranges.v6.iter().map(|range| if range.0 == range.1 { 1 } else { 2 }).sum();
    gateway + whole + v4.max(v6)
}

fn unused_services(policy: &Policy) -> impl Iterator<Item = Diagnostic> {
    let of_rules = policy.rules.iter().flat_map(|rule| &rule.services);
    let of_invariants = policy.invariants.iter().filter_map(|invariant| invariant.never.as_ref()).flatten();
    let used: BTreeSet<usize> = of_rules.chain(of_invariants).copied().collect();
    policy.services.iter().enumerate().filter_map(move |(index, service)| {
        let origin = service.origin.as_ref().filter(|_| !used.contains(&index))?;
        let message = format!("no rule uses service `{}`", service.name);
        Some(Diagnostic::warning("unused-service", origin, message))
    })
}
