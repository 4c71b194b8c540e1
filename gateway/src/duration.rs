//! Spans of time as people write them: `30s`, `5m`, `1h30m`, `2d`.

use std::time::Duration;

/// The longest span that anybody means.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// Reads a span: whole numbers, each with one of `s`, `m`, `h`, `d`, the larger first.
///
/// # Errors
/// What was expected, in words.
pub fn parse(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time such as 30s, 5m, 1h30m or 2d".to_owned();
    let (mut total, mut digits, mut last) = (Duration::ZERO, String::new(), u64::MAX);
    for character in text.chars() {
        let unit = match character {
            '0'..='9' if digits.len() < 9 => {
                digits.push(character);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(expected()),
        };
        let number: u64 = digits.parse().map_err(|_| expected())?;
        if unit >= last {
            return Err(expected());
        }
        total += Duration::from_secs(number * unit);
        digits.clear();
        last = unit;
    }
    match total {
        _ if !digits.is_empty() || total.is_zero() => Err(expected()),
        total if total > LONGEST => Err("a year is the most".to_owned()),
        total => Ok(total),
    }
}

/// As [`parse`] reads it, to the second.
pub fn words(span: Duration) -> String {
    let mut seconds = span.as_secs();
    let mut text = String::new();
    for (unit, name) in [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")] {
        let count = seconds / unit;
        seconds %= unit;
        if count > 0 {
            text.extend([count.to_string(), name.to_owned()]);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("90m", 5400)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "m", "0s", "5m5m", "30s1m", "-5m", "5 m", "1w", "9999999999s", "400d", "1h30"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(words(Duration::from_mins(90)), "1h30m");
        assert_eq!(words(Duration::from_millis(900)), "0s");
    }
}
