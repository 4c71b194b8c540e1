//! The kernel takes every variant of the programs. Constants that are known when a program is loaded turn
//! code on and off, and the verifier reads only what is on: what compiles, and loads without a setting, may be
//! refused with it.

use std::collections::BTreeMap;

use clinigate::compile::Layering;
use clinigate::compile::image::Image;
use clinigate::dataplane::DataplaneError;
use clinigate::dataplane::trial::Trial;

use crate::bench::{WARD, image_as};

/// The kernel gives up after 1,000,000 (`BPF_COMPLEXITY_LIMIT_INSNS`). Kernels differ in how many they take for
/// the same program: what comes near the limit on one may be refused by the next.
const MOST_STEPS: u32 = 700_000;

/// Of how a trial's programs are loaded: as interfaces run them, tracing single packets, or for frames that
/// nobody sent.
type Load = fn(&Image, &BTreeMap<String, u32>) -> Result<Trial, DataplaneError>;

/// `cargo xtask faults` asks this one first: where it fails no other test says anything.
#[test]
fn the_kernel_takes_the_programs() {
    load("with everything off", &variant([false; 4]), Trial::new);
    load("with everything on", &variant([true; 4]), Trial::new);
}

#[test]
fn the_kernel_takes_every_variant_of_the_programs() {
    for number in 0..16 {
        let on @ [forwarding, midstream, source_ports, layered] = [1, 2, 4, 8].map(|bit| number & bit != 0);
        let what = format!(
            "forwarding: {forwarding}, midstream: {midstream}, source ports: {source_ports}, layered: {layered}"
        );
        load(&what, &variant(on), Trial::as_attached);
        // All off, all on, and each setting either way in between.
        if number % 5 == 0 {
            load(&format!("{what}, traced"), &variant(on), Trial::as_traced);
        }
    }
}

/// The ward with these settings: forwarding in XDP, taking up TCP in its middle, a service with source ports,
/// rules in layers.
fn variant([forwarding, midstream, source_ports, layered]: [bool; 4]) -> Image {
    let forwarding = if forwarding { "xdp" } else { "kernel" };
    let mut text = format!("{WARD}\nsettings: {{ forwarding: {forwarding}, midstream: {midstream} }}\n");
    if source_ports {
        text = text.replace("[tcp/104, tcp/11112]", "[tcp/104, printing]");
        text.push_str("services: { printing: { tcp: [{ ports: 515, source: 721-731 }] } }\n");
    }
    let image = image_as(&text, if layered { Layering::Always } else { Layering::BySize });
    let config = image.config;
    assert_eq!((config.source_ports != 0, config.layered != 0), (source_ports, layered), "they are on");
    image
}

#[track_caller]
fn load(what: &str, image: &Image, way: Load) {
    let trial = way(image, &BTreeMap::new()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    for program in trial.sizes().unwrap() {
        let (name, steps) = (program.name, program.verified);
        assert!(steps < MOST_STEPS, "{what}: {steps} steps of the verifier for the {name} program");
    }
}
