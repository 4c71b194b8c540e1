//! The kernel takes every variant of the programs. Constants that are known when a program is loaded turn
//! code on and off, and the verifier reads only what is on: what compiles, and loads without a setting, may be
//! refused with it.

use std::collections::{BTreeMap, BTreeSet};

use clinigate::compile::image::Image;
use clinigate::compile::{Layering, compile_as};
use clinigate::dataplane::DataplaneError;
use clinigate::dataplane::trial::Trial;
use clinigate::policy::model::{Condition, SegmentId, Tunnel};
use clinigate::policy::{SourceFile, resolve};

use crate::bench::WARD;

/// The kernel gives up after 1,000,000 (`BPF_COMPLEXITY_LIMIT_INSNS`). Kernels differ in how many they take for
/// the same program: what comes near the limit on one may be refused by the next.
const MOST_STEPS: u32 = 700_000;

/// Of how a trial's programs are loaded: as interfaces run them, tracing single packets, or for frames that
/// nobody sent.
type Load = fn(&Image, &BTreeMap<String, u32>) -> Result<Trial, DataplaneError>;

/// `cargo xtask faults` asks this one first: where it fails no other test says anything.
#[test]
fn the_kernel_takes_the_programs() {
    load("with everything off", &variant([false; 6]), Trial::new);
    load("with everything on", &variant([true; 6]), Trial::new);
}

/// Settings that are on in each variant: any three of them, in each way that three can be on and off. Rows of the design
/// of Plackett and Burman with twelve runs (Biometrika 33, 1946), whose projections on three factors are whole.
const DESIGN: [[bool; 7]; 12] = {
    const GENERATOR: &[u8; 11] = b"++-+++---+-";
    let mut rows = [[false; 7]; 12];
    let mut row = 0;
    // The last row has everything off.
    while row < 11 {
        let mut column = 0;
        while column < 7 {
            rows[row][column] = GENERATOR[(row + column) % 11] == b'+';
            column += 1;
        }
        row += 1;
    }
    rows
};

#[test]
fn every_three_settings_meet_in_every_way() {
    for (one, two, three) in (0..7).flat_map(|a| (0..a).flat_map(move |b| (0..b).map(move |c| (a, b, c)))) {
        let met: BTreeSet<_> = DESIGN.iter().map(|row| (row[one], row[two], row[three])).collect();
        assert_eq!(met.len(), 8, "settings {one}, {two} and {three}");
    }
}

#[test]
fn the_kernel_takes_every_variant_of_the_programs() {
    load_all(&DESIGN[..6]);
}

// Two tests, so that they run side by side: emulated kernels take minutes.
#[test]
fn the_kernel_takes_every_other_variant_of_the_programs() {
    load_all(&DESIGN[6..]);
}

/// Every combination, untraced: an emulated kernel would take minutes, so guests leave this one out.
#[test]
fn all_combinations_of_settings_are_taken() {
    let rows: Vec<_> =
        (0..64_u32).map(|number| [1, 2, 4, 8, 16, 32, 64].map(|bit| number & bit != 0)).collect();
    load_all(&rows);
}

fn load_all(rows: &[[bool; 7]]) {
    for &[forwarding, midstream, source_ports, layered, timed, tunnels, traced] in rows {
        let what = format!(
            "forwarding: {forwarding}, midstream: {midstream}, source ports: {source_ports}, layered: {layered}, \
             timed: {timed}, tunnels: {tunnels}, traced: {traced}"
        );
        let image = variant([forwarding, midstream, source_ports, layered, timed, tunnels]);
        load(&what, &image, if traced { Trial::as_traced } else { Trial::as_attached });
    }
}

/// The ward with these settings: forwarding in XDP, taking up TCP in its middle, a service with source ports,
/// rules in layers, a rule that holds at times and broken glass, a rule for what comes through a tunnel.
fn variant([forwarding, midstream, source_ports, layered, timed, tunnels]: [bool; 6]) -> Image {
    let forwarding = if forwarding { "xdp" } else { "kernel" };
    let mut text = format!("{WARD}\nsettings: {{ forwarding: {forwarding}, midstream: {midstream} }}\n");
    if source_ports {
        text = text.replace("[tcp/104, tcp/11112]", "[tcp/104, printing]");
        text.push_str("services: { printing: { tcp: [{ ports: 515, source: 721-731 }] } }\n");
    }
    let resolved = resolve(vec![SourceFile::new("policy.yaml", text)]);
    let mut policy = resolved.policy.unwrap_or_else(|| panic!("{:#?}", resolved.diagnostics));
    if timed {
        policy.rules[0].condition = Some(0);
        policy.conditions = vec![Condition { intervals: vec![(0, 1)] }];
        policy.break_glass = BTreeMap::from([(SegmentId::WAN, 1)]);
    }
    if tunnels {
        policy.interfaces[0].tunnel = Some(Tunnel::Ipsec);
        policy.rules[0].through = Some(Tunnel::Ipsec);
    }
    let image = compile_as(&policy, if layered { Layering::Always } else { Layering::BySize }).unwrap();
    let config = image.config;
    let on = [config.source_ports, config.layered, config.conditional, config.break_glass, config.ways];
    let expected = [source_ports, layered, timed || tunnels, timed, tunnels];
    assert_eq!(on.map(|on| on != 0), expected, "they are on");
    image
}

#[track_caller]
fn load(what: &str, image: &Image, way: Load) {
    let mut trial = way(image, &BTreeMap::new()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    for program in trial.sizes().unwrap() {
        let (name, steps) = (program.name, program.verified);
        assert!(steps < MOST_STEPS, "{what}: {steps} steps of the verifier for the {name} program");
    }
}
