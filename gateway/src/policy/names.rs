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
