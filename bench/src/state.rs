//! What connections cost by their number: to insert one, to find one, to insert one over another that has ended.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clinigate::compile::compile;
use clinigate::dataplane::trial::Trial;
use clinigate::policy::{SourceFile, resolve};
use clinigate::testing::hospital::{Hospital, Traffic};
use gateway_common::bench::Plan;
use gateway_common::connection::{Bucket, State};
use serde::Serialize;

use crate::clock::{Begun, Time};
use crate::driver::{Driver, Flows, Run};
use crate::frames::{Segment, frame};
use crate::statistics::Summary;
use crate::{Effort, say};

/// Connections that the table is made for.
const CAPACITY: u32 = 1 << 20;
/// Packets of a run that is repeated, so that the system call and cold caches do not weigh.
const TURNS: u32 = 1 << 16;
/// Longer than the hasty wait for an answer.
const ENDED: Duration = Duration::from_millis(1100);

/// All that was measured here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Connections {
    pub(crate) rounds: usize,
    /// Of the table, for as many as it was made for.
    pub(crate) bytes_each: f64,
    pub(crate) sizes: Vec<Size>,
}

/// One line of the result: nanoseconds over the baseline.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) connections: u32,
    /// Of these so many were held; for the others both of their buckets were full.
    pub(crate) held: u32,
    /// The first packet of a connection, into an empty table.
    pub(crate) insertion: Summary,
    /// The same into a table full of connections that have ended.
    pub(crate) over_ended: Summary,
    /// A packet of a known connection.
    pub(crate) lookup: Summary,
    /// Of the cost of a lookup among the fewest, round by round.
    pub(crate) share: Summary,
    /// For the controller to read the whole table once.
    pub(crate) listing: Time,
}

struct Bed {
    trial: Trial,
    /// The same policy, with a short time to answer a SYN.
    hasty: Trial,
    flows: Flows,
}

pub(crate) fn measure(driver: &mut Driver, effort: &Effort) -> Result<Connections> {
    driver.clear();
    let bed = Bed::make(driver, effort)?;
    let rounds = effort.rounds.div_ceil(6);
    let mut sizes: Vec<Size> = Vec::new();
    let mut fewest = Vec::new();
    for &connections in effort.connections {
        let (mut insertion, mut over_ended, mut lookup) = (Vec::new(), Vec::new(), Vec::new());
        let (mut held, mut listing) = (0, None);
        for _ in 0..rounds {
            insertion.push(bed.insert(driver, connections)?);
            lookup.push(bed.look_up(driver, connections)?);
            let begun = Begun::now()?;
            held = bed.trial.connection_summary(1)?.by_state.get(&State::Established).copied().unwrap_or(0);
            listing = Some(begun.time()?);
            over_ended.push(bed.insert_over_ended(driver, connections)?);
        }
        // Some of the random ones are the same, and of a table that is nearly full some buckets are.
        ensure!(held >= connections / 10 * 9, "of {connections} connections only {held} were held");
        if fewest.is_empty() {
            fewest.clone_from(&lookup);
        }
        let share = lookup.iter().zip(&fewest).map(|(cost, least)| cost / least);
        sizes.push(Size {
            connections,
            held,
            share: Summary::of(share),
            insertion: Summary::of(insertion),
            over_ended: Summary::of(over_ended),
            lookup: Summary::of(lookup),
            listing: listing.context("there is a round")?,
        });
        say(&format!("state: {connections} connections"));
    }
    let bytes = u64::from(CAPACITY.next_power_of_two()) / gateway_common::connection::WAYS as u64
        * size_of::<Bucket>() as u64;
    Ok(Connections { rounds, bytes_each: bytes as f64 / f64::from(CAPACITY), sizes })
}

impl Bed {
    fn make(driver: &mut Driver, effort: &Effort) -> Result<Self> {
        let hospital = Hospital::of(1000);
        let most = effort.connections.iter().max().context("no number of connections")?;
        let traffic = hospital.traffic(Traffic::Tcp, false, true, most.next_power_of_two() as usize);
        let [trial, hasty] = ["60s", "1s"].map(|patience| trial(&hospital, patience));
        Ok(Self { trial: trial?, hasty: hasty?, flows: driver.keep(&traffic)? })
    }

    /// A run through the first flows; each so often that it is worth a system call.
    fn run<'a>(
        &self,
        frame: &'a [u8],
        connections: u32,
        back: u32,
        port_offset: u16,
        passes: u32,
    ) -> Run<'a> {
        // The driver's turns go round in a power of two.
        let flows = Flows { count: connections.next_power_of_two(), ..self.flows };
        Run { frame, flows, shape: Plan::TAGGED | back, port_offset, turns: connections * passes }
    }

    fn insert(&self, driver: &mut Driver, connections: u32) -> Result<f64> {
        self.trial.forget_connections()?;
        let syn = frame(Plan::TAGGED, Segment::Syn)?;
        over(driver, &self.trial, self.run(&syn, connections, 0, 0, 1))
    }

    fn look_up(&self, driver: &mut Driver, connections: u32) -> Result<f64> {
        // SYNs have been sent.
        let answer = frame(Plan::TAGGED, Segment::SynAck)?;
        driver.subject(self.trial.entry(), self.run(&answer, connections, Plan::BACK, 0, 1))?;
        let ack = frame(Plan::TAGGED, Segment::Ack)?;
        driver.subject(self.trial.entry(), self.run(&ack, connections, 0, 0, 1))?;
        over(driver, &self.trial, self.run(&ack, connections, 0, 0, TURNS.div_ceil(connections)))
    }

    fn insert_over_ended(&self, driver: &mut Driver, connections: u32) -> Result<f64> {
        self.hasty.forget_connections()?;
        let syn = frame(Plan::TAGGED, Segment::Syn)?;
        driver.subject(self.hasty.entry(), self.run(&syn, connections, 0, 0, 1))?;
        thread::sleep(ENDED);
        // From other ports: none of those that are there is wanted.
        over(driver, &self.hasty, self.run(&syn, connections, 0, 10_000, 1))
    }
}

/// Nanoseconds over the baseline.
fn over(driver: &mut Driver, trial: &Trial, run: Run<'_>) -> Result<f64> {
    // What the table before has pushed out of the caches comes back in: it is the same for both.
    driver.baseline(run)?;
    let baseline = driver.baseline(run)?;
    Ok(driver.subject(trial.entry(), run)? - baseline)
}

fn trial(hospital: &Hospital, patience: &str) -> Result<Trial> {
    let mut files = hospital.policy("lo");
    let settings = format!("settings: {{ connections: {CAPACITY}, timeouts: {{ syn-sent: {patience} }} }}\n");
    files.push(SourceFile::new("settings.yaml", settings));
    let resolved = resolve(files);
    let Some(policy) = resolved.policy else { bail!("a mistake: {:?}", resolved.diagnostics.first()) };
    Ok(Trial::as_attached(&compile(&policy)?, &BTreeMap::from([("lo".to_owned(), 1)]))?)
}
