//! Which files of a policy count on a gateway: one repository serves many of them.
//!
//! A file says with its key `gateways` which labels a gateway must have; one without it is for all. A
//! gateway's labels are given to it where it is started, never by the policy.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::decode::{Entries, OneOrMany, Text};
use super::diagnostic::{Diagnostic, Place};

/// Characters of a label's name or value.
const LENGTH_LIMIT: usize = 64;

/// The labels of a gateway, such as `site=north`.
pub type Labels = BTreeMap<String, String>;

/// One label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Such as `site`.
    pub name: String,
    /// Such as `north`.
    pub value: String,
}

/// Which files count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those for all gateways, and those that select these labels.
    For(Labels),
    /// All: they were selected before.
    Everything,
}

impl Default for Selection {
    fn default() -> Self {
        Self::For(Labels::new())
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if is_word(name) && is_word(value) => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(format!("expected NAME=VALUE, of {WORD}")),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// What names and values are made of.
const WORD: &str = "letters, digits, `-`, `_` and `.`, at most 64 of them";

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LENGTH_LIMIT
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

impl Selection {
    /// The labels of a gateway, from single ones.
    ///
    /// # Errors
    /// A name that is given twice, with different values.
    pub fn of(labels: &[Label]) -> Result<Self, String> {
        let mut found = Labels::new();
        for Label { name, value } in labels {
            if let Some(other) = found.insert(name.clone(), value.clone())
                && other != *value
            {
                return Err(format!("the label `{name}` has two values, {other} and {value}"));
            }
        }
        Ok(Self::For(found))
    }

    /// Whether a file with this key counts. What is wrong with the key is noted in `mistakes`, and the file
    /// counts then: nobody knows for whom it is.
    pub(super) fn takes(&self, wanted: &Gateways, file: &Arc<str>, mistakes: &mut Vec<Diagnostic>) -> bool {
        let before = mistakes.len();
        wanted.check(file, mistakes);
        let Self::For(labels) = self else { return true };
        let has = |(name, values): &(Text, Option<OneOrMany<Text>>)| {
            let values = values.as_ref().map_or(&[][..], |values| &values.items);
            labels.get(name.as_str()).is_some_and(|value| values.iter().any(|it| it.as_str() == value))
        };
        mistakes.len() > before || wanted.items.iter().all(has)
    }
}

/// The key `gateways` of a file.
pub(super) type Gateways = Entries<OneOrMany<Text>>;

impl Gateways {
    fn check(&self, file: &Arc<str>, mistakes: &mut Vec<Diagnostic>) {
        let mut bad = |place: &Place, message: &str| {
            let diagnostic = Diagnostic::error("bad-label", place.clone(), message.to_owned());
            mistakes.push(diagnostic.expected(format!("expected labels, of {WORD}")));
        };
        if self.items.is_empty() {
            bad(
                &Place::of_file(Arc::clone(file)),
                "`gateways` names no label: leave it out where a file is for all",
            );
        }
        for (name, values) in &self.items {
            if !is_word(name.as_str()) {
                bad(&name.place, &format!("`{}` cannot be a label", shown(name)));
            }
            match values {
                Some(values) if values.items.is_empty() || values.broken => {
                    bad(&name.place, &format!("`{}` has no value that can be read", shown(name)));
                }
                Some(values) => {
                    for value in values.items.iter().filter(|value| !is_word(value.as_str())) {
                        bad(&value.place, &format!("`{}` cannot be the value of a label", shown(value)));
                    }
                }
                None => bad(&name.place, &format!("`{}` has no value that can be read", shown(name))),
            }
        }
    }
}

fn shown(text: &Text) -> String {
    text.as_str().chars().take(LENGTH_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use crate::policy::{Labels, Selection, SourceFile, resolve_for};

    const NETWORK: &str = "interfaces: { a0: { access: a }, b0: { access: b } }\n\
        segments: { a: { subnets: 10.0.1.0/24 }, b: { subnets: 10.0.2.0/24 } }\n";

    fn labels(labels: &[(&str, &str)]) -> Selection {
        Selection::For(
            labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect::<Labels>(),
        )
    }

    /// Names of the rules that count, or the first mistake.
    fn rules(header: &str, selection: &Selection) -> Result<Vec<String>, String> {
        let file = format!("{header}\nflows: [{{ name: x, from: a, to: b, services: dicom }}]\n");
        let files = vec![SourceFile::new("all.yaml", NETWORK), SourceFile::new("some.yaml", file)];
        let resolved = resolve_for(files, selection);
        let policy = resolved.policy.ok_or_else(|| resolved.diagnostics[0].message.clone())?;
        Ok(policy.rules.iter().map(|rule| rule.name.clone()).collect())
    }

    #[test]
    fn a_file_counts_where_every_label_has_one_of_its_values() {
        let north = labels(&[("site", "north"), ("floor", "3")]);
        let cases = [
            ("", true),
            ("gateways: { site: north }", true),
            ("gateways: { site: [south, north] }", true),
            ("gateways: { site: north, floor: 3 }", true),
            ("gateways: { site: north, floor: [1, 2] }", false),
            ("gateways: { site: south }", false),
            ("gateways: { ward: icu }", false),
        ];
        for (header, counts) in cases {
            assert_eq!(rules(header, &north).unwrap().len(), usize::from(counts), "{header}");
            assert_eq!(rules(header, &Selection::Everything).unwrap().len(), 1, "{header}");
        }
        assert!(rules("gateways: { site: north }", &Selection::default()).unwrap().is_empty());
    }

    /// What is meant for others neither changes this gateway's policy nor breaks it.
    #[test]
    fn files_for_others_do_not_matter() {
        let resolved = |other: &str| {
            let files = vec![SourceFile::new("all.yaml", NETWORK), SourceFile::new("z.yaml", other)];
            resolve_for(files, &labels(&[("site", "north")]))
        };
        let one = resolved("gateways: { site: south }\n").policy.unwrap();
        let other = resolved("gateways: { site: south }\nflows: [{ name: broken, from: nobody }]\nodd: 1\n");
        assert_eq!(other.policy.unwrap().hash, one.hash);
        assert_ne!(resolved("gateways: { site: north }\n").policy.unwrap().hash, one.hash);
    }

    #[test]
    fn a_header_that_cannot_be_read_is_a_mistake_everywhere() {
        let headers = [
            "gateways: {}",
            "gateways: { site: [] }",
            "gateways: { site: 'a b' }",
            "gateways: { 'a b': c }",
            "gateways: { site: { a: b } }",
            "gateways: north",
        ];
        for header in headers {
            for selection in [labels(&[("site", "south")]), Selection::default(), Selection::Everything] {
                assert!(rules(header, &selection).is_err(), "{header}");
            }
        }
    }

    #[test]
    fn labels_are_words() {
        let parse = |text: &str| text.parse::<super::Label>();
        assert_eq!(parse("site=north").unwrap().to_string(), "site=north");
        for text in ["site", "=north", "site=", "site=a b", "site=a=b"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let twice = [parse("a=1").unwrap(), parse("a=2").unwrap()];
        assert!(Selection::of(&twice).is_err());
    }
}
