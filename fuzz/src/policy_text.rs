//! Policy text: whatever somebody writes, it is refused with words or means one thing.
//!
//! An input is files of a policy, with a byte between them that UTF-8 never has; files that begin
//! with [`TESTS`] are of its directory `tests`. Of any text: reading it neither panics nor takes time or
//! memory out of bounds (libFuzzer watches those), the order of files does not matter, and every
//! diagnostic can be shown. Of one that resolves: what compiles decides as the oracle does, and the
//! proofs about it come to an end.

use clinigate::assure::difference::compare;
use clinigate::assure::reach::Reach;
use clinigate::assure::space::Space;
use clinigate::assure::{expectation, invariant};
use clinigate::compile::compile;
use clinigate::compile::image::Image;
use clinigate::oracle::Oracle;
use clinigate::packet::Arrival;
use clinigate::policy::diagnostic::Diagnostic;
use clinigate::policy::expectation::{Expectation, resolve_tests};
use clinigate::policy::model::Policy;
use clinigate::policy::render::Report;
use clinigate::policy::{Selection, SourceFile, lints};
use clinigate::testing::packets::{self, Edges};
use gateway_common::place::PlaceKey;
use gateway_common::table::{Cell, NO_RULE};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::random::Random;

/// Stands between files.
pub const NEXT_FILE: u8 = 0xff;
/// How files of the directory `tests` begin.
pub const TESTS: &str = "#tests\n";
/// Packets that are tried on a policy.
const PACKETS: usize = 24;
/// Rules up to which the policy is compared with itself: the cost grows with the square.
const RULES_COMPARED: usize = 24;

/// Reads an input.
///
/// # Panics
/// Where a promise is broken.
pub fn run(bytes: &[u8]) {
    let (files, tests) = files(bytes);
    let (resolved, expectations) = resolve_tests(files.clone(), &tests, &Selection::default());
    let sources: Vec<SourceFile> = files.iter().chain(&tests).cloned().collect();
    show(&sources, &resolved.diagnostics);
    let has_errors = resolved.diagnostics.iter().any(Diagnostic::is_error);
    assert_ne!(resolved.policy.is_some(), has_errors, "a policy, or a reason why there is none");
    if files.len() > 1 {
        let reversed = resolve_tests(files.into_iter().rev().collect(), &tests, &Selection::default()).0;
        assert_eq!(reversed.diagnostics, resolved.diagnostics, "the order of files does not matter");
        let parts = |policy: &Option<Policy>| policy.clone().map(|it| (it.hash, it.segments, it.rules));
        assert_eq!(parts(&reversed.policy), parts(&resolved.policy), "the order of files does not matter");
    }
    let Some(policy) = resolved.policy else { return };
    show(&sources, &lints::lint(&policy));
    match compile(&policy) {
        Ok(image) => {
            whole(&policy, &image);
            agree(&policy, &image, bytes);
            proofs(&policy, &image, &expectations, &sources);
        }
        Err(error) => {
            let words = error.to_string();
            assert!(!words.contains("defect of the program"), "{words}");
        }
    }
}

/// The files of the policy, and those of its tests.
fn files(bytes: &[u8]) -> (Vec<SourceFile>, Vec<SourceFile>) {
    let files = bytes.split(|byte| *byte == NEXT_FILE).zip('a'..='z').map(|(text, letter)| {
        // A file that is not UTF-8 is refused before anything reads it.
        SourceFile::new(&format!("{letter}.yaml"), String::from_utf8_lossy(text))
    });
    files.partition(|file| !file.text.starts_with(TESTS))
}

fn show(sources: &[SourceFile], diagnostics: &[Diagnostic]) {
    // A thousand look no different from the first.
    for styled in [false, true] {
        let report = Report::new(sources, styled);
        for diagnostic in diagnostics.iter().take(12) {
            let text = report.render(diagnostic);
            assert!(text.contains(diagnostic.code), "{text}");
            assert!(
                text.chars().all(|c| !c.is_control() || c == '\n' || (styled && c == '\x1b')),
                "{text:?}"
            );
        }
    }
    serde_json::to_string(diagnostics).expect("diagnostics are JSON");
}

/// What the tables rely on.
fn whole(policy: &Policy, image: &Image) {
    let Image { config, manifest, .. } = image;
    assert_eq!(manifest.rules.len(), policy.rules.len());
    assert_eq!(image.segments.len(), policy.segments.len());
    assert_eq!(image.matrix.len() as u64 % u64::from(config.source_ports.max(1)), 0);
    let (rows, columns) = (image.verdicts.len() / config.services as usize, config.services as usize);
    assert_eq!(image.verdicts.len(), rows * columns, "rows are whole");
    assert!(image.pairs.iter().all(|row| (*row as usize) < rows), "pairs lead to rows");
    assert_eq!(
        (image.layer_sources.len(), image.layer_destinations.len()),
        (0, 0),
        "text is too short for layers"
    );
    let names_a_rule = |cell: Cell| {
        let rule = cell.plain().rule();
        rule == NO_RULE || (rule as usize) < policy.rules.len()
    };
    for cell in image.verdicts.iter().map(|cell| Cell(*cell)) {
        let choice = cell.choice().map(|first| (first as usize) < image.choices.len());
        assert!(choice.unwrap_or_else(|| names_a_rule(cell)), "{cell:?}");
    }
    for choice in &image.choices {
        assert!(names_a_rule(Cell(choice.cell)) && (choice.condition as usize) < image.conditions.len());
    }
    for named in &image.places {
        assert!((named.place.link_atom as usize) < image.atoms.len());
        assert!(usize::from(named.place.segment) < policy.segments.len());
    }
    for interface in &policy.interfaces {
        let key = PlaceKey::interface(0);
        let once = Arrival { interface: &interface.name, outer: key.outer, vlan: key.vlan };
        assert!(image.place(once).is_some(), "{} is named", interface.name);
    }
}

/// The image decides as the oracle.
fn agree(policy: &Policy, image: &Image, bytes: &[u8]) {
    let oracle = Oracle::new(policy);
    let edges = Edges::of(policy);
    let mut random = Random::of(bytes);
    let seed: [u8; 32] = std::array::from_fn(|_| random.byte());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let draws = packets::draw();
    for _ in 0..PACKETS {
        let draw = draws.new_tree(&mut runner).expect("draws are never refused").current();
        let (port, packet) = edges.packet(&draw);
        let arrival = Arrival { interface: &port.interface, outer: port.outer, vlan: port.vlan };
        assert_eq!(
            image.decide(arrival, &packet),
            Some(oracle.decide(arrival, &packet)),
            "{port:?} {packet:?}"
        );
    }
}

fn proofs(policy: &Policy, image: &Image, expectations: &[Expectation], sources: &[SourceFile]) {
    show(sources, &invariant::prove_image(policy, image));
    if !expectations.is_empty() {
        let reach = Reach::new(Space::new(image));
        for expectation in expectations {
            let verdict = expectation::judge(policy, &reach, expectation);
            show(sources, &[verdict.failure, verdict.unenforced].into_iter().flatten().collect::<Vec<_>>());
        }
    }
    if policy.rules.len() <= RULES_COMPARED
        && let Ok(difference) = compare(policy, policy)
    {
        assert!(
            difference.widening.is_empty() && difference.narrowing.is_empty() && difference.setup.is_empty(),
            "a policy does not differ from itself: {difference:?}"
        );
    }
}
