//! What is refused, and what is said about it.

use super::*;

/// Codes, messages and lines of what is wrong with a text.
fn mistakes(text: String) -> Vec<(&'static str, String, u32)> {
    let found = parse(&SourceFile::new("a.yaml", text)).diagnostics;
    found.into_iter().map(|found| (found.code, found.message, found.place.line)).collect()
}

fn limit(message: &str, line: u32) -> Vec<(&'static str, String, u32)> {
    vec![("limit", message.to_owned(), line)]
}

/// However the nesting is written, and where an alias repeats a part of it.
#[test]
fn values_are_nested_to_a_limit() {
    let brackets = |depth: usize| ("[".repeat(depth) + &"]".repeat(depth), 1);
    let braces = |depth: usize| ("{a: ".repeat(depth) + &"}".repeat(depth), 1);
    let dashes = |depth: usize| ("- ".repeat(depth) + "a", 1);
    let mixed = |depth: usize| ("a: ".to_owned() + &brackets(depth - 1).0, 1);
    let block =
        |depth: usize| ((0..depth).fold(String::new(), |text, n| text + &" ".repeat(n) + "a:\n"), depth);
    let alias = |depth: usize| {
        (format!("a: &a {}\nb: {}*a{}\n", brackets(12).0, "[".repeat(depth - 13), "]".repeat(depth - 13)), 2)
    };
    let shapes: [&dyn Fn(usize) -> (String, usize); 6] =
        [&brackets, &braces, &dashes, &mixed, &block, &alias];
    for shape in shapes {
        assert_eq!(mistakes(shape(DEPTH_LIMIT).0), []);
        let (text, line) = shape(DEPTH_LIMIT + 1);
        let line = u32::try_from(line).expect("a line of a short text");
        assert_eq!(mistakes(text), limit("this is nested more than 24 deep", line));
    }
}

#[test]
fn a_file_holds_one_document() {
    assert_eq!(mistakes("---\na: 1\n".to_owned()), []);
    assert_eq!(mistakes("a: 1\n---\nb: 2\n".to_owned()), limit("a file holds one document", 2));
}

#[test]
fn aliases_repeat_to_a_limit() {
    let twice = |count: usize| format!("a: &a [{}]\nb: *a\nc: *a\n", "x,".repeat(count));
    assert_eq!(mistakes(twice(REPLAY_LIMIT / 20)), []);
    let message = "aliases repeat more than 100000 values";
    assert_eq!(mistakes(twice(REPLAY_LIMIT / 2)), limit(message, 3));
}

#[test]
fn anchors_and_aliases_are_counted() {
    let anchors = |count: usize| (0..count).fold(String::new(), |text, n| format!("{text}a{n}: &a{n} x\n"));
    let aliases = |count: usize| "- &a x\n".to_owned() + &"- *a\n".repeat(count);
    let message = "a file has at most 10000 anchors, and as many aliases";
    assert_eq!(mistakes(anchors(ANCHOR_LIMIT)), []);
    assert_eq!(mistakes(anchors(ANCHOR_LIMIT + 1)), limit(message, 10_001));
    assert_eq!(mistakes(aliases(ANCHOR_LIMIT)), []);
    assert_eq!(mistakes(aliases(ANCHOR_LIMIT + 1)), limit(message, 10_002));
}

#[test]
fn every_node_knows_its_place() {
    let root = parse(&SourceFile::new("a.yaml", "a: {caf\u{e9}: [-12.50, true, 'x y', ~]}\nb: one\n")).root;
    let mut places = Vec::new();
    let mut nodes: Vec<Node> = root.into_iter().collect();
    while let Some(Node { at, value }) = nodes.pop() {
        places.push((at.line, at.column, at.length));
        match value {
            Value::List(items) => nodes.extend(items.into_iter().rev()),
            Value::Map(entries) => {
                nodes.extend(entries.into_iter().rev().flat_map(|(key, value)| [value, key]));
            }
            _ => {}
        }
    }
    let first = [
        (1, 1, 0),
        (1, 1, 1),
        (1, 4, 0),
        (1, 5, 4),
        (1, 11, 0),
        (1, 12, 6),
        (1, 20, 4),
        (1, 26, 5),
        (1, 33, 0),
    ];
    assert_eq!(places[..9], first);
    assert_eq!(places[9..], [(2, 1, 1), (2, 4, 3)]);
}

#[test]
fn what_is_not_yaml_is_said_in_words() {
    let says = |text: &str| mistakes(text.to_owned());
    assert_eq!(says("a: *b"), [("syntax", "this is not YAML: reference to unknown value".to_owned(), 1)]);
    assert_eq!(says("a: 1\nb: !x 1"), [("syntax", "this is not YAML: unsupported tag `!x`".to_owned(), 2)]);
}
