//! Text types to the resolved model: every name is looked up, every number and address read.

mod devices;
mod endpoints;
mod inquiry;
mod interfaces;
mod limits;
mod rules;
mod segments;
mod services;
mod settings;
mod vendors;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::address::AddressError;
use super::decode::{Decode, Decoder, Text};
use super::diagnostic::{Diagnostic, Place, sort};
use super::model::{Policy, SegmentId, Service};
use super::names;
use super::port::PortError;
use super::selection::Selection;
use super::source::{self, SourceFile};
use super::syntax;
use super::text::PolicyText;

use endpoints::Group;

/// Diagnostics of a policy that are kept.
const DIAGNOSTIC_LIMIT: usize = 1_000;
/// Unknown names for which the nearest known one is sought: it takes a comparison with each.
const SUGGESTION_LIMIT: usize = 200;

/// What came of resolving a policy.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The policy, where its text has no mistake.
    pub policy: Option<Policy>,
    /// Mistakes and doubts, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
    /// Names of the files that count on this gateway, sorted.
    pub files: Vec<Arc<str>>,
}

/// Resolves the text of a policy, on a gateway without labels. The same files give the same result, in
/// whatever order they come.
pub fn resolve(files: Vec<SourceFile>) -> Resolved {
    resolve_for(files, &Selection::default())
}

/// As [`resolve`], on another gateway.
pub fn resolve_for(files: Vec<SourceFile>, selection: &Selection) -> Resolved {
    Resolver::of(files, selection).finish()
}

/// The policy as far as it is resolved, and what was found on the way.
#[derive(Default)]
pub(super) struct Resolver {
    policy: Policy,
    /// Files that count.
    files: Vec<Arc<str>>,
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    /// Words of text that could not be read: names that may well be defined there.
    lost: HashSet<String>,
    suggestions: usize,
    /// Devices, groups and segments: one name, one meaning.
    names: HashMap<String, (Named, Place)>,
    /// There are more segments than there can be, which has been noted.
    segments_full: bool,
    /// Segments by VLAN identifier.
    vlans: BTreeMap<u16, SegmentId>,
    groups: Vec<Group>,
    /// Index into [`Policy::services`], by name or text.
    service_index: HashMap<String, usize>,
    /// Built-in services that the text does not replace.
    catalogue: Vec<Service>,
    /// Services that rules name so far, by and by.
    named_services: usize,
    /// Names of services whose definitions have mistakes that have been noted.
    broken_services: HashSet<String>,
    /// Address ranges that rules hold so far.
    ranges: usize,
}

/// What came of reading a file.
enum Read {
    Text(Box<PolicyText>),
    /// It is empty, or its mistakes have been noted.
    Nothing,
    /// It is for gateways with other labels: neither its rules nor its mistakes count here.
    ForOthers,
}

/// What a name means.
#[derive(Clone, Copy, Debug)]
enum Named {
    Segment(SegmentId),
    Device(usize),
    Group(usize),
    /// Something whose definition has a mistake that has been noted.
    Broken,
}

impl Resolver {
    /// Resolves all texts; names can be looked up until it is [`Self::finish`]ed.
    pub(super) fn of(mut files: Vec<SourceFile>, selection: &Selection) -> Self {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let mut resolver = Self::default();
        let mut texts: Vec<PolicyText> = Vec::with_capacity(files.len());
        files.retain(|file| match resolver.read(file, selection) {
            Read::Text(text) => {
                texts.push(*text);
                true
            }
            Read::Nothing => true,
            Read::ForOthers => false,
        });
        resolver.policy.hash = source::hash(&files);
        resolver.files = files.into_iter().map(|file| file.name).collect();
        resolver.segments(&texts);
        resolver.interfaces(&texts);
        resolver.devices(&texts);
        resolver.groups(&texts);
        resolver.services(&texts);
        resolver.rules(&texts);
        resolver.invariants(&texts);
        resolver.settings(&texts);
        resolver
    }

    fn read(&mut self, file: &SourceFile, selection: &Selection) -> Read {
        let syntax::Parsed { root, mut diagnostics, lost } = syntax::parse(file);
        let mut text = None;
        if let Some(root) = root.filter(|root| !matches!(root.value, syntax::Value::Null)) {
            let mut decoder = Decoder::new(&file.name);
            text = PolicyText::decode(&root, &mut decoder);
            if let Some(gateways) = text.as_ref().and_then(|text| text.gateways.as_ref()) {
                let mut mistakes = Vec::new();
                if !selection.takes(gateways, &file.name, &mut mistakes) {
                    return Read::ForOthers;
                }
                diagnostics.extend(mistakes);
            }
            self.errors += decoder.noted - decoder.diagnostics.len();
            diagnostics.extend(decoder.diagnostics);
        }
        self.lost.extend(lost);
        for diagnostic in diagnostics {
            self.report(diagnostic);
        }
        text.map_or(Read::Nothing, |text| Read::Text(Box::new(text)))
    }

    /// Notes a mistake or a doubt.
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.errors += usize::from(diagnostic.is_error());
        if self.diagnostics.len() < DIAGNOSTIC_LIMIT {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Enters a name into the common namespace of segments, devices and groups.
    fn declare(&mut self, name: &Text, named: Named) -> bool {
        if let Some(diagnostic) = names::check(name) {
            self.report(diagnostic);
            return false;
        }
        if names::RESERVED.contains(&name.as_str()) {
            let message = format!("`{}` is a name that every policy has", name.as_str());
            let diagnostic = Diagnostic::error("reserved-name", name.place.clone(), message);
            self.report(diagnostic.expected("expected another name"));
            return false;
        }
        if let Some((_, first)) = self.names.get(name.as_str()) {
            let first = first.clone();
            self.duplicate(name, first);
            return false;
        }
        self.names.insert(name.value.clone(), (named, name.place.clone()));
        true
    }

    fn duplicate(&mut self, name: &Text, first: Place) {
        let message = format!("the name `{}` is defined twice", name.as_str());
        let diagnostic = Diagnostic::error("duplicate-name", name.place.clone(), message)
            .expected("expected one meaning for one name")
            .related(first, "first defined here");
        self.report(diagnostic);
    }

    /// Notes a name that nothing has, with the nearest of `known`.
    fn unknown<'a>(
        &mut self,
        code: &'static str,
        name: &Text,
        expected: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        if name.is_empty() || self.lost.contains(name.as_str()) {
            return;
        }
        let shown: String = name.as_str().chars().take(80).collect();
        let mut diagnostic =
            Diagnostic::error(code, name.place.clone(), format!("nothing is named `{shown}`"))
                .expected(format!("expected {expected}"));
        if self.suggestions < SUGGESTION_LIMIT {
            self.suggestions += 1;
            if let Some(near) = names::nearest(name.as_str(), known) {
                diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
            }
        }
        self.report(diagnostic);
    }

    fn bad_address(&mut self, text: &Text, error: AddressError) {
        let mut diagnostic =
            Diagnostic::error(error.code, text.place.clone(), error.message).expected(error.expected);
        diagnostic.help = error.help;
        self.report(diagnostic);
    }

    fn bad_port(&mut self, text: &Text, error: PortError) {
        let mut diagnostic =
            Diagnostic::error("bad-service", text.place.clone(), error.message).expected(error.expected);
        diagnostic.help = error.help;
        self.report(diagnostic);
    }

    pub(super) fn finish(mut self) -> Resolved {
        let unseen = self.errors.saturating_sub(self.diagnostics.iter().filter(|d| d.is_error()).count());
        if unseen > 0 {
            let message = format!("{unseen} more mistakes are not shown");
            self.diagnostics.push(Diagnostic::error("limit", Place::default(), message));
        }
        sort(&mut self.diagnostics);
        let policy = (self.errors == 0).then_some(self.policy);
        Resolved { policy, diagnostics: self.diagnostics, files: self.files }
    }
}

#[cfg(test)]
mod tests;
