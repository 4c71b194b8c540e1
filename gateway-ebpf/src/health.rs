//! Counters of happenings that are not verdicts.

use gateway_common::counter::Health;

use crate::maps::HEALTH;

/// Adds one to the counter that `field` points at.
#[inline(always)]
pub(crate) fn bump(field: impl Fn(&mut Health) -> *mut u64) {
    if let Some(health) = HEALTH.get_ptr_mut(0) {
        // SAFETY: this CPU's element, which no other writes.
        unsafe { *field(&mut *health) += 1 };
    }
}
