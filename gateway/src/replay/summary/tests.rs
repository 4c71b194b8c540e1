#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::packet::Decision;
use crate::replay::capture::Packet;

fn add(summary: &mut Summary, ports: (u16, u16), verdict: Verdict, reason: Reason) {
    let decision = Decision {
        reason,
        rule: None,
        source_segment: SegmentId(4),
        destination_segment: SegmentId(5),
        verdict,
    };
    summary.add(&Judged {
        packet: Packet { number: 1, time: 0, data: &[], length: 60 },
        view: View { service: Service::Tcp(ports.1), ports: Some(ports), ..View::default() },
        placement: None,
        outcome: Ok(decision),
    });
}

#[test]
fn answers_to_many_ports_of_clients_are_one_row() {
    let mut summary = Summary::default();
    for port in 40_000..40_010 {
        add(&mut summary, (port, 104), Verdict::Drop, Reason::NoFlow);
        add(&mut summary, (104, port), Verdict::Drop, Reason::NotInConnection);
    }
    add(&mut summary, (40_000, 104), Verdict::Pass, Reason::Established);
    let rows: Vec<_> = summary
        .rows()
        .into_iter()
        .map(|(row, count)| (row.service, row.is_reply, row.reason, count.packets, count.bytes))
        .collect();
    assert_eq!(
        rows,
        [
            (Service::Tcp(104), false, Reason::NoFlow, 10, 600),
            (Service::Tcp(104), true, Reason::NotInConnection, 10, 600),
        ]
    );
    assert_eq!((summary.packets, summary.not_allowed()), (21, 20));
}

#[test]
fn a_scan_of_everything_does_not_fill_memory() {
    let mut summary = Summary::default();
    for port in 0..=u16::MAX {
        add(&mut summary, (9, port), Verdict::Drop, Reason::NoFlow);
    }
    assert_eq!(summary.rows().len(), ROWS_MAX);
    assert_eq!(summary.unlisted, (1 << 16) - ROWS_MAX as u64);
}

#[test]
fn what_would_pass_for_its_mode_alone_is_listed_behind_what_would_not() {
    let mut summary = Summary::default();
    for verdict in [Verdict::Observe, Verdict::Pass, Verdict::Audit, Verdict::Drop] {
        add(&mut summary, (9, 445), verdict, Reason::NoFlow);
    }
    let listed: Vec<_> = summary.rows().into_iter().map(|(row, _)| row.verdict).collect();
    assert_eq!(listed, [Verdict::Drop, Verdict::Audit, Verdict::Observe]);
    assert_eq!((summary.packets, summary.not_allowed()), (4, 3));
}
