//! The connection table: lookup without a lock, insertion under the bucket's lock.

mod state;

use core::mem::offset_of;

use aya_ebpf::helpers::{bpf_spin_lock, bpf_spin_unlock};
use gateway_common::connection::{Bucket, Connection, ConnectionKey, State, WAYS};

use crate::maps::CONNECTIONS;
use crate::packet::Packet;
use crate::{config, frame, health};

pub(crate) use state::{advance, continues, first_state, from_initiator, is_opening, is_steady, prolong};

/// A key, and where its hash puts it.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) key: ConnectionKey,
    /// The packet's source is the key's `high` end.
    pub(crate) source_is_high: bool,
    tag: u16,
    /// The way of the first bucket where it stands unless another was there before.
    home: u16,
    buckets: [u32; 2],
    /// Where `find` found the connection: bucket and way.
    found: [u32; 2],
}

impl Slot {
    pub(crate) const EMPTY: Self = Self {
        key: ConnectionKey {
            low: [0; 2],
            high: [0; 2],
            low_port: 0,
            high_port: 0,
            protocol: 0,
            reserved: [0; 3],
        },
        source_is_high: false,
        tag: 0,
        home: 0,
        buckets: [0; 2],
        found: [0; 2],
    };
}

/// The slot of the connection that `packet` belongs to.
#[inline(always)]
pub(crate) fn slot(packet: &Packet, slot: &mut Slot) {
    // Without branches where addresses decide: which end is the higher one is any packet's own, and the processor
    // would guess wrong every second time.
    let above = if packet.source[0] != packet.destination[0] {
        above(packet.source[0], packet.destination[0])
    } else if packet.source[1] != packet.destination[1] {
        above(packet.source[1], packet.destination[1])
    } else {
        above(u64::from(packet.source_port), u64::from(packet.destination_port))
    };
    // Protocol and reserved bytes in one store: bytes by themselves would become stores off their
    // alignment, which the verifier refuses where the slot is on the stack.
    const { assert!(offset_of!(ConnectionKey, protocol) == 36 && size_of::<ConnectionKey>() == 40) };
    // SAFETY: the last word of the key, aligned as the key is.
    unsafe { (&raw mut slot.key).cast::<u32>().add(9).write(u32::from(packet.protocol).to_le()) };
    let swap = 0u64.wrapping_sub(above);
    let first = (packet.source[0] ^ packet.destination[0]) & swap;
    let second = (packet.source[1] ^ packet.destination[1]) & swap;
    let ports = (packet.source_port ^ packet.destination_port) & swap as u16;
    slot.key.low = [packet.source[0] ^ first, packet.source[1] ^ second];
    slot.key.high = [packet.destination[0] ^ first, packet.destination[1] ^ second];
    slot.key.low_port = packet.source_port ^ ports;
    slot.key.high_port = packet.destination_port ^ ports;
    slot.source_is_high = above != 0;
    let hash = hash(&slot.key);
    slot.buckets = [hash as u32 & config::bucket_mask(), (hash >> 24) as u32 & config::bucket_mask()];
    // Zero is the tag of an entry that was never used.
    slot.tag = (hash >> 48) as u16 | 1;
    slot.home = (hash >> 45) as u16 & (WAYS as u16 - 1);
}

/// 1 where `one` is the greater number, else 0.
#[inline(always)]
const fn above(one: u64, other: u64) -> u64 {
    // The borrow of `other - one`.
    (!other & one | (!other | one) & other.wrapping_sub(one)) >> 63
}

/// NH (RFC 4418, 5.2.2) over the words of the key, then folded: words are added to those of a key that is drawn at
/// each boot before they meet each other, so that nobody outside can tell which ends share a bucket. The
/// products wait for nothing but their words.
#[inline(always)]
fn hash(key: &ConnectionKey) -> u64 {
    let ports = u64::from(key.low_port) | u64::from(key.high_port) << 16 | u64::from(key.protocol) << 32;
    let mut hash =
        nh::<0, 1>(ports).wrapping_add(nh::<2, 3>(key.low[1])).wrapping_add(nh::<4, 5>(key.high[1]));
    // IPv4 has nothing there.
    if key.low[0] | key.high[0] != 0 {
        hash = hash.wrapping_add(nh::<6, 7>(key.low[0])).wrapping_add(nh::<8, 9>(key.high[0]));
    }
    fold(hash)
}

#[inline(always)]
fn nh<const LOW: usize, const HIGH: usize>(words: u64) -> u64 {
    let low = (words as u32).wrapping_add(config::hash_key::<LOW>());
    let high = ((words >> 32) as u32).wrapping_add(config::hash_key::<HIGH>());
    u64::from(low).wrapping_mul(u64::from(high))
}

/// The constants are those of `MurmurHash3`'s finalizer.
#[inline(always)]
const fn fold(value: u64) -> u64 {
    let value = (value ^ value >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (value ^ value >> 29).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}

/// What the first look at a slot's first bucket found.
pub(crate) enum Glance {
    /// The live connection of the slot, where its hash wants it.
    AtHome(*mut Connection),
    /// There is none, here or elsewhere.
    Nowhere,
    /// [`find`] must look.
    Perhaps,
}

/// Looks at the first bucket: nearly all packets need no more.
#[inline(always)]
pub(crate) fn glance(slot: &Slot, now: u64) -> Glance {
    let Some(bucket) = CONNECTIONS.get_ptr_mut(slot.buckets[0]) else { return Glance::Nowhere };
    let home = usize::from(slot.home) % WAYS;
    // SAFETY: ways below WAYS of a whole bucket. Where the entry is depends on the hash alone: a processor that
    // expects the tags to be equal fetches both at once.
    unsafe {
        if (&raw const (*bucket).tags).cast::<u16>().add(home).read_volatile() == slot.tag {
            let entry = (&raw mut (*bucket).entries).cast::<Connection>().add(home);
            return if holds(entry, &slot.key, now) { Glance::AtHome(entry) } else { Glance::Perhaps };
        }
        if matching(tags(bucket), slot.tag) == 0 && (&raw const (*bucket).spilled_until).read_volatile() == 0
        {
            return Glance::Nowhere;
        }
    }
    Glance::Perhaps
}

/// Looks for the live connection of a slot; where there is one, [`entry`] then gives it.
#[inline(never)]
pub(crate) fn find(slot: &mut Slot, now: u64) -> bool {
    let index = slot.buckets[0];
    let Some(bucket) = CONNECTIONS.get_ptr_mut(index) else { return false };
    if find_in(slot, bucket, index, now) {
        return true;
    }
    // SAFETY: a field of a whole bucket, which the CPU that inserts writes before it does.
    let spilled_until = unsafe { (&raw const (*bucket).spilled_until).read_volatile() };
    if spilled_until < second(now) {
        return false;
    }
    let index = slot.buckets[1];
    let Some(second_bucket) = CONNECTIONS.get_ptr_mut(index) else { return false };
    let found = find_in(slot, second_bucket, index, now);
    if found {
        spill(bucket, now);
    }
    found
}

/// Looks through the tags of one bucket.
#[inline(always)]
fn find_in(slot: &mut Slot, bucket: *mut Bucket, index: u32, now: u64) -> bool {
    // SAFETY: the caller's bucket is whole.
    let mut candidates = matching(unsafe { tags(bucket) }, slot.tag);
    for _ in 0..CANDIDATES {
        if candidates == 0 {
            break;
        }
        let way = lowest(candidates);
        candidates &= candidates - 1;
        // SAFETY: a way below WAYS of a whole bucket.
        let entry = unsafe { (&raw mut (*bucket).entries).cast::<Connection>().add(way) };
        if holds(entry, &slot.key, now) {
            slot.found = [index, way as u32];
            return true;
        }
    }
    false
}

/// The tags of a bucket, as two words. They may change under us: what they lead to is compared whole.
///
/// # Safety
/// The bucket must be whole.
#[inline(always)]
unsafe fn tags(bucket: *const Bucket) -> [u64; 2] {
    #[expect(clippy::cast_ptr_alignment, reason = "at offset 8 of a bucket, which is aligned to 8")]
    // SAFETY: the caller's.
    unsafe {
        (&raw const (*bucket).tags).cast::<[u64; 2]>().read_volatile()
    }
}

/// Notes that a connection whose first bucket this is lives in its second one, from `now` on for as long as any
/// connection can without a packet. Not written each time: the line would go from CPU to CPU.
#[inline(always)]
fn spill(bucket: *mut Bucket, now: u64) {
    let until = second(now) + config::longest_timeout();
    // SAFETY: the caller's bucket is whole; CPUs that write at once write times that differ by seconds.
    unsafe {
        if (&raw const (*bucket).spilled_until).read_volatile() < until {
            (&raw mut (*bucket).spilled_until).write_volatile(until + SPILL_SLACK);
        }
    }
}

/// Seconds by which [`Bucket::spilled_until`] is set further than need be, so that it is written seldom.
const SPILL_SLACK: u32 = 600;

#[inline(always)]
const fn second(now: u64) -> u32 {
    (now / 1_000_000_000) as u32
}

/// The connection that [`find`] found.
#[inline(always)]
pub(crate) fn entry(slot: &Slot) -> Option<*mut Connection> {
    let bucket = CONNECTIONS.get_ptr_mut(slot.found[0])?;
    // SAFETY: a way below WAYS of a whole bucket.
    Some(unsafe { (&raw mut (*bucket).entries).cast::<Connection>().add(slot.found[1] as usize % WAYS) })
}

/// Entries with one tag that are looked at. Tags are 15 bits of a keyed hash: more than a few equal
/// ones in a bucket do not happen, and if they did a connection would be judged anew, not let in.
const CANDIDATES: usize = 4;

/// One bit for each of the eight tags that equals `tag`. Compares four at a time: a 16-bit lane of
/// `lanes` is zero where they are equal, and subtracting one from it borrows into its highest bit. A
/// lane above an equal one can show a false bit, which the comparison of keys sorts out.
#[inline(always)]
fn matching(tags: [u64; 2], tag: u16) -> u32 {
    const ONES: u64 = 0x0001_0001_0001_0001;
    const HIGHS: u64 = 0x8000_8000_8000_8000;
    let wanted = u64::from(tag) * ONES;
    let low = tags[0] ^ wanted;
    let high = tags[1] ^ wanted;
    let low = low.wrapping_sub(ONES) & !low & HIGHS;
    let high = high.wrapping_sub(ONES) & !high & HIGHS;
    let low = low >> 15 & 1 | low >> 30 & 2 | low >> 45 & 4 | low >> 60 & 8;
    let high = high >> 11 & 16 | high >> 26 & 32 | high >> 41 & 64 | high >> 56 & 128;
    (low | high) as u32
}

/// Number of the lowest bit that is set in the low byte. BPF has no instruction for it.
#[inline(always)]
fn lowest(bits: u32) -> usize {
    static LOWEST: [u8; 256] = {
        let mut table = [0; 256];
        let mut bits = 1;
        while bits < 256 {
            table[bits] = (bits as u8).trailing_zeros() as u8;
            bits += 1;
        }
        table
    };
    // SAFETY: an index below 256. Volatile, so that the verifier sees one unknown number and not eight
    // known ones. Opaque, so that the compiler keeps the mask: Linux 6.1 knows no bounds of what was put together by `|`.
    let way =
        unsafe { (&raw const LOWEST).cast::<u8>().add(frame::opaque(bits as usize) & 0xff).read_volatile() };
    way as usize % WAYS
}

/// Whether an entry holds the live connection with `key`.
#[inline(always)]
fn holds(entry: *const Connection, key: &ConnectionKey, now: u64) -> bool {
    // SAFETY: an entry of a whole bucket. It may change under us: the sequence says whether it did.
    unsafe {
        let sequence = (&raw const (*entry).sequence).read_volatile();
        (&raw const (*entry).state).read_volatile() != State::Free as u8
            && same(&(*entry).key, key)
            && (*entry).expires > now
            && (&raw const (*entry).sequence).read_volatile() == sequence
    }
}

/// Compares keys without a branch for each word.
#[inline(always)]
fn same(one: &ConnectionKey, other: &ConnectionKey) -> bool {
    let addresses = (one.low[0] ^ other.low[0])
        | (one.low[1] ^ other.low[1])
        | (one.high[0] ^ other.high[0])
        | (one.high[1] ^ other.high[1]);
    let rest = u64::from(one.low_port ^ other.low_port)
        | u64::from(one.high_port ^ other.high_port)
        | u64::from(one.protocol ^ other.protocol);
    addresses | rest == 0
}

/// Writes a connection into its slot, in place of one of the same key: into its entry, else into a free
/// or expired one of either bucket. False where both are full of live connections: nothing that lives is
/// ever evicted.
#[inline(always)]
pub(crate) fn insert(slot: &mut Slot, new: &Connection, now: u64) -> bool {
    // One that has closed may stand in the second bucket: once the new one ends it would come to light
    // again. It gives its room. Looked for here, not below: three calls deep the stack would not do.
    if find(slot, now)
        && let Some(old) = entry(slot)
    {
        remove(old);
    }
    insert_new(slot, new, now)
}

#[inline(never)]
fn insert_new(slot: &Slot, new: &Connection, now: u64) -> bool {
    let mut inserted = insert_into(slot, slot.buckets[0], new, now);
    if !inserted && let Some(bucket) = CONNECTIONS.get_ptr_mut(slot.buckets[0]) {
        spill(bucket, now);
        inserted = insert_into(slot, slot.buckets[1], new, now);
    }
    if inserted {
        health::bump(|health| &raw mut health.connections_inserted);
    } else {
        health::bump(|health| &raw mut health.connections_refused);
    }
    inserted
}

#[inline(always)]
fn insert_into(slot: &Slot, index: u32, new: &Connection, now: u64) -> bool {
    let Some(bucket) = CONNECTIONS.get_ptr_mut(index) else { return false };
    let mut chosen = WAYS;
    // SAFETY: the map returned a whole bucket; no helper is called while its lock is held.
    unsafe {
        bpf_spin_lock((&raw mut (*bucket).lock).cast());
        let entries = (&raw mut (*bucket).entries).cast::<Connection>();
        let home = usize::from(slot.home) % WAYS;
        if index == slot.buckets[0] && is_free(entries.add(home), now) {
            chosen = home;
        }
        // The tags say what to look at: each entry is two lines of memory, mostly far away.
        let tags = (&raw const (*bucket).tags).cast::<u16>();
        for way in 0..WAYS {
            let tag = tags.add(way).read_volatile();
            if tag == slot.tag && same(&(*entries.add(way)).key, &slot.key) {
                chosen = way;
                break;
            }
            if chosen == WAYS && tag == 0 {
                chosen = way;
            }
        }
        if chosen == WAYS {
            // None was never used.
            for way in 0..WAYS {
                if is_free(entries.add(way), now) {
                    chosen = way;
                    break;
                }
            }
        }
        let chosen = frame::opaque(chosen);
        if chosen < WAYS {
            let entry = entries.add(chosen);
            let sequence = (*entry).sequence.wrapping_add(1);
            (&raw mut (*entry).state).write_volatile(State::Free as u8);
            (&raw mut (*entry).sequence).write_volatile(sequence);
            (&raw mut (*bucket).tags).cast::<u16>().add(chosen).write_volatile(slot.tag);
            (*entry).key = slot.key;
            (*entry).expires = new.expires;
            (*entry).generation = new.generation;
            (*entry).rule = new.rule;
            (*entry).ifindex = new.ifindex;
            (*entry).vlan = new.vlan;
            (*entry).outer = new.outer;
            (*entry).segment = new.segment;
            (*entry).flags = new.flags;
            (&raw mut (*entry).state).write_volatile(new.state);
        }
        bpf_spin_unlock((&raw mut (*bucket).lock).cast());
    }
    chosen < WAYS
}

/// Whether an entry can be overwritten.
///
/// # Safety
/// It must lie in the map, in a bucket whose lock is held.
#[inline(always)]
unsafe fn is_free(entry: *const Connection, now: u64) -> bool {
    // SAFETY: the caller's.
    unsafe { (*entry).state == State::Free as u8 || (*entry).expires <= now }
}

/// Ends a connection.
#[inline(always)]
pub(crate) fn remove(entry: *mut Connection) {
    // SAFETY: an entry that `find` returned lies in the map for as long as the program runs.
    unsafe { (&raw mut (*entry).state).write_volatile(State::Free as u8) };
}
