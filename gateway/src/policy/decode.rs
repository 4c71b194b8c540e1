//! Tree of YAML to the policy's text types. Every mistake is noted and decoding goes on, so that
//! a record with a mistake in one key still has the others.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::diagnostic::{Diagnostic, Place};
use super::names::nearest;
use super::syntax::{At, Node, Value};

/// Mistakes of one file that are kept; more help nobody.
pub(super) const DIAGNOSTIC_LIMIT: usize = 500;

/// Collects what is wrong with one file.
pub(super) struct Decoder {
    file: Arc<str>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// How many were noted, those beyond the limit included.
    pub(super) noted: usize,
}

/// Something that YAML can be decoded to.
pub(super) trait Decode: Sized + Default {
    /// `None` where the node is something else altogether, which has then been noted.
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self>;
}

impl Decoder {
    pub(super) fn new(file: &Arc<str>) -> Self {
        Self { file: Arc::clone(file), diagnostics: Vec::new(), noted: 0 }
    }

    pub(super) fn place(&self, at: At) -> Place {
        Place { file: Arc::clone(&self.file), line: at.line, column: at.column, length: at.length }
    }

    /// Notes a mistake; words are only made for those that are kept.
    pub(super) fn report(&mut self, diagnostic: impl FnOnce(&Self) -> Diagnostic) {
        self.noted += 1;
        if self.diagnostics.len() < DIAGNOSTIC_LIMIT {
            let diagnostic = diagnostic(self);
            self.diagnostics.push(diagnostic);
        }
    }

    /// Notes that something else was expected.
    pub(super) fn mismatch(&mut self, node: &Node, expected: &str) {
        self.report(|decoder| {
            let message = format!("expected {expected}, found {}", describe(&node.value));
            let diagnostic = Diagnostic::error("type", decoder.place(node.at), message);
            let diagnostic = diagnostic.expected(format!("expected {expected}"));
            match &node.value {
                Value::Bool(text) if expected.contains("text") => {
                    diagnostic.help(format!("if text is meant, put it in quotes: \"{text}\""))
                }
                Value::Null => diagnostic.help("give the key a value, or take it out"),
                _ => diagnostic,
            }
        });
    }

    /// Notes that one of a few words was expected.
    pub(super) fn not_a_word(&mut self, node: &Node, words: &[&str]) {
        self.report(|decoder| {
            let message = format!("found {} where only a few words can stand", describe(&node.value));
            let diagnostic = Diagnostic::error("type", decoder.place(node.at), message)
                .expected(format!("expected one of: {}", words.join(", ")));
            match node.text().and_then(|text| nearest(text, words.iter().copied())) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic,
            }
        });
    }

    /// The entries of a mapping whose keys are words and stand once; others are noted and left out.
    pub(super) fn entries<'a>(&mut self, entries: &'a [(Node, Node)]) -> Vec<(&'a str, &'a Node, &'a Node)> {
        let mut seen: BTreeMap<&str, At> = BTreeMap::new();
        let mut found = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let Some(text) = key.text() else {
                self.mismatch(key, "a name");
                continue;
            };
            if text == "<<" {
                self.report(|decoder| {
                    Diagnostic::error("merge-key", decoder.place(key.at), "merge keys (`<<`) are not read")
                        .help("write the entries out, or use an alias for a whole value")
                });
            } else if let Some(first) = seen.get(text).copied() {
                self.report(|decoder| {
                    Diagnostic::error(
                        "duplicate-key",
                        decoder.place(key.at),
                        format!("`{text}` stands here twice"),
                    )
                    .expected("a key may stand once")
                    .related(decoder.place(first), "it stands here first")
                });
            } else {
                seen.insert(text, key.at);
                found.push((text, key, value));
            }
        }
        found
    }

    /// Notes a key that a record does not have.
    pub(super) fn unknown_key(&mut self, key: &Node, text: &str, known: &[&str]) {
        self.report(|decoder| {
            let shown: String = text.chars().take(40).collect();
            let message = format!("there is no key `{shown}` here");
            let diagnostic = Diagnostic::error("unknown-key", decoder.place(key.at), message)
                .expected(format!("expected one of: {}", known.join(", ")));
            match nearest(text, known.iter().copied()) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic,
            }
        });
    }

    /// Notes a key that a record needs and does not have.
    pub(super) fn missing_key(&mut self, node: &Node, key: &str) {
        self.report(|decoder| {
            Diagnostic::error("missing-key", decoder.place(node.at), format!("`{key}` is missing"))
                .expected(format!("this needs the key `{key}`"))
        });
    }
}

impl Node {
    /// Text of a scalar, whatever YAML takes it for.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Bool(text) | Value::Number(text) | Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
}

fn describe(value: &Value) -> String {
    let shorten = |text: &str| text.chars().take(40).collect::<String>();
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(text) => format!("the boolean `{}`", shorten(text)),
        Value::Number(text) => format!("the number `{}`", shorten(text)),
        Value::Text(text) => format!("the text \"{}\"", shorten(text)),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

/// Text and its place. Numbers keep their spelling: what they mean depends on the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) place: Place,
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        &self.value
    }

    /// Whether decoding left it out (a mistake that has been noted).
    pub(super) fn is_empty(&self) -> bool {
        self.value.is_empty()
    }
}

impl Decode for Text {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            Value::Number(text) => Some(text),
            Value::Text(text) if !text.trim().is_empty() => Some(text),
            _ => {
                decoder.mismatch(node, "some text");
                None
            }
        }
        .map(|text| Self { value: text.clone(), place: decoder.place(node.at) })
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        T::decode(node, decoder).map(Some)
    }
}

impl Decode for bool {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            Value::Bool(text) => return Some(text.eq_ignore_ascii_case("true")),
            Value::Text(text) => {
                let meant = match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => Some("true"),
                    "no" | "off" | "n" | "false" => Some("false"),
                    _ => None,
                };
                if let Some(meant) = meant {
                    decoder.report(|decoder| {
                        let message = format!("`{text}` is text, not a boolean");
                        Diagnostic::error("boolean", decoder.place(node.at), message)
                            .expected("expected `true` or `false`")
                            .help(format!("write `{meant}`"))
                    });
                    return None;
                }
            }
            _ => {}
        }
        decoder.mismatch(node, "`true` or `false`");
        None
    }
}

/// A list; one element may stand without brackets where `ONE` is set.
#[derive(Clone, Debug)]
pub(super) struct List<T, const ONE: bool = false> {
    pub(super) items: Vec<T>,
    pub(super) place: Place,
    /// Elements were left out because of mistakes that have been noted.
    pub(super) broken: bool,
}

/// A list of which a single element may stand by itself.
pub(super) type OneOrMany<T> = List<T, true>;

impl<T, const ONE: bool> Default for List<T, ONE> {
    fn default() -> Self {
        Self { items: Vec::new(), place: Place::default(), broken: false }
    }
}

impl<T: Decode, const ONE: bool> Decode for List<T, ONE> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let nodes = match &node.value {
            Value::List(nodes) => nodes.as_slice(),
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) if ONE => {
                std::slice::from_ref(node)
            }
            _ => {
                decoder.mismatch(node, "a list");
                return None;
            }
        };
        let items: Vec<T> = nodes.iter().filter_map(|node| T::decode(node, decoder)).collect();
        let broken = items.len() < nodes.len();
        Some(Self { items, place: decoder.place(node.at), broken })
    }
}

/// A mapping from names to values, in the order of the text.
#[derive(Clone, Debug)]
pub(super) struct Entries<T> {
    /// The value is `None` where it has a mistake that has been noted; the name still counts.
    pub(super) items: Vec<(Text, Option<T>)>,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

impl<T: Decode> Decode for Entries<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            decoder.mismatch(node, "a mapping of names");
            return None;
        };
        let mut items = Vec::with_capacity(entries.len());
        for (name, key, value) in decoder.entries(entries) {
            let name = Text { value: name.to_owned(), place: decoder.place(key.at) };
            items.push((name, T::decode(value, decoder)));
        }
        Some(Self { items })
    }
}

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["string", "number"] })
    }
}

impl<T: JsonSchema, const ONE: bool> JsonSchema for List<T, ONE> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}List", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        let list = schemars::json_schema!({ "type": "array", "items": item });
        if ONE { schemars::json_schema!({ "anyOf": [list, item] }) } else { list }
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}Entries", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": value })
    }
}

/// Defines a record of the policy's text: its type, its JSON Schema and how it is decoded, from
/// one list of keys. A required key that is missing is noted; every field then has its default.
macro_rules! record {
    (
        $(#[$attribute:meta])*
        $name:ident {
            required { $($(#[doc = $needed_doc:literal])+ $needed_key:literal $needed:ident: $needed_type:ty,)* }
            optional { $($(#[doc = $doc:literal])+ $key:literal $field:ident: $type:ty,)* }
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub(super) struct $name {
            $($(#[doc = $needed_doc])+ #[schemars(rename = $needed_key)] pub(super) $needed: $needed_type,)*
            $($(#[doc = $doc])+ #[schemars(rename = $key, default)] pub(super) $field: $type,)*
            /// Where it stands.
            #[schemars(skip)]
            #[allow(dead_code, reason = "not every record is reported as a whole")]
            pub(super) place: $crate::policy::diagnostic::Place,
            /// A key of it has a mistake that has been noted.
            #[schemars(skip)]
            #[allow(dead_code, reason = "likewise")]
            pub(super) broken: bool,
        }

        impl $crate::policy::decode::Decode for $name {
            fn decode(
                node: &$crate::policy::syntax::Node,
                decoder: &mut $crate::policy::decode::Decoder,
            ) -> Option<Self> {
                const NEEDED: &[&str] = &[$($needed_key,)*];
                const KEYS: &[&str] = &[$($needed_key,)* $($key,)*];
                let $crate::policy::syntax::Value::Map(entries) = &node.value else {
                    decoder.mismatch(node, &format!("a mapping with keys of: {}", KEYS.join(", ")));
                    return None;
                };
                let noted = decoder.noted;
                let mut record = Self { place: decoder.place(node.at), ..Self::default() };
                for (text, key, value) in decoder.entries(entries) {
                    match text {
                        $($needed_key => {
                            record.$needed = $crate::policy::decode::Decode::decode(value, decoder).unwrap_or_default();
                        })*
                        $($key => {
                            record.$field = $crate::policy::decode::Decode::decode(value, decoder).unwrap_or_default();
                        })*
                        unknown => decoder.unknown_key(key, unknown, KEYS),
                    }
                }
                for needed in NEEDED {
                    if !entries.iter().any(|(key, _)| key.text() == Some(needed)) {
                        decoder.missing_key(node, needed);
                    }
                }
                record.broken = decoder.noted > noted;
                Some(record)
            }
        }
    };
}
pub(super) use record;

#[cfg(test)]
mod tests;
