//! Entering orders into the book, or saying what is in the way.

use std::net::IpAddr;

use super::super::super::control::Order;
use super::super::error::ChangeError;
use crate::dataplane;
use crate::orders::{BreakGlass, Clock, Grant, Orders, Quarantine, Target, Term};
use crate::policy::meant;
use crate::policy::model::{Device, Policy, RuleKind, SegmentId};

/// Seconds that a segment may be open in an emergency.
const BREAK_GLASS_LONGEST: u64 = 24 * 3600;

/// Enters an order; its number.
pub(super) fn enter(
    orders: &mut Orders,
    order: &Order,
    by: &str,
    policy: &Policy,
    clock: &Clock,
) -> Result<u64, ChangeError> {
    orders.expire(clock);
    let mut book = Book { orders, by, policy, clock };
    let entered = match order {
        Order::QuarantineAdd { target, reason, seconds } => book.isolate(target, reason, *seconds),
        Order::QuarantineRelease { target } => book.release(target),
        Order::GrantOpen { vendor, device, ticket, seconds } => book.grant(vendor, device, ticket, *seconds),
        Order::GrantClose { vendor, device } => book.close(vendor, device),
        Order::BreakGlass { segment, reason, seconds } => book.break_glass(segment, reason, *seconds),
        Order::BreakGlassEnd { segment } => book.mend_glass(segment),
        Order::BreakGlassReview { segment, .. } => book.review(segment),
        Order::List {} | Order::Look { .. } => Err("this is no order".to_owned()),
    };
    entered.map_err(ChangeError::Order)
}

/// Where orders are entered: each method gives the number of what was ordered, or why it cannot be, and what to do instead.
struct Book<'a> {
    orders: &'a mut Orders,
    by: &'a str,
    policy: &'a Policy,
    clock: &'a Clock,
}

impl Book<'_> {
    fn isolate(&mut self, target: &str, reason: &str, seconds: Option<u64>) -> Result<u64, String> {
        let target = Target::read(target);
        let found = resolve(self.policy, &target).map(|(addresses, _)| addresses);
        let (reason, by, clock) = (reason.to_owned(), self.by.to_owned(), self.clock);
        let term = Term::new(clock, seconds);
        if let Some(standing) = self.orders.quarantines.iter_mut().find(|it| it.target == target) {
            // Whoever adds may make it last, and may not let go by the way.
            let end = |term: &Term| term.end(clock).unwrap_or(u64::MAX);
            if end(&term) < end(&standing.term) {
                let word = target.word();
                return Err(format!(
                    "{word} is in quarantine already, and for longer; to let it go: clinigate quarantine release {word}"
                ));
            }
            // Nobody is let go because he has not spoken for a while: what is known of an Ethernet address comes and goes.
            let addresses = match (&target, found) {
                (Target::Mac(_), found) => {
                    standing.learn(&found.unwrap_or_default());
                    std::mem::take(&mut standing.addresses)
                }
                (Target::Device(_) | Target::Address(_), found) => found?,
            };
            *standing = Quarantine { id: standing.id, target, addresses, reason, by, term };
            return Ok(standing.id);
        }
        let found = found?;
        let id = self.orders.number();
        let mut quarantine = Quarantine { id, target, addresses: Vec::new(), reason, by, term };
        quarantine.learn(&found);
        self.orders.quarantines.push(quarantine);
        Ok(id)
    }

    fn release(&mut self, target: &str) -> Result<u64, String> {
        let target = Target::read(target);
        if let Some(index) = self.orders.quarantines.iter().position(|it| it.target == target) {
            return Ok(self.orders.quarantines.remove(index).id);
        }
        let word = target.word();
        let known: Vec<String> = self.orders.quarantines.iter().map(|it| it.target.word()).collect();
        Err(format!("{word} is not in quarantine{}", meant(&word, known.iter().map(String::as_str))))
    }

    fn grant(&mut self, vendor: &str, device: &str, ticket: &str, seconds: u64) -> Result<u64, String> {
        may_be_granted(self.policy, vendor, device)?;
        if self.orders.grants.iter().any(|it| it.vendor == *vendor && it.device == *device) {
            return Err(format!(
                "{vendor} has a grant for {device} already; to open another: clinigate grant close {vendor} {device}"
            ));
        }
        let id = self.orders.number();
        self.orders.grants.push(Grant {
            id,
            vendor: vendor.to_owned(),
            device: device.to_owned(),
            ticket: ticket.to_owned(),
            by: self.by.to_owned(),
            term: Term::new(self.clock, Some(seconds)),
        });
        Ok(id)
    }

    fn close(&mut self, vendor: &str, device: &str) -> Result<u64, String> {
        let grants = &mut self.orders.grants;
        let index = grants.iter().position(|it| it.vendor == *vendor && it.device == *device);
        index
            .map(|index| grants.remove(index).id)
            .ok_or_else(|| format!("{vendor} has no grant for {device}"))
    }

    fn break_glass(&mut self, segment: &str, reason: &str, seconds: u64) -> Result<u64, String> {
        let own = || self.policy.own_segments().iter().map(|it| it.name.as_str());
        if !own().any(|name| name == segment) {
            return Err(if self.policy.segments.iter().any(|it| it.name == *segment) {
                format!("{segment} cannot be opened: break-glass is between segments of the policy's text")
            } else {
                format!("the policy has no segment {segment}{}", meant(segment, own()))
            });
        }
        if seconds > BREAK_GLASS_LONGEST {
            let why = "break-glass is for a day at most; what is needed for longer belongs into the policy";
            return Err(why.to_owned());
        }
        if self.is_broken(segment) {
            return Err(format!(
                "the glass of {segment} is broken already; to begin anew: clinigate break-glass end {segment}"
            ));
        }
        let id = self.orders.number();
        self.orders.break_glass.push(BreakGlass {
            id,
            segment: segment.to_owned(),
            reason: reason.to_owned(),
            by: self.by.to_owned(),
            term: Term::new(self.clock, Some(seconds)),
            ended: None,
        });
        Ok(id)
    }

    fn mend_glass(&mut self, segment: &str) -> Result<u64, String> {
        let clock = self.clock;
        let mut all = self.orders.break_glass.iter_mut();
        let Some(broken) = all.find(|it| it.segment == *segment && it.is_open(clock)) else {
            return Err(format!("the glass of {segment} is whole"));
        };
        broken.ended = Some(clock.unix);
        Ok(broken.id)
    }

    fn review(&mut self, segment: &str) -> Result<u64, String> {
        if self.is_broken(segment) {
            return Err(format!(
                "the glass of {segment} is still broken; first: clinigate break-glass end {segment}"
            ));
        }
        let last = self.orders.break_glass.iter().rfind(|it| it.segment == *segment).map(|it| it.id);
        self.orders.break_glass.retain(|it| it.segment != *segment);
        last.ok_or_else(|| format!("there is nothing to review of {segment}"))
    }

    fn is_broken(&self, segment: &str) -> bool {
        self.orders.break_glass.iter().any(|it| it.segment == *segment && it.is_open(self.clock))
    }
}

/// Whether a vendor's access to a device waits for a grant; else why not.
fn may_be_granted(policy: &Policy, vendor: &str, device: &str) -> Result<(), String> {
    let Some(device) = policy.devices.iter().find(|it| it.name == device) else {
        let known = policy.devices.iter().map(|it| it.name.as_str());
        return Err(format!("the policy has no device {device}{}", meant(device, known)));
    };
    let of_vendor = |rule: &&crate::policy::model::Rule| {
        rule.kind == RuleKind::Vendor && rule.limits.as_ref().is_some_and(|limits| limits.vendor == vendor)
    };
    let limited: Vec<_> = policy.rules.iter().filter(of_vendor).collect();
    if limited.is_empty() {
        let all = policy.rules.iter().filter_map(|rule| rule.limits.as_deref());
        let known = all.filter(|limits| limits.grant).map(|limits| limits.vendor.as_str());
        return Err(format!(
            "the policy has no access of a vendor {vendor} that wants a grant{}",
            meant(vendor, known)
        ));
    }
    let reaches = |rule: &crate::policy::model::Rule| {
        device.addresses.iter().any(|&it| rule.to.contains(it, policy.segment_of(it)))
    };
    let Some(rule) = limited.iter().find(|rule| reaches(rule)) else {
        return Err(format!("no access of {vendor} leads to {}", device.name));
    };
    match rule.limits.as_deref() {
        Some(_) if policy.is_out_of_reach(rule) => Err(format!(
            "`{}` must come through a tunnel of which no interface of the policy is the end: it stays closed",
            rule.name
        )),
        Some(limits) if !limits.grant => Err(format!("`{}` wants no grant: its window opens it", rule.name)),
        _ => Ok(()),
    }
}

/// The addresses that a target has now, and its device.
pub(super) fn resolve<'p>(
    policy: &'p Policy,
    target: &Target,
) -> Result<(Vec<IpAddr>, Option<&'p Device>), String> {
    let (addresses, device) = match target {
        Target::Device(name) => {
            let device =
                policy.devices.iter().find(|it| it.name == *name).ok_or_else(|| unknown(policy, name))?;
            (device.addresses.clone(), Some(device))
        }
        Target::Address(address) => {
            (vec![*address], policy.devices.iter().find(|it| it.addresses.contains(address)))
        }
        Target::Mac(mac) => {
            let has_it = |it: &&Device| it.labels.get("mac").is_some_and(|it| it.eq_ignore_ascii_case(mac));
            let device = policy.devices.iter().find(has_it);
            let mut addresses = device.map(|it| it.addresses.clone()).unwrap_or_default();
            match dataplane::neighbours_with(mac) {
                Ok(found) => addresses.extend(found),
                // Those that the policy names are isolated at least; the next look tells of the rest.
                Err(_) if !addresses.is_empty() => {}
                Err(error) => return Err(format!("cannot ask the kernel for its neighbours: {error}")),
            }
            addresses.sort_unstable();
            addresses.dedup();
            (addresses, device)
        }
    };
    if addresses.is_empty() {
        return Err(format!("no address of {} is known: name its address", target.word()));
    }
    if addresses.iter().any(|&it| policy.segment_of(it) == SegmentId::GATEWAY) {
        return Err(format!("{} is the gateway itself", target.word()));
    }
    Ok((addresses, device))
}

fn unknown(policy: &Policy, name: &str) -> String {
    let hint = if policy.segments.iter().any(|it| it.name == *name) {
        "; it is a segment, and a quarantine is of one host".to_owned()
    } else {
        meant(name, policy.devices.iter().map(|it| it.name.as_str()))
    };
    format!("`{name}` is no device of the policy, no address and no Ethernet address{hint}")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::*;

    fn clock() -> Clock {
        Clock { boot: "this".to_owned(), unix: 1_000_000, kernel: 5_000_000_000 }
    }

    fn try_on(orders: &mut Orders, order: &Order) -> Result<u64, String> {
        let hospital = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/hospital");
        let policy = crate::policy::load(&hospital).unwrap().policy.unwrap();
        enter(orders, order, "somebody", &policy, &clock()).map_err(|error| error.to_string())
    }

    fn isolate(target: &str, seconds: Option<u64>) -> Order {
        Order::QuarantineAdd { target: target.to_owned(), reason: "scans".to_owned(), seconds }
    }

    /// Whoever mistypes a name at night is told the right one, or what to type next.
    #[test]
    fn what_cannot_be_ordered_says_what_to_do_instead() {
        let grant = |vendor: &str, device: &str| {
            let (vendor, device, ticket) = (vendor.to_owned(), device.to_owned(), "INC-1".to_owned());
            Order::GrantOpen { vendor, device, ticket, seconds: 60 }
        };
        let glass = |segment: &str, seconds| Order::BreakGlass {
            segment: segment.to_owned(),
            reason: "fire".to_owned(),
            seconds,
        };
        let release = |target: &str| Order::QuarantineRelease { target: target.to_owned() };
        let mut orders = Orders::default();
        for order in [isolate("ct-1", Some(60)), grant("ct-vendor-service", "ct-1"), glass("pumps", 60)] {
            try_on(&mut orders, &order).unwrap();
        }
        let cases = [
            (isolate("ct1", None), "did you mean `ct-1`?"),
            (isolate("pumps", None), "it is a segment"),
            (isolate("ct-1", Some(59)), "clinigate quarantine release ct-1"),
            (release("ct-2"), "ct-2 is not in quarantine; did you mean `ct-1`?"),
            (grant("ct-vendor-servic", "ct-1"), "did you mean `ct-vendor-service`?"),
            (grant("ct-vendor-service", "mr1"), "did you mean `mr-1`?"),
            (grant("ct-vendor-service", "ct-1"), "clinigate grant close ct-vendor-service ct-1"),
            (glass("pump", 60), "did you mean `pumps`?"),
            (glass("wan", 60), "wan cannot be opened"),
            (glass("guest", 24 * 3600 + 1), "a day at most"),
            (glass("pumps", 60), "clinigate break-glass end pumps"),
        ];
        for (order, said) in cases {
            let refused = try_on(&mut orders, &order).unwrap_err();
            assert!(refused.contains(said), "{order:?}: {refused}");
        }
    }

    /// A quarantine is made longer without an instant in which it does not hold.
    #[test]
    fn a_quarantine_that_is_ordered_again_lasts_longer() {
        let mut orders = Orders::default();
        let first = try_on(&mut orders, &isolate("ct-1", Some(60))).unwrap();
        assert_eq!(try_on(&mut orders, &isolate("ct-1", Some(3600))), Ok(first));
        assert_eq!(orders.quarantines[0].term.remaining(&clock()).unwrap().as_secs(), 3600);
        assert_eq!(try_on(&mut orders, &isolate("ct-1", None)), Ok(first));
        assert_eq!((orders.quarantines.len(), orders.quarantines[0].term.remaining(&clock())), (1, None));
        try_on(&mut orders, &isolate("ct-1", Some(3600))).unwrap_err();
    }

    /// What was found of an Ethernet address stays isolated, also when nothing knows it any more.
    #[test]
    fn a_quarantine_that_lasts_longer_lets_no_address_go() {
        let silent = "02:00:00:00:be:ef";
        let mut orders = Orders::default();
        let clock = clock();
        let known: IpAddr = "10.20.1.77".parse().unwrap();
        orders.quarantines.push(Quarantine {
            id: 7,
            target: Target::read(silent),
            addresses: vec![known],
            reason: "scans".to_owned(),
            by: "somebody".to_owned(),
            term: Term::new(&clock, Some(60)),
        });
        assert_eq!(try_on(&mut orders, &isolate(silent, Some(3600))), Ok(7));
        assert_eq!(orders.quarantines[0].addresses, [known]);
        assert_eq!(orders.quarantines[0].term.remaining(&clock).unwrap().as_secs(), 3600);
        orders.quarantines.clear();
        assert!(try_on(&mut orders, &isolate(silent, None)).unwrap_err().contains("no address of"));
    }
}
