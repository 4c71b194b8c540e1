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
        let snippet =
            Snippet::source(excerpt.text).path(place.file.as_ref()).line_start(start).annotation(annotation);
        group.element(snippet)
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
            return Self { text: printable(line), span };
        }
        // A line of megabytes is cut around what is meant, rather than printed.
        let from = first.saturating_sub(LINE_LIMIT / 2);
        let to = (from + LINE_LIMIT).min(last);
        let end = end.min(to);
        let span = starts[first] - starts[from]..starts[end] - starts[from];
        Self { text: printable(&line[starts[from]..starts[to]]), span }
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
