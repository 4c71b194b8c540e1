//! The size of the programs, by count: what the compiler, the verifier and the JIT made of them. A change that
//! adds a twentieth to any figure of `instructions.json` fails here and has to be accepted on purpose:
//!
//! ```console
//! # CLINIGATE_ACCEPT=1 cargo test -p clinigate-tests --test instructions
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the sizes are read from outside")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use clinigate::compile::compile;
use clinigate::dataplane::trial::{ProgramSize, Trial};
use clinigate::policy::{SourceFile, resolve};
use clinigate::testing::hospital::Hospital;
use serde::{Deserialize, Serialize};

/// A figure may grow by less than one in so many.
const PART: u32 = 20;

/// What is recorded.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Version of the kernel without its patch level: another one verifies and translates in another way.
    kernel: String,
    /// Likewise of machine code.
    architecture: String,
    /// By who forwards, then by program.
    programs: BTreeMap<String, BTreeMap<String, Size>>,
}

/// As in [`ProgramSize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Size {
    compiled: u32,
    verified: u32,
    instructions: u32,
    machine_code: u32,
}

impl Size {
    /// By name, and whether it depends on the kernel.
    fn figures(self) -> [(&'static str, u32, bool); 4] {
        [
            ("compiled instructions", self.compiled, false),
            ("steps of the verifier", self.verified, true),
            ("verified instructions", self.instructions, true),
            ("bytes of machine code", self.machine_code, true),
        ]
    }
}

#[test]
fn no_program_grew_unnoticed() {
    let found = measure();
    // Read from outside by `cargo xtask vm`.
    println!("\n@sizes {}", serde_json::to_string(&found).unwrap());
    let path = file();
    if env::var_os("CLINIGATE_ACCEPT").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
        return;
    }
    let recorded: Record = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let growth = compare(&recorded, &found);
    assert!(
        growth.is_empty(),
        "{}\nmake them smaller, or accept it: CLINIGATE_ACCEPT=1 cargo test -p clinigate-tests --test instructions",
        growth.join("\n")
    );
}

#[test]
fn a_twentieth_more_is_noticed_and_less_than_that_is_not() {
    let record = |kernel: &str, compiled, verified| {
        let size = Size { compiled, verified, instructions: 100, machine_code: 100 };
        let programs = BTreeMap::from([("judge".to_owned(), size)]);
        Record {
            kernel: kernel.to_owned(),
            architecture: "x86_64".to_owned(),
            programs: BTreeMap::from([("kernel".to_owned(), programs)]),
        }
    };
    let before = record("6.18", 100, 1000);
    assert_eq!(compare(&before, &record("6.18", 104, 1049)), [""; 0]);
    assert_eq!(compare(&before, &record("6.18", 105, 1050)).len(), 2);
    // Another kernel takes other steps; what the compiler made is comparable.
    assert_eq!(compare(&before, &record("6.12", 105, 2000)).len(), 1);
}

/// Every figure that grew by a twentieth or more.
fn compare(recorded: &Record, found: &Record) -> Vec<String> {
    let same_kernel = (&recorded.kernel, &recorded.architecture) == (&found.kernel, &found.architecture);
    if !same_kernel {
        eprintln!(
            "recorded on Linux {} ({}): only what the compiler made is compared",
            recorded.kernel, recorded.architecture
        );
    }
    let mut growth = Vec::new();
    for (forwarding, programs) in &found.programs {
        for (program, size) in programs {
            let before = recorded.programs.get(forwarding).and_then(|programs| programs.get(program));
            let before = before.unwrap_or_else(|| panic!("{program} is not in instructions.json"));
            for ((name, was, of_kernel), (_, is, _)) in before.figures().into_iter().zip(size.figures()) {
                if (same_kernel || !of_kernel) && is >= was + was.div_ceil(PART) {
                    growth
                        .push(format!("{program}, forwarding {forwarding}: {name}: {was} before, {is} now"));
                }
            }
        }
    }
    growth
}

fn measure() -> Record {
    let programs = ["kernel", "xdp"].map(|forwarding| {
        let sizes = sizes(forwarding).map(|size| {
            let ProgramSize { name, compiled, verified, instructions, machine_code } = size;
            (name.to_owned(), Size { compiled, verified, instructions, machine_code })
        });
        (forwarding.to_owned(), BTreeMap::from(sizes))
    });
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let kernel = release.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    Record { kernel, architecture: env::consts::ARCH.to_owned(), programs: programs.into() }
}

/// With all that a policy can use: both families, tags, vendors, denies.
fn sizes(forwarding: &str) -> [ProgramSize; 3] {
    let mut files = Hospital::of(100).policy("trunk0");
    files.push(SourceFile::new("settings.yaml", format!("settings: {{ forwarding: {forwarding} }}\n")));
    let image = compile(&resolve(files).policy.unwrap()).unwrap();
    let interfaces = BTreeMap::from([("trunk0".to_owned(), 1)]);
    Trial::as_attached(&image, &interfaces).unwrap().sizes().unwrap()
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}
