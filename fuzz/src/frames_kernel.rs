//! Frames through the real programs in the kernel and the oracle, with state: both find the same reason,
//! rule, segments and verdict for every frame, one after the other.
//!
//! An input is what [`crate::frames`] takes, with a wait before each frame. libFuzzer sees no coverage in the kernel, but that of [`wire`], which reads the
//! same headers, and of the oracle. Needs root.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{LazyLock, Mutex};

use clinigate::compile::compile;
use clinigate::dataplane::trial::{Buffers, FRAME_MIN, Trial};
use clinigate::oracle::{Gateway, Oracle, Party};
use clinigate::packet::{Arrival, Decision, PacketView, Transport};
use clinigate::policy::model::{Policy, SegmentId};
use gateway_common::reason::Reason;
use gateway_common::table::TestContext;

use crate::frames::interface_of;
use crate::policies::{self, Fixed};
use crate::wire::{self, Content};

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// Seconds by which a wait counts. The programs may let a connection end a second early (they spare
/// themselves a store for each packet): all lifetimes lie half-way between two waits.
const WAIT: u32 = 4;
/// Seconds that a connection lives at most: short, so that the next input can begin when all are gone.
const LIFETIME: u32 = 40;
const _: () = assert!(gateway_common::fragment::LIFETIME % WAIT == WAIT / 2);

/// A policy in the kernel, and in user space.
struct Bench {
    trial: Trial,
    buffers: Buffers,
    interfaces: HashMap<String, u32>,
    policy: Policy,
    /// Time of the next input: all state of the last one has expired.
    now: u64,
}

static BENCHES: LazyLock<Mutex<Vec<Bench>>> =
    LazyLock::new(|| Mutex::new(policies::ALL.iter().map(Bench::new).collect()));

/// Reads an input.
///
/// # Panics
/// Where the programs and the oracle differ, and where the programs cannot be loaded.
pub fn run(bytes: &[u8]) {
    let Some((number, mut rest)) = bytes.split_first() else { return };
    let number = usize::from(*number) % policies::ALL.len();
    let mut benches = BENCHES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let bench = &mut benches[number];
    let mut gateway = Gateway::new(bench.policy.clone());
    while let [wait, interface, length, frames @ ..] = rest {
        let (frame, next) = frames.split_at(frames.len().min(usize::from(*length)));
        rest = next;
        if frame.len() < FRAME_MIN {
            continue;
        }
        bench.now += u64::from(u32::from(*wait) % 4 * WAIT) * SECOND;
        let interface = interface_of(&policies::ALL[number], *interface);
        let expected = expected(&mut gateway, &bench.policy, bench.now, interface, frame);
        let found = bench.judge(interface, frame);
        assert_eq!(found, expected, "{} {interface} {frame:02x?} {:?}", bench.now, wire::read(frame));
    }
    bench.now += u64::from(2 * LIFETIME) * SECOND;
}

impl Bench {
    fn new(fixed: &Fixed) -> Self {
        let mut policy = fixed.policy.clone();
        policy.settings.connections = 4096;
        // Limits of rate are not modelled.
        policy.settings.neighbour_rate = 1_000_000;
        for timeout in &mut policy.settings.timeouts {
            *timeout = (*timeout).min(LIFETIME) / WAIT * WAIT + WAIT / 2;
        }
        let named: BTreeMap<String, u32> =
            policy.interfaces.iter().map(|interface| interface.name.clone()).zip(1..).collect();
        let image = compile(&policy).expect("the project's policies fit the tables");
        let trial = Trial::new(&image, &named).expect("the programs can be loaded, by root");
        let now = 3600 * SECOND;
        Self { trial, buffers: Buffers::default(), interfaces: named.into_iter().collect(), policy, now }
    }

    fn judge(&mut self, interface: &str, frame: &[u8]) -> Decision {
        let ifindex = self.interfaces.get(interface).copied().unwrap_or(999);
        let context = TestContext { now: self.now, ifindex, reserved: 0 };
        self.trial.judge(context, frame, &mut self.buffers).expect("the programs judge every frame")
    }
}

fn expected(gateway: &mut Gateway, policy: &Policy, now: u64, interface: &str, frame: &[u8]) -> Decision {
    let wire::Frame { tags: (outer, vlan), content } = wire::read(frame);
    if content == Content::Cut {
        return Decision::unknown_place(Reason::Truncated);
    }
    let oracle = Oracle::new(policy);
    let arrival = Arrival { interface, outer, vlan };
    let here = match oracle.place(arrival) {
        Ok(here) => here,
        Err(reason) => return Decision::unknown_place(reason),
    };
    let decision = |reason, destination| Decision {
        reason,
        rule: None,
        source_segment: here,
        destination_segment: destination,
        verdict: oracle.verdict(reason, here, destination),
    };
    match content {
        Content::Cut => unreachable!("returned above"),
        Content::Ip { packet, broken_quote } => match gateway.arrives(now, arrival, &packet) {
            Decision { reason: Reason::UnrelatedIcmp, .. } if broken_quote => {
                decision(Reason::MalformedTransport, oracle.destination_segment(packet.destination))
            }
            decision => decision,
        },
        Content::Broken(reason, destination) => {
            let segment =
                destination.map_or(SegmentId::UNKNOWN, |address| oracle.destination_segment(address));
            decision(reason, segment)
        }
        Content::Arp(sender) => {
            let reason = match sender {
                Err(reason) => reason,
                Ok(Some(address)) if !may_claim(oracle, here, address) => Reason::SpoofedNeighbour,
                Ok(_) => Reason::LinkLocal,
            };
            decision(reason, SegmentId::UNKNOWN)
        }
        Content::Other(kind) => {
            let is_listed = policy.segment(here).ethertypes.contains(&kind);
            decision(
                if is_listed { Reason::EtherType } else { Reason::UnlistedEtherType },
                SegmentId::UNKNOWN,
            )
        }
    }
}

/// Whether a host of segment `here` may say that an address is its own.
fn may_claim(oracle: Oracle<'_>, here: SegmentId, address: Ipv4Addr) -> bool {
    let is_of_link = address.is_link_local();
    let address = address.into();
    let view = PacketView { source: address, destination: address, transport: Transport::Other(0) };
    is_of_link || matches!(oracle.admit(here, false, &view), Ok(Party::Host(..)))
}
