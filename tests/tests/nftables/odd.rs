//! Policies that a writer of rulesets could stumble over.

use std::fmt::Write as _;
use std::fs;

use clinigate::export::nftables::State;
use clinigate::policy;
use clinigate::policy::model::{Policy, Ranges};
use proptest::test_runner::TestRunner;

use crate::bench::Bench;
use crate::{Tally, report, run};

/// Names that nft's scanner or its keywords could take for something else, free text that tries to end
/// its comment, segments without addresses or of one family, tags in tags, and every kind of service.
const ODD: &str = r#"
interfaces:
  "a;b{c}": { access: flow }
  x$y@: { access: 1ct.Scanner_-x }
  "-if": { access: nowhere }
  carrier0: { trunk: [70, 4094], outer: 4094, untagged: six }
  fifteen-letters: { trunk: [4093] }
  'qu"ote': { access: flow }
  wan0: { wan: true }
  wan1: { wan: true }
segments:
  flow: { subnets: [10.0.0.0/24, 10.0.2.0/23], mode: observe }
  1ct.Scanner_-x: { vlan: 70, subnets: [10.1.0.0/16, "fd00:70::/64"], mode: audit, routers: true, ethertypes: [lldp] }
  nowhere: { subnets: [10.7.0.0/24], mode: observe }
  six: { vlan: 4094, subnets: ["fd00:6::/48", "fd00:6:1::/127"], mode: observe }
  far: { vlan: 4093, subnets: [10.9.0.0/30] }
  unplugged: { vlan: 4092, subnets: [10.8.0.0/24] }
  wan: { mode: audit }
  gateway: { mode: observe }
gateway: { addresses: [10.0.0.1, "fd00:6::1", 192.0.2.1] }
services:
  accept: { tcp: [1-5, 7, { ports: 104, source: 1024-65535 }, { ports: any, source: 20 }], icmp: [echo-request, 13-18] }
  drop: { udp: [{ ports: 53, source: 53 }], icmpv6: any, protocol: [esp, gre] }
  counter: { tcp: any, udp: any }
groups:
  singles: [10.0.0.7, 10.0.0.9, "fd00:70::1", 10.1.255.255, 203.0.113.7, 10.0.0.0-10.0.0.1]
flows:
  - name: table
    from: [flow, six]
    to: [gateway, 1ct.Scanner_-x]
    services: [accept, drop]
    purpose: "ends here\n\t\taccept # \" } \\ \u2028 accept"
    owner: "o'\"\n}"
  - { name: delete.table_inet-x, from: singles, to: [wan, multicast, gateway], services: [any] }
  - { name: "0x0a", from: any, to: singles, services: [counter, icmp, icmpv6] }
  - { name: policy, from: [wan, nowhere], to: [any, gateway], services: [tcp/80, udp/67, icmpv6/128, proto/47] }
deny:
  - { name: chain, from: [10.0.0.9], services: any }
  - { name: elements, to: [10.1.3.0/24, six], services: [accept, proto/esp] }
vendors:
  v.x:
    sources: [203.0.113.0/29, wan]
    access:
      - { to: [10.0.0.7, six], services: [accept, udp/1-65535] }
      - { to: [flow], services: [any], window: { days: [tue], from: "01:00", to: "05:00", timezone: UTC } }
"#;

#[test]
fn odd_policies_are_read_the_same() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("odd \"name' {}\\.yaml"), ODD).unwrap();
    let mut policy = load(directory.path());
    let nowhere = policy.segments.iter_mut().find(|segment| segment.name == "nowhere").unwrap();
    // The text cannot say so; the resolved policy can.
    nowhere.ranges = Ranges::default();
    let mut tally = Tally::new();
    let (mut bench, mut runner) = (Bench::new().unwrap(), TestRunner::deterministic());
    for state in [State::Tracked, State::None] {
        run(&mut bench, 0, (&policy, &policy), state, &mut runner, &mut tally);
    }
    report(&tally);
}

/// As many rules as a large hospital has, and a set as large as a list of addresses from elsewhere.
#[test]
fn large_policies_are_read_the_same() {
    let mut text = String::from(
        "interfaces: { in0: { access: inside }, wan0: { wan: true } }\n\
         segments: { inside: { subnets: [10.0.0.0/8] } }\n\
         groups:\n  listed:\n",
    );
    for number in 0..2000u32 {
        writeln!(text, "    - 100.0.{}.{}", number / 100, number % 100 * 2).unwrap();
    }
    text += "deny: [{ name: listed, from: [listed], to: [inside], services: any }]\nflows:\n";
    for number in 0..500u32 {
        let (high, low) = (number / 250, number % 250);
        writeln!(
            text,
            "  - {{ name: rule-{number}, from: [wan], to: [10.{high}.{low}.0/25, 10.9.9.9], services: tcp/{} }}",
            1000 + number
        )
        .unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("large.yaml"), text).unwrap();
    let policy = load(directory.path());
    let mut tally = Tally::new();
    let (mut bench, mut runner) = (Bench::new().unwrap(), TestRunner::deterministic());
    run(&mut bench, 0, (&policy, &policy), State::Tracked, &mut runner, &mut tally);
    report(&tally);
}

fn load(directory: &std::path::Path) -> Policy {
    let loaded = policy::load(directory).unwrap();
    loaded.policy.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
}
