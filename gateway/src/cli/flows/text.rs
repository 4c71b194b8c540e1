//! Flows as people read them.

use std::net::IpAddr;

use crate::telemetry::flow::Flow;

const HEAD: [&str; COLUMNS] = ["last (UTC)", "verdict", "from", "to", "service", "why", "how much"];
const COLUMNS: usize = 7;

/// A table that grows; its columns only get wider.
#[derive(Debug, Default)]
pub(in crate::cli) struct Table {
    widths: [usize; COLUMNS],
    begun: bool,
}

impl Table {
    /// More lines of it.
    pub(in crate::cli) fn render(&mut self, flows: &[Flow]) -> String {
        let mut rows: Vec<[String; COLUMNS]> = Vec::new();
        if !self.begun && !flows.is_empty() {
            rows.push(HEAD.map(str::to_owned));
            self.begun = true;
        }
        rows.extend(flows.iter().map(row));
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &[String; COLUMNS]| {
            let cells = row.iter().zip(self.widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            format!("{}\n", line.trim_end())
        };
        rows.iter().map(line).collect()
    }
}

fn row(flow: &Flow) -> [String; COLUMNS] {
    [
        clock(flow.last.as_deref()),
        flow.verdict.clone(),
        end(&flow.source_segment, flow.source_device.as_deref(), flow.source, flow.source_mac.as_deref()),
        end(&flow.destination_segment, flow.destination_device.as_deref(), flow.destination, None),
        service(flow),
        why(flow),
        how_much(flow),
    ]
}

/// The time of day of `2026-03-02T01:15:19.301Z`.
fn clock(time: Option<&str>) -> String {
    let clock = time.and_then(|time| time.split_once('T')).and_then(|(_, clock)| clock.get(..8));
    clock.unwrap_or("-").to_owned()
}

/// Segment, and the best name for the host in it.
pub(in crate::cli) fn end(
    segment: &str,
    device: Option<&str>,
    address: Option<IpAddr>,
    mac: Option<&str>,
) -> String {
    let host = device.map(str::to_owned).or_else(|| Some(address?.to_string()));
    match host.as_deref().or(mac) {
        Some(host) => format!("{segment} {host}"),
        None => segment.to_owned(),
    }
}

/// Name, and protocol and port.
pub(in crate::cli) fn service(flow: &Flow) -> String {
    match &flow.service_name {
        Some(name) => format!("{name} {}", flow.service),
        None => flow.service.clone(),
    }
}

/// Rule or reason.
pub(in crate::cli) fn why(flow: &Flow) -> String {
    match &flow.rule {
        Some(rule) => format!("{} {rule}", flow.reason),
        None if flow.verdict == "pass" => "the gateway's own".to_owned(),
        None => flow.reason.clone(),
    }
}

/// Packets or connections.
pub(in crate::cli) fn how_much(flow: &Flow) -> String {
    let count = |number: u64, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let amounts = [(flow.packets, "packet"), (flow.connections, "connection")];
    let amounts = amounts.into_iter().filter_map(|(number, what)| Some(count(number?, what)));
    amounts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_who_what_and_why() {
        let blocked = Flow {
            last: Some("2026-03-02T01:15:19.301Z".to_owned()),
            verdict: "drop".to_owned(),
            reason: "denied".to_owned(),
            rule: Some("worm-paths".to_owned()),
            source_segment: "modalities-a".to_owned(),
            source_device: Some("ct-1".to_owned()),
            source: Some(IpAddr::from([10, 10, 40, 11])),
            destination_segment: "pacs".to_owned(),
            destination: Some(IpAddr::from([10, 10, 30, 10])),
            service: "tcp/445".to_owned(),
            service_name: Some("smb".to_owned()),
            packets: Some(3),
            ..Flow::default()
        };
        let passing = Flow {
            verdict: "pass".to_owned(),
            reason: "established".to_owned(),
            source_segment: "gateway".to_owned(),
            destination_segment: "infrastructure".to_owned(),
            service: "udp/67".to_owned(),
            connections: Some(1),
            ..Flow::default()
        };
        let mut table = Table::default();
        assert_eq!(
            table.render(&[blocked.clone(), passing]),
            "last (UTC)  verdict  from               to                service      why                how much\n\
             01:15:19    drop     modalities-a ct-1  pacs 10.10.30.10  smb tcp/445  denied worm-paths  3 packets\n\
             -           pass     gateway            infrastructure    udp/67       the gateway's own  1 connection\n"
        );
        assert!(table.render(&[blocked]).starts_with("01:15:19"), "one head for all");
    }
}
