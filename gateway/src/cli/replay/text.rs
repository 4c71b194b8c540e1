//! A replay for people.

use std::io::{self, Write};

use super::line::{Blocked, Line, Whole, timestamp};

/// Rows of the summary that are written out.
const ROWS: usize = 40;

/// One line: number, time, place, who with whom, verdict and why.
pub(super) fn packet(out: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    write!(out, "{:>6} {:.6} ", line.packet, timestamp(line.time))?;
    match (line.interface, line.placed) {
        (Some(interface), Some(placed)) => write!(out, "{interface}{} (by {})", tags(line), placed.name())?,
        _ => write!(out, "?{}", tags(line))?,
    }
    if let Some(source) = line.source {
        write!(out, "  {source}")?;
        if let Some(port) = line.source_port {
            write!(out, " port {port}")?;
        }
    }
    if let Some(destination) = line.destination {
        write!(out, " to {destination}")?;
    }
    write!(out, " {}", line.service)?;
    if let (Some(source), Some(destination)) = (line.source_segment, line.destination_segment) {
        write!(out, "  {source} to {destination}")?;
    }
    write!(out, "  {}: {}", line.verdict, line.reason)?;
    if let (Some(rule), Some(origin)) = (line.rule, line.origin) {
        write!(out, ", {rule} ({origin})")?;
    }
    writeln!(out)
}

fn tags(line: &Line<'_>) -> String {
    match (line.outer_vlan, line.vlan) {
        (Some(outer), Some(vlan)) => format!(" vlan {outer}.{vlan}"),
        (_, Some(vlan)) => format!(" vlan {vlan}"),
        _ => String::new(),
    }
}

/// The counts, and what is not allowed.
pub(super) fn summary(out: &mut impl Write, whole: &Whole<'_>) -> io::Result<()> {
    let Whole { captures, packets, pass, observe, audit, drop, .. } = whole;
    let files = if *captures == 1 { "capture" } else { "captures" };
    write!(out, "{packets} packets in {captures} {files}: {pass} pass, {drop} would be dropped")?;
    for (count, mode) in [(audit, "audit"), (observe, "observe")] {
        if *count > 0 {
            write!(out, ", {count} pass only because of mode {mode}")?;
        }
    }
    writeln!(out)?;
    for not_judged in &whole.not_judged {
        writeln!(out, "not judged ({}): {}", not_judged.reason, not_judged.packets)?;
    }
    if whole.out_of_order > 0 {
        writeln!(out, "out of order, judged at the time of the one before: {}", whole.out_of_order)?;
    }
    if whole.not_allowed.is_empty() {
        return Ok(());
    }
    let header = ["VERDICT", "FROM", "TO", "SERVICE", "REASON", "PACKETS", "BYTES"].map(str::to_owned);
    let rows = whole.not_allowed.iter().take(ROWS).map(cells);
    table(out, &std::iter::once(header).chain(rows).collect::<Vec<_>>())?;
    let rest = whole.not_allowed.iter().skip(ROWS).map(|row| row.packets).sum::<u64>() + whole.unlisted;
    if rest > 0 {
        writeln!(out, "and {rest} packets of further pairs and services")?;
    }
    Ok(())
}

fn cells(row: &Blocked<'_>) -> [String; 7] {
    let reason = match (row.rule, row.origin) {
        (Some(rule), Some(origin)) => format!("{}: {rule} ({origin})", row.reason),
        _ => row.reason.to_owned(),
    };
    [
        row.verdict.to_owned(),
        row.source_segment.to_owned(),
        row.destination_segment.to_owned(),
        format!("{}{}", row.service, if row.reply { " (reply)" } else { "" }),
        reason,
        row.packets.to_string(),
        row.bytes.to_string(),
    ]
}

/// Columns as wide as they must be; the last two are numbers.
fn table(out: &mut impl Write, rows: &[[String; 7]]) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    writeln!(out)?;
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) = if column >= 5 { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.extend([before, cell.as_str(), after, "  "]);
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
