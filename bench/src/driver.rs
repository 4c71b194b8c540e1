//! The driver program (`gateway-ebpf/src/bin/clinigate-bench`): loaded, given flows, and run.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use clinigate::testing::BENCH_OBJECT;
use clinigate::testing::hospital::Flow as Connection;
use gateway_common::bench::{FLOWS, Flow, Letter, Plan};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::clock::Begun;

const PROGRAMS: [&str; 6] =
    ["bench_driver", "bench_baseline", "bench_floor", "bench_sender", "bench_sink", "bench_router"];

/// The driver, with room for flows.
pub(crate) struct Driver {
    pub(crate) programs: Ebpf,
    subject: ProgramArray<MapData>,
    plan: Shared<Plan>,
    /// What the sender of live frames writes.
    pub(crate) letter: Shared<Letter>,
    flows: Shared<Flow>,
    /// Flows that are in use.
    taken: usize,
    /// Identifier of the program that the driver jumps to.
    aimed: Option<u32>,
}

/// Some of the driver's flows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flows {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// What to run, besides the subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) frame: &'a [u8],
    pub(crate) flows: Flows,
    /// Bits of [`Plan`].
    pub(crate) shape: u32,
    pub(crate) port_offset: u16,
    /// How many packets are sent, from the flows in turn.
    pub(crate) turns: u32,
}

impl Driver {
    pub(crate) fn load() -> Result<Self> {
        let mut programs = EbpfLoader::new().load(BENCH_OBJECT).context("cannot load the driver")?;
        for name in PROGRAMS {
            xdp(&mut programs, name)?.load().with_context(|| format!("the kernel refuses {name}"))?;
        }
        let subject = ProgramArray::try_from(programs.take_map("SUBJECT").context("no map SUBJECT")?)?;
        let plan = Shared::of(&programs, "PLAN", 1)?;
        let letter = Shared::of(&programs, "LETTERS", 1)?;
        let flows = Shared::of(&programs, "FLOWS", FLOWS)?;
        Ok(Self { programs, subject, plan, letter, flows, taken: 0, aimed: None })
    }

    /// Keeps connections for runs to come; their number is a power of two.
    pub(crate) fn keep(&mut self, connections: &[Connection]) -> Result<Flows> {
        let count = connections.len();
        ensure!(count.is_power_of_two() && self.taken + count <= FLOWS, "no room for {count} flows");
        for (place, connection) in self.flows.values()[self.taken..].iter_mut().zip(connections) {
            *place = flow(connection);
        }
        let flows = Flows { first: u32::try_from(self.taken)?, count: u32::try_from(count)? };
        self.taken += count;
        Ok(flows)
    }

    /// Forgets the flows.
    pub(crate) fn clear(&mut self) {
        self.taken = 0;
    }

    /// Nanoseconds of CPU time that a packet of `run` takes with the baseline.
    pub(crate) fn baseline(&mut self, run: Run<'_>) -> Result<f64> {
        self.aim_at_own("bench_baseline")?;
        self.run(run)
    }

    /// Likewise with a program that does nothing.
    pub(crate) fn floor(&mut self, run: Run<'_>) -> Result<f64> {
        self.aim_at_own("bench_floor")?;
        self.run(run)
    }

    /// Likewise with this program.
    pub(crate) fn subject(&mut self, program: &Xdp, run: Run<'_>) -> Result<f64> {
        self.aim(program.info()?.id(), program.fd()?)?;
        self.run(run)
    }

    fn aim_at_own(&mut self, name: &str) -> Result<()> {
        let program = xdp(&mut self.programs, name)?;
        let (id, fd) = (program.info()?.id(), program.fd()?.try_clone()?);
        self.aim(id, &fd)
    }

    /// Only where it is another one: the kernel waits for a grace period each time.
    fn aim(&mut self, id: u32, fd: &ProgramFd) -> Result<()> {
        if self.aimed != Some(id) {
            self.aimed = None;
            self.subject.set(0, fd, 0)?;
            self.aimed = Some(id);
        }
        Ok(())
    }

    /// One of its programs, which is loaded.
    pub(crate) fn program(&self, name: &str) -> Result<&Xdp> {
        let program = self.programs.program(name).with_context(|| format!("no program {name}"))?;
        Ok(program.try_into()?)
    }

    fn run(&mut self, run: Run<'_>) -> Result<f64> {
        let Run { frame, flows, shape, port_offset, turns } = run;
        let plan =
            Plan { next: 0, first: flows.first, mask: flows.count - 1, shape, port_offset, reserved: 0 };
        self.plan.values()[0] = plan;
        let options = TestRunOptions { data_in: Some(frame), repeat: turns, ..TestRunOptions::default() };
        let driver = xdp(&mut self.programs, "bench_driver")?;
        // Time on the CPU, not on the clock: what others run in between does not count. It includes the
        // system call, a few microseconds for thousands of packets.
        let begun = Begun::now()?;
        let result = driver.test_run(options).context("the test run failed")?;
        let time = begun.time()?;
        // XDP_ABORTED (include/uapi/linux/bpf.h): the driver found no subject, or the baseline no packet.
        ensure!(result.return_value != 0, "the run was aborted");
        Ok(time.cpu * 1e6 / f64::from(turns))
    }
}

pub(crate) fn xdp<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = programs.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn flow(connection: &Connection) -> Flow {
    let words = |address: std::net::IpAddr| {
        let octets = match address {
            std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            std::net::IpAddr::V6(v6) => v6.octets(),
        };
        let word = |at: usize| u64::from_ne_bytes(octets[at..at + 8].try_into().expect("eight of sixteen"));
        [word(0), word(8)]
    };
    Flow {
        source: words(connection.source),
        destination: words(connection.destination),
        source_port: connection.source_port,
        destination_port: connection.destination_port.to_be(),
        vlan: connection.vlan.to_be(),
        back_vlan: connection.back_vlan.to_be(),
    }
}

/// An array map that is mapped here too.
pub(crate) struct Shared<T> {
    start: NonNull<T>,
    count: usize,
}

impl<T: Copy> Shared<T> {
    fn of(programs: &Ebpf, name: &str, count: usize) -> Result<Self> {
        let map = programs.map(name).with_context(|| format!("no map {name}"))?;
        let aya::maps::Map::Array(data) = map else { anyhow::bail!("{name} is not an array") };
        // The kernel keeps elements 8 bytes aligned (kernel/bpf/arraymap.c).
        ensure!(count == 1 || size_of::<T>().is_multiple_of(8), "elements of {name} are not side by side");
        let length = NonZeroUsize::new(count * size_of::<T>()).context("an empty map")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, data.fd().as_fd(), 0)? };
        Ok(Self { start: start.cast(), count })
    }

    pub(crate) fn values(&mut self) -> &mut [T] {
        // SAFETY: the mapping holds `count` values of integers, and lives as long as this; the driver
        // touches them only inside a test run, during which nobody holds the slice.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `of` with this length; nothing borrows it any more.
        let unmapped = unsafe { munmap(self.start.cast(), self.count * size_of::<T>()) };
        debug_assert!(unmapped.is_ok(), "the mapping was whole");
    }
}
