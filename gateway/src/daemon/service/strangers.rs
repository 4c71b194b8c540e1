//! Requests that somebody has no right to: they are for the audit log, and nobody fills a disk with them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A user's requests of one kind are in the log once in this time.
const WINDOW: Duration = Duration::from_mins(1);
/// Requests that are in the log in this time, at most: somebody may be many users.
const ENTRIES: usize = 32;

/// Who was written into the log lately.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    noted: BTreeMap<(u32, &'static str), Instant>,
    passed_over: u64,
}

impl Strangers {
    /// Whether a request of this user at `now` is for the log: with the number of those, of anybody, that were passed over before it.
    pub(super) fn note(&mut self, uid: u32, action: &'static str, now: Instant) -> Option<u64> {
        self.noted.retain(|_, at| now.duration_since(*at) < WINDOW);
        if self.noted.contains_key(&(uid, action)) || self.noted.len() == ENTRIES {
            self.passed_over += 1;
            return None;
        }
        self.noted.insert((uid, action), now);
        Some(std::mem::take(&mut self.passed_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_fills_the_audit_log() {
        let begun = Instant::now();
        let mut strangers = Strangers::default();
        assert_eq!(strangers.note(1000, "status", begun), Some(0));
        for _ in 0..50 {
            assert_eq!(strangers.note(1000, "status", begun + Duration::from_secs(59)), None);
        }
        assert_eq!(strangers.note(1000, "detach", begun), Some(50), "nothing hides behind something else");
        assert_eq!(strangers.note(1001, "status", begun), Some(0), "another one is heard");
        let crowd = (2000..2100).filter(|&uid| strangers.note(uid, "status", begun).is_some()).count();
        assert_eq!(crowd, ENTRIES - 3);
        assert_eq!(
            strangers.note(1000, "status", begun + WINDOW),
            Some(100 - 29),
            "a minute later the same, too"
        );
    }
}
