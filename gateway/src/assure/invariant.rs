//! Invariants: what must never be possible, proven over all packets.

use crate::compile::image::Image;
use crate::compile::{CompileError, compile};
use crate::packet::PacketView;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::model::{Invariant, Policy, Rule, RuleKind, ServiceMatch};

use super::reach::{Question, Reach, Ruling, Sample};
use super::space::Space;

/// Rules that are shown with a packet of their own; nobody reads more.
const SHOWN: usize = 8;

/// Proves the invariants of a policy: an error for each that does not hold, a warning for each that
/// the rules hold but the modes of the rollout do not. What a window or a grant limits counts as open: it will be.
/// A policy without invariants costs nothing.
///
/// # Errors
/// A policy that does not fit the tables has nothing that could be proven.
pub fn prove(policy: &Policy) -> Result<Vec<Diagnostic>, CompileError> {
    if policy.invariants.is_empty() {
        return Ok(Vec::new());
    }
    match policy.opened() {
        Some(opened) => Ok(prove_image(&opened, &compile(&opened)?)),
        None => Ok(prove_image(policy, &compile(policy)?)),
    }
}

/// Proves the invariants of a policy on its image.
pub fn prove_image(policy: &Policy, image: &Image) -> Vec<Diagnostic> {
    let reach = Reach::new(Space::new(image));
    policy.invariants.iter().filter_map(|invariant| judge(policy, &reach, invariant)).collect()
}

fn judge(policy: &Policy, reach: &Reach<'_>, invariant: &Invariant) -> Option<Diagnostic> {
    let question =
        Question { from: &invariant.from, to: &invariant.to, services: invariant.never.as_deref() };
    let rulings = reach.rulings(policy, question);
    let breaches: Vec<(&Rule, Sample<'_>)> = rulings
        .iter()
        .filter_map(|(ruling, finding)| match ruling {
            Ruling::Allowed(id) => Some((&policy.rules[id.0 as usize], finding.sample)),
            Ruling::Denied(_) | Ruling::NoFlow => None,
        })
        .collect();
    if let Some((_, sample)) = breaches.first() {
        return Some(broken(policy, invariant, &breaches, sample));
    }
    let unenforced = rulings.values().find_map(|finding| finding.unenforced)?;
    let message = format!("invariant `{}` is not enforced yet: {unenforced} passes", invariant.name);
    let (source, destination) = (policy.segment(unenforced.source), policy.segment(unenforced.destination));
    let either = if unenforced.source == unenforced.destination {
        format!("`{}`", source.name)
    } else {
        format!("`{}` or `{}`", source.name, destination.name)
    };
    Some(
        Diagnostic::warning("invariant-not-enforced", &invariant.origin, message)
            .expected("the rules hold it, the modes do not")
            .help(format!("set `mode: enforce` on {either}")),
    )
}

fn broken(
    policy: &Policy,
    invariant: &Invariant,
    breaches: &[(&Rule, Sample<'_>)],
    first: &Sample<'_>,
) -> Diagnostic {
    let message = format!("invariant `{}` does not hold: {first} is allowed", invariant.name);
    let mut diagnostic = Diagnostic::error("invariant-broken", &invariant.origin, message)
        .expected("expected no such packet to be allowed");
    // A packet is decided by the first rule that allows it; with that one gone, another might.
    let also = policy.rules.iter().filter(|rule| {
        !breaches.iter().any(|(named, _)| named.origin == rule.origin) && allows(policy, rule, first)
    });
    let through = breaches.iter().map(|(rule, sample)| (*rule, *sample));
    for (rule, sample) in through.chain(also.map(|rule| (rule, *first))).take(SHOWN) {
        diagnostic =
            diagnostic.related(&rule.origin, format!("{} `{}` lets through {sample}", kind(rule), rule.name));
    }
    let more = breaches.len().saturating_sub(SHOWN);
    let help = "narrow the rules, or write a deny for what the invariant forbids";
    diagnostic.help(if more > 0 { format!("{help}; {more} more rules break it") } else { help.to_owned() })
}

/// Whether a rule by itself allows a packet whose sender is a host of its segment.
fn allows(policy: &Policy, rule: &Rule, sample: &Sample<'_>) -> bool {
    let PacketView { source, destination, transport } = sample.packet;
    let named = |service: &usize| policy.services[*service].matches.iter().any(|it| matches(*it, transport));
    rule.kind != RuleKind::Deny
        && rule.is_active()
        && rule.from.contains(source, sample.source)
        && rule.to.contains(destination, sample.destination)
        && rule.services.iter().any(named)
}

/// Whether a service names what a packet carries.
pub(super) fn matches(matches: ServiceMatch, transport: crate::packet::Transport) -> bool {
    use crate::packet::Transport;
    let within = |range: (u16, u16), port: u16| range.0 <= port && port <= range.1;
    match (matches, transport) {
        (ServiceMatch::Tcp { source, destination }, Transport::Tcp { source: from, destination: to })
        | (ServiceMatch::Udp { source, destination }, Transport::Udp { source: from, destination: to }) => {
            within(source, from) && within(destination, to)
        }
        (ServiceMatch::Icmp(types), Transport::Icmp(kind))
        | (ServiceMatch::Icmpv6(types), Transport::Icmpv6(kind)) => (types.0..=types.1).contains(&kind),
        (ServiceMatch::Protocol(named), Transport::Other(number)) => named == number,
        _ => false,
    }
}

/// How messages call a rule.
pub(super) fn kind(rule: &Rule) -> &'static str {
    rule.kind.words()
}
