//! What is wrong with a policy, and where: one value for each mistake or doubt.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::model::Origin;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// The policy can be used; somebody should look.
    Warning,
}

/// A stretch of policy text on one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct Place {
    /// Path relative to the policy's directory.
    pub file: Arc<str>,
    /// Line, from 1; 0 where the whole file (or directory) is meant.
    pub line: u32,
    /// Column in characters, from 1; 0 likewise.
    pub column: u32,
    /// Length in characters; 0 where it is not known: the word that begins there is meant.
    pub length: u32,
}

impl Place {
    /// A whole file.
    pub fn of_file(file: Arc<str>) -> Self {
        Self { file, line: 0, column: 0, length: 0 }
    }

    /// Where things that are declared here say that they stand.
    pub fn origin(&self) -> Origin {
        Origin { file: Arc::clone(&self.file), line: self.line, column: self.column }
    }
}

impl From<&Origin> for Place {
    fn from(origin: &Origin) -> Self {
        Self { file: Arc::clone(&origin.file), line: origin.line, column: origin.column, length: 0 }
    }
}

/// Another place that has to do with a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct Related {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What is there, such as `first defined here`.
    pub text: String,
}

/// A mistake or a doubt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[must_use]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable name of its kind, such as `unknown-name`.
    pub code: &'static str,
    /// One sentence, without a full stop.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What was expected there; stands beside the underline.
    pub expected: Option<String>,
    /// What to do about it, such as the nearest name.
    pub help: Option<String>,
    /// Other places that have to do with it.
    pub related: Vec<Related>,
}

impl Diagnostic {
    /// A mistake.
    pub fn error(code: &'static str, place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, place.into(), message.into())
    }

    /// A doubt.
    pub fn warning(code: &'static str, place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, place.into(), message.into())
    }

    fn new(severity: Severity, code: &'static str, place: Place, message: String) -> Self {
        Self { severity, code, message, place, expected: None, help: None, related: Vec::new() }
    }

    /// Adds what was expected.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds another place.
    pub fn related(mut self, place: impl Into<Place>, text: impl Into<String>) -> Self {
        self.related.push(Related { place: place.into(), text: text.into() });
        self
    }

    /// Whether it keeps the policy from being used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Puts diagnostics into the order in which people read them: by file, line and column; what is
/// said twice about one place is said once. What has no file comes last.
pub fn sort(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by_cached_key(|d| {
        (d.place.file.is_empty(), d.place.clone(), d.severity, d.code, d.message.clone())
    });
    diagnostics.dedup();
}
