//! Changes to inputs, for runs without libFuzzer: blind, but the same every time.

use crate::random::Random;

/// Bytes that mean something somewhere: to YAML, to a capture, to a frame.
const TELLING: &[u8] = b"\0\x01\x04\x06\x08\x11\x2c\x3a\x45\x60\x7f\x80\x81\xff\n :-,[]{}\"'#&*|>%@!/09az";

/// An input made from `seeds` and `words`, at most `most` bytes long.
///
/// # Panics
/// Where there are no seeds or no words.
pub fn mutated(random: &mut Random, seeds: &[Vec<u8>], words: &[Vec<u8>], most: usize) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        change(random, seeds, words, &mut bytes);
    }
    bytes.truncate(most);
    bytes
}

fn change(random: &mut Random, seeds: &[Vec<u8>], words: &[Vec<u8>], bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(16)).min(bytes.len());
    match (random.below(9), bytes.get_mut(at)) {
        (0, Some(byte)) => *byte ^= 1 << random.below(8),
        (1, Some(byte)) => *byte = random.byte(),
        (2, Some(byte)) => *byte = TELLING[random.below(TELLING.len())],
        (3, Some(byte)) => *byte = byte.wrapping_add(1),
        (4, _) => bytes.insert(at, TELLING[random.below(TELLING.len())]),
        (5, _) => drop(bytes.drain(at..end)),
        (6, _) => {
            let copy = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        (7, _) => drop(bytes.splice(at..end, words[random.below(words.len())].iter().copied())),
        // A part of another seed in place of this.
        _ => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            let to = (from + random.below(64)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
    }
}
