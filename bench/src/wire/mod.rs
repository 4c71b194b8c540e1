//! Packets a second, end to end: live frames through wires between namespaces, beside others that do the same.
//!
//! All gateways stand side by side from the beginning, and a round measures each once. A sender and what receives
//! its frames share a CPU, as they do on a wire between namespaces: a rate holds the cost of both.

mod bed;
mod events;
pub(crate) mod latency;
mod sender;
mod town;

use std::time::Duration;

use anyhow::{Result, ensure};
use clinigate_tests::run::Run;
use serde::Serialize;

pub(crate) use bed::Judge;
use bed::{Bed, CLIENTS, Design, SERVERS};
pub(crate) use events::Reporting;
use town::{Town, Traffic};

use crate::driver::{Driver, Flows};
use crate::statistics::Summary;
use crate::{Effort, cpus, say};

/// Times that connections are opened anew, until nearly all packets come through.
const OPENINGS: usize = 5;
/// Connections of each CPU.
const CONNECTIONS: usize = 1024;
/// How long a measurement shall take.
const SPAN: Duration = Duration::from_millis(40);
/// Frames from which the first guess at a rate is made, and the most of a measurement.
const TRIAL: u32 = 4096;
const FRAMES_MAX: u32 = 1 << 20;

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rate {
    pub(crate) judge: Judge,
    pub(crate) rules: usize,
    /// CPUs that sent and judged.
    pub(crate) cpus: usize,
    /// Million packets a second.
    pub(crate) mpps: Summary,
    /// Of the reference's rate, round by round.
    pub(crate) share: Summary,
    /// Of the frames that were sent, the part that arrived where it was counted.
    pub(crate) arrived: f64,
}

/// All that was measured here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rates {
    pub(crate) rounds: usize,
    /// Packets that no rule allows, dropped by all but none; the reference is [`Judge::Sink`].
    pub(crate) denied: Vec<Rate>,
    /// Packets of known connections, forwarded; the reference is [`Judge::Conntrack`].
    pub(crate) forwarded: Vec<Rate>,
    /// Denied packets on one CPU, of which hardly any or many are reported.
    pub(crate) events: Vec<Reporting>,
}

struct Contender {
    bed: Bed,
    judge: Judge,
    town: Town,
    flows: Flows,
    traffic: Traffic,
}

/// Rules of the largest town.
const TOWN_LIMIT: usize = 10_000;

pub(crate) fn measure(driver: &mut Driver, effort: &Effort) -> Result<Rates> {
    driver.clear();
    let run = Run::new()?;
    let town = Town { rules: 1000 };
    let mut denied = Vec::new();
    for judge in [Judge::Sink, Judge::Set, Judge::Chain, Judge::ClinigateXdp] {
        denied.push(Contender::build(&run, driver, judge, town, Traffic::Denied, "")?);
    }
    // The largest policy is measured by decisions: a policy's file does not hold so large a town.
    for &rules in effort.sizes.iter().filter(|&&rules| rules != town.rules && rules <= TOWN_LIMIT) {
        denied.push(Contender::build(
            &run,
            driver,
            Judge::ClinigateXdp,
            Town { rules },
            Traffic::Denied,
            "",
        )?);
    }
    let denied = contest(driver, effort, "denied packets", &denied)?;
    driver.clear();
    let mut allowed = Vec::new();
    for judge in [Judge::Conntrack, Judge::Kernel, Judge::Router, Judge::Clinigate, Judge::ClinigateXdp] {
        allowed.push(Contender::build(&run, driver, judge, town, Traffic::Allowed, "")?);
    }
    let forwarded = contest(driver, effort, "forwarded packets", &allowed)?;
    let events = events::measure(driver, effort, &run, town)?;
    Ok(Rates { rounds: effort.rounds, denied, forwarded, events })
}

/// Measures the contenders in turn; the first is the reference.
fn contest(driver: &mut Driver, effort: &Effort, what: &str, contenders: &[Contender]) -> Result<Vec<Rate>> {
    let mut rates = Vec::new();
    let steps = (0..).map(|step| 1 << step).take_while(|count| *count < cpus().len()).chain([cpus().len()]);
    for count in steps.filter(|count| effort.every_cpu_count || *count == 1 || *count == cpus().len()) {
        let cpus = &cpus()[..count];
        let mut samples = vec![Vec::new(); contenders.len()];
        let mut frames = Vec::new();
        for contender in contenders {
            let guess = contender.rate(driver, cpus, TRIAL)?;
            let wanted = guess.pps * SPAN.as_secs_f64() / count as f64;
            frames.push((wanted as u32).clamp(TRIAL, FRAMES_MAX));
        }
        for _ in 0..effort.rounds {
            for ((contender, frames), samples) in contenders.iter().zip(&frames).zip(&mut samples) {
                samples.push(contender.rate(driver, cpus, *frames)?);
            }
        }
        for (contender, of_it) in contenders.iter().zip(&samples) {
            let shares = of_it.iter().zip(&samples[0]).map(|(sample, reference)| sample.pps / reference.pps);
            rates.push(Rate {
                judge: contender.judge,
                rules: contender.town.rules,
                cpus: count,
                mpps: Summary::of(of_it.iter().map(|sample| sample.pps / 1e6)),
                share: Summary::of(shares),
                arrived: Summary::of(of_it.iter().map(|sample| sample.arrived)).median,
            });
        }
        say(&format!("{what}: {} rounds on {count} CPUs", effort.rounds));
    }
    Ok(rates)
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Packets a second that were received.
    pps: f64,
    arrived: f64,
}

impl Contender {
    /// `more` are further settings of Clinigate's policy.
    fn build(
        run: &Run,
        driver: &mut Driver,
        judge: Judge,
        town: Town,
        traffic: Traffic,
        more: &str,
    ) -> Result<Self> {
        let name = format!(
            "{}-{}-{}{}",
            judge.name(),
            town.rules,
            traffic.name(),
            more.replace([',', ' ', ':'], "-")
        );
        let bed = Bed::build(driver, Design { run, name: &name, judge, town, more })?;
        if traffic == Traffic::Allowed {
            driver.attach("bench_sink", &bed.around[SERVERS], bed::END)?;
        }
        let flows = driver.keep(&town.traffic(traffic, CONNECTIONS * sender::slots()))?;
        let contender = Self { bed, judge, town, flows, traffic };
        contender.check(driver)?;
        Ok(contender)
    }

    /// Opens the connections from both ends, or sees to it that nothing passes.
    fn check(&self, driver: &mut Driver) -> Result<()> {
        let ways =
            if self.traffic == Traffic::Allowed { &[CLIENTS, SERVERS, CLIENTS][..] } else { &[CLIENTS] };
        for &from in ways {
            let to = if from == CLIENTS { SERVERS } else { CLIENTS };
            let sent = (CONNECTIONS * cpus().len()) as u64;
            let mut delivered = 0;
            // While others use the machine, the kernel's queues are too short for a burst now and then.
            for _ in 0..OPENINGS {
                let before = self.bed.delivered(to)?;
                driver.send(&self.bed.route(from)?, self.flows, cpus(), CONNECTIONS as u32)?;
                delivered = self.bed.delivered(to)? - before;
                if self.traffic != Traffic::Allowed || delivered >= sent * 9 / 10 {
                    break;
                }
            }
            let fine =
                if self.traffic == Traffic::Allowed { delivered >= sent * 9 / 10 } else { delivered == 0 };
            ensure!(fine, "{:?}: {delivered} of {sent} packets came through", self.judge);
        }
        Ok(())
    }

    fn rate(&self, driver: &mut Driver, cpus: &[usize], frames: u32) -> Result<Sample> {
        let count = || {
            if self.traffic == Traffic::Allowed {
                self.bed.delivered(SERVERS)
            } else {
                self.bed.received(CLIENTS)
            }
        };
        let before = count()?;
        let rate = driver.send(&self.bed.route(CLIENTS)?, self.flows, cpus, frames)?;
        let received = (count()? - before) as f64;
        let sent = f64::from(frames) * cpus.len() as f64;
        Ok(Sample { pps: rate * received / sent, arrived: received / sent })
    }
}
