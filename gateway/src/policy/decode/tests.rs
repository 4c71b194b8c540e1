//! What is said where a value is not what its key takes.

use super::*;
use crate::policy::{SourceFile, resolve};

/// Code, message, what was expected and help of the mistakes in a text.
fn mistakes(text: &str) -> Vec<[String; 4]> {
    let found = resolve(vec![SourceFile::new("a.yaml", text)]).diagnostics;
    let words = |found: Diagnostic| {
        let optional = |words: Option<String>| words.unwrap_or_default();
        [found.code.to_owned(), found.message, optional(found.expected), optional(found.help)]
    };
    found.into_iter().filter(Diagnostic::is_error).map(words).collect()
}

/// The only mistake of a text.
fn mistake(text: &str) -> [String; 4] {
    let [found] = &mistakes(text)[..] else { panic!("{text}: {:?}", mistakes(text)) };
    found.clone()
}

fn is(code: &str, message: &str, expected: &str, help: &str) -> [String; 4] {
    [code, message, expected, help].map(str::to_owned)
}

#[test]
fn another_kind_of_value_is_named() {
    let list = |found: &str, help: &str| {
        is("type", &format!("expected a list, found {found}"), "expected a list", help)
    };
    assert_eq!(mistake("flows: 5"), list("the number `5`", ""));
    assert_eq!(mistake("flows: five"), list("the text \"five\"", ""));
    assert_eq!(mistake("flows: { a: b }"), list("a mapping", ""));
    assert_eq!(mistake("flows: true"), list("the boolean `true`", ""));
    assert_eq!(mistake("flows:"), list("nothing", "give the key a value, or take it out"));
    let text = |found: &str, help: &str| {
        is("type", &format!("expected some text, found {found}"), "expected some text", help)
    };
    let zone = |value: &str| mistake(&format!("segments: {{ a: {{ subnets: 10.0.0.0/8, zone: {value} }} }}"));
    assert_eq!(zone("true"), text("the boolean `true`", "if text is meant, put it in quotes: \"true\""));
    assert_eq!(zone("' '"), text("the text \" \"", ""));
    assert_eq!(zone("[]"), text("a list", ""));
    let long = "x".repeat(41);
    assert_eq!(mistake(&format!("flows: {long}")), list(&format!("the text \"{}\"", &long[1..]), ""));
}

#[test]
fn words_that_other_dialects_take_for_booleans_are_not_taken() {
    let value = |word: &str| mistake(&format!("settings: {{ midstream: {word} }}"));
    for (word, meant) in [
        ("yes", "true"),
        ("On", "true"),
        ("y", "true"),
        ("NO", "false"),
        ("off", "false"),
        ("n", "false"),
        ("'true'", "true"),
        ("'false'", "false"),
    ] {
        let bare = word.trim_matches('\'');
        let message = format!("`{bare}` is text, not a boolean");
        let expected = is("boolean", &message, "expected `true` or `false`", &format!("write `{meant}`"));
        assert_eq!(value(word), expected);
    }
    let other = |found: &str| {
        is("type", &format!("expected `true` or `false`, found {found}"), "expected `true` or `false`", "")
    };
    assert_eq!(value("maybe"), other("the text \"maybe\""));
    assert_eq!(value("1"), other("the number `1`"));
    for (word, is_on) in [("true", true), ("True", true), ("TRUE", true), ("false", false), ("False", false)]
    {
        let text = format!("settings: {{ midstream: {word} }}");
        let policy = resolve(vec![SourceFile::new("a.yaml", text)]).policy.expect("a sound policy");
        assert_eq!(policy.settings.midstream, is_on, "{word}");
    }
}

#[test]
fn one_stands_without_brackets_only_where_many_are_no_records() {
    assert_eq!(
        mistakes("segments: { a: { subnets: 10.0.0.0/8 } }\ngroups: { g: a }"),
        [] as [[String; 4]; 0]
    );
    assert_eq!(mistake("deny: { name: a }")[1], "expected a list, found a mapping");
}
