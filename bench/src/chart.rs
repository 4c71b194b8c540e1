//! Bars as SVG, for the documentation.

use std::fmt::Write as _;

use crate::statistics::Summary;

/// Pixels.
const WIDTH: f64 = 860.0;
const ROW: f64 = 24.0;
const LABELS: f64 = 270.0;
/// To the right of the longest bar, for its number.
const NUMBERS: f64 = 110.0;
const TOP: f64 = 44.0;

/// A bar, with a whisker from quartile to quartile.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: Summary,
    /// One of Clinigate's, not of what it is compared with.
    pub(crate) ours: bool,
}

/// Draws bars one below the other. `goal` is a value to reach or not to exceed, and what it is called.
pub(crate) fn draw(title: &str, unit: &str, bars: &[Bar], goal: Option<(f64, &str)>) -> String {
    let longest =
        bars.iter().map(|bar| bar.value.high).chain(goal.map(|(value, _)| value)).fold(1e-9, f64::max);
    let scale = (WIDTH - LABELS - NUMBERS) / longest;
    let height = TOP + ROW * bars.len() as f64 + 30.0;
    let mut svg = String::new();
    line(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>",
            escape(title)
        ),
    );
    for (number, bar) in bars.iter().enumerate() {
        row(&mut svg, TOP + ROW * number as f64, bar, unit, scale);
    }
    if let Some((value, name)) = goal {
        let x = LABELS + value * scale;
        let end = TOP + ROW * bars.len() as f64 + 4.0;
        line(
            &mut svg,
            format_args!(
                "<line x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{end}\" stroke=\"#c0392b\" stroke-dasharray=\"4 3\"/>\n\
                 <text x=\"{x:.1}\" y=\"{}\" fill=\"#c0392b\" text-anchor=\"middle\">{}</text>",
                TOP - 4.0,
                end + 15.0,
                escape(name)
            ),
        );
    }
    svg + "</svg>\n"
}

fn row(svg: &mut String, y: f64, bar: &Bar, unit: &str, scale: f64) {
    let colour = if bar.ours { "#1f77b4" } else { "#9aa5b1" };
    let (width, middle) = (bar.value.median * scale, y + ROW / 2.0);
    let [low, high] = [bar.value.low, bar.value.high].map(|value| LABELS + value * scale);
    line(
        svg,
        format_args!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\n\
             <line x1=\"{low:.1}\" y1=\"{middle:.1}\" x2=\"{high:.1}\" y2=\"{middle:.1}\" stroke=\"#222222\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{} {unit}</text>",
            LABELS - 8.0,
            middle + 4.5,
            escape(&bar.label),
            y + 3.0,
            ROW - 6.0,
            high.max(LABELS + width) + 6.0,
            middle + 4.5,
            number(bar.value.median)
        ),
    );
}

/// Three digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_value() {
        let of =
            |label: &str, value| Bar { label: label.to_owned(), value: Summary::of([value]), ours: true };
        let svg = draw("A < B", "ns", &[of("one", 1.0), of("four", 4.0)], Some((2.0, "goal")));
        let widths: Vec<f64> = svg
            .lines()
            .filter_map(|line| line.split_once("fill=\"#1f77b4\"").and(line.split_once("width=\"")))
            .filter_map(|(_, rest)| rest.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(widths, [120.0, 480.0]);
        assert!(svg.contains("A &lt; B") && svg.contains("4.00 ns") && svg.contains(">goal<"));
    }
}
