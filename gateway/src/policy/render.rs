//! Diagnostics as people read them: the line, what is wrong with it, what to do.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::diagnostic::{Diagnostic, Place, Severity};
use super::source::SourceFile;

/// Characters of a line that are shown around its mistake.
const LINE_LIMIT: usize = 160;

/// Lines of a policy's files, found fast.
#[derive(Debug)]
pub struct Report<'a> {
    files: HashMap<&'a str, Lines<'a>>,
    styled: bool,
}

#[derive(Debug)]
struct Lines<'a> {
    text: &'a str,
    /// Byte at which each line begins.
    starts: Vec<usize>,
}

impl<'a> Report<'a> {
    /// A report about these files; `styled` with the escapes of a terminal.
    pub fn new(files: &'a [SourceFile], styled: bool) -> Self {
        let files = files.iter().map(|file| (file.name.as_ref(), Lines::new(&file.text))).collect();
        Self { files, styled }
    }

    /// One diagnostic, over several lines, without a final line break.
    pub fn render(&self, diagnostic: &Diagnostic) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(printable(&diagnostic.message)).id(diagnostic.code);
        let mut group =
            self.place(Group::with_title(title), &diagnostic.place, diagnostic.expected.as_deref());
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(printable(help)));
        }
        let mut groups = vec![group];
        for related in &diagnostic.related {
            let title = Level::NOTE.secondary_title(printable(&related.text));
            groups.push(self.place(Group::with_title(title), &related.place, None));
        }
        let renderer = if self.styled { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&groups)
    }

    fn place<'s>(&'s self, group: Group<'s>, place: &'s Place, label: Option<&'s str>) -> Group<'s> {
        let line = self.files.get(place.file.as_ref()).and_then(|lines| lines.line(place.line));
        let Some(line) = line else {
            return if place.file.is_empty() {
                group
            } else {
                group.element(Origin::path(place.file.as_ref()))
            };
        };
        let excerpt = Excerpt::new(line, place);
        let mut annotation = AnnotationKind::Primary.span(excerpt.span.clone());
        if let Some(label) = label {
            annotation = annotation.label(printable(label));
        }
        let start = usize::try_from(place.line).unwrap_or(usize::MAX);
        let snippet = Snippet::source(excerpt.text).line_start(start).annotation(annotation);
        let file = place.file.as_ref();
        match excerpt.column {
            None => group.element(snippet.path(file)),
            // A snippet would count in the part that it shows.
            Some(column) => {
                group.element(Origin::path(file).line(start).char_column(column)).element(snippet)
            }
        }
    }
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let ends = text.bytes().zip(1..).filter(|(byte, _)| *byte == b'\n').map(|(_, next)| next);
        Self { text, starts: [0].into_iter().chain(ends).collect() }
    }

    /// A line, counted from 1; the last one where there are fewer.
    fn line(&self, number: u32) -> Option<&'a str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let start = *self.starts.get(index).or(self.starts.last())?;
        self.text[start..].lines().next().or(Some(""))
    }
}

/// A line, or the part of it that is worth showing, and the bytes that are meant.
struct Excerpt<'a> {
    text: Cow<'a, str>,
    span: Range<usize>,
    /// Where only a part of the line is shown: column of the whole, from 1, at which they begin.
    column: Option<usize>,
}

impl<'a> Excerpt<'a> {
    fn new(line: &'a str, place: &Place) -> Self {
        let column = usize::try_from(place.column).unwrap_or(usize::MAX).saturating_sub(1);
        let starts: Vec<usize> = line.char_indices().map(|(byte, _)| byte).chain([line.len()]).collect();
        let last = starts.len() - 1;
        let first = column.min(last);
        let length = match usize::try_from(place.length).unwrap_or(usize::MAX) {
            0 => word_length(&line[starts[first]..]),
            length => length,
        };
        let end = first.saturating_add(length.max(1)).min(last).max(first);
        let span = starts[first]..starts[end];
        if last <= LINE_LIMIT {
            return Self { text: printable(line), span, column: None };
        }
        // A line of megabytes is cut around what is meant, rather than printed.
        let from = first.saturating_sub(LINE_LIMIT / 2);
        let to = (from + LINE_LIMIT).min(last);
        let end = end.min(to);
        let span = starts[first] - starts[from]..starts[end] - starts[from];
        Self { text: printable(&line[starts[from]..starts[to]]), span, column: Some(first + 1) }
    }
}

/// Characters of the word that a text begins with.
fn word_length(text: &str) -> usize {
    text.chars().take_while(|c| !c.is_whitespace() && !",:]}".contains(*c)).count()
}

/// Text without control characters: a policy must not drive the terminal that shows it. Each
/// gives way to a character of the same number of bytes, so that spans stay right.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let replace = |c: char| match (is_hidden(c), c.len_utf8()) {
        (false, _) => c,
        (true, 1) => ' ',
        (true, 2) => '\u{b7}',
        (true, _) => '\u{fffd}',
    };
    Cow::Owned(text.chars().map(replace).collect())
}

/// Control characters, and those that turn the direction of writing.
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mistake in a file, as it is shown: the line that has it, and the marks below.
    fn shown(text: &str, (line, column, length): (u32, u32, u32)) -> String {
        let files = [SourceFile::new("a.yaml", text)];
        let place = Place { file: "a.yaml".into(), line, column, length };
        Report::new(&files, false).render(&Diagnostic::error("code", place, "message").expected("here"))
    }

    #[test]
    fn a_mistake_is_marked_where_it_stands() {
        let text = "one: 1\ntwo: [three, four]\n";
        let word = "error[code]: message\n --> a.yaml:2:7\n  |\n2 | two: [three, four]\n  |       ^^^^^ here";
        assert_eq!(shown(text, (2, 7, 0)), word);
        assert_eq!(shown(text, (2, 7, 5)), word);
        assert_eq!(
            shown(text, (1, 6, 1)),
            "error[code]: message\n --> a.yaml:1:6\n  |\n1 | one: 1\n  |      ^ here"
        );
        assert!(shown(text, (2, 14, 0)).ends_with("\n  |              ^^^^ here"), "a bracket ends a word");
        assert!(shown("a b", (1, 1, 0)).ends_with("\n  | ^ here"), "a blank does");
        assert!(
            shown("\u{e9}\u{e9}: \u{e9}\u{e9}\u{e9}", (1, 5, 2)).ends_with("\n  |     ^^ here"),
            "characters, not bytes"
        );
    }

    #[test]
    fn a_place_that_is_not_there_is_shown_as_near_as_can_be() {
        assert_eq!(shown("one: 1", (0, 0, 0)), "error[code]: message\n--> a.yaml");
        assert_eq!(shown("", (1, 1, 0)), "error[code]: message\n --> a.yaml:1:1\n  |\n1 |\n  | ^ here");
        assert_eq!(
            shown("one", (1, 9, 9)),
            "error[code]: message\n --> a.yaml:1:4\n  |\n1 | one\n  |    ^ here"
        );
        let nowhere = Diagnostic::error("code", Place::default(), "message");
        assert_eq!(Report::new(&[], false).render(&nowhere), "error[code]: message");
    }

    /// However long it is, and where it stands in the whole line.
    #[test]
    fn of_a_long_line_the_part_around_the_mistake_is_shown() {
        let whole = "x".repeat(81) + " " + &"y".repeat(78);
        assert_eq!(whole.len(), LINE_LIMIT);
        assert!(shown(&whole, (1, 83, 0)).starts_with("error[code]: message\n --> a.yaml:1:83\n  |\n1 | "));
        let excerpt = |line: &str, column, length| {
            let found = Excerpt::new(line, &Place { file: "a.yaml".into(), line: 1, column, length });
            (found.text[found.span.clone()].to_owned(), found.text.chars().count(), found.column)
        };
        assert_eq!(excerpt(&whole, 83, 0), ("y".repeat(78), 160, None));
        let long = format!("{whole}z, {}", "\u{e9}".repeat(300));
        assert_eq!(excerpt(&long, 83, 0), ("y".repeat(78) + "z", 160, Some(83)));
        assert_eq!(excerpt(&long, 1, 300), (long[..160].to_owned(), 160, Some(1)));
        assert_eq!(excerpt(&long, 164, 0), ("\u{e9}".repeat(80), 160, Some(164)));
        assert_eq!(excerpt(&long, 463, 1), ("\u{e9}".to_owned(), 81, Some(463)));
        assert!(shown(&long, (1, 83, 0)).starts_with("error[code]: message\n --> a.yaml:1:83\n"));
    }

    /// A policy comes from a repository that many write to.
    #[test]
    fn a_policy_does_not_drive_the_terminal() {
        for hidden in [
            '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}',
            '\u{2066}', '\u{2069}',
        ] {
            let text = format!("a: {hidden}[2Jb");
            let place = Place { file: "a.yaml".into(), line: 1, column: 8, length: 1 };
            let found = Diagnostic::error("code", place.clone(), text.clone())
                .expected(text.clone())
                .help(text.clone())
                .related(place, text.clone());
            let shown = Report::new(&[SourceFile::new("a.yaml", text)], false).render(&found);
            assert!(!shown.contains(hidden), "{shown:?}");
            assert_eq!(shown.matches("[2Jb").count(), 6, "{shown}");
            assert!(shown.contains("\n  |        ^ "), "what is marked stays right: {shown}");
        }
        assert_eq!(printable("caf\u{e9} \u{2192} \u{2065}\u{206a}"), "caf\u{e9} \u{2192} \u{2065}\u{206a}");
    }
}
