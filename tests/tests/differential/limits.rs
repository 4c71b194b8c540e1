//! The budget for neighbour discovery. The datapath keeps one for each sender, told apart by a hash: two
//! senders may share one. So what it may and what it must refuse are two bounds.

use std::collections::HashMap;

const SECOND: u64 = 1_000_000_000;

/// Budgets of one generation.
#[derive(Debug)]
pub(crate) struct Budgets {
    rate: u64,
    /// Where no two senders share: none may pass more.
    apart: HashMap<(u32, u16, u16), Budget>,
    /// Where all share one: none may pass less.
    together: Budget,
}

#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    filled: Option<u64>,
    tokens: u64,
}

impl Budgets {
    pub(crate) fn new(rate: u32) -> Self {
        Self { rate: rate.into(), apart: HashMap::new(), together: Budget::default() }
    }

    /// Notes a packet of `sender` (interface, VLAN, address) that did or did not pass; false where that
    /// cannot be.
    pub(crate) fn allows(&mut self, sender: (u32, u16, u16), now: u64, passed: bool) -> bool {
        let own = self.apart.entry(sender).or_default();
        own.fill(self.rate, now);
        self.together.fill(self.rate, now);
        let allowed = if passed { own.tokens > 0 } else { self.together.tokens == 0 };
        if passed {
            own.tokens = own.tokens.saturating_sub(1);
            self.together.tokens = self.together.tokens.saturating_sub(1);
        }
        allowed
    }
}

impl Budget {
    /// One second fills it; less, its share in whole tokens.
    fn fill(&mut self, rate: u64, now: u64) {
        let since = self.filled.map_or(SECOND, |filled| now - filled).min(SECOND);
        let added = since * rate / SECOND;
        if added > 0 {
            self.filled = Some(now);
            self.tokens = rate.min(self.tokens + added);
        }
    }
}
