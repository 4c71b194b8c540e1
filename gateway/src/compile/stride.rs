//! Pieces of an address space to a stride table: 16 bits, then 8 at a time, with nodes only where
//! addresses of one prefix differ. Equal nodes are shared.

use gateway_common::table::{FANOUT, NODE, ROOT};

use super::block::Blocks;
use super::error::{Budget, CompileError};

/// A piece of an address space: it reaches from `start` to the next piece's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// First address.
    pub(super) start: u128,
    /// Atom of all of its addresses.
    pub(super) atom: u32,
}

const ENTRY_BYTES: u64 = size_of::<u32>() as u64;
const FANOUT_SLOTS: usize = FANOUT as usize;

/// The stride table of `pieces`, which are sorted and begin at address 0, for addresses of `bits` bits.
pub(super) fn table(
    name: &'static str,
    pieces: &[Piece],
    bits: u32,
    budget: &mut Budget,
) -> Result<Vec<u32>, CompileError> {
    let root_bytes = u64::from(ROOT) * ENTRY_BYTES;
    budget.take(name, root_bytes)?;
    let mut builder = Builder { name, nodes: Blocks::new(FANOUT_SLOTS), budget };
    let mut entries = vec![0; ROOT as usize];
    builder.fill(&mut entries, pieces, 0, bits - 16)?;
    let node_bytes = builder.nodes.bytes();
    entries.append(&mut builder.nodes.into_words());
    budget.take(name, node_bytes)?;
    Ok(entries)
}

struct Builder<'a> {
    name: &'static str,
    nodes: Blocks,
    budget: &'a Budget,
}

impl Builder<'_> {
    /// Fills the entries of a node whose first address is `low`; each entry covers `2^shift`
    /// addresses. The first of `pieces` begins at or before `low`, none after the node's end.
    fn fill(
        &mut self,
        entries: &mut [u32],
        pieces: &[Piece],
        low: u128,
        shift: u32,
    ) -> Result<(), CompileError> {
        let mut rest = pieces;
        for (entry, index) in entries.iter_mut().zip(0u128..) {
            let first = low + (index << shift);
            let last = first + ((1 << shift) - 1);
            while rest.len() > 1 && rest[1].start <= first {
                rest = &rest[1..];
            }
            let within = match rest {
                [_, next, ..] if next.start <= last => rest.partition_point(|piece| piece.start <= last),
                _ => 1,
            };
            *entry = if within == 1 { rest[0].atom } else { self.node(&rest[..within], first, shift - 8)? };
        }
        Ok(())
    }

    fn node(&mut self, pieces: &[Piece], low: u128, shift: u32) -> Result<u32, CompileError> {
        let mut entries = [0; FANOUT_SLOTS];
        self.fill(&mut entries, pieces, low, shift)?;
        let node = self.nodes.intern(&entries);
        self.budget.allow(self.name, self.nodes.bytes())?;
        Ok(NODE | node)
    }
}
