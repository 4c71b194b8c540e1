//! Running traffic, numbered at one end and counted at the other: what tests change policies and
//! kill services under.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use crate::hospital::Host;
use crate::peers::tcp;
use crate::slowness::unhurried;

/// How long stragglers may take to arrive after the last packet was sent.
const DRAIN: Duration = Duration::from_millis(500);
/// Receive buffers of counting sockets, in bytes: no packet may be lost for want of one.
const BUFFER: usize = 8 << 20;

/// Numbered datagrams from one host to a port of another, at a steady pace.
#[derive(Debug)]
pub struct Datagrams {
    started: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<()>>,
    receiver: JoinHandle<Result<BTreeSet<u64>>>,
}

/// What became of numbered datagrams.
#[derive(Debug)]
pub struct Count {
    /// How many were sent: numbers 0 up to this.
    pub sent: u64,
    /// Numbers that arrived.
    pub received: BTreeSet<u64>,
}

impl Datagrams {
    /// Starts to send one every `pause`.
    pub fn start(from: &Host, to: &Host, port: u16, pause: Duration) -> Result<Self> {
        Self::between(from, to, to.at(port), pause)
    }

    /// As [`Datagrams::start`], over IPv6.
    pub fn start_v6(from: &Host, to: &Host, port: u16, pause: Duration) -> Result<Self> {
        Self::between(from, to, to.at_v6(port), pause)
    }

    fn between(from: &Host, to: &Host, address: SocketAddr, pause: Duration) -> Result<Self> {
        let (started, arrived, stop): (Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let socket = to.namespace.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, address.port())))??;
        // By force: otherwise `net.core.rmem_max` bounds it without a word.
        setsockopt(&socket, RcvBufForce, &BUFFER).context("cannot grow the receive buffer")?;
        let receiver = {
            let (arrived, stop) = (Arc::clone(&arrived), Arc::clone(&stop));
            to.namespace.spawn(move || receive(&socket, &arrived, &stop))
        };
        let sender = {
            let (started, stop) = (Arc::clone(&started), Arc::clone(&stop));
            from.namespace.spawn(move || send(address, pause, &started, &stop))
        };
        Ok(Self { started, arrived, stop, sender, receiver })
    }

    /// How many have arrived.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::SeqCst)
    }

    /// Waits until a packet has arrived; false where none did within `patience`.
    pub fn wait_for_arrival(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.arrived.load(Ordering::SeqCst) == 0 {
            if Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// How many packets have been begun: a packet of this number or above is sent after this call.
    pub fn begun(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }

    /// Ends the traffic and counts.
    pub fn finish(self) -> Result<Count> {
        self.stop.store(true, Ordering::SeqCst);
        joined(self.sender)?;
        Ok(Count { sent: self.started.load(Ordering::SeqCst), received: joined(self.receiver)? })
    }
}

impl Count {
    /// How many of these numbers did not arrive.
    pub fn lost(&self, numbers: Range<u64>) -> usize {
        numbers.filter(|number| !self.received.contains(number)).count()
    }

    /// How many of these numbers arrived.
    pub fn arrived(&self, numbers: Range<u64>) -> usize {
        if numbers.is_empty() { 0 } else { self.received.range(numbers).count() }
    }
}

fn send(to: SocketAddr, pause: Duration, started: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    while !stop.load(Ordering::SeqCst) {
        let number = started.fetch_add(1, Ordering::SeqCst);
        match socket.send(&number.to_be_bytes()) {
            // An ICMP error that some earlier packet came back with; this one has not been sent.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                socket.send(&number.to_be_bytes()).context("cannot send")?;
            }
            sent => {
                sent.context("cannot send")?;
            }
        }
        thread::sleep(pause);
    }
    Ok(())
}

fn receive(socket: &UdpSocket, arrived: &AtomicU64, stop: &AtomicBool) -> Result<BTreeSet<u64>> {
    let (mut received, mut buffer) = (BTreeSet::new(), [0; 9]);
    let mut stopped: Option<Instant> = None;
    socket.set_read_timeout(Some(unhurried(Duration::from_millis(50))))?;
    loop {
        match socket.recv(&mut buffer) {
            Ok(8) => {
                let number = buffer[..8].try_into().map(u64::from_be_bytes).context("eight bytes")?;
                ensure!(received.insert(number), "packet {number} arrived twice");
                arrived.fetch_add(1, Ordering::SeqCst);
            }
            // Not one of ours.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // What waits in the socket is taken, however late.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if stopped.is_some_and(|since| since.elapsed() > DRAIN) {
                    return Ok(received);
                }
            }
            Err(error) => return Err(error).context("cannot receive"),
        }
        if stop.load(Ordering::SeqCst) {
            stopped.get_or_insert_with(Instant::now);
        }
    }
}

/// A TCP transfer of a known byte sequence that goes on until it is ended.
#[derive(Debug)]
pub struct Transfer {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<u64>>,
    watch: JoinHandle<Duration>,
}

/// What became of a transfer.
#[derive(Debug)]
pub struct Transferred {
    /// Bytes handed to the connection.
    pub sent: u64,
    /// Bytes that arrived, each in its place.
    pub received: u64,
    /// Longest time in which none arrived.
    pub longest_stall: Duration,
}

impl Transfer {
    /// Connects and starts to send.
    pub fn start(from: &Host, to: &Host, port: u16) -> Result<Self> {
        let (received, stop): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let listener = to.namespace.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))??;
        let counter = Arc::clone(&received);
        thread::spawn(move || tcp::counting_sink(&listener, counter));
        let (address, ended) = (to.at(port), Arc::clone(&stop));
        let pause = unhurried(Duration::from_millis(1));
        let sender =
            from.namespace.spawn(move || tcp::source(address, pause, Duration::from_secs(10), &ended));
        let until = Instant::now() + unhurried(Duration::from_secs(5));
        while received.load(Ordering::Relaxed) == 0 {
            ensure!(Instant::now() < until && !sender.is_finished(), "the transfer does not begin");
            thread::sleep(Duration::from_millis(1));
        }
        let (counter, ended) = (Arc::clone(&received), Arc::clone(&stop));
        let watch = thread::spawn(move || longest_stall(&counter, &ended));
        Ok(Self { received, stop, sender, watch })
    }

    /// Bytes that have arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Ends it, waits until all has arrived, and counts.
    pub fn finish(self) -> Result<Transferred> {
        self.stop.store(true, Ordering::SeqCst);
        let longest_stall = self.watch.join().map_err(|_| anyhow!("the watching thread panicked"))?;
        let sent = joined(self.sender)?;
        let until = Instant::now() + unhurried(Duration::from_secs(10));
        while self.received.load(Ordering::Relaxed) < sent && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Transferred { sent, received: self.received.load(Ordering::Relaxed), longest_stall })
    }
}

fn longest_stall(received: &AtomicU64, stop: &AtomicBool) -> Duration {
    let (mut longest, mut last, mut since) = (Duration::ZERO, 0, Instant::now());
    while !stop.load(Ordering::SeqCst) {
        let now = received.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        longest = longest.max(since.elapsed());
        thread::sleep(Duration::from_millis(1));
    }
    longest
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a traffic thread panicked"))?
}
