//! What was blocked lately, for whoever asks: the last quarter of an hour, in bounded memory.

use std::collections::HashMap;
use std::time::Duration;

use gateway_common::event::Event;

use super::events::{FLOW_LIMIT, FlowKey, Moment, Sum};
use super::flow::{Flow, FlowFilter};
use super::names::Names;

/// For how long a blocked flow is remembered after its last packet.
pub const MEMORY: Duration = Duration::from_mins(15);
/// Flows that are forgotten at once when there are [`FLOW_LIMIT`]: those that were quiet for longest.
const FORGOTTEN: usize = FLOW_LIMIT / 8;

/// Blocked flows of the last [`MEMORY`], at most [`FLOW_LIMIT`].
#[derive(Debug, Default)]
pub struct Recent {
    flows: HashMap<FlowKey, Sum>,
}

impl Recent {
    /// Adds a report.
    pub fn add(&mut self, event: &Event) {
        let key = FlowKey::of(event);
        if let Some(sum) = self.flows.get_mut(&key) {
            sum.add(event);
            return;
        }
        if self.flows.len() >= FLOW_LIMIT {
            self.make_room();
        }
        self.flows.insert(key, Sum::of(event));
    }

    /// Forgets what has been quiet for [`MEMORY`].
    pub fn forget_old(&mut self, now: Moment) {
        let since = since(now, MEMORY);
        self.flows.retain(|_, sum| sum.last >= since);
    }

    /// Flows that had a packet within the last `window` and that `filter` takes; each once, whichever
    /// generation judged it.
    pub fn list(&self, names: &Names, filter: &FlowFilter, window: Duration, now: Moment) -> Vec<Flow> {
        let since = since(now, window);
        let mut listed = HashMap::new();
        for (key, sum) in self.flows.iter().filter(|(_, sum)| sum.last >= since) {
            let flow = key.name(sum, names, now);
            if !filter.takes(&flow) {
                continue;
            }
            match listed.entry(flow.identity()) {
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(flow);
                }
                std::collections::hash_map::Entry::Occupied(mut known) => known.get_mut().merge(flow),
            }
        }
        listed.into_values().collect()
    }

    fn make_room(&mut self) {
        let mut times: Vec<u64> = self.flows.values().map(|sum| sum.last).collect();
        let (_, limit, _) = times.select_nth_unstable(FORGOTTEN);
        let limit = *limit;
        self.flows.retain(|_, sum| sum.last > limit);
    }
}

fn since(now: Moment, window: Duration) -> u64 {
    now.monotonic.saturating_sub(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(seconds: u64) -> Moment {
        Moment { monotonic: seconds * 1_000_000_000, wall: jiff::Timestamp::UNIX_EPOCH }
    }

    fn event(port: u16, seconds: u64) -> Event {
        let time = seconds * 1_000_000_000;
        Event {
            time,
            protocol: 6,
            ethertype: 0x0800,
            destination_port: port.to_be(),
            verdict: 3,
            ..Event::default()
        }
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let mut recent = Recent::default();
        for port in 0..20_000 {
            recent.add(&event(port, 1 + u64::from(port)));
            assert!(recent.flows.len() <= FLOW_LIMIT);
        }
        let listed = recent.list(&Names::default(), &FlowFilter::default(), MEMORY, now(20_000));
        let has = |service: &str| listed.iter().any(|flow| flow.service == service);
        assert!(has("tcp/19999") && !has("tcp/5"));
        // All at the same moment: room is made all the same.
        for port in 0..20_000 {
            recent.add(&event(port, 30_000));
            assert!(recent.flows.len() <= FLOW_LIMIT);
        }
    }

    #[test]
    fn generations_do_not_tell_flows_apart_and_windows_do() {
        let mut recent = Recent::default();
        recent.add(&event(445, 100));
        recent.add(&Event { generation: 7, packets: 3, ..event(445, 110) });
        recent.add(&event(139, 10));
        let list = |window| {
            recent.list(&Names::default(), &FlowFilter::default(), Duration::from_secs(window), now(120))
        };
        let [flow] = list(60).try_into().expect("one flow");
        assert_eq!((flow.service.as_str(), flow.packets), ("tcp/445", Some(4)));
        assert_eq!(list(115).len(), 2);
        recent.forget_old(now(10 + 901));
        assert_eq!(recent.flows.len(), 2);
    }
}
