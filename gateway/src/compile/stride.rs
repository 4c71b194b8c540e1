//! Pieces of an address space to a stride table: 16 bits, then 8 at a time, with nodes only where
//! addresses of one prefix differ. Equal nodes are shared. IPv6 addresses are long and few of them are named:
//! where those of one prefix differ in one place only, a *run* takes all bytes up to there at once.

use gateway_common::table::{FANOUT, NODE, ROOT, RUN, run};

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
    let mut builder = Builder { name, nodes: Blocks::new(FANOUT_SLOTS), runs: bits == 128, budget };
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
    /// Addresses are long enough for runs.
    runs: bool,
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

    /// The node for the addresses from `low` on, each of whose entries would cover `2^shift` of them.
    fn node(&mut self, pieces: &[Piece], low: u128, shift: u32) -> Result<u32, CompileError> {
        let mut entries = [0; FANOUT_SLOTS];
        let stretch = if self.runs { stretch(pieces, low, shift + 8) } else { None };
        let kind = if let Some(stretch) = stretch {
            let bits = shift + 8 - stretch.rest;
            let first = low | stretch.bytes << stretch.rest;
            let last = first | ((1 << stretch.rest) - 1);
            entries[run::BITS] = bits;
            entries[run::OTHER] = stretch.other;
            entries[run::THEN] = self.entry(pieces, first, last, stretch.rest)?;
            // The first byte is the lowest.
            let value = u64::try_from(stretch.bytes).expect("at most 64 bits").swap_bytes() >> (64 - bits);
            let [low_word, high_word] = [value & u64::from(u32::MAX), value >> 32];
            entries[run::VALUE] = u32::try_from(low_word).expect("32 bits of it");
            entries[run::VALUE + 1] = u32::try_from(high_word).expect("32 bits of it");
            RUN
        } else {
            self.fill(&mut entries, pieces, low, shift)?;
            0
        };
        let node = self.nodes.intern(&entries);
        self.budget.allow(self.name, self.nodes.bytes())?;
        Ok(NODE | kind | node)
    }

    /// The entry for the addresses from `first` to `last`, `2^bits` of them.
    fn entry(&mut self, pieces: &[Piece], first: u128, last: u128, bits: u32) -> Result<u32, CompileError> {
        let begin = pieces.partition_point(|piece| piece.start <= first) - 1;
        let within = &pieces[begin..pieces.partition_point(|piece| piece.start <= last)];
        if within.len() == 1 { Ok(within[0].atom) } else { self.node(within, first, bits - 8) }
    }
}

/// Addresses of one prefix that differ in one place only.
struct Stretch {
    /// The bytes that lead to the place, as a number.
    bytes: u128,
    /// Bits behind them.
    rest: u32,
    /// Atom of all addresses that begin otherwise.
    other: u32,
}

/// The longest run from `low` on, where `bits` of the address are open; `None` where it would be no more than a byte.
fn stretch(pieces: &[Piece], low: u128, bits: u32) -> Option<Stretch> {
    // It must end where the programs take up the second half of an address.
    let open = if bits > 64 { bits - 64 } else { bits };
    let high = low | (u128::MAX >> (128 - bits));
    let (first, last) = (pieces.first()?, pieces.last()?);
    let second = pieces.get(1)?;
    // All addresses outside of the place are like the first, like the last, or like both.
    let both = (first.atom == last.atom).then_some((second.start, last.start - 1, first.atom));
    let candidates = [both, Some((low, last.start - 1, last.atom)), Some((second.start, high, first.atom))];
    let longest = candidates.into_iter().flatten().map(|(from, to, other)| {
        let equal = ((from ^ to).leading_zeros() - (128 - bits)).min(open) / 8 * 8;
        let rest = bits - equal;
        Stretch { bytes: (from - low) >> rest, rest, other }
    });
    longest.min_by_key(|stretch| stretch.rest).filter(|stretch| bits - stretch.rest >= 16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::read::walk;
    use super::*;

    /// Atom 1 from `first` to `last`, atom 0 elsewhere.
    fn one_range(first: u128, last: u128, bits: u32) -> Vec<u32> {
        let mut pieces = vec![Piece { start: 0, atom: 0 }, Piece { start: first, atom: 1 }];
        if first == 0 {
            pieces.remove(0);
        }
        let highest = u128::MAX >> (128 - bits);
        if last < highest {
            pieces.push(Piece { start: last + 1, atom: 0 });
        }
        table("test", &pieces, bits, &mut Budget::new()).unwrap()
    }

    fn atom_v4(table: &[u32], address: u128) -> u32 {
        walk(table, &u32::try_from(address).unwrap().to_be_bytes()).unwrap()
    }

    fn atom_v6(table: &[u32], address: u128) -> u32 {
        walk(table, &address.to_be_bytes()).unwrap()
    }

    /// The range holds exactly its own addresses, seen from both sides of both of its ends.
    fn assert_exact(first: u128, last: u128, bits: u32) {
        let table = one_range(first, last, bits);
        let highest = u128::MAX >> (128 - bits);
        let near =
            [first.checked_sub(1), Some(first), Some(last), last.checked_add(1), Some(0), Some(highest)];
        for address in near.into_iter().flatten().filter(|&address| address <= highest) {
            let expected = u32::from((first..=last).contains(&address));
            let found = if bits == 32 { atom_v4(&table, address) } else { atom_v6(&table, address) };
            assert_eq!(found, expected, "{address:#x} of {first:#x}-{last:#x}");
        }
    }

    #[test]
    fn ranges_end_where_they_end() {
        let highest = u128::from(u32::MAX);
        for (first, last) in [
            (0, 0),
            (highest, highest),
            (0, highest),
            (0x0a0a_4611, 0x0a0a_4611),
            (0x0a0a_4600, 0x0a0a_46ff),
            (0x0a0a_ffff, 0x0a0b_0000),
            (0x0a00_0001, 0x0aff_fffe),
            (0x8000_0000, highest),
        ] {
            assert_exact(first, last, 32);
        }
        let host = 0xfd00_0070_0000_0000_0000_0000_0000_0011;
        for (first, last) in [
            (0, 0),
            (u128::MAX, u128::MAX),
            (0, u128::MAX),
            (host, host),
            (host & !0xffff, host | 0xffff),
            (host, host + (1 << 80)),
            (1, u128::MAX - 1),
        ] {
            assert_exact(first, last, 128);
        }
    }

    #[test]
    fn nothing_but_the_root_where_no_prefix_is_split() {
        assert_eq!(one_range(0, u128::from(u32::MAX), 32).len(), ROOT as usize);
        assert_eq!(one_range(0x0a00_0000, 0x0aff_ffff, 32).len(), ROOT as usize);
        assert_eq!(one_range(0xfd00 << 112, (0xfd01 << 112) - 1, 128).len(), ROOT as usize);
    }

    #[test]
    fn adjacent_ranges_keep_apart() {
        let pieces: Vec<Piece> =
            (0..256u32).map(|atom| Piece { start: u128::from(atom) << 8, atom }).collect();
        let table = table("test", &pieces, 32, &mut Budget::new()).unwrap();
        for atom in 0..255u32 {
            let first = u128::from(atom) << 8;
            assert_eq!((atom_v4(&table, first), atom_v4(&table, first | 0xff)), (atom, atom));
        }
        assert_eq!(atom_v4(&table, u128::from(u32::MAX)), 255);
    }

    #[test]
    fn equal_subtrees_are_stored_once() {
        let hosts = |count: u128| {
            let alternating = (0..count).flat_map(|net| {
                let base = net << 16;
                [
                    Piece { start: base, atom: 0 },
                    Piece { start: base + 7, atom: 1 },
                    Piece { start: base + 8, atom: 0 },
                ]
            });
            table("test", &alternating.collect::<Vec<_>>(), 32, &mut Budget::new()).unwrap().len()
        };
        assert_eq!(hosts(1), ROOT as usize + 2 * FANOUT_SLOTS);
        assert_eq!(hosts(1000), hosts(1));
    }

    #[test]
    fn a_host_costs_a_node_a_byte_or_a_run() {
        let v4 = one_range(0x0a0a_4611, 0x0a0a_4611, 32);
        assert_eq!(v4.len(), ROOT as usize + 2 * FANOUT_SLOTS);
        let v6 = one_range(1 << 64 | 1, 1 << 64 | 1, 128);
        // To the middle, where the programs take up the second half, and from there on.
        assert_eq!(v6.len(), ROOT as usize + 2 * FANOUT_SLOTS);
    }
}
