//! Rules: flows and denies; and invariants, which are written like them.

use super::Resolver;
use super::endpoints::{Seen, Side};
use crate::policy::decode::{OneOrMany, Text};
use crate::policy::diagnostic::Diagnostic;
use crate::policy::model::{AddressSet, Invariant, Ranges, Rule, RuleKind, SegmentId};
use crate::policy::names;
use crate::policy::text::{DenyText, FlowText, InvariantText, PolicyText};

impl Resolver {
    /// Resolves `flows`, `deny` and `vendors`.
    pub(super) fn rules(&mut self, texts: &[PolicyText]) {
        let mut seen = Seen::new();
        for text in texts {
            for flow in &text.flows.items {
                self.rule_name(&flow.name, &mut seen);
                self.flow(flow);
            }
            for deny in &text.deny.items {
                self.rule_name(&deny.name, &mut seen);
                self.deny(deny);
            }
        }
        for kept in texts.iter().flat_map(|text| &text.quarantine.items) {
            self.rule_name(&kept.name, &mut seen);
            let rule = self.flow_of(kept, RuleKind::Kept);
            self.policy.kept.push(rule);
        }
        self.policy.kept.sort_by(|a, b| a.origin.cmp(&b.origin));
        self.vendors(texts, &mut seen);
        // The order of the text, which decides whose name a packet bears.
        self.policy.rules.sort_by(|a, b| a.origin.cmp(&b.origin));
    }

    /// Enters a rule's name, which must be its own.
    pub(in crate::policy) fn rule_name(&mut self, name: &Text, seen: &mut Seen) {
        if name.is_empty() {
            return;
        }
        if let Some(diagnostic) = names::check(name) {
            self.report(diagnostic);
        } else if let Some(first) = seen.get(name.as_str()) {
            let first = first.clone();
            self.duplicate(name, first);
        } else {
            seen.insert(name.value.clone(), name.place.clone());
        }
    }

    fn flow(&mut self, text: &FlowText) {
        let rule = self.flow_of(text, RuleKind::Flow);
        self.policy.rules.push(rule);
    }

    fn flow_of(&mut self, text: &FlowText, kind: RuleKind) -> Rule {
        Rule {
            name: text.name.value.clone(),
            kind,
            from: self.endpoints("from", &text.from, Side::From),
            to: self.endpoints("to", &text.to, Side::To),
            services: self.rule_services(&text.services),
            purpose: value(text.purpose.as_ref()),
            owner: value(text.owner.as_ref()),
            review: self.review(text.review.as_ref()),
            unenforced: false,
            condition: None,
            through: None,
            limits: None,
            origin: if text.name.is_empty() { text.place.origin() } else { text.name.place.origin() },
        }
    }

    fn deny(&mut self, text: &DenyText) {
        if text.from.is_none() && text.to.is_none() && !text.broken {
            let diagnostic =
                Diagnostic::error("missing-key", text.place.clone(), "this deny names neither end");
            self.report(diagnostic.expected("expected `from`, `to` or both"));
        }
        let rule = Rule {
            name: text.name.value.clone(),
            kind: RuleKind::Deny,
            from: self.deny_side("from", text.from.as_ref(), Side::From),
            to: self.deny_side("to", text.to.as_ref(), Side::To),
            services: self.rule_services(&text.services),
            purpose: value(text.purpose.as_ref()),
            owner: value(text.owner.as_ref()),
            review: self.review(text.review.as_ref()),
            unenforced: false,
            condition: None,
            through: None,
            limits: None,
            origin: if text.name.is_empty() { text.place.origin() } else { text.name.place.origin() },
        };
        self.policy.rules.push(rule);
    }

    /// One end of a deny; left out it is everything that a packet can come from or go to.
    fn deny_side(&mut self, key: &str, list: Option<&OneOrMany<Text>>, side: Side) -> AddressSet {
        if let Some(list) = list {
            return self.endpoints(key, list, side);
        }
        let mut segments = self.everywhere();
        if side == Side::To {
            segments.extend([SegmentId::GATEWAY, SegmentId::MULTICAST]);
        }
        AddressSet { segments, ranges: Ranges::default() }
    }

    /// Resolves `invariants`.
    pub(super) fn invariants(&mut self, texts: &[PolicyText]) {
        let mut seen = Seen::new();
        for text in texts.iter().flat_map(|text| &text.invariants.items) {
            self.rule_name(&text.name, &mut seen);
            let invariant = Invariant {
                name: text.name.value.clone(),
                from: self.endpoints("from", &text.from, Side::From),
                to: self.endpoints("to", &text.to, Side::To),
                never: self.never(text),
                origin: if text.name.is_empty() { text.place.origin() } else { text.name.place.origin() },
            };
            self.policy.invariants.push(invariant);
        }
    }

    fn never(&mut self, text: &InvariantText) -> Option<Vec<usize>> {
        if text.never.items.iter().any(|service| service.as_str() == "any") {
            return None;
        }
        Some(self.rule_services(&text.never))
    }

    /// Checks a date by which a rule is to be looked at again.
    pub(super) fn review(&mut self, text: Option<&Text>) -> Option<String> {
        let text = text?;
        let dashed =
            text.as_str().len() == 10 && text.as_str().bytes().filter(|byte| *byte == b'-').count() == 2;
        if !dashed || text.as_str().parse::<jiff::civil::Date>().is_err() {
            let shown: String = text.as_str().chars().take(40).collect();
            let diagnostic =
                Diagnostic::error("bad-date", text.place.clone(), format!("`{shown}` is not a day"));
            self.report(diagnostic.expected("expected a date such as 2026-03-31"));
        }
        Some(text.value.clone())
    }
}

/// A text's value, where there is one.
pub(super) fn value(text: Option<&Text>) -> Option<String> {
    text.map(|text| text.value.clone())
}
