//! Writing: lists, addresses, comments.

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a comment on a rule (`NFTNL_UDATA_COMMENT_MAXLEN`), less the final zero.
const COMMENT_LIMIT: usize = 127;

/// Characters of a line of the heading.
const LINE: usize = 100;

/// Numbers: one, a range, or several in braces.
pub(super) fn list<T: Display + PartialEq>(ranges: &[(T, T)]) -> String {
    let one = |(first, last): &(T, T)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    match ranges {
        [range] => one(range),
        several => format!("{{ {} }}", several.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}

/// An IPv4 range: an address, a prefix where it is one, or both ends.
pub(super) fn v4((first, last): (u32, u32)) -> String {
    let text = |bits| Ipv4Addr::from_bits(bits).to_string();
    match prefix_length((first ^ last).into(), u128::from(first | !last), 32) {
        Some(32) => text(first),
        Some(length) => format!("{}/{length}", text(first)),
        None => format!("{}-{}", text(first), text(last)),
    }
}

/// An IPv6 range, likewise.
pub(super) fn v6((first, last): (u128, u128)) -> String {
    let text = |bits| Ipv6Addr::from_bits(bits).to_string();
    match prefix_length(first ^ last, first | !last, 128) {
        Some(128) => text(first),
        Some(length) => format!("{}/{length}", text(first)),
        None => format!("{}-{}", text(first), text(last)),
    }
}

/// Length of the prefix whose ends differ in these bits, if it is one: the bits are a block at the
/// end, clear in the first and set in the last address. `stray` has the bits that are set in the first
/// or clear in the last.
fn prefix_length(differing: u128, stray: u128, width: u32) -> Option<u32> {
    let host = differing.checked_add(1).map_or(128, u128::trailing_zeros);
    let is_block = differing == u128::MAX || differing & (differing + 1) == 0;
    (is_block && stray & differing == 0).then_some(width - host)
}

/// Free text on one line: it neither ends a comment nor drives a terminal.
pub(super) fn plain(text: &str) -> String {
    let is_hidden = |c: char| {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
    };
    text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect()
}

/// A comment on a rule, which is in quotes and short.
pub(super) fn quoted(text: &str) -> String {
    let mut comment: String =
        plain(text).chars().map(|c| if matches!(c, '"' | '\\') { '\'' } else { c }).collect();
    let mut end = comment.len().min(COMMENT_LIMIT);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    comment.truncate(end);
    format!("\"{comment}\"")
}

/// A part of an object's name: what nft's scanner takes within a word.
pub(super) fn word(name: &str) -> String {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    name.chars().map(|c| if sound(c) { c } else { '-' }).collect()
}

/// A paragraph of comment: the first line after `first`, the others after `next`.
pub(super) fn paragraph(text: &str, first: &str, next: &str) -> String {
    let mut lines = String::new();
    let mut line = first.to_owned();
    let mut is_bare = true;
    for word in plain(text).split(' ').filter(|word| !word.is_empty()) {
        if !is_bare && line.chars().count() + 1 + word.chars().count() > LINE {
            lines += &line;
            lines.push('\n');
            next.clone_into(&mut line);
            is_bare = true;
        }
        if !is_bare {
            line.push(' ');
        }
        line += word;
        is_bare = false;
    }
    lines + &line + "\n"
}

/// Elements in braces, wrapped.
pub(super) fn elements(elements: &[String]) -> String {
    if elements.iter().map(String::len).sum::<usize>() + 2 * elements.len() < LINE {
        return format!("{{ {} }}", elements.join(", "));
    }
    let mut text = String::from("{\n");
    let mut line = String::from("\t\t\t");
    for (index, element) in elements.iter().enumerate() {
        if line.len() + element.len() > LINE {
            text += line.trim_end_matches(' ');
            text.push('\n');
            line = String::from("\t\t\t");
        }
        line += element;
        if index + 1 < elements.len() {
            line += ", ";
        }
    }
    text + &line + "\n\t\t}"
}
