//! Faults in what holds only at times: windows, grants, quarantine, break-glass.

use crate::faults::fault::Fault;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "window-never-ends",
        file: "gateway-ebpf/src/condition.rs",
        right: "takes && condition.holds(moment.now)",
        wrong: "takes && (condition.holds(moment.now) || moment.now > 0)",
        breaks: "A window, a grant and a quarantine hold at all times",
        near: ("packets", "times::promise_9_a_window_opens_and_ends_by_the_clock_and_cuts_what_it_carried"),
    },
    Fault {
        name: "session-outlives-its-window",
        file: "gateway-ebpf/src/condition.rs",
        right: "connection.flags & Connection::CONDITIONAL != 0",
        wrong: "connection.flags & Connection::CONDITIONAL == 1",
        breaks: "What a window let in stays after its end",
        near: ("packets", "times::promise_9_every_kind_of_connection_ends_with_its_window"),
    },
    Fault {
        name: "quarantine-asks-the-mode",
        file: "gateway-ebpf/src/condition.rs",
        right: "judgement.reason = Reason::Quarantined;",
        wrong: "judgement.reason = Reason::Denied;",
        breaks: "A quarantine drops nothing in a segment that only observes",
        near: ("packets", "times::a_quarantine_asks_no_mode_and_a_deny_still_overrides"),
    },
    Fault {
        name: "broken-glass-for-the-world",
        file: "gateway-ebpf/src/condition.rs",
        right: "let inside = |segment| segment != SEGMENT_WAN && segment != SEGMENT_GATEWAY;",
        wrong: "let inside = |segment| segment != SEGMENT_WAN + u16::MAX && segment != SEGMENT_GATEWAY;",
        breaks: "Broken glass opens a segment to the world",
        near: ("packets", "times::broken_glass_lets_through_and_reports_until_its_time_is_over"),
    },
    Fault {
        name: "kept-for-everybody",
        file: "gateway/src/orders/lay.rs",
        right: "let own = AddressSet { ranges: ranges(&own), ..AddressSet::default() };",
        wrong: "let own = if is_source { kept.from.clone() } else { kept.to.clone() };",
        breaks: "What a quarantined device keeps is allowed to others, too",
        near: ("unit", "orders::tests::a_quarantine_leaves_what_the_policy_keeps_and_to_nobody_else"),
    },
    Fault {
        name: "grant-for-all-devices",
        file: "gateway/src/orders/lay.rs",
        right: "to: AddressSet { ranges: ranges(&to), ..AddressSet::default() },",
        wrong: "to: rule.to.clone(),",
        breaks: "A grant for one device opens all that the access names",
        near: ("unit", "orders::tests::promise_9_a_grant_opens_one_device_until_its_end"),
    },
    Fault {
        name: "isolated-many-times",
        file: "gateway/src/orders/lay.rs",
        right: "self.policy.segment_of(address) != SegmentId::GATEWAY && isolated.insert(address)",
        wrong: "self.policy.segment_of(address) != SegmentId::GATEWAY || !isolated.insert(address)",
        breaks: "Many orders for one address use up the room of its pairs",
        near: ("unit", "orders::tests::an_address_that_many_orders_isolate_is_laid_once_and_for_the_longest"),
    },
    Fault {
        name: "shortest-quarantine-first",
        file: "gateway/src/orders/lay.rs",
        right: "standing.sort_by_key(|it| Reverse(it.term.end(clock).unwrap_or(NEVER)));",
        wrong: "standing.sort_by_key(|it| it.term.end(clock).unwrap_or(NEVER));",
        breaks: "Of two quarantines of an address the shorter one counts",
        near: ("unit", "orders::tests::an_address_that_many_orders_isolate_is_laid_once_and_for_the_longest"),
    },
];
