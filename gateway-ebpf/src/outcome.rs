//! Results of functions that the verifier checks by themselves: they return one number.

use gateway_common::reason::Reason;

/// A result as a number: 0, or the reason's number plus one.
#[inline(always)]
pub(crate) fn of(result: Result<(), Reason>) -> u64 {
    match result {
        Ok(()) => 0,
        Err(reason) => reason as u64 + 1,
    }
}

/// The result that a number stands for.
#[inline(always)]
pub(crate) fn reason(outcome: u64) -> Result<(), Reason> {
    if outcome == 0 {
        return Ok(());
    }
    let number = outcome - 1;
    if number >= Reason::COUNT as u64 {
        return Err(Reason::Internal);
    }
    // SAFETY: `Reason` is a `u8` whose numbers go from 0 to COUNT - 1 without a gap.
    Err(unsafe { core::mem::transmute::<u8, Reason>(number as u8) })
}
