//! The status as people read it.

mod repository;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::daemon::status::{
    ConnectionStatus, InterfaceStatus, LastApply, PolicyStatus, Status, TrafficStatus,
};

/// Reasons that are listed; the JSON has all.
const REASONS_SHOWN: usize = 8;
/// Characters of a hash or commit that people compare.
const SHORT: usize = 12;

/// Writes `status` as it is seen at `now` (Unix time in milliseconds).
pub(super) fn render(status: &Status, now: u64) -> String {
    let mut text = String::new();
    head(&mut text, status, now);
    if let Some(policy) = &status.policy {
        policy_lines(&mut text, policy, now);
    }
    interfaces(&mut text, &status.interfaces, now);
    if status.policy.is_some() {
        traffic(&mut text, &status.traffic);
        connections(&mut text, &status.connections);
        events(&mut text, status);
    }
    if let Some(unconfirmed) = &status.unconfirmed {
        let left = unconfirmed.until.saturating_sub(now) / 1000;
        let commit =
            unconfirmed.commit.as_deref().map_or_else(String::new, |id| format!(", commit {}", short(id)));
        let words = format!("generation {}{commit}, goes back in {left} s", unconfirmed.generation);
        line(&mut text, "Unconfirmed", &words);
    }
    if let Some(withdrawn) = &status.withdrawn {
        let commit =
            withdrawn.commit.as_deref().map_or_else(String::new, |id| format!(", commit {}", short(id)));
        let words = format!(
            "hash {}{commit}, {}: {}",
            short(&withdrawn.policy_hash),
            on(withdrawn.at, now),
            withdrawn.why
        );
        line(&mut text, "Taken back", &words);
    }
    if let Some(repository) = &status.repository {
        repository::render(&mut text, repository, now);
    }
    if let Some(last) = &status.last_apply {
        last_apply(&mut text, last, now);
    }
    text
}

fn head(text: &mut String, status: &Status, now: u64) {
    line(
        text,
        "Controller",
        &match &status.service {
            Some(service) => {
                let since = since(service.since, now);
                format!("running, version {}, process {}, {since}", service.version, service.pid)
            }
            None if status.policy.is_some() => "not running; enforcement goes on without it".to_owned(),
            None => "not running".to_owned(),
        },
    );
    if let Some(service) = &status.service {
        line(text, "", &format!("metrics on http://{}/metrics", service.metrics));
        line(text, "", &format!("a reload reads {}", service.policy_dir.display()));
        if !service.labels.is_empty() {
            let labels: Vec<String> =
                service.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            line(text, "", &format!("labels {}", labels.join(", ")));
        }
    }
    for finding in status.findings() {
        line(text, "Attention", &finding);
    }
    for note in status.notes() {
        line(text, "Note", &note);
    }
}

fn policy_lines(text: &mut String, policy: &PolicyStatus, now: u64) {
    let took = milliseconds(policy.took_ms);
    line(
        text,
        "Policy",
        &format!(
            "generation {}, in force {}, applied in {took}",
            policy.generation,
            since(policy.applied_at, now)
        ),
    );
    let files = match policy.files.len() {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    line(text, "", &format!("from {} ({files}: {})", policy.source, policy.files.join(", ")));
    let commit = policy.commit.as_deref().map_or_else(
        || "not in a git work tree".to_owned(),
        |commit| {
            let (commit, changes) =
                commit.split_once('+').map_or((commit, ""), |(commit, _)| (commit, ", with changes since"));
            format!("commit {}{changes}", short(commit))
        },
    );
    line(text, "", &format!("hash {}, {commit}", short(&policy.hash)));
    line(
        text,
        "",
        &format!(
            "segments, built-in ones too: {}; rules: {}",
            counts(&policy.segments),
            counts(&policy.rules)
        ),
    );
    let sizes: Vec<String> = policy.tables.iter().map(|(name, size)| format!("{size} {name}")).collect();
    line(text, "Tables", &format!("{}: {}", bytes(policy.table_bytes), sizes.join(", ")));
}

fn interfaces(text: &mut String, interfaces: &[InterfaceStatus], now: u64) {
    if interfaces.is_empty() {
        return;
    }
    let mut rows = vec![["", "name", "index", "XDP", "driver", "attached", "segments"].map(str::to_owned)];
    for interface in interfaces {
        let kind = if interface.trunk { " (trunk)" } else { "" };
        let absent = if interface.ifindex.is_some() { "not attached" } else { "missing" };
        rows.push([
            String::new(),
            interface.name.clone(),
            interface.ifindex.map_or_else(|| "-".to_owned(), |index| index.to_string()),
            interface.mode.clone().unwrap_or_else(|| absent.to_owned()),
            interface.driver.clone().unwrap_or_else(|| "-".to_owned()),
            interface.since.map_or_else(|| "-".to_owned(), |at| ago(at, now)),
            format!("{}{kind}", interface.segments.join(", ")),
        ]);
    }
    "Interfaces".clone_into(&mut rows[0][0]);
    columns(text, &rows);
}

fn traffic(text: &mut String, traffic: &TrafficStatus) {
    let of = |verdict: &str| traffic.verdicts.get(verdict).copied().unwrap_or_default();
    line(
        text,
        "Packets",
        &format!(
            "{} passed, {} dropped; not allowed but passed: {} audited, {} observed",
            of("pass"),
            of("drop"),
            of("audit"),
            of("observe")
        ),
    );
    let mut rows = Vec::new();
    for count in traffic.reasons.iter().take(REASONS_SHOWN) {
        rows.push([String::new(), count.verdict.clone(), count.reason.clone(), count.packets.to_string()]);
    }
    columns(text, &rows);
    if let Some(more) = traffic.reasons.len().checked_sub(REASONS_SHOWN).filter(|more| *more > 0) {
        line(text, "", &format!("and {more} more reasons"));
    }
}

fn connections(text: &mut String, connections: &ConnectionStatus) {
    let fill = (connections.live * 100).checked_div(connections.capacity).unwrap_or_default();
    let live = format!("{} of {} ({fill} %)", connections.live, connections.capacity);
    let states = if connections.by_state.is_empty() {
        String::new()
    } else {
        format!(": {}", counts(&connections.by_state))
    };
    line(text, "Connections", &format!("{live}{states}"));
    if connections.refused > 0 {
        line(text, "", &format!("{} refused for want of room", connections.refused));
    }
}

fn events(text: &mut String, status: &Status) {
    let events = &status.events;
    let read = if status.service.is_some() {
        format!("{} read ({} too many to list), ", events.read, events.unlisted)
    } else {
        String::new()
    };
    line(
        text,
        "Events",
        &format!("{read}{} lost, {} held back by the rate limit", events.lost, events.suppressed),
    );
}

fn last_apply(text: &mut String, last: &LastApply, now: u64) {
    let took = milliseconds(last.took_ms);
    let source = last.source.display();
    let when = on(last.at, now);
    match &last.error {
        None => line(text, "Last change", &format!("applied {when} from {source} in {took}")),
        Some(error) => {
            line(text, "Last change", &format!("refused {when} from {source} after {took}:"));
            for error_line in error.lines() {
                line(text, "", error_line);
            }
        }
    }
}

/// Width of the headings.
const HEADING: usize = 12;

fn line(text: &mut String, heading: &str, words: &str) {
    let padded = format!("{heading:HEADING$} {words}");
    let _ = writeln!(text, "{}", padded.trim_end());
}

/// Writes rows whose first cell is a heading and whose others are aligned.
fn columns<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells: Vec<String> = (1..N).map(|column| format!("{:1$}", row[column], widths[column])).collect();
        line(text, &row[0], &cells.join("  "));
    }
}

fn counts<T: std::fmt::Display>(counts: &BTreeMap<String, T>) -> String {
    let words: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn short(hash: &str) -> &str {
    hash.get(..SHORT).unwrap_or(hash)
}

fn since(at: u64, now: u64) -> String {
    format!("since {}", on(at, now))
}

fn on(at: u64, now: u64) -> String {
    let at_ms = i64::try_from(at).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(at_ms).map_or_else(
        |_| "an unknown time".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    );
    format!("{time} ({})", ago(at, now))
}

fn ago(at: u64, now: u64) -> String {
    let seconds = now.saturating_sub(at) / 1000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn milliseconds(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{} s", ms / 1000) }
}

fn bytes(count: u64) -> String {
    let kib = count.div_ceil(1024);
    if kib < 10_240 { format!("{kib} KiB") } else { format!("{} MiB", kib / 1024) }
}

#[cfg(test)]
mod tests;
