//! Faults in what both sides of the kernel share. The oracle uses some of it too: only tests that
//! spell out what must happen see those.

use crate::faults::fault::Fault;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "laxer-mode-decides",
        file: "gateway-common/src/reason.rs",
        right: "if source as u8 > destination as u8 { source }",
        wrong: "if (source as u8) < destination as u8 { source }",
        breaks: "An enforced segment is open to those that only observe",
        near: ("packets", "decision::promise_12_an_event_names_what_was_dropped"),
    },
    Fault {
        name: "revoked-passes",
        file: "gateway-common/src/reason.rs",
        right: "Revoked = \"revoked\", false;",
        wrong: "Revoked = \"revoked\", true;",
        breaks: "A connection that is no longer allowed gets one packet more",
        near: ("packets", "generations::promise_8_a_new_deny_cuts"),
    },
    Fault {
        name: "unknown-fragment-passes",
        file: "gateway-common/src/reason.rs",
        right: "UnknownFragment = \"unknown-fragment\", false;",
        wrong: "UnknownFragment = \"unknown-fragment\", true;",
        breaks: "A fragment passes whose first was not allowed",
        near: ("packets", "fragments::promise_6_ipv6_fragments"),
    },
    Fault {
        name: "deny-allows",
        file: "gateway-common/src/table.rs",
        right: "self.0 & Self::ALLOW != 0 && self.0 != Self::NO_RULE.0",
        wrong: "self.0 != Self::NO_RULE.0",
        breaks: "A deny lets pass what it names",
        near: ("packets", "decision::promise_12_an_event_names_what_was_dropped"),
    },
    Fault {
        name: "established-for-an-hour",
        file: "gateway-common/src/connection.rs",
        right: "Self::Established => 24 * 3600,",
        wrong: "Self::Established => 3600,",
        breaks: "A quiet connection is cut after an hour",
        near: ("packets", "connections::promise_3_a_forged_reset_does_not_end_a_connection"),
    },
    Fault {
        name: "fragments-for-an-hour",
        file: "gateway-common/src/fragment.rs",
        right: "pub const LIFETIME: u32 = 30;",
        wrong: "pub const LIFETIME: u32 = 3_600;",
        breaks: "A first fragment opens the way for an hour",
        near: ("packets", "fragments::promise_6_later_fragments_follow_their_first"),
    },
];
