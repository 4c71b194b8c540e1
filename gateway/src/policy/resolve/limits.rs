//! What a policy may hold, so that hostile text costs bounded time and memory.

/// Address ranges of all rules together: 128 MiB of them at most.
pub(super) const RANGE_LIMIT: usize = 4_000_000;
/// Groups within groups.
pub(super) const GROUP_DEPTH_LIMIT: usize = 32;
/// Services that rules name, all rules together.
pub(super) const SERVICE_LIMIT: usize = 4_000_000;
