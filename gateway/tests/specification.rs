//! `SPECIFICATION.md` names for every promise what holds it. This holds the file to that.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const NOTHING: &str = "**nothing yet**";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A promise: its identifier, its sentence, and what is said to hold it.
struct Promise<'t> {
    id: &'t str,
    sentence: &'t str,
    held_by: &'t str,
}

/// The promises of a text: list items that begin with `- **ID** `, each with `Held by` after its sentence.
fn promises(text: &str) -> Vec<Promise<'_>> {
    let items = text.split("\n- **").skip(1).filter_map(|item| item.split_once("** "));
    let is_id = |id: &str| {
        id.split_once('-').is_some_and(|(kind, number)| kind.len() == 1 && number.parse::<u32>().is_ok())
    };
    let promise = |(id, rest)| {
        let rest: &str = rest;
        let item = rest.split("\n\n").next().unwrap();
        let (sentence, held_by) =
            item.split_once("Held by").unwrap_or_else(|| panic!("{id} has no `Held by`"));
        Promise { id, sentence, held_by }
    };
    items.filter(|(id, _)| is_id(id)).map(promise).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether `source` has a test of this name.
fn has_test(source: &str, name: &str) -> bool {
    source.match_indices(&format!("fn {name}(")).any(|(at, _)| {
        let above = source[..at].rsplit('\n').skip(1);
        let mut attributes = above.take_while(|line| !line.trim().is_empty() && line.trim() != "}");
        attributes.any(|line| line.contains("#[test]") || line.contains("#[tokio::test"))
    })
}

/// Why what a promise names is not there; nothing where it is.
fn missing(promise: &Promise<'_>) -> Vec<String> {
    let named: Vec<&str> =
        quoted(promise.held_by).filter(|name| name.contains("::") || name.contains("xtask")).collect();
    if named.is_empty() && !promise.held_by.contains(NOTHING) {
        return vec![format!("{} names neither a test nor {NOTHING}", promise.id)];
    }
    let is_there = |name: &str| match (name.split_once("::"), name.strip_prefix("cargo xtask ")) {
        (Some((file, test)), _) => {
            fs::read_to_string(repository().join(file)).is_ok_and(|source| has_test(&source, test))
        }
        (None, Some(command)) => {
            let command = command.split(' ').next().unwrap().replace('-', "_");
            let file = repository().join("xtask/src").join(command);
            file.with_extension("rs").is_file() || file.join("mod.rs").is_file()
        }
        (None, None) => false,
    };
    named
        .iter()
        .filter(|name| !is_there(name))
        .map(|name| format!("{}: there is no {name}", promise.id))
        .collect()
}

#[test]
fn every_promise_names_what_holds_it() {
    let text = fs::read_to_string(repository().join("SPECIFICATION.md")).unwrap();
    let promises = promises(&text);
    assert!(promises.len() > 80, "only {} promises could be read", promises.len());
    assert_eq!(promises.len(), text.matches("\n- **").count() - 3, "the kinds of promises are no promises");
    let missing: Vec<String> = promises.iter().flat_map(missing).collect();
    assert!(missing.is_empty(), "SPECIFICATION.md names what is not there:\n{}", missing.join("\n"));
    for promise in &promises {
        assert!(promise.sentence.trim().ends_with('.'), "{} is no sentence", promise.id);
    }
}

#[test]
fn every_identifier_stands_once_and_in_order() {
    let text = fs::read_to_string(repository().join("SPECIFICATION.md")).unwrap();
    let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
    for Promise { id, .. } in promises(&text) {
        assert!(seen.insert(id), "{id} stands twice");
        let (kind, number) = id.split_once('-').unwrap();
        let number: u32 = number.parse().unwrap();
        let before = last.insert(kind, number).unwrap_or_default();
        assert!(before < number, "{id} comes after {kind}-{before}");
    }
}

#[test]
fn a_name_that_is_not_there_is_noticed() {
    let source = "#[test]\nfn here() {}\n\nfn helper() {}\n\n#[test]\n#[ignore = \"why\"]\nfn slow() {}\n";
    assert!(has_test(source, "here") && has_test(source, "slow"));
    assert!(!has_test(source, "helper") && !has_test(source, "gone") && !has_test(source, "her"));
    let text = "\n- **S-1** One.\n  Held by `gateway/tests/specification.rs::not_a_test`.\n- **S-2** Two.\n  Held by nobody.\n";
    let missing: Vec<String> = promises(text).iter().flat_map(missing).collect();
    assert_eq!(missing.len(), 2, "{missing:?}");
}
