//! Inputs to begin with: the project's policies, packets that they allow or not, captures of those.

mod oddities;

use clinigate::testing::frames::frame;
use clinigate::testing::script::{self, Event};
use proptest::collection::vec;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::policies::{self, Fixed};
use crate::policy_text::{NEXT_FILE, TESTS};

/// Frames of one input.
const FRAMES: usize = 24;

/// Each policy as a whole, each of its files, expectations with the policy they are of.
pub fn policy_text() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = MISTAKES.map(|text| text.as_bytes().to_vec()).to_vec();
    for fixed in policies::ALL.iter() {
        let files: Vec<&[u8]> = fixed.sources.iter().map(|file| file.text.as_bytes()).collect();
        seeds.extend(files.iter().map(|text| text.to_vec()));
        seeds.push(files.join(&NEXT_FILE));
    }
    let tests = policies::TESTS.map(|text| [TESTS, text].concat().into_bytes());
    for (fixed, tests) in policies::ALL[1..].iter().zip(tests) {
        let files = fixed.sources.iter().map(|file| file.text.as_bytes()).chain([&tests[..]]);
        seeds.push(files.collect::<Vec<_>>().join(&NEXT_FILE));
    }
    seeds
}

/// Texts with mistakes of every kind, and every key.
const MISTAKES: [&str; 5] = [
    include_str!("../../gateway/tests/check/every-key/policy.yaml"),
    include_str!("../../gateway/tests/check/values/policy.yaml"),
    include_str!("../../gateway/tests/check/twelve-mistakes/network.yaml"),
    include_str!("../../gateway/tests/check/twelve-mistakes/flows.yaml"),
    include_str!("../../gateway/tests/check/broken-yaml/a.yaml"),
];

/// Connections, answers, fragments and errors on each policy.
pub fn frames() -> Vec<Vec<u8>> {
    sessions(|_| Vec::new())
}

/// The same, with a wait now and then.
pub fn frames_kernel() -> Vec<Vec<u8>> {
    sessions(|number| vec![u8::from(number % 7 == 6)])
}

/// Inputs of frames; before each stands what `before` gives for its number.
fn sessions(before: impl Fn(usize) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let mut seeds = Vec::new();
    for (fixed, policy) in policies::ALL.iter().zip(0..) {
        for _ in 0..8 {
            let mut seed = vec![policy];
            for (number, (interface, frame)) in traffic(fixed, &mut runner).into_iter().enumerate() {
                seed.extend(before(number));
                // They are shorter, or cut.
                seed.extend([interface, u8::try_from(frame.len()).unwrap_or(u8::MAX)]);
                seed.extend(frame);
            }
            seeds.push(seed);
        }
    }
    // Few at a time, each behind the ward's number and its first interface's.
    for oddities in oddities::frames().chunks(4) {
        let mut seed = vec![0];
        for (number, frame) in oddities.iter().enumerate() {
            seed.extend(before(number));
            seed.extend([0, u8::try_from(frame.len()).unwrap_or(u8::MAX)]);
            seed.extend(frame);
        }
        seeds.push(seed);
    }
    seeds
}

/// Frames, each with the number of its interface.
fn traffic(fixed: &Fixed, runner: &mut TestRunner) -> Vec<(u8, Vec<u8>)> {
    let steps = vec(script::step(), FRAMES).new_tree(runner).expect("steps are never refused").current();
    let mut frames = Vec::new();
    for event in script::events(&fixed.policy, &steps) {
        let Event::Packet { port, packet, .. } = event else { continue };
        let found = fixed.policy.interfaces.iter().position(|named| named.name == port.interface);
        let interface = found.unwrap_or(fixed.policy.interfaces.len());
        let interface = u8::try_from(interface).expect("these policies have few interfaces");
        frames.push((interface, frame(&port, [2, 0, 0, 0, 0, 7], &packet)));
    }
    frames
}

/// The same traffic in both formats of captures.
pub fn capture() -> Vec<Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let mut seeds = Vec::new();
    for fixed in policies::ALL.iter() {
        let frames: Vec<Vec<u8>> = traffic(fixed, &mut runner).into_iter().map(|(_, frame)| frame).collect();
        for (is_little, nanoseconds) in [(true, false), (false, true)] {
            seeds.push(pcap(&frames, is_little, nanoseconds));
            seeds.push(pcapng(&frames[..frames.len().min(6)], is_little));
        }
    }
    seeds.push(pcap(&oddities::frames(), true, false));
    seeds
}

/// A pcap file (draft-ietf-opsawg-pcap).
fn pcap(frames: &[Vec<u8>], is_little: bool, nanoseconds: bool) -> Vec<u8> {
    let word = |number: u32| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
    let half = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
    let mut bytes = Vec::new();
    bytes.extend(word(if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }));
    bytes.extend([half(2), half(4)].concat());
    bytes.extend([word(0), word(0), word(1 << 18), word(1)].concat());
    for (frame, second) in frames.iter().zip(1_700_000_000..) {
        let length = length(frame.len());
        bytes.extend([word(second), word(5), word(length), word(length)].concat());
        bytes.extend(frame);
    }
    bytes
}

/// A pcapng file (draft-ietf-opsawg-pcapng): a section, two interfaces, enhanced and simple packets.
fn pcapng(frames: &[Vec<u8>], is_little: bool) -> Vec<u8> {
    let word = |number: u32| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
    let half = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
    let mut bytes = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let whole = word(length(padded + 12));
        bytes.extend([word(kind), whole].concat());
        bytes.extend(body);
        bytes.resize(bytes.len() + padded - body.len(), 0);
        bytes.extend(whole);
    };
    block(
        0x0a0d_0d0a,
        &[
            word(0x1a2b_3c4d),
            [half(1), half(0)].concat().try_into().expect("two halves"),
            [0xff; 4],
            [0xff; 4],
        ]
        .concat(),
    );
    let ethernet = [&half(1)[..], &half(0), &word(0)].concat();
    block(1, &ethernet);
    // if_tsresol 9: nanoseconds; if_tsoffset 1; the end of the options.
    let options =
        [&half(9)[..], &half(1), &[9, 0, 0, 0], &half(14), &half(8), &word(0), &word(1), &word(0)].concat();
    block(1, &[ethernet, options].concat());
    for (frame, number) in frames.iter().zip(0u32..) {
        let length = word(length(frame.len()));
        if number % 3 == 2 {
            block(3, &[&length[..], frame].concat());
        } else {
            block(
                6,
                &[&word(number % 2)[..], &word(0x0006_0a24), &word(number), &length, &length, frame].concat(),
            );
        }
    }
    bytes
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("seeds are short")
}

/// A packet, an inquiry, a request, a reply of each kind.
pub fn words() -> Vec<Vec<u8>> {
    let seeds: [(u8, &str); 14] = [
        (0, "tcp 10.0.0.1:49152 -> 10.0.1.1:104 arriving on eth1 with VLAN 40"),
        (0, "udp [fd00::1]:68 -> [fd00::2]:67 arriving on trunk0 with VLANs 7 and 41"),
        (0, "icmpv6/128 fd00::1 -> ff02::1 arriving on eth1"),
        (0, "proto/50 10.0.0.1 -> 10.0.1.1 arriving on wan0"),
        (1, "modalities\npacs\ndicom,tcp/104-110"),
        (1, "any,10.10.40.0/24\nwan,gateway,fd00::1-fd00::9\nany"),
        (1, "zone/clinical\nbroadcast,multicast\nicmp/8,icmpv6/128,proto/50,udp/53"),
        (2, r#"{"request":"status"}"#),
        (2, r#"{"request":"apply","dir":"/etc/clinigate/policy"}"#),
        (2, r#"{"request":"detach"}"#),
        (3, r#"{"reply":"error","kind":"policy","message":"two mistakes"}"#),
        (3, r#"{"reply":"detached","interfaces":["ct0"],"generations":[1,2]}"#),
        (
            3,
            r#"{"reply":"applied","change":{"generation":2,"unchanged":false,"policy_hash":"00","took_ms":3,"attached":["a"],"detached":[],"warnings":1}}"#,
        ),
        (3, r#"{"reply":"status","status":{}}"#),
    ];
    seeds.map(|(reader, text)| [&[reader], text.as_bytes()].concat()).to_vec()
}
