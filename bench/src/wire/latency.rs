//! Round trips between real sockets through each gateway, idle and while guests flood it with what it denies; and
//! how fast a transfer over TCP is.
//!
//! Client and server have a CPU each to themselves and ask for packets without sleeping, so that no scheduler is measured. The flood
//! has the other CPUs, as the queues of other ports would; it shares memory, tables and locks with the round trips.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clinigate_tests::namespace::Namespace;
use clinigate_tests::run::Run;
use serde::Serialize;

use super::bed::{Bed, CLIENTS, Design, GUESTS, Judge, SERVERS};
use super::sender;
use super::town::{SERVICE, Town, Traffic};
use crate::driver::{Driver, Flows};
use crate::statistics::Summary;
use crate::{Effort, alone, cpus, pin_to, say};

/// Round trips of a round, of which the 99.9th percentile is the fourth worst.
const TRIPS: usize = 4000;
/// How long a transfer lasts.
const TRANSFER: Duration = Duration::from_millis(200);
/// How long a packet may take.
const LOST: Duration = Duration::from_secs(2);
/// Flows of the flood, on each CPU.
const FLOOD: usize = 4096;

/// All that was measured here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) rounds: usize,
    pub(crate) trips: Vec<Trips>,
    pub(crate) transfers: Vec<Transfer>,
}

/// Round trips through a gateway.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trips {
    pub(crate) judge: Judge,
    pub(crate) idle: Percentiles,
    /// Where it denies anything at all.
    pub(crate) flood: Option<Flood>,
}

/// Microseconds, each a summary of rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) median: Summary,
    /// 99.9th percentile.
    pub(crate) late: Summary,
}

/// The same during a flood.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Flood {
    /// Million frames a second.
    pub(crate) mpps: Summary,
    pub(crate) trips: Percentiles,
    /// The 99.9th percentile, of that of the idle gateway, round by round.
    pub(crate) share: Summary,
}

/// A transfer through a gateway.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Transfer {
    pub(crate) judge: Judge,
    pub(crate) gigabits: Summary,
    /// Of the kernel's without rules, round by round.
    pub(crate) share: Summary,
}

struct Subject {
    bed: Bed,
    judge: Judge,
    idle: Vec<[f64; 2]>,
    flood: Vec<([f64; 2], f64)>,
    gigabits: Vec<f64>,
}

pub(crate) fn measure(driver: &mut Driver, effort: &Effort) -> Result<Latency> {
    driver.clear();
    let run = Run::new()?;
    let town = Town { rules: 1000 };
    let mut subjects = Vec::new();
    for judge in [Judge::Kernel, Judge::Conntrack, Judge::Clinigate, Judge::ClinigateXdp] {
        let name = format!("{}-latency", judge.name());
        let bed = Bed::build(driver, Design { run: &run, name: &name, judge, town, more: "" })?;
        subjects.push(Subject { bed, judge, idle: Vec::new(), flood: Vec::new(), gigabits: Vec::new() });
    }
    let flows = driver.keep(&town.traffic(Traffic::Guests, FLOOD * sender::slots()))?;
    for _ in 0..effort.rounds {
        for subject in &mut subjects {
            subject.round(driver, flows).with_context(|| format!("through {}", subject.judge.name()))?;
        }
    }
    say(&format!("latency: {} rounds", effort.rounds));
    let kernel = subjects[0].gigabits.clone();
    let transfers = subjects.iter().map(|subject| {
        let share = subject.gigabits.iter().zip(&kernel).map(|(it, kernel)| it / kernel);
        Transfer {
            judge: subject.judge,
            gigabits: Summary::of(subject.gigabits.iter().copied()),
            share: Summary::of(share),
        }
    });
    let transfers = transfers.collect();
    let trips = subjects.into_iter().map(Subject::trips).collect();
    Ok(Latency { rounds: effort.rounds, trips, transfers })
}

impl Subject {
    fn round(&mut self, driver: &mut Driver, flows: Flows) -> Result<()> {
        let [near, far, others @ ..] = cpus() else { bail!("a client and a server need a CPU each") };
        let idle = self.ping([*near, *far])?;
        self.idle.push(idle);
        if self.judge != Judge::Kernel && !others.is_empty() {
            let (trips, mpps) =
                driver.flood(&self.bed.route(GUESTS)?, flows, others, || self.ping([*near, *far]))?;
            self.flood.push((trips, mpps));
        }
        self.gigabits.push(self.transfer([*near, *far])?);
        Ok(())
    }

    /// Median and 99.9th percentile of round trips, in microseconds.
    fn ping(&self, cpus: [usize; 2]) -> Result<[f64; 2]> {
        let [near, far] = self.sockets(UdpSocket::bind)?;
        near.connect(far.local_addr()?)?;
        far.connect(near.local_addr()?)?;
        for socket in [&near, &far] {
            socket.set_nonblocking(true)?;
        }
        let over = AtomicBool::new(false);
        let mut times = thread::scope(|scope| {
            let answers = scope.spawn(|| answer(&far, cpus[1], &over));
            let times = scope.spawn(|| ask(&near, cpus[0])).join();
            over.store(true, Ordering::Relaxed);
            answers.join().map_err(|_| anyhow!("the server panicked"))??;
            times.map_err(|_| anyhow!("the client panicked"))?
        })?;
        times.sort_unstable();
        let at = |part: usize| times[times.len() * part / 1000].as_secs_f64() * 1e6;
        Ok([at(500), at(999)])
    }

    /// Gigabits a second.
    fn transfer(&self, cpus: [usize; 2]) -> Result<f64> {
        let [_, listener] = self.sockets(TcpListener::bind)?;
        let to = listener.local_addr()?;
        thread::scope(|scope| {
            let connected = self.within(CLIENTS, || TcpStream::connect_timeout(&to, LOST))?;
            let stream = connected.context("no connection")?;
            let accepted = listener.accept()?.0;
            let sender = scope.spawn(|| send(stream, cpus[0]));
            let receiver = scope.spawn(|| receive(accepted, cpus[1]));
            sender.join().map_err(|_| anyhow!("the sender panicked"))??;
            receiver.join().map_err(|_| anyhow!("the receiver panicked"))?
        })
    }

    /// A socket at each end of the first rule.
    fn sockets<T: Send>(&self, open: impl Fn(SocketAddr) -> std::io::Result<T> + Sync) -> Result<[T; 2]> {
        let [client, server] = Town::ends(0);
        let at = |address: Ipv4Addr, port| SocketAddr::from((address, port));
        let near = self.within(CLIENTS, || open(at(client, 0)))?;
        let far = self.within(SERVERS, || open(at(server, SERVICE)))?;
        Ok([near?, far?])
    }

    fn within<T: Send>(&self, port: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace: &Namespace = &self.bed.around[port];
        namespace.run(work)
    }

    fn trips(self) -> Trips {
        let percentiles = |of: &[[f64; 2]]| {
            let [median, late] = [0, 1].map(|which| Summary::of(of.iter().map(|round| round[which])));
            Percentiles { median, late }
        };
        let flood = (!self.flood.is_empty()).then(|| {
            let shares = self.flood.iter().zip(&self.idle).map(|((flood, _), idle)| flood[1] / idle[1]);
            let trips: Vec<[f64; 2]> = self.flood.iter().map(|(trips, _)| *trips).collect();
            Flood {
                mpps: Summary::of(self.flood.iter().map(|(_, mpps)| *mpps)),
                trips: percentiles(&trips),
                share: Summary::of(shares),
            }
        });
        Trips { judge: self.judge, idle: percentiles(&self.idle), flood }
    }
}

fn ask(socket: &UdpSocket, cpu: usize) -> Result<Vec<Duration>> {
    pin_to(cpu)?;
    alone();
    let mut times = Vec::with_capacity(TRIPS);
    for _ in 0..TRIPS {
        let begun = Instant::now();
        socket.send(&[0; 18])?;
        while !arrived(socket)? {
            ensure!(begun.elapsed() < LOST, "a packet was lost");
        }
        times.push(begun.elapsed());
    }
    Ok(times)
}

fn answer(socket: &UdpSocket, cpu: usize, over: &AtomicBool) -> Result<()> {
    pin_to(cpu)?;
    alone();
    while !over.load(Ordering::Relaxed) {
        if arrived(socket)? {
            socket.send(&[0; 18])?;
        }
    }
    Ok(())
}

fn arrived(socket: &UdpSocket) -> Result<bool> {
    match socket.recv(&mut [0; 64]) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            std::hint::spin_loop();
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn send(mut stream: TcpStream, cpu: usize) -> Result<()> {
    pin_to(cpu)?;
    alone();
    let (buffer, begun) = (vec![0; 1 << 17], Instant::now());
    while begun.elapsed() < TRANSFER {
        stream.write_all(&buffer)?;
    }
    Ok(())
}

/// Reads to the end; how many gigabits a second that were.
fn receive(mut stream: TcpStream, cpu: usize) -> Result<f64> {
    pin_to(cpu)?;
    alone();
    let (mut bytes, mut buffer, begun) = (0, vec![0; 1 << 17], Instant::now());
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes as f64 * 8e-9 / begun.elapsed().as_secs_f64()),
            read => bytes += read,
        }
    }
}
