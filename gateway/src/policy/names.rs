//! Names: which are allowed, and which one was probably meant.

use super::decode::Text;
use super::diagnostic::Diagnostic;

/// Characters of a name.
const LENGTH_LIMIT: usize = 64;

/// Segments that every policy has, and the word for all of them.
pub(super) const RESERVED: [&str; 5] = ["any", "wan", "gateway", "multicast", "unknown"];

/// What is wrong with a new name, if anything is.
pub(super) fn check(name: &Text) -> Option<Diagnostic> {
    let text = name.as_str();
    let sound = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && text.chars().any(|c| c.is_ascii_alphabetic())
        && text.len() <= LENGTH_LIMIT;
    if text.is_empty() || sound {
        return None;
    }
    let shown: String = text.chars().take(LENGTH_LIMIT).collect();
    Some(
        Diagnostic::error("bad-name", name.place.clone(), format!("`{shown}` cannot be a name"))
            .expected("expected letters, digits, `-`, `_` and `.`, at least one letter, at most 64 in all"),
    )
}

/// The known name that is nearest to `name`, if one is near enough to have been meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 2 * LENGTH_LIMIT {
        return None;
    }
    let length = name.chars().count();
    let reach = (length / 3).clamp(1, 4);
    let lower = name.to_lowercase();
    known
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= reach)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= reach)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The nearest known name as a question to whoever wrote `name`, to stand behind a message; empty where none is near.
pub fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_name(text: &str) -> bool {
        check(&Text { value: text.to_owned(), ..Text::default() }).is_none()
    }

    #[test]
    fn a_name_has_a_letter_and_no_blank() {
        let longest = "a".repeat(LENGTH_LIMIT);
        for name in ["pumps", "ct-1", "3d-print", "a_b.c", "P", &longest] {
            assert!(is_name(name), "{name}");
        }
        let too_long = format!("{longest}a");
        for name in ["-a", ".a", "a b", "a/b", "12", "1.2", "\u{e9}", &too_long] {
            assert!(!is_name(name), "{name}");
        }
    }

    /// A third of the letters may differ, one at least and four at most.
    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("pump", ["pacs", "pumps", "bumps"]), Some("pumps"));
        assert_eq!(nearest("PUMPS", ["pumps"]), Some("pumps"));
        assert_eq!(nearest("ab", ["abc", "abcd"]), Some("abc"));
        assert_eq!(nearest("ab", ["abcd"]), None);
        assert_eq!((nearest("abcdef", ["abcdxy"]), nearest("abcdef", ["abcxyz"])), (Some("abcdxy"), None));
        let long = "abcdefghijklmnopqrstuvwx";
        assert_eq!(nearest(long, ["abcdefghijklmnopqrst1234"]), Some("abcdefghijklmnopqrst1234"));
        assert_eq!(nearest(long, ["abcdefghijklmnopqrs12345"]), None);
        assert_eq!(nearest("pumps", []), None);
    }

    /// Comparing takes the product of both lengths.
    #[test]
    fn a_text_too_long_for_a_name_is_not_compared() {
        let text = "a".repeat(2 * LENGTH_LIMIT + 1);
        assert_eq!(nearest(&text[1..], [&text[2..]]), Some(&text[2..]));
        assert_eq!(nearest(&text, [&text[1..]]), None);
    }
}
