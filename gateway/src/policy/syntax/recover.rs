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
