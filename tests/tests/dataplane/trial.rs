//! Generations in a trial, where no interface is needed.

use clinigate::dataplane::PairKey;
use clinigate::dataplane::trial::{Buffers, Trial};
use clinigate::policy::model::{RuleId, SegmentId};
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::TestContext;

use crate::clinic::{self, ACK, SYN};

fn at(seconds: u64) -> TestContext {
    TestContext { now: seconds * 1_000_000_000, ifindex: 10, reserved: 0 }
}

fn pair(reason: Reason) -> PairKey {
    let verdict = if reason.passes() { Verdict::Pass } else { Verdict::Drop };
    PairKey { source: "modalities".to_owned(), destination: "archive".to_owned(), verdict, reason }
}

#[test]
fn frames_are_judged_and_counted_by_name() {
    let mut trial = Trial::new(&clinic::image(&[104]), &clinic::interfaces()).unwrap();

    let frame = clinic::tcp(40000, 104, SYN);
    let outcome = trial.run(at(1), &frame).unwrap();
    assert!(outcome.passed());
    assert_eq!(outcome.frame, frame);
    assert!(!trial.run(at(1), &clinic::tcp(40000, 445, SYN)).unwrap().passed());

    let counters = trial.counters().unwrap();
    assert_eq!(
        counters.pairs.keys().cloned().collect::<Vec<_>>(),
        [pair(Reason::Flow), pair(Reason::NoFlow)]
    );
    assert_eq!(counters.pairs[&pair(Reason::Flow)].bytes, frame.len() as u64);
    assert_eq!(counters.rules["port-104"].packets, 1);
    assert_eq!(counters.health.connections_inserted, 1);
    assert_eq!(counters.no_policy.packets, 0);

    let events = trial.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].reason, Reason::NoFlow as u8);
    assert_eq!(trial.events().len(), 0);
}

#[test]
fn connections_outlive_a_generation_that_still_allows_them() {
    let mut trial = Trial::new(&clinic::image(&[104, 2762]), &clinic::interfaces()).unwrap();
    assert!(trial.run(at(1), &clinic::tcp(40000, 104, SYN)).unwrap().passed());
    assert!(trial.run(at(1), &clinic::tcp(40001, 2762, SYN)).unwrap().passed());
    let live = trial.connections(1_000_000_001).unwrap();
    assert_eq!(live.len(), 2);
    assert!(live.iter().all(|connection| connection.initiator().0.to_string() == "10.0.1.5"));

    trial.swap(&clinic::image(&[104])).unwrap();
    assert_eq!(trial.generation(), 2);
    // A packet in the middle passes only where its connection is still known and still allowed.
    assert!(trial.run(at(2), &clinic::tcp(40000, 104, ACK)).unwrap().passed());
    assert!(!trial.run(at(2), &clinic::tcp(40001, 2762, ACK)).unwrap().passed());

    let counters = trial.counters().unwrap();
    assert_eq!(counters.pairs[&pair(Reason::Flow)].packets, 2, "the first generation's count is carried");
    assert_eq!(counters.pairs[&pair(Reason::Established)].packets, 1);
    assert_eq!(counters.pairs[&pair(Reason::Revoked)].packets, 1);
    assert_eq!(counters.health.connections_revoked, 1);
}

#[test]
fn a_frame_longer_than_one_buffer_is_run_whole() {
    let trial = Trial::new(&clinic::image(&[104]), &clinic::interfaces()).unwrap();
    let mut frame = clinic::tcp(40000, 104, SYN);
    frame.resize(9000, 0);
    let outcome = trial.run(at(1), &frame).unwrap();
    assert!(outcome.passed());
    assert_eq!(outcome.frame, frame);
}

#[test]
fn the_program_itself_says_what_it_found() {
    let trial = Trial::new(&clinic::image(&[104, 2762]), &clinic::interfaces()).unwrap();
    let mut buffers = Buffers::default();
    let mut judge = |ifindex, frame: &[u8]| {
        let found = trial.judge(TestContext { ifindex, ..at(1) }, frame, &mut buffers).unwrap();
        (found.verdict, found.reason, found.rule, (found.source_segment, found.destination_segment))
    };
    let between = (clinic::MODALITIES, clinic::ARCHIVE);
    let second = Some(RuleId(1));
    let mut long = clinic::tcp(40001, 2762, SYN);
    long.resize(9000, 0);
    assert_eq!(judge(10, &long), (Verdict::Pass, Reason::Flow, second, between), "several buffers");
    let syn = clinic::tcp(40000, 2762, SYN);
    assert_eq!(judge(10, &syn), (Verdict::Pass, Reason::Flow, second, between));
    let ack = clinic::tcp(40000, 2762, ACK);
    assert_eq!(judge(10, &ack), (Verdict::Pass, Reason::Established, second, between));
    let smb = clinic::tcp(40000, 445, SYN);
    assert_eq!(judge(10, &smb), (Verdict::Drop, Reason::NoFlow, None, between));
    let nowhere = (SegmentId::UNKNOWN, SegmentId::UNKNOWN);
    assert_eq!(judge(12, &smb), (Verdict::Drop, Reason::UnknownInterface, None, nowhere));
    assert_eq!(judge(11, &smb).1, Reason::Spoofed);
    assert_eq!(trial.counters().unwrap().pairs.values().map(|counter| counter.packets).sum::<u64>(), 6);
}

#[test]
fn a_frame_without_a_whole_ethernet_header_is_refused() {
    let trial = Trial::new(&clinic::image(&[104]), &clinic::interfaces()).unwrap();
    let error = trial.run(at(1), &[0; 13]).unwrap_err();
    assert!(error.to_string().contains("not of 13"), "{error}");
}

/// A part of a segment that opens a connection; `word` has the fragment's flags and offset.
fn fragment(word: u16) -> Vec<u8> {
    let mut frame = clinic::tcp(40001, 104, SYN);
    // All but the last have a multiple of eight bytes.
    frame.extend([0; 4]);
    frame[17] = 44;
    frame[20..22].copy_from_slice(&word.to_be_bytes());
    frame
}

#[test]
fn a_trial_that_forgot_is_as_new() {
    let mut trial = Trial::new(&clinic::image(&[104]), &clinic::interfaces()).unwrap();
    let untouched = trial.counters().unwrap();
    let (syn, refused) = (clinic::tcp(40000, 104, SYN), clinic::tcp(40000, 445, SYN));
    let (first, later) = (fragment(0x2000), fragment(3));
    // Events of one flow are held back for a second.
    let look = |trial: &mut Trial| {
        let middle = trial.run(at(1), &clinic::tcp(40000, 104, ACK)).unwrap().passed();
        let rest = trial.run(at(1), &later).unwrap().passed();
        assert!(!trial.run(at(1), &refused).unwrap().passed());
        (middle, rest, trial.events().len())
    };
    let new = look(&mut trial);
    assert_eq!(new, (false, false, 3));
    for frame in [&syn, &first] {
        assert!(trial.run(at(1), frame).unwrap().passed());
    }
    assert_eq!(look(&mut trial), (true, true, 0), "it remembers");

    trial.forget().unwrap();
    assert_eq!(trial.counters().unwrap(), untouched);
    assert_eq!(trial.connections(0).unwrap().len(), 0);
    assert_eq!(trial.events().len(), 0);
    assert_eq!(look(&mut trial), new);
    trial.swap(&clinic::image(&[104, 2762])).unwrap();
    trial.forget().unwrap();
    assert_eq!(trial.counters().unwrap().pairs, untouched.pairs, "nor what an earlier generation counted");
}
