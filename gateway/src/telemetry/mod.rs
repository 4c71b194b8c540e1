//! Counters and events out of the kernel: to Prometheus, and to the log.
//!
//! Everything here works on plain values; who reads them from the kernel, and when, is the
//! daemon's business.

pub mod event_log;
pub mod events;
pub mod flow;
pub mod logging;
pub mod metrics;
pub mod names;
pub mod orders;
pub mod reading;
pub mod recent;
pub mod talkers;

#[cfg(test)]
mod tests {
    use gateway_common::reason::{Reason, Verdict};

    /// Every reason stands in docs/reasons.md with its own words, and nothing else does.
    #[test]
    fn every_reason_is_explained() {
        let page = include_str!("../../../docs/reasons.md");
        for reason in Reason::ALL {
            let row = format!("| `{}` | {} |", reason.name(), reason.describe());
            assert!(page.contains(&row), "docs/reasons.md lacks: {row}");
        }
        assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), Reason::COUNT);
    }

    /// Each in the table that says in which modes it passes.
    #[test]
    fn every_reason_stands_with_its_modes() {
        let page = include_str!("../../../docs/reasons.md");
        let tables: Vec<&str> = page.split("\n|---").skip(1).collect();
        for reason in Reason::ALL {
            let has_no_place =
                [Reason::UnknownVlan, Reason::UnknownInterface, Reason::NoPolicy].contains(reason);
            let table = match reason.settled() {
                _ if reason.passes() => 0,
                Some(Verdict::Drop) => 2,
                _ if has_no_place => 2,
                _ => 1,
            };
            let row = format!("\n| `{}` |", reason.name());
            let found: Vec<bool> = tables.iter().map(|table| table.contains(&row)).collect();
            assert_eq!(found.iter().position(|&is_there| is_there), Some(table), "{}", reason.name());
        }
    }
}
