//! The load-time constants, read one field at a time so that the verifier sees each as a known number
//! and removes the code of features that are off.

use gateway_common::connection::{HashKey, State};
use gateway_common::table::Config;

use crate::frame::opaque;

#[unsafe(no_mangle)]
static CONFIG: Config = Config {
    generation: 0,
    segments: 0,
    destinations: 0,
    services: 0,
    source_ports: 0,
    hash_key: [0; 10],
    midstream: 0,
    test_context: 0,
    timeouts: [0; State::COUNT],
    neighbour_rate: 0,
    event_rate: 0,
    bucket_mask: 0,
    forwarding: 0,
    layered: 0,
    conditional: 0,
    break_glass: 0,
    ways: 0,
    tunnels: 0,
};

macro_rules! fields {
    ($($name:ident),+) => {
        $(#[inline(always)]
        pub(crate) fn $name() -> u32 {
            // SAFETY: a field of a static. Volatile, because the controller changes the constant after
            // the compiler has seen it.
            unsafe { core::ptr::read_volatile(&raw const CONFIG.$name) }
        })+
    };
}

fields!(
    generation,
    segments,
    destinations,
    services,
    source_ports,
    midstream,
    test_context,
    neighbour_rate,
    event_rate,
    bucket_mask,
    forwarding,
    layered,
    conditional,
    break_glass,
    ways,
    tunnels
);

/// Word `WORD` of the connection table's key.
#[inline(always)]
pub(crate) fn hash_key<const WORD: usize>() -> u32 {
    const { assert!(WORD < size_of::<HashKey>() / size_of::<u32>()) };
    // SAFETY: within the array; volatile as above.
    unsafe { core::ptr::read_volatile((&raw const CONFIG.hash_key).cast::<u32>().add(WORD)) }
}

/// Nanoseconds of idleness after which a connection in `state` ends.
#[inline(always)]
pub(crate) fn timeout(state: u8) -> u64 {
    // Opaque, so that the bound is on the number that is used.
    let state = opaque(state as usize);
    let state = if state < State::COUNT { state } else { 0 };
    // SAFETY: within the array; volatile as above.
    let seconds = unsafe { core::ptr::read_volatile((&raw const CONFIG.timeouts).cast::<u32>().add(state)) };
    u64::from(seconds) * 1_000_000_000
}

/// Seconds of idleness that any connection survives at most.
#[inline(always)]
pub(crate) fn longest_timeout() -> u32 {
    let mut longest = 0;
    for state in 0..State::COUNT {
        // SAFETY: within the array; volatile as above.
        let seconds =
            unsafe { core::ptr::read_volatile((&raw const CONFIG.timeouts).cast::<u32>().add(state)) };
        if seconds > longest {
            longest = seconds;
        }
    }
    longest
}
