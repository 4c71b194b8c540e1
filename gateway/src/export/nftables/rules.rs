//! The policy's rules, each of them a few lines: any deny first, then any flow.

use super::chains::{Writer, counter, from_devices};
use super::services;
use super::sets::Family;
use super::text;
use crate::policy::model::{Ranges, Rule, RuleKind, SegmentId};

/// Rules on what is not for the gateway.
pub(super) fn forward(writer: &mut Writer<'_>) {
    for rule in in_order(writer) {
        let listeners = writer.addresses.listeners(&rule.to);
        if let Some(to) = ends(writer, rule, &listeners, "to") {
            let from = writer.addresses.initiators(&rule.from);
            between(writer, rule, &from, &to);
        }
    }
}

/// Rules on what is for the gateway, from hosts that have an address.
pub(super) fn gateway(writer: &mut Writer<'_>) {
    for rule in in_order(writer) {
        if rule.to.segments.contains(&SegmentId::GATEWAY) {
            let from = writer.addresses.initiators(&rule.from);
            between(writer, rule, &from, &[Some(String::new()), Some(String::new())]);
        }
    }
}

/// Rules on what is for the gateway, from hosts without an address: only those that name their whole
/// segment mean them.
pub(super) fn gateway_nameless(writer: &mut Writer<'_>) {
    for rule in in_order(writer) {
        let mut devices = writer.places.of_segments(|id| rule.from.segments.contains(&id));
        if let Some(way) = rule.through {
            let ways = writer.places.on_way(writer.policy, way);
            devices.retain(|device| ways.contains(device));
        }
        if !rule.to.segments.contains(&SegmentId::GATEWAY) || devices.is_empty() {
            continue;
        }
        let from = from_devices(&devices);
        let mut lines = Vec::new();
        for family in Family::BOTH {
            for service in services::matches(writer.policy, rule, family) {
                lines.push(format!("meta nfproto {} {from} {service}", family.protocol()));
            }
        }
        write(writer, rule, lines);
    }
}

/// Rules in force: denies, then what allows; each in the order of the text.
fn in_order<'p>(writer: &Writer<'p>) -> Vec<&'p Rule> {
    let active = || writer.policy.rules.iter().filter(|rule| rule.is_active());
    let denies = active().filter(|rule| rule.kind == RuleKind::Deny);
    denies.chain(active().filter(|rule| rule.kind != RuleKind::Deny)).collect()
}

/// The match on destinations, by family.
fn ends(writer: &mut Writer<'_>, rule: &Rule, listeners: &Ranges, side: &str) -> Option<[Option<String>; 2]> {
    if listeners.is_empty() {
        return None;
    }
    let everything = writer.addresses.others();
    let name = format!("{}-{side}", counter(rule));
    Some(Family::BOTH.map(|family| {
        if family.elements(&everything.difference(listeners)).is_empty() {
            return Some(String::new());
        }
        let set = writer.sets.reference(&name, family, listeners)?;
        Some(format!("{} daddr {set}", family.header()))
    }))
}

/// The lines of a rule between these initiators and the destinations that `to` matches.
fn between(writer: &mut Writer<'_>, rule: &Rule, initiators: &Ranges, to: &[Option<String>; 2]) {
    let ways = rule.through.map(|way| writer.places.on_way(writer.policy, way));
    if ways.as_ref().is_some_and(Vec::is_empty) {
        return;
    }
    let arrives = ways.map(|devices| from_devices(&devices)).unwrap_or_default();
    let everything = writer.addresses.senders();
    let name = format!("{}-from", counter(rule));
    let mut lines = Vec::new();
    for (family, to) in Family::BOTH.into_iter().zip(to) {
        let Some(to) = to else { continue };
        let from = if family.elements(&everything.difference(initiators)).is_empty() {
            String::new()
        } else {
            match writer.sets.reference(&name, family, initiators) {
                Some(set) => format!("{} saddr {set}", family.header()),
                None => continue,
            }
        };
        // `iifname` is of both families.
        let any = if from.is_empty() && to.is_empty() {
            format!("meta nfproto {}", family.protocol())
        } else {
            String::new()
        };
        for service in services::matches(writer.policy, rule, family) {
            let parts = [any.as_str(), &arrives, &from, to, &service];
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            lines.push(parts.join(" "));
        }
    }
    write(writer, rule, lines);
}

fn write(writer: &mut Writer<'_>, rule: &Rule, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let kind = rule.kind.words();
    let place = format!("{}:{}", rule.origin.file, rule.origin.line);
    let purpose = rule.purpose.iter().map(|purpose| format!(": {purpose}"));
    let owner = rule.owner.iter().map(|owner| format!(" ({owner})"));
    let about: String = purpose.chain(owner).collect();
    writer.comment(&format!("{kind} {}, {place}{about}", rule.name));
    let verdict = if rule.kind == RuleKind::Deny { "goto refuse" } else { "accept" };
    let (counter, comment) = (counter(rule), text::quoted(&place));
    for line in lines {
        writer.line(format_args!("{line} counter name \"{counter}\" {verdict} comment {comment}"));
    }
}
