//! What a decision costs: the real programs, entry and judge, beside the baseline, packet by packet.
//!
//! Every size of policy is loaded at once, and a round measures each case once with each program, so
//! that what drifts on the machine hits all alike. Cost is the difference to the baseline of the same round.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use clinigate::dataplane::trial::Trial;
use clinigate::testing::hospital::{Hospital, Traffic};
use gateway_common::bench::Plan;
use gateway_common::reason::Reason;
use serde::Serialize;

use crate::driver::{Driver, Flows, Run};
use crate::frames::{Segment, frame};
use crate::policies::{self, Applied};
use crate::statistics::Summary;
use crate::{Effort, say};

/// Interface on which frames of a test run arrive unless told otherwise: the loopback device.
const LOOPBACK: u32 = 1;
/// How often a round sends each flow of a connection that is known: the first of them warms the caches
/// after the system call, and should not weigh.
const PASSES: u32 = 32;
/// How often it sends each new connection, from another port each time.
const FIRST_PASSES: u32 = 4;
/// How many times as many connections the wide case goes through.
const WIDE: usize = 16;
/// Added to the source ports in each pass of new connections; those of the flows span as many.
const PORTS: u16 = 10_000;

/// What happens to the packets of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    EstablishedTcp,
    EstablishedUdp,
    FirstAllowed,
    Denied,
    Spoofed,
}

impl Kind {
    /// New connections come first in a round: they begin with an empty table.
    const ALL: [Self; 5] =
        [Self::FirstAllowed, Self::EstablishedTcp, Self::EstablishedUdp, Self::Denied, Self::Spoofed];

    fn traffic(self) -> Traffic {
        match self {
            Self::EstablishedTcp | Self::FirstAllowed => Traffic::Tcp,
            Self::EstablishedUdp => Traffic::Udp,
            Self::Denied => Traffic::Denied,
            Self::Spoofed => Traffic::Spoofed,
        }
    }

    fn segment(self) -> Segment {
        match self {
            Self::EstablishedTcp => Segment::Ack,
            Self::EstablishedUdp => Segment::Udp,
            Self::FirstAllowed | Self::Denied | Self::Spoofed => Segment::Syn,
        }
    }

    fn reason(self) -> Reason {
        match self {
            Self::EstablishedTcp | Self::EstablishedUdp => Reason::Established,
            Self::FirstAllowed => Reason::Flow,
            Self::Denied => Reason::NoFlow,
            Self::Spoofed => Reason::Spoofed,
        }
    }
}

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cost {
    /// Rules of the policy.
    pub(crate) rules: usize,
    pub(crate) kind: Kind,
    pub(crate) ipv6: bool,
    pub(crate) tagged: bool,
    /// Different packets, sent in turn.
    pub(crate) packets: u32,
    /// Nanoseconds a packet, with what the harness costs ([`Decision::floor`]).
    pub(crate) baseline: Summary,
    /// Likewise.
    pub(crate) gateway: Summary,
    /// Gateway less baseline, round by round.
    pub(crate) over: Summary,
    /// The least of the gateway's rounds less the least of the baseline's: what is left without those
    /// rounds in which others had the machine's caches.
    pub(crate) least: f64,
}

/// All that was measured here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Decision {
    pub(crate) rounds: usize,
    /// Nanoseconds that the harness costs: a program that does nothing.
    pub(crate) floor: Summary,
    pub(crate) costs: Vec<Cost>,
}

/// A policy in force, and its packets.
struct Bed {
    rules: usize,
    trial: Trial,
    cases: Vec<Case>,
}

struct Case {
    kind: Kind,
    shape: u32,
    frame: Vec<u8>,
    flows: Flows,
    passes: u32,
    baseline: Vec<f64>,
    gateway: Vec<f64>,
}

pub(crate) fn measure(driver: &mut Driver, effort: &Effort) -> Result<(Decision, Vec<Applied>)> {
    driver.clear();
    let mut beds = Vec::new();
    let mut applied = Vec::new();
    for &rules in effort.sizes {
        let (bed, cost) = Bed::make(driver, rules, effort.packets)?;
        beds.push(bed);
        applied.push(cost);
    }
    for bed in &mut beds {
        bed.check(driver).with_context(|| format!("at {} rules", bed.rules))?;
    }
    let mut floor = Vec::new();
    for round in 0..effort.rounds {
        for bed in &mut beds {
            bed.round(driver)?;
        }
        let case = &beds[0].cases[0];
        floor.push(driver.floor(case.run(PASSES, 0))?);
        if round % 10 == 9 {
            say(&format!("decision: round {} of {}", round + 1, effort.rounds));
        }
    }
    let costs = beds.into_iter().flat_map(|bed| bed.cases.into_iter().map(move |case| case.cost(bed.rules)));
    let decision = Decision { rounds: effort.rounds, floor: Summary::of(floor), costs: costs.collect() };
    Ok((decision, applied))
}

impl Bed {
    fn make(driver: &mut Driver, rules: usize, packets: usize) -> Result<(Self, Applied)> {
        let hospital = Hospital::of(rules);
        let interfaces = BTreeMap::from([("lo".to_owned(), LOOPBACK)]);
        let (trial, applied) = policies::apply(&hospital, &interfaces)?;
        let mut cases = Vec::new();
        let mut add = |kind: Kind, shape, packets, passes| -> Result<()> {
            let (v6, tagged) = (shape & Plan::V6 != 0, shape & Plan::TAGGED != 0);
            let flows = driver.keep(&hospital.traffic(kind.traffic(), v6, tagged, packets))?;
            let frame = frame(shape, kind.segment())?;
            cases.push(Case { kind, shape, frame, flows, passes, baseline: Vec::new(), gateway: Vec::new() });
            Ok(())
        };
        for kind in Kind::ALL {
            for shape in [0, Plan::TAGGED, Plan::V6, Plan::V6 | Plan::TAGGED] {
                add(kind, shape, packets, PASSES)?;
            }
        }
        add(Kind::EstablishedTcp, Plan::TAGGED, packets * WIDE, PASSES / 8)?;
        Ok((Self { rules, trial, cases }, applied))
    }

    /// Sends every packet once and looks whether it is judged as its case says.
    fn check(&mut self, driver: &mut Driver) -> Result<()> {
        self.trial.forget_connections()?;
        for case in &self.cases {
            if case.kind == Kind::EstablishedTcp || case.kind == Kind::EstablishedUdp {
                self.establish(driver, case)?;
            }
            let before = self.count(case.kind.reason())?;
            driver.subject(self.trial.entry(), case.run(1, 0))?;
            let judged = self.count(case.kind.reason())? - before;
            // Two of the random connections may be the same one, the second packet of which is not its first.
            let wanted = u64::from(case.flows.count) * 99 / 100;
            ensure!(
                judged >= wanted,
                "{:?}, shape {}: {judged} of {} packets came to {}",
                case.kind,
                case.shape,
                case.flows.count,
                case.kind.reason().name()
            );
            if case.kind == Kind::FirstAllowed {
                self.trial.forget_connections()?;
            }
        }
        Ok(())
    }

    fn count(&self, reason: Reason) -> Result<u64> {
        let counters = self.trial.counters()?;
        let counted = counters.pairs.iter().filter(|(key, _)| key.reason == reason);
        Ok(counted.map(|(_, counter)| counter.packets).sum())
    }

    /// Opens the connections of a case, both ends' packets included.
    fn establish(&self, driver: &mut Driver, case: &Case) -> Result<()> {
        let steps: &[(Segment, u32)] = if case.kind == Kind::EstablishedUdp {
            &[(Segment::Udp, 0), (Segment::Udp, Plan::BACK)]
        } else {
            &[(Segment::Syn, 0), (Segment::SynAck, Plan::BACK), (Segment::Ack, 0)]
        };
        for &(segment, back) in steps {
            // Servers are behind tags.
            let shape = if back == 0 { case.shape } else { case.shape | Plan::TAGGED | back };
            let frame = frame(shape, segment)?;
            let run =
                Run { frame: &frame, flows: case.flows, shape, port_offset: 0, turns: case.flows.count };
            driver.subject(self.trial.entry(), run)?;
        }
        Ok(())
    }

    /// Measures each case once with each program. All with the one before all with the other: to put another program
    /// behind the driver takes the kernel a grace period.
    fn round(&mut self, driver: &mut Driver) -> Result<()> {
        let mut cases = std::mem::take(&mut self.cases);
        for case in &mut cases {
            let cost = if case.kind == Kind::FirstAllowed {
                case.first(|run| driver.baseline(run))?
            } else {
                driver.baseline(case.run(case.passes, 0))?
            };
            case.baseline.push(cost);
        }
        let mut established = false;
        for case in &mut cases {
            let cost = if case.kind == Kind::FirstAllowed {
                self.trial.forget_connections()?;
                case.first(|run| driver.subject(self.trial.entry(), run))?
            } else {
                if !established {
                    self.trial.forget_connections()?;
                    established = true;
                }
                if case.kind == Kind::EstablishedTcp || case.kind == Kind::EstablishedUdp {
                    self.establish(driver, case)?;
                }
                driver.subject(self.trial.entry(), case.run(case.passes, 0))?
            };
            case.gateway.push(cost);
        }
        self.trial.events();
        self.cases = cases;
        Ok(())
    }
}

impl Case {
    /// What a packet costs that is new each time: the mean of some passes, each from other ports.
    fn first(&self, mut run: impl FnMut(Run<'_>) -> Result<f64>) -> Result<f64> {
        let mut sum = 0.0;
        for pass in 0..FIRST_PASSES {
            sum += run(self.run(1, PORTS * u16::try_from(pass).context("few passes")?))?;
        }
        Ok(sum / f64::from(FIRST_PASSES))
    }

    fn run(&self, passes: u32, port_offset: u16) -> Run<'_> {
        Run {
            frame: &self.frame,
            flows: self.flows,
            shape: self.shape,
            port_offset,
            turns: self.flows.count * passes,
        }
    }

    fn cost(self, rules: usize) -> Cost {
        let over = self.gateway.iter().zip(&self.baseline).map(|(gateway, baseline)| gateway - baseline);
        let over = Summary::of(over);
        let (baseline, gateway) = (Summary::of(self.baseline), Summary::of(self.gateway));
        Cost {
            rules,
            kind: self.kind,
            ipv6: self.shape & Plan::V6 != 0,
            tagged: self.shape & Plan::TAGGED != 0,
            packets: self.flows.count,
            over,
            least: gateway.minimum - baseline.minimum,
            baseline,
            gateway,
        }
    }
}
