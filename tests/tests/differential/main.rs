//! Three readings of a policy, packet by packet: the oracle, the compiled image read in user space, and the
//! real XDP program in the kernel. Verdict, reason, rule and segments must be the same; and so must, every few
//! hundred packets, all counters and the whole connection table.
//!
//! `CLINIGATE_POLICIES` says how many random policies, `CLINIGATE_PACKETS` how many packets each at least,
//! `CLINIGATE_SEED` (a number) from which seed. A difference is shrunk, shown and written into `cases/`, whose
//! cases every run repeats first.
//!
//! Needs root. Frames run through `BPF_PROG_TEST_RUN`; no interface is touched.
#![allow(clippy::unwrap_used, reason = "tests")]

mod case;
mod limits;
mod readings;
mod shrink;
mod sketch;
mod tally;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clinigate::testing::{policies, script};
use gateway_common::reason::Reason;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::case::Case;
use crate::readings::Difference;
use crate::tally::Tally;

/// How long a difference is made smaller.
const SHRINK: Duration = Duration::from_mins(2);

#[test]
fn differences_that_were_mended_stay_so() {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let case = Case::parse(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        pin_to(0);
        if let Err(difference) = readings::run(&case, &mut Tally::default()) {
            panic!("{} ({}): {difference}", path.display(), case.about);
        }
    }
}

#[test]
fn the_program_decides_as_the_oracle() {
    let policies: u32 = knob("CLINIGATE_POLICIES", 12);
    let packets: usize = knob("CLINIGATE_PACKETS", 500);
    let seed: u64 = knob("CLINIGATE_SEED", 1);
    let started = Instant::now();
    let next = AtomicU32::new(0);
    let total = Mutex::new(Tally::default());
    let found: Mutex<Option<(u32, Case, Difference)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for worker in 0..std::thread::available_parallelism().unwrap().get() {
            let (next, total, found) = (&next, &total, &found);
            scope.spawn(move || {
                pin_to(worker);
                let mut tally = Tally::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= policies {
                        break;
                    }
                    let case = random(seed, number, packets);
                    if let Err(difference) = readings::run(&case, &mut tally) {
                        next.store(policies, Ordering::Relaxed);
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        if found.as_ref().is_none_or(|(earlier, ..)| number < *earlier) {
                            *found = Some((number, case, difference));
                        }
                    }
                }
                total.lock().unwrap_or_else(PoisonError::into_inner).add(&tally);
            });
        }
    });
    let total = total.into_inner().unwrap();
    let found = found.into_inner().unwrap();
    eprintln!(
        "seed {seed}, {policies} policies, {} differences, {:.1} s\n{total}",
        u32::from(found.is_some()),
        started.elapsed().as_secs_f64()
    );
    if let Some((number, case, difference)) = found {
        report(seed, number, &case, &difference);
    }
    // A run in which nothing happened would show nothing.
    let missing: Vec<&str> = expected_reasons(total.packets())
        .filter(|reason| !total.reasons.contains_key(reason))
        .map(Reason::name)
        .collect();
    assert!(missing.is_empty(), "the comparison is hollow, no packet was {missing:?}");
}

/// Shrinks a difference, keeps it, and fails.
fn report(seed: u64, number: u32, case: &Case, difference: &Difference) -> ! {
    eprintln!("policy {number}: {difference}\nshrinking ...");
    let mut small = shrink::shrink(case, difference, SHRINK);
    let mut last =
        readings::run(&small, &mut Tally::default()).err().map(|difference| difference.to_string());
    small.about = format!("found with seed {seed}, policy {number}");
    let path = cases().join(format!("found-{seed}-{number}.json"));
    std::fs::write(&path, small.text()).unwrap();
    panic!(
        "the readings differ:\n{}\n{}\nkept as {}: rename it and say what it is about",
        small.text(),
        last.take().unwrap_or_else(|| difference.to_string()),
        path.display()
    );
}

fn cases() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/differential/cases")
}

fn knob<T: FromStr>(name: &str, otherwise: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
        Err(_) => otherwise,
    }
}

/// The case of this number: each has a seed of its own, so that any can be had alone.
fn random(seed: u64, number: u32, packets: usize) -> Case {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let any = policies::of_any_size;
    let policy = match number % 6 {
        0 => policies::at_times(any(), readings::START).new_tree(&mut runner).unwrap().current(),
        1 => policies::with_tunnels(any()).new_tree(&mut runner).unwrap().current(),
        3 => {
            let at_times = policies::at_times(any(), readings::START);
            policies::with_tunnels(at_times).new_tree(&mut runner).unwrap().current()
        }
        _ => any().new_tree(&mut runner).unwrap().current(),
    };
    // Nearly every step is a packet at least, many are several.
    let steps = vec(script::step(), packets).new_tree(&mut runner).unwrap().current();
    let events = script::events(&policy, &steps);
    Case { about: String::new(), policy, events }
}

/// Keeps this thread on one CPU: the datapath's budgets are each CPU's own.
fn pin_to(worker: usize) {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    let mut one = CpuSet::new();
    one.set(cpus[worker % cpus.len()]).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

/// Reasons that must occur in a run of so many packets.
fn expected_reasons(packets: u64) -> impl Iterator<Item = Reason> {
    const OFTEN: [Reason; 9] = [
        Reason::Flow,
        Reason::Established,
        Reason::Related,
        Reason::LinkLocal,
        Reason::NoFlow,
        Reason::Denied,
        Reason::NotInConnection,
        Reason::Spoofed,
        Reason::UnknownFragment,
    ];
    // An empty slot and a broken table are no matter of policies.
    let all = Reason::ALL.iter().filter(|reason| !matches!(reason, Reason::NoPolicy | Reason::Internal));
    all.copied().filter(move |reason| packets >= 100_000 || OFTEN.contains(reason))
}
