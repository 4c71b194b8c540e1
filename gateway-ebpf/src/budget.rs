//! A token bucket that holds the tokens of one second.

use crate::maps::Budget;

const SECOND: u64 = 1_000_000_000;

/// Takes one token of `rate` a second; false where none is left.
#[inline(always)]
pub(crate) fn take(budget: &mut Budget, rate: u64, now: u64) -> bool {
    let since = now.wrapping_sub(budget.filled);
    if since >= SECOND {
        // Idle for long, or never used.
        budget.filled = now;
        budget.tokens = rate;
    } else {
        let added = since * rate / SECOND;
        if added > 0 {
            budget.filled = now;
            budget.tokens = if budget.tokens + added > rate { rate } else { budget.tokens + added };
        }
    }
    if budget.tokens == 0 {
        return false;
    }
    budget.tokens -= 1;
    true
}
