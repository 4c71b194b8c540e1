//! YAML to a tree in which every node knows its place.
//!
//! The tree stands between YAML and the policy's own types so that one mistake does not hide the
//! next: a deserializer stops at the first. Input is untrusted; [`budget`] bounds what it costs.

mod recover;

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, MessageFormatter as _, Spanned};

use super::diagnostic::{Diagnostic, Place};
use super::source::SourceFile;

pub(super) use recover::parse;

/// Nested lists and mappings; the policy's own shape needs eight.
pub(super) const DEPTH_LIMIT: usize = 24;
/// Lists, mappings and scalars of one file: eight bytes each when a file has its full size.
const NODE_LIMIT: usize = 1_000_000;
/// What aliases may add to it.
const REPLAY_LIMIT: usize = 100_000;
/// Anchors of one file, and aliases likewise.
const ANCHOR_LIMIT: usize = 10_000;

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: Value,
}

/// Line and column from 1, length in characters; length 0 where the node is a collection.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) length: u32,
}

/// A value of YAML. Scalars keep their text: what it means depends on who asks.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    /// Text that YAML takes for `true` or `false`.
    Bool(String),
    /// Text that YAML takes for a number.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// What came of reading one file.
pub(super) struct Parsed {
    /// `None` where nothing could be read.
    pub(super) root: Option<Node>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Words of the text that could not be read: a name among them may well be defined there.
    pub(super) lost: Vec<String>,
}

/// Reads one fragment of a file, which begins after `lines` lines of it.
fn parse_fragment(file: &SourceFile, fragment: &str, lines: u32) -> Result<Node, Box<SyntaxError>> {
    let raw: Spanned<Raw> = serde_yaml::from_str_with_options(fragment, options())
        .map_err(|error| Box::new(SyntaxError::new(&error, &file.name, lines)))?;
    Ok(Fragment { text: fragment, lines }.node(raw))
}

fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        budget: budget(),
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: REPLAY_LIMIT,
            max_replay_stack_depth: DEPTH_LIMIT,
        },
        // Reported by the decoder, with both places.
        duplicate_keys: serde_yaml::DuplicateKeyPolicy::PassThrough,
        merge_keys: serde_yaml::MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        non_finite_float_policy: serde_yaml::NonFiniteFloatPolicy::AsString,
    }
}

fn budget() -> Option<serde_yaml::budget::Budget> {
    serde_yaml::budget! {
        max_depth: DEPTH_LIMIT,
        flow_nesting_limit: DEPTH_LIMIT,
        max_documents: 1,
        max_nodes: NODE_LIMIT,
        max_events: 2 * NODE_LIMIT,
        max_aliases: ANCHOR_LIMIT,
        max_anchors: ANCHOR_LIMIT,
        max_recorded_anchor_events: REPLAY_LIMIT,
        max_recorded_anchor_bytes: 8 << 20,
        // One anchor may well be used often; what that costs is bounded above.
        enforce_alias_anchor_ratio: false,
    }
}

/// Why a fragment cannot be read.
struct SyntaxError {
    diagnostic: Diagnostic,
    /// A limit was reached: to go on would only reach it again.
    fatal: bool,
}

impl SyntaxError {
    fn new(error: &serde_yaml::Error, file: &Arc<str>, lines: u32) -> Self {
        let location = error.location();
        let place = location.map_or_else(
            || Place::of_file(Arc::clone(file)),
            |location| Place {
                file: Arc::clone(file),
                line: narrow(location.line()).saturating_add(lines),
                column: narrow(location.column()),
                length: 1,
            },
        );
        let limit = limit(error);
        let diagnostic = match &limit {
            Some((limit, help)) => Diagnostic::error("limit", place, limit.as_str()).help(*help),
            None => Diagnostic::error("syntax", place, format!("this is not YAML: {}", words(error))),
        };
        Self { diagnostic, fatal: limit.is_some() }
    }
}

/// Which limit was reached, if one was, and what to do about it.
fn limit(error: &serde_yaml::Error) -> Option<(String, &'static str)> {
    use serde_yaml::Error;
    use serde_yaml::budget::BudgetBreach;

    let deep =
        || Some((format!("this is nested more than {DEPTH_LIMIT} deep"), "a policy needs eight levels"));
    let aliases = || {
        let message = format!("aliases repeat more than {REPLAY_LIMIT} values");
        Some((message, "name a group instead of repeating its members"))
    };
    match error {
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => limit(error),
        Error::AliasReplayStackDepthExceeded { .. }
        | Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => deep(),
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => aliases(),
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Documents { .. } => {
                Some(("a file holds one document".to_owned(), "put each document into a file of its own"))
            }
            BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => {
                let message = format!("a file has at most {ANCHOR_LIMIT} anchors, and as many aliases");
                Some((message, "name a group instead of repeating its members"))
            }
            BudgetBreach::RecordedAnchorEvents { .. } | BudgetBreach::RecordedAnchorBytes { .. } => aliases(),
            _ => {
                let message = format!("a file of a policy holds at most {NODE_LIMIT} values");
                Some((message, "split it into several files"))
            }
        },
        // The scanner has a limit of its own for brackets, and no kind of error for it.
        Error::Message { msg, .. } | Error::ExternalMessage { msg, .. }
            if msg.contains("recursion limit") =>
        {
            deep()
        }
        _ => None,
    }
}

fn words(error: &serde_yaml::Error) -> String {
    let text = serde_yaml::UserMessageFormatter.format_message(error.without_snippet());
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What serde hands over; numbers and booleans are read again from the text.
enum Raw {
    Null,
    Bool,
    Number,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

struct Fragment<'a> {
    text: &'a str,
    lines: u32,
}

impl Fragment<'_> {
    fn node(&self, raw: Spanned<Raw>) -> Node {
        let location = raw.defined;
        let at = At {
            line: narrow(location.line()).saturating_add(self.lines),
            column: narrow(location.column()),
            length: self.length(&raw.value, location),
        };
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Bool => Value::Bool(self.text(location)),
            Raw::Number => Value::Number(self.text(location)),
            Raw::Text(text) => Value::Text(text),
            Raw::List(items) => Value::List(items.into_iter().map(|item| self.node(item)).collect()),
            Raw::Map(entries) => Value::Map(
                entries.into_iter().map(|(key, value)| (self.node(key), self.node(value))).collect(),
            ),
        };
        Node { at, value }
    }

    fn text(&self, location: Location) -> String {
        self.slice(location).trim().to_owned()
    }

    fn length(&self, raw: &Raw, location: Location) -> u32 {
        match raw {
            Raw::List(_) | Raw::Map(_) | Raw::Null => 0,
            Raw::Bool | Raw::Number | Raw::Text(_) => {
                let line = self.slice(location).lines().next().unwrap_or_default().trim_end();
                u32::try_from(line.chars().count()).unwrap_or(u32::MAX)
            }
        }
    }

    fn slice(&self, location: Location) -> &str {
        let span = location.span();
        let range = span.byte_offset().zip(span.byte_len()).and_then(|(start, length)| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(length).ok()?)?)
        });
        range.and_then(|range| self.text.get(range)).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a scalar, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries: Vec<(Spanned<Raw>, Spanned<Raw>)> = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests;
