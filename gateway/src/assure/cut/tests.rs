//! What becomes of running connections: the same as the oracle decides when the policy has changed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use super::*;
use crate::compile::compile;
use crate::oracle::packet::{Fragment, Packet, Payload, flag};
use crate::oracle::{Gateway, connection};
use crate::policy::model::Policy;

const BEFORE: &str = "
interfaces:
  trunk0: { trunk: [10, 20, 30] }
  wan0: { wan: true }
gateway: { addresses: [10.0.20.1] }
segments:
  pumps: { vlan: 10, subnets: [10.0.10.0/24, \"fd00:10::/64\"], mode: enforce }
  server: { vlan: 20, subnets: [10.0.20.0/24, \"fd00:20::/64\"], mode: enforce }
  building: { vlan: 30, subnets: [10.0.30.0/24], mode: audit }
flows:
  - { name: alarms, from: [pumps], to: [server], services: [tcp/3613, udp/5000], purpose: p, owner: o }
  - { name: pings, from: [pumps], to: [server], services: [ping], purpose: p, owner: o }
  - { name: heating, from: [building], to: [wan], services: [tcp/443], purpose: p, owner: o }
";

fn policy(edits: &[(&str, &str)]) -> Policy {
    let directory = tempfile::tempdir().unwrap();
    let text = edits.iter().fold(BEFORE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    std::fs::write(directory.path().join("policy.yaml"), text).unwrap();
    let loaded = crate::policy::load(Path::new(directory.path())).unwrap();
    loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

fn arrival(interface: &str, vlan: u16) -> Arrival<'_> {
    Arrival { interface, outer: 0, vlan }
}

fn alarm() -> Connection<'static> {
    Connection {
        initiator: ("10.0.10.5".parse().unwrap(), 40000),
        responder: ("10.0.20.7".parse().unwrap(), 3613),
        protocol: 6,
        state: State::Established,
        places: [Some(arrival("trunk0", 10)), Some(arrival("trunk0", 20))],
        of_gateway: false,
        idle: Some(1),
    }
}

fn fate(edits: &[(&str, &str)], connection: &Connection<'_>) -> Fate {
    let image = compile(&policy(edits)).unwrap();
    Judge::new(&image).fate(connection)
}

#[test]
fn what_is_allowed_goes_on_by_its_rule() {
    let fate = fate(&[], &alarm());
    assert_eq!((fate.reason, fate.verdict, fate.rule), (Reason::Established, Verdict::Pass, Some(RuleId(0))));
    assert_eq!(fate.segments.map(|segment| segment.0), [4, 5]);
}

#[test]
fn a_flow_that_goes_and_a_deny_that_comes_cut() {
    let gone = fate(&[("tcp/3613, ", "")], &alarm());
    assert_eq!((gone.reason, gone.verdict, gone.rule), (Reason::Revoked, Verdict::Drop, None));
    let deny = "deny:\n  - { name: no, to: [server], services: [tcp/3613], purpose: p }\nflows:";
    let denied = fate(&[("flows:", deny)], &alarm());
    assert_eq!(
        (denied.reason, denied.verdict, denied.rule),
        (Reason::Revoked, Verdict::Drop, Some(RuleId(0)))
    );
}

#[test]
fn a_place_that_goes_cuts_and_one_that_is_left_alone_does_not() {
    let edits = [("trunk: [10, 20, 30]", "trunk: [10, 30]")];
    let fate_of = |connection: &Connection<'_>| fate(&edits, connection);
    assert_eq!((fate_of(&alarm()).reason, fate_of(&alarm()).verdict), (Reason::UnknownVlan, Verdict::Drop));
    // Where the answers come from is not known yet.
    let unseen = Connection { places: [Some(arrival("trunk0", 10)), None], ..alarm() };
    assert_eq!(fate_of(&unseen).reason, Reason::Established);
    let other = Connection { places: [Some(arrival("gone0", 0)), Some(arrival("gone1", 0))], ..alarm() };
    assert_eq!(fate(&[("tcp/3613, ", "")], &other).reason, Reason::Established);
}

#[test]
fn an_address_that_moves_to_another_segment_is_spoofed_where_it_was() {
    let edits = [("10.0.20.0/24", "10.0.21.0/24"), ("10.0.30.0/24", "10.0.30.0/24, 10.0.20.0/24")];
    assert_eq!(fate(&edits, &alarm()).reason, Reason::Spoofed);
}

#[test]
fn the_modes_decide_whether_it_is_cut() {
    let heating = Connection {
        initiator: ("10.0.30.9".parse().unwrap(), 50000),
        responder: ("203.0.113.5".parse().unwrap(), 443),
        places: [Some(arrival("trunk0", 30)), Some(arrival("wan0", 0))],
        ..alarm()
    };
    let closed = ("services: [tcp/443]", "services: [tcp/8443]");
    let wan = |mode: &str| ("segments:", format!("segments:\n  wan: {{ mode: {mode} }}"));
    let audit = wan("audit");
    let lenient = fate(&[closed, (audit.0, &audit.1)], &heating);
    assert_eq!((lenient.reason, lenient.verdict), (Reason::Revoked, Verdict::Audit));
    assert_eq!(fate(&[closed], &heating).verdict, Verdict::Drop);
}

#[test]
fn the_gateways_own_stay_whatever_the_rules_say() {
    let own = Connection {
        initiator: ("10.0.20.1".parse().unwrap(), 40000),
        places: [None, Some(arrival("trunk0", 20))],
        of_gateway: true,
        ..alarm()
    };
    assert_eq!(fate(&[("tcp/3613, ", "")], &own).reason, Reason::Established);
    assert_eq!(fate(&[("[10, 20, 30]", "[10, 30]")], &own).verdict, Verdict::Drop);
    // But not longer than it has their address.
    let renumbered = [("addresses: [10.0.20.1]", "addresses: [10.0.20.2]")];
    assert_eq!(fate(&renumbered, &own).reason, Reason::Revoked);
    let unanswered = Connection { places: [None; 2], ..own };
    assert_eq!(fate(&renumbered, &unanswered).reason, Reason::Established);
}

#[test]
fn a_survey_counts_what_the_change_cuts_and_lists_the_latest() {
    let (before, after) = (policy(&[]), policy(&[("tcp/3613, ", "")]));
    let (before, after) = (compile(&before).unwrap(), compile(&after).unwrap());
    let mut survey = Survey::new(&before, &after, 2);
    for number in 0..1000_u16 {
        let idle = Some(u64::from(number) * 7919 % 1000);
        survey.add(&Connection { initiator: (alarm().initiator.0, number), idle, ..alarm() });
        survey.add(&Connection { protocol: 17, responder: (alarm().responder.0, 5000), ..alarm() });
    }
    // The policy in force has ended this one already.
    survey.add(&Connection { responder: (alarm().responder.0, 22), ..alarm() });
    let cuts = survey.finish();
    assert_eq!((cuts.examined, cuts.cut, cuts.unenforced, cuts.groups.len()), (2001, 1000, 0, 1));
    let group = &cuts.groups[0];
    assert_eq!((group.count, group.states[&State::Established]), (1000, 1000));
    assert_eq!(group.examples.iter().map(|example| example.idle).collect::<Vec<_>>(), [Some(0), Some(1)]);
}

/// The oracle keeps the connection through the change, and is asked by the initiator's next packet.
#[test]
fn it_is_what_the_oracle_decides_at_the_next_packet() {
    let changes: [&[(&str, &str)]; 6] = [
        &[],
        &[("tcp/3613, ", "")],
        &[("udp/5000", "udp/5001")],
        &[("[ping]", "[ssh]")],
        &[(
            "from: [pumps], to: [server], services: [tcp",
            "from: [10.0.10.5], to: [10.0.20.7], services: [tcp",
        )],
        &[("trunk: [10, 20, 30]", "trunk: [20, 30]")],
    ];
    let (from, to) = (IpAddr::from([10, 0, 10, 5]), IpAddr::from([10, 0, 20, 7]));
    let payloads = [
        (Payload::Tcp { source: 40000, destination: 3613, flags: flag::SYN }, 6),
        (Payload::Udp { source: 40000, destination: 5000 }, 17),
        (Payload::Echo { request: true, identifier: 9 }, 1),
    ];
    let mut decided = [0, 0];
    for edits in changes {
        for (payload, protocol) in &payloads {
            let packet = Packet {
                source: from,
                destination: to,
                hop_limit: 64,
                fragment: Fragment::Whole,
                payload: payload.clone(),
            };
            let mut gateway = Gateway::new(policy(&[]));
            let place = arrival("trunk0", 10);
            assert_eq!(gateway.arrives(1, place, &packet).verdict, Verdict::Pass);
            let opened: &connection::Connection = gateway.connections(2).next().unwrap();
            let running = Connection {
                initiator: opened.flow.source,
                responder: opened.flow.destination,
                protocol: *protocol,
                state: opened.state,
                places: [Some(place), None],
                of_gateway: false,
                idle: None,
            };
            let changed = policy(edits);
            let fate = Judge::new(&compile(&changed).unwrap()).fate(&running);
            gateway.apply(changed);
            let decision = gateway.arrives(2, place, &packet);
            assert_eq!(
                (fate.reason, fate.verdict),
                (decision.reason, decision.verdict),
                "{edits:?} {packet:?}"
            );
            assert!(fate.reason == Reason::UnknownVlan || fate.rule == decision.rule);
            decided[usize::from(fate.verdict == Verdict::Drop)] += 1;
        }
    }
    assert_eq!(decided, [12, 6]);
}

/// A session lives where its initiator's last packet came from.
#[test]
fn a_session_is_cut_where_it_does_not_come_as_it_must() {
    const VENDOR: &str = "flows:\n";
    let world = ("  wan0: { wan: true }", "  wan0: { wan: true }\n  t0: { wan: true, tunnel: ipsec }");
    let access = |through: &str| {
        format!(
            "vendors: {{ v: {{ sources: 203.0.113.5, access: [{{ name: a, to: server, services: ssh{through} }}] }} }}\nflows:\n"
        )
    };
    let (whichever, tunnelled, direct) =
        (access(""), access(", through: ipsec"), access(", through: direct"));
    let session = |interface| Connection {
        initiator: ("203.0.113.5".parse().unwrap(), 40000),
        responder: ("10.0.20.7".parse().unwrap(), 22),
        places: [Some(arrival(interface, 0)), Some(arrival("trunk0", 20))],
        ..alarm()
    };
    for (text, inside, outside) in [
        (&whichever, Reason::Established, Reason::Established),
        (&tunnelled, Reason::Established, Reason::Revoked),
        (&direct, Reason::Revoked, Reason::Established),
    ] {
        let edits = [world, (VENDOR, text.as_str())];
        assert_eq!(fate(&edits, &session("t0")).reason, inside, "{text}");
        assert_eq!(fate(&edits, &session("wan0")).reason, outside, "{text}");
        // The next packet meets the same.
        for (interface, expected) in [("t0", inside), ("wan0", outside)] {
            let mut gateway = Gateway::new(policy(&[world, (VENDOR, &whichever)]));
            let packet = Packet {
                source: "203.0.113.5".parse().unwrap(),
                destination: "10.0.20.7".parse().unwrap(),
                hop_limit: 64,
                fragment: Fragment::Whole,
                payload: Payload::Tcp { source: 40000, destination: 22, flags: flag::SYN },
            };
            assert_eq!(gateway.arrives(1, arrival(interface, 0), &packet).reason, Reason::Flow);
            gateway.apply(policy(&edits));
            assert_eq!(gateway.arrives(2, arrival(interface, 0), &packet).reason, expected, "{text}");
        }
    }
}
