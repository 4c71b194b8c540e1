//! What the counters say about one attempt.

use clinigate_tests::metrics::{Labels, Metrics};
use gateway_common::reason::Verdict;

use crate::expectations::Expected;

const PACKETS: &str = "clinigate_packets_total";
const RULES: &str = "clinigate_rule_packets_total";

/// How the counters grew.
#[derive(Debug)]
pub(crate) struct Growth {
    rules: Vec<(Labels, u64)>,
    /// Of drops alone, each packet once: by the segment that it came from.
    drops: Vec<(Labels, u64)>,
}

impl Growth {
    /// Between two readings.
    pub(crate) fn between(before: &Metrics, after: &Metrics) -> Self {
        let mut drops = after.growth(before, PACKETS);
        drops.retain(|(labels, _)| {
            label(labels, "direction") == "out" && label(labels, "verdict") == Verdict::Drop.name()
        });
        Self { rules: after.growth(before, RULES), drops }
    }

    /// Packets dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.drops.iter().map(|(_, packets)| packets).sum()
    }

    /// What decided, and how many packets were counted under it. What the counters should not
    /// have done is added to `differences`.
    pub(crate) fn judge(&self, expected: Expected, differences: &mut Vec<String>) -> (String, u64) {
        match expected {
            Expected::Passes(flow) => {
                let packets = self.by_rule(flow);
                if packets == 0 {
                    differences.push(format!("flow {flow} counted nothing; {}", self.words()));
                } else if self.dropped() > 0 {
                    differences.push(format!("{} packets were dropped; {}", self.dropped(), self.words()));
                }
                if packets == 0 { (self.words(), self.dropped()) } else { (format!("flow {flow}"), packets) }
            }
            Expected::Stopped { from, reason, deny, packets } => {
                let of_reason = |labels: &Labels| {
                    label(labels, "segment") == from && label(labels, "reason") == reason.name()
                };
                let found: u64 = self
                    .drops
                    .iter()
                    .filter(|(labels, _)| of_reason(labels))
                    .map(|(_, packets)| packets)
                    .sum();
                let of_rule = deny.map(|deny| (deny, self.by_rule(deny)));
                if let Some((deny, counted)) = of_rule.filter(|(_, counted)| *counted != packets) {
                    differences.push(format!("deny {deny} counted {counted} packets instead of {packets}"));
                }
                if found != packets || self.dropped() != packets {
                    let wanted = format!("{packets} with reason {} from {from}", reason.name());
                    differences.push(format!("expected {wanted}; {}", self.words()));
                }
                if found == 0 {
                    return (self.words(), self.dropped());
                }
                let origin = format!("{} from {from}", reason.name());
                (deny.map_or(origin, |deny| format!("deny {deny}")), found)
            }
        }
    }

    fn by_rule(&self, rule: &str) -> u64 {
        let of_rule = |(labels, _): &&(Labels, u64)| label(labels, "rule") == rule;
        self.rules.iter().filter(of_rule).map(|(_, packets)| packets).sum()
    }

    fn words(&self) -> String {
        let rules =
            self.rules.iter().map(|(labels, packets)| format!("{} x{packets}", label(labels, "rule")));
        let drops = self.drops.iter().map(|(labels, packets)| {
            format!("{} from {} x{packets}", label(labels, "reason"), label(labels, "segment"))
        });
        let words: Vec<_> = rules.chain(drops).collect();
        if words.is_empty() { "nothing counted".to_owned() } else { words.join(", ") }
    }
}

fn label<'a>(labels: &'a Labels, name: &str) -> &'a str {
    labels.get(name).map_or("", String::as_str)
}
