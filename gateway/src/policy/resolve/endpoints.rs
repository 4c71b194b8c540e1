//! Endpoints: what `from` and `to` name, and groups of it.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::rc::Rc;

use super::limits::{GROUP_DEPTH_LIMIT, RANGE_LIMIT};
use super::{Named, Resolver};
use crate::policy::address::{self, Span};
use crate::policy::decode::{OneOrMany, Text};
use crate::policy::diagnostic::{Diagnostic, Place};
use crate::policy::model::{AddressSet, SegmentId};
use crate::policy::names::RESERVED;
use crate::policy::text::PolicyText;

/// A named set of endpoints.
#[derive(Debug)]
pub(super) struct Group {
    name: String,
    place: Place,
    members: OneOrMany<Text>,
    set: Progress,
}

/// How far a group is resolved.
#[derive(Debug)]
enum Progress {
    Open,
    Busy,
    Done(Rc<AddressSet>),
}

/// On which side of a rule an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    From,
    To,
    /// In a group: either.
    Either,
}

/// A set that grows.
#[derive(Default)]
struct Members {
    segments: BTreeSet<SegmentId>,
    spans: Vec<Span>,
}

impl Resolver {
    /// Resolves `groups`.
    pub(super) fn groups(&mut self, texts: &[PolicyText]) {
        for (name, members) in texts.iter().flat_map(|text| &text.groups.items) {
            let index = self.groups.len();
            let named = if members.is_some() { Named::Group(index) } else { Named::Broken };
            if self.declare(name, named)
                && let Some(members) = members
            {
                self.groups.push(Group {
                    name: name.value.clone(),
                    place: name.place.clone(),
                    members: members.clone(),
                    set: Progress::Open,
                });
            }
        }
        for index in 0..self.groups.len() {
            self.group(index, &mut Vec::new());
        }
    }

    /// The set of a group; `path` holds the groups that it is resolved for.
    fn group(&mut self, index: usize, path: &mut Vec<usize>) -> Rc<AddressSet> {
        match &self.groups[index].set {
            Progress::Done(set) => return Rc::clone(set),
            Progress::Busy => return Rc::default(),
            Progress::Open => {}
        }
        self.groups[index].set = Progress::Busy;
        path.push(index);
        let list = mem::take(&mut self.groups[index].members);
        let mut members = Members::default();
        if list.items.is_empty() && !list.broken {
            let place = self.groups[index].place.clone();
            let message = format!("group `{}` is empty", self.groups[index].name);
            self.report(
                Diagnostic::error("empty-list", place, message).expected("expected at least one member"),
            );
        }
        for text in &list.items {
            self.endpoint(text, Side::Either, path, &mut members);
        }
        path.pop();
        let set = Rc::new(self.set(members));
        self.groups[index].set = Progress::Done(Rc::clone(&set));
        set
    }

    /// Resolves `from` or `to` of a rule.
    pub(super) fn endpoints(&mut self, key: &str, list: &OneOrMany<Text>, side: Side) -> AddressSet {
        if list.items.is_empty() && !list.broken && list.place.line != 0 {
            let message = format!("`{key}` is empty");
            let diagnostic = Diagnostic::error("empty-list", list.place.clone(), message);
            self.report(diagnostic.expected("expected a device, group, segment, zone or address"));
        }
        let mut members = Members::default();
        for text in &list.items {
            self.endpoint(text, side, &mut Vec::new(), &mut members);
        }
        self.set(members)
    }

    /// All segments of the policy and the world.
    pub(super) fn everywhere(&self) -> BTreeSet<SegmentId> {
        let named = (4..self.policy.segments.len()).filter_map(|index| u16::try_from(index).ok());
        named.map(SegmentId).chain([SegmentId::WAN]).collect()
    }

    fn set(&mut self, members: Members) -> AddressSet {
        let ranges = address::merge(members.spans);
        self.ranges = self.ranges.saturating_add(ranges.v4.len() + 4 * ranges.v6.len());
        AddressSet { segments: members.segments, ranges }
    }

    fn endpoint(&mut self, text: &Text, side: Side, path: &mut Vec<usize>, members: &mut Members) {
        if self.ranges.saturating_add(members.spans.len()) > RANGE_LIMIT {
            let message =
                format!("the rules of a policy hold at most {RANGE_LIMIT} ranges of addresses together");
            let diagnostic = Diagnostic::error("limit", text.place.clone(), message);
            // Said once; what follows would only be more of it.
            if self.ranges < usize::MAX {
                self.ranges = usize::MAX;
                self.report(diagnostic.help("name segments, zones and prefixes instead of single hosts"));
            }
            return;
        }
        match text.as_str() {
            "" => {}
            "any" => members.segments.extend(self.everywhere()),
            "wan" => {
                members.segments.insert(SegmentId::WAN);
            }
            "gateway" => {
                members.segments.insert(SegmentId::GATEWAY);
            }
            "multicast" if side == Side::To => {
                members.segments.insert(SegmentId::MULTICAST);
            }
            word @ ("multicast" | "unknown") => {
                let diagnostic = Diagnostic::error(
                    "bad-endpoint",
                    text.place.clone(),
                    format!("`{word}` cannot stand here"),
                );
                self.report(diagnostic.expected(match word {
                    "multicast" => "groups are listeners: `multicast` stands in `to` alone",
                    _ => "no rule applies to what is unknown",
                }));
            }
            word => match word.strip_prefix("zone/") {
                Some(zone) => self.zone(text, zone, members),
                None if address::looks_like_address(word) => match address::parse(word) {
                    Ok(span) => members.spans.push(span),
                    Err(error) => self.bad_address(text, error),
                },
                None => self.named(text, path, members),
            },
        }
    }

    fn zone(&mut self, text: &Text, zone: &str, members: &mut Members) {
        let mut found = false;
        for (segment, number) in self.policy.segments.iter().zip(0..) {
            if segment.zone.as_deref() == Some(zone) {
                found = true;
                members.segments.insert(SegmentId(number));
            }
        }
        if found {
            return;
        }
        let zones: BTreeSet<String> = self
            .policy
            .segments
            .iter()
            .filter_map(|s| Some(format!("zone/{}", s.zone.as_deref()?)))
            .collect();
        if !self.lost.contains(zone) {
            self.unknown("unknown-zone", text, "the zone of a segment", zones.iter().map(String::as_str));
        }
    }

    fn named(&mut self, text: &Text, path: &mut Vec<usize>, members: &mut Members) {
        match self.names.get(text.as_str()) {
            Some((Named::Segment(id), _)) => {
                members.segments.insert(*id);
            }
            Some((Named::Device(index), _)) => {
                let addresses = &self.policy.devices[*index].addresses;
                members.spans.extend(addresses.iter().map(|address| Span::host(*address)));
            }
            Some((Named::Group(index), _)) => self.member_group(*index, text, path, members),
            Some((Named::Broken, _)) => {}
            None => {
                let names = mem::take(&mut self.names);
                let known = names.keys().map(String::as_str).chain(RESERVED);
                self.unknown("unknown-name", text, "a device, group, segment, zone or address", known);
                self.names = names;
            }
        }
    }

    fn member_group(&mut self, index: usize, text: &Text, path: &mut Vec<usize>, members: &mut Members) {
        if let Some(start) = path.iter().position(|busy| *busy == index) {
            let names = path[start..].iter().chain([&index]).map(|index| self.groups[*index].name.clone());
            let circle = names.collect::<Vec<_>>().join(" -> ");
            let diagnostic = Diagnostic::error(
                "group-cycle",
                text.place.clone(),
                format!("group `{}` contains itself: {circle}", text.as_str()),
            )
            .expected("expected a group that does not lead back here")
            .related(self.groups[index].place.clone(), "the group");
            self.report(diagnostic);
            return;
        }
        if path.len() >= GROUP_DEPTH_LIMIT {
            let message = format!("groups are nested more than {GROUP_DEPTH_LIMIT} deep here");
            self.report(Diagnostic::error("limit", text.place.clone(), message));
            return;
        }
        let set = self.group(index, path);
        members.segments.extend(&set.segments);
        members.spans.extend(set.ranges.v4.iter().map(|range| Span::V4(range.0, range.1)));
        members.spans.extend(set.ranges.v6.iter().map(|range| Span::V6(range.0, range.1)));
    }
}

/// Notes names that stand twice, by the place of the first.
pub(in crate::policy) type Seen = HashMap<String, Place>;
