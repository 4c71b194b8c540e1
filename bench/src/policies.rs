//! What a policy costs before it is in force: text to model, model to tables, tables into the kernel.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, bail};
use clinigate::compile::compile;
use clinigate::dataplane::trial::Trial;
use clinigate::policy::resolve;
use clinigate::testing::hospital::Hospital;
use serde::Serialize;

use crate::clock::{Begun, Time};
use crate::{Effort, say};

/// The cost of putting a policy in force.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Applied {
    pub(crate) rules: usize,
    pub(crate) text_bytes: usize,
    pub(crate) segments: usize,
    pub(crate) devices: usize,
    /// From text to model.
    pub(crate) resolve: Time,
    /// From model to tables.
    pub(crate) compile: Time,
    /// Until the programs are verified, the tables filled and the generation in force.
    pub(crate) load: Time,
    /// What all of that took of memory at its peak, beyond what was there before and besides the tables in the kernel.
    pub(crate) peak_bytes: u64,
    pub(crate) table_bytes: u64,
    pub(crate) programs: Vec<Program>,
}

/// What the kernel made of a program.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// Of BPF, verified.
    pub(crate) instructions: u32,
    /// Bytes.
    pub(crate) machine_code: u32,
    /// Steps of the verifier.
    pub(crate) verified: u32,
}

/// How often each policy is put in force.
const ROUNDS: usize = 5;

/// Puts the policy of each size in force, several times; the median of compiling and loading is kept.
pub(crate) fn measure(effort: &Effort) -> Result<Vec<Applied>> {
    let interfaces = BTreeMap::from([("lo".to_owned(), 1)]);
    let mut policies = Vec::new();
    for &rules in effort.sizes {
        let hospital = Hospital::of(rules);
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS.min(effort.rounds) {
            rounds.push(apply(&hospital, &interfaces)?.1);
        }
        rounds.sort_by(|one, other| one.in_force().total_cmp(&other.in_force()));
        policies.push(rounds.swap_remove(rounds.len() / 2));
        say(&format!("policies: {rules} rules"));
    }
    Ok(policies)
}

impl Applied {
    /// CPU time of compiling and loading, in milliseconds.
    pub(crate) fn in_force(&self) -> f64 {
        self.compile.cpu + self.load.cpu
    }
}

/// Puts the hospital's policy in force in a trial.
pub(crate) fn apply(hospital: &Hospital, interfaces: &BTreeMap<String, u32>) -> Result<(Trial, Applied)> {
    let memory = Memory::now();
    let files = hospital.policy("lo");
    let text_bytes = files.iter().map(|file| file.text.len()).sum();
    let begun = Begun::now()?;
    let resolved = resolve(files);
    let resolve = begun.time()?;
    let Some(policy) = resolved.policy else {
        bail!("the hospital's policy has mistakes: {:?}", resolved.diagnostics.first())
    };
    let begun = Begun::now()?;
    let image = compile(&policy)?;
    let compile = begun.time()?;
    let begun = Begun::now()?;
    let mut trial = Trial::as_attached(&image, interfaces)?;
    let load = begun.time()?;
    let programs = trial.sizes()?.map(|size| Program {
        name: size.name,
        instructions: size.instructions,
        machine_code: size.machine_code,
        verified: size.verified,
    });
    let applied = Applied {
        rules: hospital.rules(),
        text_bytes,
        segments: policy.segments.len(),
        devices: policy.devices.len(),
        resolve,
        compile,
        load,
        peak_bytes: memory.peak(),
        table_bytes: image.manifest.table_bytes,
        programs: programs.to_vec(),
    };
    Ok((trial, applied))
}

/// What this process holds, in bytes.
struct Memory(u64);

impl Memory {
    /// What it holds now; the peak begins anew.
    fn now() -> Self {
        // Documented in proc(5): 5 resets the peak. Where that is refused the peak is that of the whole run.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self(status("VmRSS:"))
    }

    /// How much more it was at most since then.
    fn peak(&self) -> u64 {
        status("VmHWM:").saturating_sub(self.0)
    }
}

/// A figure of `/proc/self/status`, which are in KiB.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0_u64) << 10
}
