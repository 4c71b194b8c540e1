//! A snapshot as people read it.

use super::super::flows::text as flow;
use super::{PairRate, Snapshot};

/// Lines of a part where there is no screen to fit into.
const LINES: usize = 15;

/// Writes a snapshot; within as many lines and columns as `size` says.
pub(super) fn render(snapshot: &Snapshot, size: Option<(usize, usize)>) -> String {
    // A head, and three parts with a title and an empty line each.
    let lines = size.map_or(LINES, |(rows, _)| rows.saturating_sub(9) / 3);
    let blocked = |pair: &&PairRate| pair.verdict != "pass";
    let mut text = head(snapshot);
    part(&mut text, "Busiest pairs", pairs(snapshot.pairs.iter().filter(|pair| !blocked(pair)), lines));
    part(&mut text, "Most blocked pairs", pairs(snapshot.pairs.iter().filter(blocked), lines));
    part(&mut text, "Blocked in the last five minutes", flows(snapshot, lines));
    match size {
        None => text,
        Some((rows, columns)) => {
            let cut =
                text.lines().take(rows).map(|line| line.chars().take(columns).collect::<String>() + "\n");
            cut.collect()
        }
    }
}

fn head(snapshot: &Snapshot) -> String {
    let rate = |verdict: &str| -> f64 {
        let pairs = snapshot.pairs.iter().filter(|pair| pair.verdict == verdict);
        // Not `sum`: that of nothing is -0.
        pairs.fold(0.0, |sum, pair| sum + pair.packets_per_second)
    };
    let clock = snapshot.at.get(11..19).unwrap_or_default();
    let lost = if snapshot.events_lost > 0 {
        format!(", {} reports lost so far", snapshot.events_lost)
    } else {
        String::new()
    };
    format!(
        "{clock} UTC  packets a second: {:.1} passed, {:.1} dropped, {:.1} audited, {:.1} observed; {} of {} \
         connections{lost}\n",
        rate("pass"),
        rate("drop"),
        rate("audit"),
        rate("observe"),
        snapshot.connections,
        snapshot.connections_capacity
    )
}

fn part(text: &mut String, title: &str, rows: Vec<[String; 4]>) {
    let mut add = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    add(format!("\n{title}"));
    if rows.is_empty() {
        add("  none".to_owned());
    }
    let widths: [usize; 4] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    });
    for [who, first, second, why] in rows {
        let [wide, one, two, _] = widths;
        add(format!("  {who:wide$}  {first:>one$}  {second:>two$}  {why}"));
    }
}

fn pairs<'a>(pairs: impl Iterator<Item = &'a PairRate>, lines: usize) -> Vec<[String; 4]> {
    let row = |pair: &PairRate| {
        let why = if pair.verdict == "drop" || pair.verdict == "pass" {
            pair.reason.clone()
        } else {
            format!("{} ({})", pair.reason, pair.verdict)
        };
        [
            format!("{} -> {}", pair.source, pair.destination),
            format!("{:.1} packets/s", pair.packets_per_second),
            bits(pair.bits_per_second),
            why,
        ]
    };
    pairs.take(lines).map(row).collect()
}

fn flows(snapshot: &Snapshot, lines: usize) -> Vec<[String; 4]> {
    let end = |segment: &str, device: &Option<String>, address, mac: Option<&str>| {
        flow::end(segment, device.as_deref(), address, mac)
    };
    let row = |blocked: &super::Flow| {
        let (from, to) = (
            end(
                &blocked.source_segment,
                &blocked.source_device,
                blocked.source,
                blocked.source_mac.as_deref(),
            ),
            end(&blocked.destination_segment, &blocked.destination_device, blocked.destination, None),
        );
        [format!("{from} -> {to}"), flow::how_much(blocked), flow::service(blocked), flow::why(blocked)]
    };
    snapshot.blocked.iter().take(lines).map(row).collect()
}

fn bits(rate: f64) -> String {
    match rate {
        rate if rate < 1e3 => format!("{rate:.0} bit/s"),
        rate if rate < 1e6 => format!("{:.1} kbit/s", rate / 1e3),
        rate if rate < 1e9 => format!("{:.1} Mbit/s", rate / 1e6),
        rate => format!("{:.1} Gbit/s", rate / 1e9),
    }
}
