//! Blocks of words of one width, equal ones stored once: nodes of stride tables, rows of cells.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};

use super::number;

/// Distinct blocks, one after the other.
#[derive(Debug)]
pub(super) struct Blocks {
    width: usize,
    words: Vec<u32>,
    by_hash: HashMap<u64, u32>,
    hasher: RandomState,
}

impl Blocks {
    pub(super) fn new(width: usize) -> Self {
        Self { width, words: Vec::new(), by_hash: HashMap::new(), hasher: RandomState::new() }
    }

    /// Number of the block with these contents, which is added if it is new.
    pub(super) fn intern(&mut self, block: &[u32]) -> u32 {
        debug_assert_eq!(block.len(), self.width);
        let mut hash = self.hasher.hash_one(block);
        loop {
            match self.by_hash.entry(hash) {
                Entry::Vacant(vacant) => {
                    let index = number(self.words.len() / self.width);
                    vacant.insert(index);
                    self.words.extend_from_slice(block);
                    return index;
                }
                Entry::Occupied(found) => {
                    let start = *found.get() as usize * self.width;
                    if self.words[start..start + self.width] == *block {
                        return *found.get();
                    }
                    hash = hash.wrapping_add(1);
                }
            }
        }
    }

    /// Bytes of all blocks.
    pub(super) fn bytes(&self) -> u64 {
        self.words.len() as u64 * size_of::<u32>() as u64
    }

    /// The blocks, one after the other.
    pub(super) fn into_words(self) -> Vec<u32> {
        self.words
    }
}
