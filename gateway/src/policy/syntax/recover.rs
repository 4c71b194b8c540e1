//! Going on behind a syntax error: a file that cannot be read as a whole is read section by
//! section, and a section that cannot be read entry by entry.

use super::{Node, Parsed, SourceFile, SyntaxError, Value, parse_fragment};

/// Errors of one file after which reading it ends.
const ERROR_LIMIT: usize = 20;
/// Words that are kept of text that could not be read.
const LOST_LIMIT: usize = 20_000;

/// Reads a file, as much of it as can be read.
pub(in crate::policy) fn parse(file: &SourceFile) -> Parsed {
    let mut parsed = Parsed { root: None, diagnostics: Vec::new(), lost: Vec::new() };
    match parse_fragment(file, &file.text, 0) {
        Ok(root) => parsed.root = Some(root),
        Err(error) if error.fatal => {
            parsed.lose(&file.text);
            parsed.diagnostics.push(error.diagnostic);
        }
        Err(error) => recover(file, *error, &mut parsed),
    }
    parsed
}

fn recover(file: &SourceFile, whole: SyntaxError, parsed: &mut Parsed) {
    let mut sections = Vec::new();
    for section in split(&file.text, 0, is_section_start) {
        if parsed.diagnostics.len() >= ERROR_LIMIT {
            break;
        }
        let first = match parse_fragment(file, section.text, section.line) {
            Ok(node) => {
                sections.extend(node.entries());
                continue;
            }
            Err(error) => error,
        };
        let noted = parsed.diagnostics.len();
        match read_entries(file, &section, parsed) {
            Some(entries) => sections.extend(entries),
            None => parsed.lose(section.text),
        }
        if parsed.diagnostics.len() == noted {
            // Each entry is sound and the section is not.
            parsed.diagnostics.push(first.diagnostic);
        }
    }
    if parsed.diagnostics.is_empty() {
        // Each part is sound and the whole is not: a stray `---`, an alias across sections.
        parsed.lose(&file.text);
        parsed.diagnostics.push(whole.diagnostic);
    }
    parsed.root = sections.first().map(|(key, _)| key.at).map(|at| Node { at, value: Value::Map(sections) });
}

/// Reads `key:` and the entries below it, each by itself, as many of them as can be read. `None`
/// where the section does not have that shape.
fn read_entries(file: &SourceFile, section: &Part<'_>, parsed: &mut Parsed) -> Option<Vec<(Node, Node)>> {
    let body_at = section.text.find('\n')? + 1;
    let (header, body) = section.text.split_at(body_at);
    let mut node = parse_fragment(file, header, section.line).ok()?;
    let Value::Map(keys) = &mut node.value else { return None };
    let [(_, below)] = keys.as_mut_slice() else { return None };
    if !matches!(below.value, Value::Null) {
        return None;
    }
    let indent = body.lines().find(|line| has_content(line)).map(indent_of)?;
    for part in split(body, section.line + 1, |line| has_content(line) && indent_of(line) <= indent) {
        if parsed.diagnostics.len() >= ERROR_LIMIT {
            break;
        }
        match parse_fragment(file, part.text, part.line) {
            Ok(Node { value: Value::Null, .. }) => {}
            // What the first entry is, a list or a mapping, the section is.
            Ok(Node { value, .. }) => {
                if !below.value.append(value) {
                    parsed.lose(part.text);
                }
            }
            Err(error) => {
                parsed.lose(part.text);
                parsed.diagnostics.push(error.diagnostic);
            }
        }
    }
    if matches!(below.value, Value::Null) {
        return Some(Vec::new());
    }
    Some(node.entries())
}

impl Value {
    /// Appends the elements of a value of the same kind; says whether it was one.
    fn append(&mut self, other: Self) -> bool {
        match (self, other) {
            (Self::List(items), Self::List(more)) => items.extend(more),
            (Self::Map(entries), Self::Map(more)) => entries.extend(more),
            (null @ Self::Null, first @ (Self::List(_) | Self::Map(_))) => *null = first,
            _ => return false,
        }
        true
    }
}

/// A stretch of whole lines.
struct Part<'a> {
    text: &'a str,
    /// Lines of the file before it.
    line: u32,
}

/// Cuts a text before each line that `starts` a new part.
fn split(text: &str, first_line: u32, starts: impl Fn(&str) -> bool) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut begin, mut begin_line, mut at, mut line) = (0, first_line, 0, first_line);
    for content in text.split_inclusive('\n') {
        if at > begin && starts(content) {
            parts.push(Part { text: &text[begin..at], line: begin_line });
            (begin, begin_line) = (at, line);
        }
        at += content.len();
        line = line.saturating_add(1);
    }
    parts.push(Part { text: &text[begin..], line: begin_line });
    parts
}

fn is_section_start(line: &str) -> bool {
    line.starts_with(|c: char| c.is_alphanumeric() || c == '"' || c == '\'')
}

fn has_content(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

impl Node {
    fn entries(self) -> Vec<(Node, Node)> {
        match self.value {
            Value::Map(entries) => entries,
            _ => Vec::new(),
        }
    }
}

impl Parsed {
    fn lose(&mut self, text: &str) {
        let words = text
            .split(|c: char| !(c.is_alphanumeric() || "._-/".contains(c)))
            .filter(|word| !word.is_empty());
        let room = LOST_LIMIT.saturating_sub(self.lost.len());
        self.lost.extend(words.take(room).map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a text, without its scalars' kinds; messages with their lines; words that are lost.
    fn read(text: &str) -> (String, Vec<u32>, Vec<String>) {
        let parsed = parse(&SourceFile::new("a.yaml", text));
        let lines = parsed.diagnostics.iter().map(|found| found.place.line).collect();
        (parsed.root.map_or_else(String::new, |root| shape(&root)), lines, parsed.lost)
    }

    fn shape(node: &Node) -> String {
        match &node.value {
            Value::Null => "~".to_owned(),
            Value::Bool(text) | Value::Number(text) | Value::Text(text) => text.clone(),
            Value::List(items) => format!("[{}]", items.iter().map(shape).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| format!("{}:{}", shape(key), shape(value)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
            }
        }
    }

    /// What is expected of [`read`].
    fn is(shape: &str, lines: &[u32], lost: &[&str]) -> (String, Vec<u32>, Vec<String>) {
        (shape.to_owned(), lines.to_vec(), lost.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn sections_around_a_broken_one_are_read() {
        let text = "a: 1\n# about b\nb: [x, {\n'c': 3\n\"d\": 4\n\u{e9}: 5\n6: f\n";
        assert_eq!(read(text), is("{a:1 c:3 d:4 \u{e9}:5 6:f}", &[3], &["b", "x"]));
        assert_eq!(read("- a\n- [b\n"), is("", &[2], &["-", "a", "-", "b"]));
    }

    #[test]
    fn entries_around_a_broken_one_are_read() {
        let map = "s:\n  # first\n  a: { b: [1 }\n\n  c:\n    d: 2\n    # of d\n\n  # of e\n  e: 3\nt: 4\n";
        assert_eq!(read(map), is("{s:{c:{d:2} e:3} t:4}", &[3], &["a", "b", "1"]));
        let list = "s:\n- a\n- [b\n- c: 1\n  d: 2\nt: 3\n";
        assert_eq!(read(list), is("{s:[a {c:1 d:2}] t:3}", &[3], &["-", "b"]));
        let comment = "s:\n# first\n\n  a: { b: [1 }\n # of c\n  c: 2\n";
        assert_eq!(read(comment), is("{s:{c:2}}", &[4], &["a", "b", "1", "of", "c"]));
        let all = "s:\n  a: [1\n  b: {2\nt: 3\n";
        assert_eq!(read(all), is("{t:3}", &[2, 3], &["a", "1", "b", "2"]));
    }

    /// An entry of another kind than the first is not one of the section.
    #[test]
    fn a_section_is_a_list_or_a_mapping() {
        assert_eq!(read("s:\n  a: 1\n  - b\n  c: 2\n"), is("{s:{a:1 c:2}}", &[3], &["-", "b"]));
        assert_eq!(read("s:\n  - a\n  b: 1\n  - c\n"), is("{s:[a c]}", &[3], &["b", "1"]));
        assert_eq!(read("s:\n  'a'\n  - [\nt: 1\n"), is("{t:1}", &[3], &["a", "-"]));
        assert_eq!(read("s: 1\n  a: 2\nt: 3\n"), is("{t:3}", &[2], &["s", "1", "a", "2"]));
        assert_eq!(read("s: {}\n  a: 2\nt: 3\n").0, "{t:3}");
        assert_eq!(read("s:\n# [\n\nt: [\nu: 1\n").0, "{s:~ u:1}");
    }

    #[test]
    fn what_is_sound_only_in_parts_is_not_read_as_sound() {
        assert_eq!(read("  a: 1\nb: 2\n"), is("{a:1 b:2}", &[2], &["a", "1", "b", "2"]));
        assert_eq!(read("s:\n  a: 1\n b: 2\nt: 3\n"), is("{s:{a:1 b:2} t:3}", &[3], &[]));
    }

    /// Each later section would reach it again.
    #[test]
    fn a_limit_ends_reading() {
        let deep = "[".repeat(40);
        assert_eq!(read(&format!("a: {deep}\nb: {deep}\nc: 1")), is("", &[1], &["a", "b", "c", "1"]));
    }

    #[test]
    fn errors_and_lost_words_are_limited() {
        let entries = |count: usize| "  a: [b\n".repeat(count);
        let lines = |text: &str| read(text).1.len();
        assert_eq!(lines(&format!("s:\n{}", entries(ERROR_LIMIT - 1))), ERROR_LIMIT - 1);
        assert_eq!(lines(&format!("s:\n{}", entries(ERROR_LIMIT + 1))), ERROR_LIMIT);
        assert_eq!(lines(&"a: [b\n".repeat(ERROR_LIMIT - 1)), ERROR_LIMIT - 1);
        assert_eq!(lines(&"a: [b\n".repeat(ERROR_LIMIT + 1)), ERROR_LIMIT);
        let lost = |count: usize| read(&format!("a: [{}", "b, ".repeat(count))).2.len();
        assert_eq!((lost(LOST_LIMIT - 2), lost(LOST_LIMIT)), (LOST_LIMIT - 1, LOST_LIMIT));
        let names = read("a: [ct-1, zone/x_y, 10.0.0.1, caf\u{e9} \"[]{}#").2;
        assert_eq!(names, ["a", "ct-1", "zone/x_y", "10.0.0.1", "caf\u{e9}"]);
    }
}
