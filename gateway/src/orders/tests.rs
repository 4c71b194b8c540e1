#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::compile::compile;
use crate::oracle::Oracle;
use crate::packet::{Arrival, Decision, PacketView, Transport};
use crate::policy::model::Policy;
use crate::policy::{SourceFile, resolve};
use gateway_common::reason::Reason;

const POLICY: &str = r#"
interfaces:
  a0: { access: alpha }
  b0: { access: beta }
segments:
  alpha: { subnets: 10.0.1.0/24 }
  beta: { subnets: 10.0.2.0/24 }
devices:
  ct-1: { segment: beta, address: 10.0.2.5, mac: "02:00:00:00:00:05" }
  ct-2: { segment: beta, address: 10.0.2.6 }
groups:
  cts: [ct-1, ct-2]
flows:
  - { name: web, from: alpha, to: beta, services: tcp/80, purpose: p, owner: o }
quarantine:
  - { name: patches, from: beta, to: alpha, services: tcp/8530, purpose: p, owner: o }
  - { name: console, from: alpha, to: cts, services: tcp/5900, purpose: p, owner: o }
vendors:
  maker:
    sources: [10.0.1.9]
    access:
      - { name: night-work, to: cts, services: https, purpose: p, owner: o, window: { days: [tue], from: "01:00", to: "05:00", timezone: UTC } }
      - { name: on-call, to: cts, services: ssh, purpose: p, owner: o, grant: required }
      - { name: both, to: ct-1, services: tcp/8443, purpose: p, owner: o, grant: required, window: { days: [tue], from: "01:00", to: "05:00", timezone: UTC } }
      - { name: tunnelled, to: ct-1, services: tcp/9999, purpose: p, owner: o, through: ipsec, grant: required }
"#;

const SECOND: u64 = 1_000_000_000;
/// Tuesday 2026-11-24, 00:00 UTC, in milliseconds since 1970.
const TUESDAY: u64 = 1_795_478_400_000;

fn clock(seconds: u64) -> Clock {
    Clock { boot: "this".to_owned(), unix: TUESDAY + seconds * 1000, kernel: (5000 + seconds) * SECOND }
}

fn policy() -> Policy {
    let resolved = resolve(vec![SourceFile::new("policy.yaml", POLICY)]);
    let Some(policy) = resolved.policy else { panic!("{:#?}", resolved.diagnostics) };
    policy
}

fn decide(
    policy: &Policy,
    at: u64,
    interface: &str,
    ends: (&str, &str),
    port: u16,
) -> (Reason, Option<String>) {
    let packet = PacketView {
        source: ends.0.parse().unwrap(),
        destination: ends.1.parse().unwrap(),
        transport: Transport::Tcp { source: 40_000, destination: port },
    };
    let arrival = Arrival { interface, outer: 0, vlan: 0 };
    let Decision { reason, rule, .. } = Oracle::new(policy).at((5000 + at) * SECOND).decide(arrival, &packet);
    (reason, rule.map(|rule| policy.rules[rule.0 as usize].name.clone()))
}

fn grant(device: &str, seconds: u64, opened: u64) -> Orders {
    let grant = Grant {
        id: 1,
        vendor: "maker".to_owned(),
        device: device.to_owned(),
        ticket: "T-1".to_owned(),
        by: "root".to_owned(),
        term: Term::new(&clock(opened), Some(seconds)),
    };
    Orders { last: 1, grants: vec![grant], ..Orders::default() }
}

#[test]
fn promise_9_a_window_is_open_in_it_alone() {
    let laid = lay(policy(), &Orders::default(), &clock(0));
    let at = |seconds| decide(&laid.policy, seconds, "a0", ("10.0.1.9", "10.0.2.5"), 443);
    assert_eq!(at(3599), (Reason::NoFlow, None));
    assert_eq!(at(3600), (Reason::Flow, Some("night-work".to_owned())));
    assert_eq!(at(5 * 3600 - 1).0, Reason::Flow);
    assert_eq!(at(5 * 3600).0, Reason::NoFlow);
    // A week later, with the controller dead since.
    assert_eq!(at(7 * 86_400 + 3600).0, Reason::Flow);
    assert!(laid.follows_wall && laid.stale.unwrap() > clock(6 * 7 * 86_400).kernel, "eight are known");
    // After them it stays closed.
    assert_eq!(at(9 * 7 * 86_400 + 3600).0, Reason::NoFlow);
}

#[test]
fn promise_9_a_grant_opens_one_device_until_its_end() {
    let laid = lay(policy(), &grant("ct-1", 600, 0), &clock(10));
    let at = |seconds, device, port| decide(&laid.policy, seconds, "a0", ("10.0.1.9", device), port);
    assert_eq!(at(10, "10.0.2.5", 22), (Reason::Flow, Some("on-call@ct-1".to_owned())));
    assert_eq!(at(10, "10.0.2.6", 22).0, Reason::NoFlow, "another device of the same access");
    assert_eq!(at(599, "10.0.2.5", 22).0, Reason::Flow);
    assert_eq!(at(600, "10.0.2.5", 22).0, Reason::NoFlow);
    assert_eq!(at(10, "10.0.2.5", 9999).0, Reason::NoFlow, "no interface is the end of such a tunnel");
    let without = lay(policy(), &Orders::default(), &clock(10));
    assert_eq!(decide(&without.policy, 10, "a0", ("10.0.1.9", "10.0.2.5"), 22).0, Reason::NoFlow);
}

#[test]
fn promise_9_a_grant_of_access_through_a_tunnel_opens_it_there_alone() {
    let interfaces = "interfaces:\n  t0: { wan: true, tunnel: ipsec }\n  w0: { wan: true }\n";
    let text =
        POLICY.replace("interfaces:\n", interfaces).replace("sources: [10.0.1.9]", "sources: [203.0.113.9]");
    let policy = resolve(vec![SourceFile::new("policy.yaml", text)]).policy.unwrap();
    let laid = lay(policy, &grant("ct-1", 600, 0), &clock(10)).policy;
    let at = |interface| decide(&laid, 10, interface, ("203.0.113.9", "10.0.2.5"), 9999);
    assert_eq!(at("t0"), (Reason::Flow, Some("tunnelled@ct-1".to_owned())));
    assert_eq!(at("w0"), (Reason::NoFlow, None));
    assert_eq!(decide(&laid, 600, "t0", ("203.0.113.9", "10.0.2.5"), 9999).0, Reason::NoFlow);
}

#[test]
fn promise_9_where_both_are_wanted_both_must_be() {
    let laid = lay(policy(), &grant("ct-1", 4000, 0), &clock(0));
    let at = |seconds| decide(&laid.policy, seconds, "a0", ("10.0.1.9", "10.0.2.5"), 8443).0;
    assert_eq!(
        [at(3599), at(3600), at(3999), at(4000)],
        [Reason::NoFlow, Reason::Flow, Reason::Flow, Reason::NoFlow]
    );
}

fn quarantine(target: Target, addresses: &[&str]) -> Orders {
    let quarantine = Quarantine {
        id: 1,
        target,
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        reason: "worm".to_owned(),
        by: "root".to_owned(),
        term: Term::new(&clock(0), Some(600)),
    };
    Orders { last: 1, quarantines: vec![quarantine], ..Orders::default() }
}

#[test]
fn a_quarantine_leaves_what_the_policy_keeps_and_to_nobody_else() {
    let targets = [
        (Target::Device("ct-1".to_owned()), vec![]),
        (Target::Address("10.0.2.5".parse().unwrap()), vec![]),
        (Target::Mac("02:00:00:00:00:05".to_owned()), vec!["10.0.2.99"]),
    ];
    for (target, addresses) in targets {
        let laid = lay(policy(), &quarantine(target, &addresses), &clock(0)).policy;
        let to_it = |at, port| decide(&laid, at, "a0", ("10.0.1.5", "10.0.2.5"), port).0;
        assert_eq!(to_it(0, 80), Reason::Quarantined);
        assert_eq!(to_it(600, 80), Reason::Flow, "it ends");
        assert_eq!(to_it(0, 5900), Reason::Flow, "kept towards it");
        assert_eq!(decide(&laid, 0, "b0", ("10.0.2.5", "10.0.1.5"), 8530).0, Reason::Flow, "kept from it");
        assert_eq!(
            decide(&laid, 0, "b0", ("10.0.2.6", "10.0.1.5"), 8530).0,
            Reason::NoFlow,
            "for nobody else"
        );
        assert_eq!(decide(&laid, 0, "a0", ("10.0.1.5", "10.0.2.6"), 5900).0, Reason::NoFlow);
        assert_eq!(decide(&laid, 0, "a0", ("10.0.1.5", "10.0.2.6"), 80).0, Reason::Flow);
    }
}

/// Who takes an address that is isolated already does not use up the room of its pairs.
#[test]
fn an_address_that_many_orders_isolate_is_laid_once_and_for_the_longest() {
    let mut orders = Orders::default();
    for id in 1..=20 {
        let target = Target::Mac(format!("02:00:00:00:01:{id:02x}"));
        let mut one = quarantine(target, &["10.0.2.99"]).quarantines.remove(0);
        (one.id, one.term) = (id, Term::new(&clock(0), Some(60 * id)));
        orders.quarantines.push(one);
    }
    let laid = lay(policy(), &orders, &clock(0));
    compile(&laid.policy).unwrap();
    let verdict = |at| decide(&laid.policy, at, "a0", ("10.0.1.5", "10.0.2.99"), 80).0;
    assert_eq!((verdict(1199), verdict(1201)), (Reason::Quarantined, Reason::Flow));
    // The longest ends before its time, and the next one holds.
    orders.quarantines.pop();
    let laid = lay(policy(), &orders, &clock(0)).policy;
    assert_eq!(decide(&laid, 1139, "a0", ("10.0.1.5", "10.0.2.99"), 80).0, Reason::Quarantined);
}

#[test]
fn rules_of_the_text_keep_their_numbers() {
    let plain = policy();
    let mut orders = quarantine(Target::Device("ct-1".to_owned()), &[]);
    orders.grants = grant("ct-2", 60, 0).grants;
    let laid = lay(plain.clone(), &orders, &clock(0));
    for (before, after) in plain.rules.iter().zip(&laid.policy.rules) {
        assert_eq!((&before.name, &before.from, &before.to), (&after.name, &after.from, &after.to));
    }
    assert!(!laid.basis.is_empty());
    assert_eq!(laid.basis, lay(plain.clone(), &orders, &clock(0)).basis);
    assert_ne!(laid.basis, lay(plain, &Orders::default(), &clock(0)).basis);
}

#[test]
fn a_term_counts_on_the_kernels_clock_and_across_reboots_by_the_wall() {
    let term = Term::new(&clock(0), Some(600));
    let mut set_back = clock(599);
    set_back.unix = 0;
    assert!(!term.is_over(&set_back) && term.is_over(&clock(600)));
    set_back.kernel = clock(600).kernel;
    assert!(term.is_over(&set_back), "a wall clock that is set lengthens nothing");
    let after_boot = |unix| Clock { boot: "next".to_owned(), unix, kernel: 7 * SECOND };
    assert_eq!(term.end(&after_boot(TUESDAY + 200_000)), Some(407 * SECOND));
    assert!(term.is_over(&after_boot(TUESDAY + 600_000)));
    assert_eq!(term.end(&after_boot(0)), Some(607 * SECOND), "never longer than it was");
    assert_eq!(Term::new(&clock(0), None).end(&clock(5)), None);
}

/// What is laid is the same at each look, also where its term began before the machine was started anew.
#[test]
fn a_reboot_does_not_have_everything_laid_anew_at_each_look() {
    let mut orders = grant("ct-2", 3600, 0);
    let mut isolated = quarantine(Target::Device("ct-1".to_owned()), &[]).quarantines.remove(0);
    isolated.term = Term::new(&clock(0), Some(3600));
    orders.quarantines.push(isolated);
    let term = Term::new(&clock(0), Some(3600));
    let broken = BreakGlass {
        id: 3,
        segment: "beta".to_owned(),
        reason: "fire".to_owned(),
        by: "root".to_owned(),
        term,
        ended: None,
    };
    orders.break_glass.push(broken);
    let look = |nanoseconds| Clock {
        boot: "next".to_owned(),
        unix: TUESDAY + 200_000,
        kernel: 7 * SECOND + nanoseconds,
    };
    let basis = |orders: &Orders, nanoseconds| lay(policy(), orders, &look(nanoseconds)).basis;
    assert_eq!(basis(&orders, 0), basis(&orders, 999));
    let plain = resolve(vec![SourceFile::new("policy.yaml", POLICY.split("vendors:").next().unwrap())]);
    let follows = |clock: &Clock| lay(plain.policy.clone().unwrap(), &orders, clock).follows_wall;
    assert!(follows(&look(0)) && !follows(&clock(0)), "a clock that is set then moves its end");
    let mut longer = orders.clone();
    longer.quarantines[0].term = Term::new(&look(0), Some(7200));
    assert_ne!(basis(&orders, 0), basis(&longer, 0));
}

/// An access that is always open does not close some day because nothing was laid anew.
#[test]
fn a_window_of_the_whole_week_is_laid_anew_before_it_ends() {
    let mut always = policy();
    for rule in &mut always.rules {
        if let Some(limits) = &mut rule.limits
            && let Some(window) = &mut limits.window
        {
            (window.days, window.from, window.to) = ((0..7).collect(), 0, 24 * 60);
        }
    }
    let laid = lay(always, &Orders::default(), &clock(0));
    let stale = laid.stale.unwrap();
    assert!(stale > clock(50 * 86_400).kernel, "{stale}");
    let end = laid.policy.conditions[0].intervals.last().unwrap().1;
    assert!(stale < end, "{stale} {end}");
}

#[test]
fn what_is_over_goes_and_broken_glass_waits_for_its_review() {
    let mut orders = quarantine(Target::Device("ct-1".to_owned()), &[]);
    orders.break_glass.push(BreakGlass {
        id: 2,
        segment: "beta".to_owned(),
        reason: "fire".to_owned(),
        by: "root".to_owned(),
        term: Term::new(&clock(0), Some(60)),
        ended: None,
    });
    assert!(lay(policy(), &orders, &clock(59)).policy.break_glass.len() == 1);
    assert_eq!(orders.expire(&clock(60)), [("break-glass", 2)]);
    assert!(!orders.break_glass[0].is_open(&clock(60)));
    assert_eq!(orders.expire(&clock(600)), [("quarantine", 1)]);
    assert_eq!((orders.quarantines.len(), orders.break_glass.len()), (0, 1));
    assert!(lay(policy(), &orders, &clock(600)).policy.break_glass.is_empty());
}

/// Whoever takes a new address every second does not grow the tables for ever.
#[test]
fn a_quarantine_learns_addresses_up_to_a_bound() {
    let mut orders = quarantine(Target::Mac("02:00:00:00:00:05".to_owned()), &["10.0.2.99"]);
    let quarantine = &mut orders.quarantines[0];
    let v6 = |number: u16| IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number));
    let many: Vec<IpAddr> = (1..=2000).map(v6).collect();
    let (new, rest) = quarantine.learn(&many);
    assert_eq!((new.len(), rest), (V6_MOST, 2000 - V6_MOST));
    assert_eq!(quarantine.learn(&many), (vec![], 2000 - V6_MOST), "what is known stays");
    // They leave room for those of the other family.
    let v4 = |number: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0200 + number));
    let many: Vec<IpAddr> = (0..2000).map(v4).collect();
    let (new, rest) = quarantine.learn(&many);
    assert_eq!((new.len(), rest), (V4_MOST - 1, 1999 - (V4_MOST - 1)));
}

#[test]
fn words_are_addresses_ethernet_addresses_or_devices() {
    assert_eq!(Target::read("10.0.2.5"), Target::Address("10.0.2.5".parse().unwrap()));
    assert_eq!(Target::read("::ffff:10.0.2.5"), Target::Address("10.0.2.5".parse().unwrap()));
    assert_eq!(Target::read("02-AA-00-00-00-05"), Target::Mac("02:aa:00:00:00:05".to_owned()));
    assert_eq!(Target::read("ct-1"), Target::Device("ct-1".to_owned()));
}

/// What a policy decides at a moment is what it is explained by then: without conditions, and alike.
#[test]
fn a_policy_at_a_moment_decides_as_the_whole_one_then() {
    let mut orders = grant("ct-1", 60, 0);
    orders.quarantines.push(Quarantine {
        id: 2,
        target: Target::Device("ct-2".to_owned()),
        addresses: Vec::new(),
        reason: "scans".to_owned(),
        by: "somebody".to_owned(),
        term: Term::new(&clock(0), Some(7200)),
    });
    let laid = || lay(policy(), &orders, &clock(0));
    let whole = laid().policy;
    let packets = [
        (("10.0.1.9", "10.0.2.5"), 443),
        (("10.0.1.9", "10.0.2.5"), 22),
        (("10.0.1.9", "10.0.2.6"), 22),
        (("10.0.1.7", "10.0.2.6"), 80),
        (("10.0.1.7", "10.0.2.6"), 5900),
        (("10.0.1.7", "10.0.2.5"), 80),
    ];
    for at in [0, 59, 60, 3600, 7199, 7200, 5 * 3600] {
        let then = laid().at(&clock(at));
        assert!(then.conditions.is_empty());
        for (ends, port) in packets {
            let decided = [&whole, &then].map(|policy| decide(policy, at, "a0", ends, port));
            assert_eq!(decided[0], decided[1], "{ends:?} {port} at {at}");
        }
    }
}
