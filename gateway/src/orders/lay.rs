//! Orders, windows and grants laid onto a policy.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

use gateway_common::condition::{self, EDGES};
use sha2::{Digest, Sha256};

use super::{Clock, Orders, Quarantine, Target, Term, window};
use crate::policy::model::{
    ANY_PORT, AddressSet, Condition, Device, Origin, Policy, Ranges, Rule, RuleKind, SegmentId, Service,
    ServiceClass, ServiceMatch,
};
use crate::policy::ranges::normalise;

/// Intervals of a condition.
const INTERVALS: usize = EDGES / 2;
/// The end of what has none.
const NEVER: u64 = condition::Condition::NEVER;
/// Nanoseconds.
const DAY: u64 = 86_400_000_000_000;
/// Where rules stand that are in no file.
const NOWHERE: &str = "(ordered at the gateway)";

/// A policy with the orders of its gateway.
#[derive(Clone, Debug)]
pub struct Laid {
    /// The policy. Rules of the text keep their numbers.
    pub policy: Policy,
    /// Tells one laid state from another; empty where nothing was laid.
    pub basis: String,
    /// When it must be laid anew, because windows come up that had no room: nanoseconds on the kernel's clock.
    pub stale: Option<u64>,
    /// Windows were laid, or terms that began before the machine was started: it must be laid anew when the wall clock is set.
    pub follows_wall: bool,
}

impl Laid {
    /// The policy as it decides at one moment: what holds then holds always, the rest takes no part in decisions.
    #[must_use]
    pub fn at(self, clock: &Clock) -> Policy {
        let mut policy = self.policy;
        for rule in &mut policy.rules {
            if let Some(condition) = rule.condition.take() {
                rule.unenforced |= !policy.conditions[condition].holds(clock.kernel);
            }
        }
        policy.conditions.clear();
        policy
    }
}

/// Lays the orders onto a policy.
pub fn lay(policy: Policy, orders: &Orders, clock: &Clock) -> Laid {
    let mut layer = Layer {
        clock,
        basis: Sha256::new(),
        laid: false,
        stale: None,
        follows_wall: false,
        everything: None,
        policy,
    };
    layer.vendors(orders);
    // An address is isolated once, for as long as any order says: rules for the same pairs would add up to more than a pair may have.
    let mut standing: Vec<&Quarantine> =
        orders.quarantines.iter().filter(|it| !it.term.is_over(clock)).collect();
    standing.sort_by_key(|it| Reverse(it.term.end(clock).unwrap_or(NEVER)));
    let mut isolated = BTreeSet::new();
    for quarantine in standing {
        layer.quarantine(quarantine, &mut isolated);
    }
    for broken in orders.break_glass.iter().filter(|it| it.is_open(clock)) {
        layer.break_glass(&broken.segment, &broken.term);
    }
    let basis = if layer.laid { format!("{:x}", layer.basis.finalize()) } else { String::new() };
    Laid { policy: layer.policy, basis, stale: layer.stale, follows_wall: layer.follows_wall }
}

/// The addresses that a quarantine isolates, on this policy.
pub(super) fn addresses(policy: &Policy, quarantine: &Quarantine) -> Vec<IpAddr> {
    let of = |device: &Device| device.addresses.clone();
    let mut addresses = match &quarantine.target {
        Target::Device(name) => policy.devices.iter().find(|it| it.name == *name).map(of).unwrap_or_default(),
        Target::Mac(mac) => {
            let has_it =
                |device: &&Device| device.labels.get("mac").is_some_and(|it| it.eq_ignore_ascii_case(mac));
            let mut known = quarantine.addresses.clone();
            known.extend(policy.devices.iter().filter(has_it).flat_map(of));
            known
        }
        Target::Address(address) => vec![*address],
    };
    if addresses.is_empty() {
        addresses.clone_from(&quarantine.addresses);
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

struct Layer<'a> {
    clock: &'a Clock,
    basis: Sha256,
    laid: bool,
    stale: Option<u64>,
    follows_wall: bool,
    /// Index of the service of everything.
    everything: Option<usize>,
    policy: Policy,
}

impl Layer<'_> {
    /// Vendor access that a window or a grant limits.
    fn vendors(&mut self, orders: &Orders) {
        for index in 0..self.policy.rules.len() {
            let rule = self.policy.rules[index].clone();
            let Some(limits) = rule.limits.as_deref().filter(|_| !self.policy.is_out_of_reach(&rule)) else {
                continue;
            };
            let window = limits.window.as_ref().map(|window| {
                let intervals = window::intervals(window, self.clock.unix, INTERVALS);
                self.mark(&format!("{}{intervals:?}", rule.name));
                self.follows_wall = true;
                intervals
            });
            let window: Option<Vec<(u64, u64)>> = window.map(|intervals| {
                intervals
                    .iter()
                    .map(|&(from, until)| (self.clock.kernel_at(from), self.clock.kernel_at(until)))
                    .collect()
            });
            if let Some((all, last)) = window.as_ref().and_then(|all| Some((all, all.last()?))) {
                // Those of a whole week run into each other, and end with the last day that was looked at.
                let is_full = all.len() == INTERVALS;
                let next = if is_full { last.0 } else { last.1.saturating_sub(DAY) };
                self.stale = Some(self.stale.map_or(next, |stale| stale.min(next)));
            }
            if limits.grant {
                for grant in orders.grants.iter().filter(|grant| grant.vendor == limits.vendor) {
                    let end = grant.term.end(self.clock).unwrap_or(NEVER);
                    let to = self.targets(&grant.device, &rule.to);
                    let held = within(window.as_deref(), end);
                    if end <= self.clock.kernel || to.is_empty() || held.is_empty() {
                        continue;
                    }
                    self.mark_term(&format!("grant{}{}", grant.id, rule.name), &grant.term);
                    let condition = self.condition(held);
                    self.policy.rules.push(Rule {
                        name: format!("{}@{}", rule.name, grant.device),
                        to: AddressSet { ranges: ranges(&to), ..AddressSet::default() },
                        unenforced: false,
                        condition: Some(condition),
                        ..rule.clone()
                    });
                }
            } else if let Some(window) = window.filter(|window| !window.is_empty()) {
                let condition = self.condition(window);
                let rule = &mut self.policy.rules[index];
                rule.condition = Some(condition);
                rule.unenforced = false;
            }
        }
    }

    /// Addresses of a device that a rule's set names.
    fn targets(&self, device: &str, to: &AddressSet) -> Vec<IpAddr> {
        let device = self.policy.devices.iter().find(|it| it.name == device);
        let addresses = device.map(|it| it.addresses.clone()).unwrap_or_default();
        addresses.into_iter().filter(|&it| to.contains(it, self.policy.segment_of(it))).collect()
    }

    fn quarantine(&mut self, quarantine: &Quarantine, isolated: &mut BTreeSet<IpAddr>) {
        // Also where another one isolates all that it does: that may end first then.
        self.follows_wall |= quarantine.term.follows_wall(self.clock);
        let mut addresses = addresses(&self.policy, quarantine);
        addresses.retain(|&address| {
            self.policy.segment_of(address) != SegmentId::GATEWAY && isolated.insert(address)
        });
        if addresses.is_empty() {
            return;
        }
        let end = quarantine.term.end(self.clock).unwrap_or(NEVER);
        self.mark(&format!("quarantine{}{addresses:?}{}", quarantine.id, quarantine.term.mark()));
        let condition = self.condition(vec![(0, end)]);
        let word = quarantine.target.word();
        for kept in self.policy.kept.clone() {
            let within = |set: &AddressSet| -> Vec<IpAddr> {
                let named = addresses.iter().filter(|&&it| set.contains(it, self.policy.segment_of(it)));
                named.copied().collect()
            };
            let ends = [("", within(&kept.from), true), ("/in", within(&kept.to), false)];
            for (suffix, own, is_source) in ends {
                if own.is_empty() {
                    continue;
                }
                let own = AddressSet { ranges: ranges(&own), ..AddressSet::default() };
                let (from, to) = if is_source { (own, kept.to.clone()) } else { (kept.from.clone(), own) };
                let name = format!("{}@{word}{suffix}", kept.name);
                self.policy.rules.push(Rule { name, from, to, condition: Some(condition), ..kept.clone() });
            }
        }
        let isolated = AddressSet { ranges: ranges(&addresses), ..AddressSet::default() };
        let everywhere = self.everywhere();
        let services = vec![self.everything()];
        for (suffix, from, to) in [("", &isolated, &everywhere), ("/in", &everywhere, &isolated)] {
            self.policy.rules.push(Rule {
                name: format!("quarantine/{word}{suffix}"),
                kind: RuleKind::Quarantine,
                from: from.clone(),
                to: to.clone(),
                services: services.clone(),
                purpose: Some(quarantine.reason.clone()),
                owner: Some(quarantine.by.clone()),
                review: None,
                unenforced: false,
                condition: Some(condition),
                through: None,
                limits: None,
                origin: Origin { file: NOWHERE.into(), line: 0, column: 0 },
            });
        }
    }

    fn break_glass(&mut self, name: &str, term: &Term) {
        let Some(index) = self.policy.segments.iter().position(|segment| segment.name == name) else {
            return;
        };
        let id = u16::try_from(index).map_or(SegmentId::UNKNOWN, SegmentId);
        self.mark_term(&format!("break-glass{name}"), term);
        let end = term.end(self.clock).unwrap_or(NEVER);
        let until = self.policy.break_glass.entry(id).or_default();
        *until = end.max(*until);
    }

    fn mark_term(&mut self, part: &str, term: &Term) {
        self.mark(&format!("{part}{}", term.mark()));
        self.follows_wall |= term.follows_wall(self.clock);
    }

    fn mark(&mut self, part: &str) {
        self.laid = true;
        self.basis.update(part);
        self.basis.update([0]);
    }

    fn condition(&mut self, intervals: Vec<(u64, u64)>) -> usize {
        self.policy.conditions.push(Condition { intervals });
        self.policy.conditions.len() - 1
    }

    fn everywhere(&self) -> AddressSet {
        let ids =
            (0..self.policy.segments.len()).filter_map(|index| u16::try_from(index).ok()).map(SegmentId);
        let segments: BTreeSet<SegmentId> = ids.filter(|id| *id != SegmentId::UNKNOWN).collect();
        AddressSet { segments, ranges: Ranges::default() }
    }

    fn everything(&mut self) -> usize {
        *self.everything.get_or_insert_with(|| {
            let others = (0..=255).filter(|protocol| ![1, 6, 17, 58].contains(protocol));
            let mut matches = vec![
                ServiceMatch::Tcp { source: ANY_PORT, destination: ANY_PORT },
                ServiceMatch::Udp { source: ANY_PORT, destination: ANY_PORT },
                ServiceMatch::Icmp((0, 255)),
                ServiceMatch::Icmpv6((0, 255)),
            ];
            matches.extend(others.map(ServiceMatch::Protocol));
            self.policy.services.push(Service {
                name: "everything".to_owned(),
                matches,
                class: ServiceClass::Unknown,
                phi: false,
                cleartext: false,
                standard: None,
                origin: None,
            });
            self.policy.services.len() - 1
        })
    }
}

/// A window up to an end; without a window from the beginning.
fn within(window: Option<&[(u64, u64)]>, end: u64) -> Vec<(u64, u64)> {
    let window = window.unwrap_or(&[(0, NEVER)]);
    let cut = window.iter().map(|&(from, until)| (from, until.min(end)));
    cut.filter(|(from, until)| from < until).collect()
}

fn ranges(addresses: &[IpAddr]) -> Ranges {
    let mut ranges = Ranges::default();
    for address in addresses {
        match address {
            IpAddr::V4(v4) => ranges.v4.push((v4.to_bits(), v4.to_bits())),
            IpAddr::V6(v6) => ranges.v6.push((v6.to_bits(), v6.to_bits())),
        }
    }
    ranges.v4 = normalise(std::mem::take(&mut ranges.v4));
    ranges.v6 = normalise(std::mem::take(&mut ranges.v6));
    ranges
}
