//! Live frames: the kernel runs the sender's program, and what it makes goes out on an interface as if redirected
//! from a driver (`BPF_F_TEST_XDP_LIVE_FRAMES`). Bounded in number; only within namespaces of the benchmark.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use clinigate_tests::namespace::Namespace;
use etherparse::PacketBuilder;
use gateway_common::bench::{LETTER, Letter};

use crate::clock::Begun;
use crate::driver::{Driver, Flows, xdp};
use crate::{alone, pin_to};

/// Frames between two times that receivers come to work; the ring of a veth takes 256.
const BATCH: u32 = 64;
/// Frames after which a flood looks whether it shall go on: some milliseconds.
const WAVE: u32 = 1 << 14;

/// Where frames come from and go to.
#[derive(Clone, Debug)]
pub(crate) struct Route<'a> {
    /// The sender's namespace and interface.
    pub(crate) namespace: &'a Namespace,
    pub(crate) ifindex: u32,
    /// Hardware addresses: the sender's, and of whom it sends to.
    pub(crate) macs: [[u8; 6]; 2],
    /// From the flows' destination to their source.
    pub(crate) back: bool,
}

/// Into how many parts flows are divided: one for each CPU that may send, by its number.
pub(crate) fn slots() -> usize {
    crate::cpus().iter().max().map_or(1, |last| (last + 1).next_power_of_two())
}

impl Driver {
    /// Sends so many frames on each of these CPUs, from the flows in turn. Returns how many that are a second, all
    /// CPUs together, by the time that each spent on it: what else ran there meanwhile does not count.
    pub(crate) fn send(
        &mut self,
        route: &Route<'_>,
        flows: Flows,
        cpus: &[usize],
        frames: u32,
    ) -> Result<f64> {
        self.address(route, flows)?;
        let sender: &Xdp = self.program("bench_sender")?;
        // All begin together: they may stand in each other's way.
        let barrier = Barrier::new(cpus.len());
        thread::scope(|scope| {
            let senders: Vec<_> = cpus
                .iter()
                .map(|&cpu| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        let ready = pin_to(cpu).and_then(|()| enter(route.namespace));
                        barrier.wait();
                        ready?;
                        run(sender, frames)
                    })
                })
                .collect();
            let mut rate = 0.0;
            for sender in senders {
                rate += sender.join().map_err(|_| anyhow!("a sender panicked"))??;
            }
            Ok(rate)
        })
    }

    /// Floods from these CPUs while `work` is done. Returns also how many million frames a second that were.
    pub(crate) fn flood<T>(
        &mut self,
        route: &Route<'_>,
        flows: Flows,
        cpus: &[usize],
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, f64)> {
        self.address(route, flows)?;
        let sender: &Xdp = self.program("bench_sender")?;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let senders: Vec<_> = cpus
                .iter()
                .map(|&cpu| {
                    let over = &over;
                    scope.spawn(move || -> Result<f64> {
                        pin_to(cpu)?;
                        enter(route.namespace)?;
                        alone();
                        let (mut frames, begun) = (0, Instant::now());
                        while !over.load(Ordering::Relaxed) {
                            run(sender, WAVE)?;
                            frames += WAVE;
                        }
                        Ok(f64::from(frames) / begun.elapsed().as_secs_f64() / 1e6)
                    })
                })
                .collect();
            let done = work();
            over.store(true, Ordering::Relaxed);
            let mut rate = 0.0;
            for sender in senders {
                rate += sender.join().map_err(|_| anyhow!("a sender panicked"))??;
            }
            Ok((done?, rate))
        })
    }

    fn address(&mut self, route: &Route<'_>, flows: Flows) -> Result<()> {
        let [source, destination] = route.macs;
        let builder = PacketBuilder::ethernet2(source, destination).ipv4([0; 4], [0; 4], 64).udp(0, 0);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[0; LETTER - 42])?;
        let checksum = u16::from_ne_bytes([bytes[24], bytes[25]]);
        // None: of UDP over IPv4 that is allowed (RFC 768), and it depends on addresses.
        bytes[40..42].fill(0);
        let mut frame = [0; LETTER / 4];
        for (word, bytes) in frame.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().expect("chunks of four"));
        }
        let (first, mask) = (flows.first, flows.count / u32::try_from(slots())? - 1);
        let (ifindex, back) = (route.ifindex, u16::from(route.back));
        self.letter.values()[0] = Letter { first, mask, ifindex, back, checksum, frame };
        Ok(())
    }

    /// Has this program taken up by an interface of a namespace, which goes with the namespace.
    pub(crate) fn attach(&mut self, name: &str, namespace: &Namespace, interface: &str) -> Result<()> {
        let program = xdp(&mut self.programs, name)?;
        let attached = namespace.run(|| program.attach(interface, aya::programs::XdpMode::Driver))?;
        attached.with_context(|| format!("cannot attach {name} to {interface}"))?;
        Ok(())
    }
}

fn enter(namespace: &Namespace) -> Result<()> {
    let file = std::fs::File::open(namespace.path())?;
    Ok(nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?)
}

/// Frames a second.
fn run(sender: &Xdp, frames: u32) -> Result<f64> {
    let options = TestRunOptions {
        data_in: Some(&[0; LETTER]),
        repeat: frames,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::default()
    };
    // Receivers work in the sender's time: their interrupts are raised on its CPU, and taken before it goes on.
    let begun = Begun::now()?;
    let result = sender.test_run(options).context("cannot send live frames")?;
    let time = begun.time()?;
    ensure!(result.return_value == 0, "sending ended with {}", result.return_value);
    Ok(f64::from(frames) * 1e3 / time.cpu)
}
