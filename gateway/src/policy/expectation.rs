//! What a policy's tests expect of it: text beside the policy, resolved with the policy's names.

use super::decode::{Decode as _, Decoder, List, OneOrMany, Text, record};
use super::diagnostic::{Diagnostic, Place};
use super::model::{AddressSet, Origin, RuleId};
use super::resolve::{Resolved, Resolver};
use super::selection::{Gateways, Selection};
use super::source::SourceFile;
use super::syntax;

/// What is expected of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Unique name.
    pub name: String,
    /// What it is about.
    pub inquiry: Inquiry,
    /// Every such packet must be allowed; else none may be.
    pub passes: bool,
    /// The rule that must decide all of them.
    pub rule: Option<RuleId>,
    /// Why it is expected.
    pub because: String,
    /// Where it stands.
    pub origin: Origin,
}

/// Packets that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Initiators.
    pub from: AddressSet,
    /// Listeners.
    pub to: AddressSet,
    /// Indices into [`super::model::Policy::services`].
    pub services: Vec<usize>,
}

/// An inquiry in the words of the policy text.
#[derive(Clone, Debug)]
pub struct Words {
    /// Initiators: devices, groups, segments, zones, addresses.
    pub from: Vec<String>,
    /// Listeners, likewise.
    pub to: Vec<String>,
    /// Services, by name or in place such as `tcp/8443`, or `any`.
    pub services: Vec<String>,
}

record! {
    /// Expectations of a policy: a file in its directory `tests`.
    ExpectationsText {
        required {}
        optional {
            /// Gateways that this file is for, by their labels; without it, for all.
            "gateways" gateways: Option<Gateways>,
            /// Every packet of these must be allowed.
            "must-pass" must_pass: List<ExpectationText>,
            /// No packet of these may be allowed.
            "must-not-pass" must_not_pass: List<ExpectationText>,
        }
    }
}

record! {
    /// One expectation.
    ExpectationText {
        required {
            /// Name, unique among expectations.
            "name" name: Text,
            /// Initiators.
            "from" from: OneOrMany<Text>,
            /// Listeners.
            "to" to: OneOrMany<Text>,
            /// Services: names, in place such as `tcp/8443`, or `any`.
            "services" services: OneOrMany<Text>,
            /// Why it is expected.
            "because" because: Text,
        }
        optional {
            /// The rule that must decide: a flow or vendor access, or a deny.
            "rule" rule: Option<Text>,
        }
    }
}

/// Resolves a policy and the files of its tests. There are no expectations where either has a
/// mistake.
pub fn resolve_tests(
    files: Vec<SourceFile>,
    tests: &[SourceFile],
    selection: &Selection,
) -> (Resolved, Vec<Expectation>) {
    let mut resolver = Resolver::of(files, selection);
    let mut found = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for file in tests {
        let Some(text) = read(&mut resolver, file, selection) else { continue };
        let lists = [(text.must_pass, true), (text.must_not_pass, false)];
        for (text, passes) in lists
            .into_iter()
            .flat_map(|(list, passes)| list.items.into_iter().map(move |text| (text, passes)))
        {
            resolver.rule_name(&text.name, &mut seen);
            let inquiry = resolver.inquiry(&text.from, &text.to, &text.services);
            let rule = text.rule.as_ref().and_then(|name| resolver.rule_named(name));
            found.push(Expectation {
                origin: text.name.place.origin(),
                name: text.name.value,
                inquiry,
                passes,
                rule,
                because: text.because.value,
            });
        }
    }
    let resolved = resolver.finish();
    let is_sound = resolved.policy.is_some();
    (resolved, if is_sound { found } else { Vec::new() })
}

/// Resolves a policy and what somebody asks about it. Mistakes in the words are among the policy's, at
/// the place `--from`, `--to` or `--service`.
pub fn resolve_inquiry(files: Vec<SourceFile>, words: &Words, selection: &Selection) -> (Resolved, Inquiry) {
    let mut resolver = Resolver::of(files, selection);
    let list = |option: &str, words: &[String]| {
        let place = Place::of_file(option.into());
        let text = |word: &String| Text { value: word.clone(), place: place.clone() };
        OneOrMany { items: words.iter().map(text).collect(), place: place.clone(), broken: false }
    };
    let inquiry = resolver.inquiry(
        &list("--from", &words.from),
        &list("--to", &words.to),
        &list("--service", &words.services),
    );
    (resolver.finish(), inquiry)
}

fn read(resolver: &mut Resolver, file: &SourceFile, selection: &Selection) -> Option<ExpectationsText> {
    let parsed = syntax::parse(file);
    parsed.diagnostics.into_iter().for_each(|found| resolver.report(found));
    let root = parsed.root.filter(|root| !matches!(root.value, syntax::Value::Null));
    let Some(root) = root else {
        let message = "there are no expectations here";
        resolver.report(
            Diagnostic::error("empty-list", Place::of_file(file.name.clone()), message)
                .expected("expected `must-pass` or `must-not-pass`"),
        );
        return None;
    };
    let mut decoder = Decoder::new(&file.name);
    let text = ExpectationsText::decode(&root, &mut decoder);
    if let Some(gateways) = text.as_ref().and_then(|text| text.gateways.as_ref()) {
        let mut mistakes = Vec::new();
        if !selection.takes(gateways, &file.name, &mut mistakes) {
            return None;
        }
        for found in mistakes {
            resolver.report(found);
        }
    }
    decoder.diagnostics.into_iter().for_each(|found| resolver.report(found));
    text
}
