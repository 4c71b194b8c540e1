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
    use gateway_common::reason::Reason;

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
}
