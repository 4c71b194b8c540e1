//! Results as `JUnit` XML, which pipelines read.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::Answer;
use crate::policy::SourceFile;
use crate::policy::render::Report;

/// One suite; a case for each expectation, or for each mistake where nothing was tested.
pub(super) fn render(answer: &Answer<'_>, sources: &[SourceFile]) -> String {
    let report = Report::new(sources, false);
    let (tests, failures, errors) =
        (answer.expectations.len() + answer.mistakes.len(), answer.failed, answer.mistakes.len());
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"policy\" {counts}>\n"
    );
    for mistake in &answer.mistakes {
        case(&mut xml, mistake.code, &mistake.place.file, mistake.place.line);
        element(&mut xml, "error", &mistake.message, &report.render(mistake));
    }
    for result in &answer.expectations {
        case(&mut xml, result.name, result.file, result.line);
        if let Some(failure) = &result.failure {
            let because = format!("expected because: {}\n\n{}", result.because, report.render(failure));
            element(&mut xml, "failure", &failure.message, &because);
        } else if let Some(warning) = &result.warning {
            let text = escape(&warning.message);
            push(&mut xml, format_args!(">\n      <system-out>{text}</system-out>\n    </testcase>\n"));
        } else {
            xml += "/>\n";
        }
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

/// Begins a case, up to the end of its attributes.
fn case(xml: &mut String, name: &str, file: &str, line: u32) {
    let class = file.rsplit_once('.').map_or(file, |(stem, _)| stem).replace('/', ".");
    let (name, class, file) = (escape(name), escape(&class), escape(file));
    push(
        xml,
        format_args!(
            "    <testcase name=\"{name}\" classname=\"{class}\" file=\"{file}\" line=\"{line}\" time=\"0\""
        ),
    );
}

fn element(xml: &mut String, kind: &str, message: &str, text: &str) {
    let (message, text) = (escape(message), escape(text));
    push(xml, format_args!(">\n      <{kind} message=\"{message}\">{text}\n</{kind}>\n    </testcase>\n"));
}

fn push(xml: &mut String, text: std::fmt::Arguments<'_>) {
    xml.write_fmt(text).expect("writing to a String does not fail");
}

/// Text as XML 1.0 takes it, in an element or a quoted attribute: without characters that it forbids.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| "<>&\"".contains(c) || c.is_control() || c > '\u{fffd}') {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '"' => escaped += "&quot;",
            '\n' => escaped.push(c),
            c if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_that_xml_forbids_comes_through() {
        assert_eq!(
            escape("a < \"b\" & c\n> \u{1b}[1m\u{ffff}"),
            "a &lt; &quot;b&quot; &amp; c\n&gt; \u{fffd}[1m\u{fffd}"
        );
        assert_eq!(escape("plain"), "plain");
    }
}
