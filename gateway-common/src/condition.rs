//! What holds only at times: rules with a window or a grant, quarantine, segments whose glass is broken. And what holds
//! only for packets that arrive through certain tunnels.
//!
//! Times are nanoseconds on the kernel's monotonic clock, which goes on without the controller.

use crate::tunnel;

/// Edges that a condition has at most: eight intervals.
pub const EDGES: usize = 16;

/// Choices that stand one after the other at most.
pub const CHOICES: usize = 16;

/// When something holds: from each even edge to the odd one that follows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// In order; [`Condition::NEVER`] where there is none.
    pub edges: [u64; EDGES],
    /// Ways on which a packet must arrive: bits of [`crate::tunnel`].
    pub tunnels: u64,
}

impl Condition {
    /// A time that does not come.
    pub const NEVER: u64 = i64::MAX as u64;

    /// Holds always.
    pub const ALWAYS: Self = {
        let mut edges = [Self::NEVER; EDGES];
        edges[0] = 0;
        Self { edges, tunnels: tunnel::ANY as u64 }
    };

    /// Whether it takes a packet that arrived like this: bits of [`crate::tunnel`], none where that is not known.
    #[inline(always)]
    pub const fn takes(&self, tunnels: u64) -> bool {
        self.tunnels & (tunnels | tunnel::ANY as u64) != 0
    }

    /// Whether it holds at `now`, as far as the time is concerned.
    #[inline(always)]
    pub const fn holds(&self, now: u64) -> bool {
        // Without a branch for each edge, which the verifier would follow both ways: the sign bit says that
        // the edge has passed.
        let mut passed = 0;
        let mut edge = 0;
        while edge < EDGES {
            passed += self.edges[edge].wrapping_sub(now).wrapping_sub(1) >> 63;
            edge += 1;
        }
        passed & 1 == 1
    }
}

/// Number of the condition that always holds.
pub const ALWAYS: u32 = 0;

/// Stands for a condition where there is none, in tables whose entries are never [`ALWAYS`]: a table that nobody has
/// filled puts nothing into quarantine.
pub const NONE: u32 = 0;

/// One of several cells, the strongest first: the first whose condition holds is the one that counts. The last
/// one's always does.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// A [`crate::table::Cell`] that is not conditional.
    pub cell: u32,
    /// Index of its [`Condition`].
    pub condition: u32,
}

const _: () = assert!(size_of::<Condition>() == 136 && size_of::<Choice>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_from_each_even_edge_to_the_next() {
        let mut condition = Condition { edges: [Condition::NEVER; EDGES], ..Condition::ALWAYS };
        assert!(!condition.holds(0) && !condition.holds(1 << 62));
        condition.edges[..4].copy_from_slice(&[0, 10, 20, 30]);
        for (now, holds) in
            [(0, true), (9, true), (10, false), (19, false), (20, true), (29, true), (30, false)]
        {
            assert_eq!(condition.holds(now), holds, "{now}");
        }
        assert!(Condition::ALWAYS.holds(0) && Condition::ALWAYS.holds(1 << 62));
    }

    #[test]
    fn a_condition_takes_what_arrives_on_its_ways() {
        let of = |tunnels: u16| Condition { tunnels: tunnels.into(), ..Condition::ALWAYS };
        let arrives = |ways: u16| u64::from(ways);
        assert!(of(tunnel::ANY).takes(arrives(tunnel::DIRECT)) && of(tunnel::ANY).takes(0));
        assert!(of(tunnel::IPSEC).takes(arrives(tunnel::IPSEC)));
        assert!(!of(tunnel::IPSEC).takes(arrives(tunnel::DIRECT)) && !of(tunnel::IPSEC).takes(0));
        assert!(!of(tunnel::DIRECT).takes(arrives(tunnel::WIREGUARD | tunnel::OPENVPN | tunnel::IP_VPN)));
    }
}
