//! The short run of every fuzz target, without libFuzzer: what once broke something, the seeds, and
//! some thousand changed ones.
//!
//! A build with sanitizers and libFuzzer would cost minutes of each test run; this costs seconds, and
//! keeps the targets and their promises in order. `CLINIGATE_FUZZ=factor` does so many times as much.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::time::Instant;

use clinigate_fuzz::mutation::mutated;
use clinigate_fuzz::random::Random;
use clinigate_fuzz::{TARGETS, Target};

fn short(name: &str, runs: usize) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    for (number, seed) in seeds.iter().enumerate() {
        run(target, &format!("seed {number}"), seed);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name);
    for entry in fs::read_dir(&folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        run(target, &path.display().to_string(), &fs::read(&path).unwrap());
    }
    let factor: usize = std::env::var("CLINIGATE_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let words = (target.vocabulary)();
    let mut random = Random::new(1);
    let started = Instant::now();
    for number in 0..runs * factor {
        run(target, &format!("input {number}"), &mutated(&mut random, &seeds, &words, target.most));
    }
    eprintln!("{name}: {} inputs in {:.1} s", runs * factor, started.elapsed().as_secs_f64());
}

/// Runs one input; where it fails, the input is kept beside the build.
fn run(target: &Target, what: &str, bytes: &[u8]) {
    let outcome = std::panic::catch_unwind(|| (target.run)(bytes));
    if let Err(panic) = outcome {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-failed", target.name));
        fs::write(&kept, bytes).unwrap();
        eprintln!("{}: {what} fails; kept as {}", target.name, kept.display());
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn policy_text() {
    short("policy_text", 200);
}

#[test]
fn capture() {
    short("capture", 800);
}

#[test]
fn frames() {
    short("frames", 3000);
}

#[test]
fn frames_kernel() {
    short("frames_kernel", 1000);
}

#[test]
fn words() {
    short("words", 1000);
}
