//! What reporting denied packets costs.

use std::time::Duration;

use anyhow::{Context, Result};
use clinigate_tests::run::Run;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::bed::Judge;
use super::town::{Town, Traffic};
use super::{Contender, FRAMES_MAX};
use crate::driver::Driver;
use crate::statistics::Summary;
use crate::{Effort, cpus, say};

/// Reports a second at most, by policy: as good as none, what is usual, and the most that a policy may ask for.
const LIMITS: [u32; 3] = [1, 500, 1_000_000];
/// Frames of a measurement.
const FRAMES: u32 = FRAMES_MAX / 16;

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Reporting {
    /// Reports a second that the policy admits.
    pub(crate) limit: u32,
    /// Million packets a second.
    pub(crate) mpps: Summary,
    /// Of the rate where hardly any are reported, round by round.
    pub(crate) share: Summary,
    /// Reports that were read, and packets, in all rounds.
    pub(crate) reported: u64,
    pub(crate) packets: u64,
}

/// A flow is reported once a second at most: a round is short, and each of its flows is new to it or nearly so.
pub(super) fn measure(driver: &mut Driver, effort: &Effort, run: &Run, town: Town) -> Result<Vec<Reporting>> {
    driver.clear();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut contenders = Vec::new();
    for limit in LIMITS {
        let more = format!(", event-rate: {limit}");
        let mut contender = Contender::build(run, driver, Judge::ClinigateXdp, town, Traffic::Denied, &more)?;
        // Those of the packets that were sent to look whether all is well.
        read(&runtime, &mut contender)?;
        contenders.push(contender);
    }
    let (mut rates, mut reported) = (vec![Vec::new(); LIMITS.len()], [0; LIMITS.len()]);
    for _ in 0..effort.rounds {
        for (number, contender) in contenders.iter_mut().enumerate() {
            rates[number].push(contender.rate(driver, &cpus()[..1], FRAMES)?.pps / 1e6);
            // The ring holds what a round reports; what is read then does not slow packets down.
            reported[number] += read(&runtime, contender)?;
        }
    }
    say(&format!("events: {} rounds", effort.rounds));
    let lines = LIMITS.iter().zip(&rates).zip(reported).map(|((&limit, of_it), reported)| Reporting {
        limit,
        mpps: Summary::of(of_it.iter().copied()),
        share: Summary::of(of_it.iter().zip(&rates[0]).map(|(rate, quiet)| rate / quiet)),
        reported,
        packets: u64::from(FRAMES) * of_it.len() as u64,
    });
    Ok(lines.collect())
}

/// Reads all reports that are there; how many that were.
fn read(runtime: &Runtime, contender: &mut Contender) -> Result<u64> {
    let dataplane = contender.bed.dataplane.as_mut().context("Clinigate judges")?;
    runtime.block_on(async {
        let mut events = dataplane.events()?;
        let mut count = 0;
        while let Ok(event) = timeout(Duration::from_millis(2), events.next()).await {
            event?;
            count += 1;
        }
        Ok(count)
    })
}
