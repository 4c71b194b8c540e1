//! Makes a case smaller for as long as the same difference stays: fewer events, then less of the policy.

use std::time::{Duration, Instant};

use clinigate::oracle::packet::Fragment;
use clinigate::policy::model::{InterfaceKind, ModeSetting, Policy, Ranges, Segment, SegmentId, Settings};
use clinigate::testing::script::Event;
use gateway_common::place::SEGMENT_FIRST;

use crate::case::Case;
use crate::readings::{self, Difference};
use crate::tally::Tally;

/// The smallest case found within `patience` that shows the same kind of difference.
pub(crate) fn shrink(case: &Case, difference: &Difference, patience: Duration) -> Case {
    let mut best =
        Shrinker { case: case.clone(), kind: difference.kind.clone(), deadline: Instant::now() + patience };
    let mut cut = case.clone();
    cut.events.truncate(difference.at + 1);
    best.accept(cut);
    loop {
        let before = best.size();
        best.fewer_events();
        best.less_policy();
        best.plainer_events();
        if best.size() == before || best.is_late() {
            best.drop_unused_services();
            return best.case;
        }
    }
}

struct Shrinker {
    case: Case,
    kind: String,
    deadline: Instant,
}

impl Shrinker {
    fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }

    fn size(&self) -> usize {
        self.case.text().len()
    }

    /// Takes a smaller case over if it shows the same.
    fn accept(&mut self, mut case: Case) -> bool {
        if self.is_late() {
            return false;
        }
        match readings::run(&case, &mut Tally::default()) {
            Err(difference) if difference.kind == self.kind => {
                case.events.truncate(difference.at + 1);
                self.case = case;
                true
            }
            _ => false,
        }
    }

    /// Leaves events out, in ever smaller runs (delta debugging).
    fn fewer_events(&mut self) {
        let mut run = self.case.events.len().div_ceil(2).max(1);
        loop {
            // From the end: what came last is seldom the cause, but for the last itself.
            let mut end = self.case.events.len();
            while end > 0 && !self.is_late() {
                let begin = end.saturating_sub(run);
                let mut case = self.case.clone();
                case.events.drain(begin..end.min(case.events.len()));
                self.accept(case);
                end = begin.min(self.case.events.len());
            }
            if run == 1 {
                return;
            }
            run = run.div_ceil(2);
        }
    }

    /// Takes parts of the policy away, in all its versions.
    fn less_policy(&mut self) {
        let rules = self.policies().map(|policy| policy.rules.len()).max().unwrap_or_default();
        let mut run = rules.div_ceil(2).max(1);
        loop {
            for begin in (0..rules).step_by(run).rev() {
                let names: Vec<String> = self
                    .case
                    .policy
                    .rules
                    .iter()
                    .skip(begin)
                    .take(run)
                    .map(|rule| rule.name.clone())
                    .collect();
                if !names.is_empty() {
                    self.reduce(|policy| policy.rules.retain(|rule| !names.contains(&rule.name)));
                }
            }
            if run == 1 {
                break;
            }
            run = run.div_ceil(2);
        }
        if let Some(last) = self.last_interface() {
            self.reduce(|policy| policy.interfaces.retain(|interface| interface.name == last));
        }
        for index in (0..self.case.policy.interfaces.len()).rev() {
            let name = self.case.policy.interfaces[index].name.clone();
            self.reduce(|policy| policy.interfaces.retain(|interface| interface.name != name));
        }
        for index in 0..self.case.policy.interfaces.len() {
            self.reduce(|policy| {
                if let Some(interface) = policy.interfaces.get_mut(index) {
                    interface.routed = false;
                }
            });
            if let InterfaceKind::Trunk { vlans, .. } = self.case.policy.interfaces[index].kind.clone() {
                for vlan in vlans.into_keys() {
                    self.reduce(|policy| {
                        if let Some(InterfaceKind::Trunk { vlans, .. }) =
                            policy.interfaces.get_mut(index).map(|interface| &mut interface.kind)
                        {
                            vlans.remove(&vlan);
                        }
                    });
                }
            }
        }
        self.reduce(|policy| {
            let Settings { connections, neighbour_rate, .. } = policy.settings;
            policy.settings = Settings { connections, neighbour_rate, ..Settings::default() };
        });
        while self.has_unused_last_segment() {
            let before = self.case.policy.segments.len();
            self.reduce(|policy| policy.segments.truncate(before - 1));
            if self.case.policy.segments.len() == before {
                break;
            }
        }
        self.all_segments(|segment| segment.mode = ModeSetting::Enforce);
        self.all_segments(|segment| segment.ethertypes.clear());
        self.all_segments(|segment| segment.routers = false);
        self.all_segments(|segment| segment.ranges = Ranges::default());
        for index in 0..self.case.policy.segments.len() {
            self.reduce(|policy| policy.segments[index].ranges = Ranges::default());
            self.reduce(|policy| {
                policy.segments[index].ethertypes.clear();
                policy.segments[index].routers = false;
            });
            self.reduce(|policy| policy.segments[index].mode = ModeSetting::Enforce);
            self.fewer_ranges(&|policy| policy.segments.get_mut(index).map(|segment| &mut segment.ranges));
        }
        for index in 0..self.case.policy.rules.len() {
            self.fewer_ranges(&|policy| policy.rules.get_mut(index).map(|rule| &mut rule.from.ranges));
            self.fewer_ranges(&|policy| policy.rules.get_mut(index).map(|rule| &mut rule.to.ranges));
            let rule = self.case.policy.rules[index].clone();
            for &segment in &rule.from.segments {
                self.reduce(|policy| {
                    policy.rules.get_mut(index).map(|rule| rule.from.segments.remove(&segment));
                });
            }
            for &segment in &rule.to.segments {
                self.reduce(|policy| {
                    policy.rules.get_mut(index).map(|rule| rule.to.segments.remove(&segment));
                });
            }
            for service in rule.services {
                self.reduce(|policy| {
                    if let Some(rule) = policy.rules.get_mut(index) {
                        rule.services.retain(|other| *other != service);
                    }
                });
            }
        }
        for index in 0..self.case.policy.services.len() {
            for position in (0..self.case.policy.services[index].matches.len()).rev() {
                self.reduce(|policy| {
                    policy.services[index].matches.remove(position);
                });
            }
        }
    }

    /// Where the packet arrived over which the readings differ.
    fn last_interface(&self) -> Option<String> {
        match self.case.events.last()? {
            Event::Packet { port, .. } | Event::Link { port, .. } | Event::Defect { port, .. } => {
                Some(port.interface.clone())
            }
            _ => None,
        }
    }

    fn all_segments(&mut self, change: impl Fn(&mut Segment)) {
        self.reduce(|policy| policy.segments.iter_mut().for_each(&change));
    }

    fn has_unused_last_segment(&self) -> bool {
        self.policies().all(|policy| {
            let last = SegmentId(u16::try_from(policy.segments.len() - 1).expect("few"));
            let arrives = policy.interfaces.iter().any(|interface| match &interface.kind {
                InterfaceKind::Access(segment) => *segment == last,
                InterfaceKind::Trunk { vlans, .. } => vlans.values().any(|segment| *segment == last),
                InterfaceKind::Wan => false,
            });
            let mut sets = policy.rules.iter().flat_map(|rule| [&rule.from, &rule.to]);
            last.0 >= SEGMENT_FIRST && !arrives && !sets.any(|set| set.segments.contains(&last))
        })
    }

    fn fewer_ranges(&mut self, of: &dyn Fn(&mut Policy) -> Option<&mut Ranges>) {
        let Some(ranges) = of(&mut self.case.policy.clone()).cloned() else { return };
        for at in (0..ranges.v4.len()).rev() {
            self.reduce(|policy| {
                if let Some(ranges) = of(policy).filter(|ranges| at < ranges.v4.len()) {
                    ranges.v4.remove(at);
                }
            });
        }
        for at in (0..ranges.v6.len()).rev() {
            self.reduce(|policy| {
                if let Some(ranges) = of(policy).filter(|ranges| at < ranges.v6.len()) {
                    ranges.v6.remove(at);
                }
            });
        }
    }

    fn plainer_events(&mut self) {
        for index in 0..self.case.events.len() {
            let mut case = self.case.clone();
            match case.events.get_mut(index) {
                Some(Event::Packet { sender, dress, packet, .. }) if (*sender, *dress) != (0, 0) => {
                    (*sender, *dress) = (0, 0);
                    let is_first = matches!(packet.fragment, Fragment::First(_));
                    if self.accept(case.clone()) && is_first {
                        if let Some(Event::Packet { packet, .. }) = case.events.get_mut(index) {
                            packet.fragment = Fragment::Whole;
                        }
                        self.accept(case);
                    }
                }
                _ => {}
            }
        }
    }

    fn policies(&self) -> impl Iterator<Item = &Policy> {
        let later = self.case.events.iter().filter_map(|event| match event {
            Event::Change(policy) => Some(&**policy),
            _ => None,
        });
        std::iter::once(&self.case.policy).chain(later)
    }

    /// Does the same to every version of the policy.
    fn reduce(&mut self, change: impl Fn(&mut Policy)) {
        let mut case = self.case.clone();
        change(&mut case.policy);
        for event in &mut case.events {
            if let Event::Change(policy) = event {
                change(policy);
            }
        }
        if case.text() != self.case.text() {
            self.accept(case);
        }
    }

    /// Leaves out services that no rule names.
    fn drop_unused_services(&mut self) {
        let mut used: Vec<usize> = self
            .policies()
            .flat_map(|policy| &policy.rules)
            .flat_map(|rule| rule.services.iter().copied())
            .collect();
        used.sort_unstable();
        used.dedup();
        self.reduce(|policy| {
            policy.services = used.iter().map(|&index| policy.services[index].clone()).collect();
            for service in policy.rules.iter_mut().flat_map(|rule| &mut rule.services) {
                *service = used.binary_search(service).expect("it is one of those that are used");
            }
        });
    }
}
