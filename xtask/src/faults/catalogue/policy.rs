//! Faults where the text of a policy becomes the model. The oracle reads the same model: only tests that
//! spell out what a text means see them.

use crate::faults::fault::Fault;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "range-ends-early",
        file: "gateway/src/policy/address.rs",
        right: "(first <= last).then(|| Span::V4(first.to_bits(), last.to_bits()))",
        wrong: "(first <= last).then(|| Span::V4(first.to_bits(), last.to_bits().saturating_sub(1)))",
        breaks: "A range of addresses in the text loses its last one",
        near: ("unit", "policy::tests::endpoints_are_segments_zones_groups_and_addresses"),
    },
    Fault {
        name: "nested-range-shrinks",
        file: "gateway/src/policy/ranges.rs",
        right: "last.1 = last.1.max(range.1);",
        wrong: "last.1 = range.1;",
        breaks: "A prefix and a smaller one in it together lose addresses, of a deny too",
        near: ("unit", "policy::ranges::tests::normalise_keeps_members"),
    },
    Fault {
        name: "any-lacks-a-segment",
        file: "gateway/src/policy/resolve/endpoints.rs",
        right: "(4..self.policy.segments.len())",
        wrong: "(5..self.policy.segments.len())",
        breaks: "A deny for any leaves the first segment out",
        near: ("unit", "policy::tests::a_deny_without_an_end_means_everything_there"),
    },
    Fault {
        name: "deny-spares-the-gateway",
        file: "gateway/src/policy/resolve/rules.rs",
        right: "segments.extend([SegmentId::GATEWAY, SegmentId::MULTICAST]);",
        wrong: "segments.extend([SegmentId::MULTICAST]);",
        breaks: "A deny without `to` leaves the gateway open",
        near: ("unit", "policy::tests::a_deny_without_an_end_means_everything_there"),
    },
    Fault {
        name: "order-reversed",
        file: "gateway/src/policy/resolve/rules.rs",
        right: "self.policy.rules.sort_by(|a, b| a.origin.cmp(&b.origin));",
        wrong: "self.policy.rules.sort_by(|a, b| b.origin.cmp(&a.origin));",
        breaks: "Of several flows the last of the text is named instead of the first",
        near: ("unit", "policy::tests::a_deny_without_an_end_means_everything_there"),
    },
    Fault {
        name: "grant-not-needed",
        file: "gateway/src/policy/resolve/vendors.rs",
        right: "let limited = limits.window.is_some() || limits.grant;",
        wrong: "let limited = limits.window.is_some();",
        breaks: "Vendor access that needs a grant is always open",
        near: ("unit", "policy::tests::vendor_access_with_a_limit_that_nothing_enforces_is_not_active"),
    },
    Fault {
        name: "observe-unless-said",
        file: "gateway/src/policy/resolve/segments.rs",
        right: "mode: text.mode.unwrap_or(ModeSetting::Enforce),",
        wrong: "mode: text.mode.unwrap_or(ModeSetting::Observe),",
        breaks: "A segment without a mode is not enforced",
        near: ("unit", "policy::tests::built_in_segments_come_first"),
    },
    Fault {
        name: "loopback-is-the-world",
        file: "gateway/src/policy/model/address.rs",
        right: "|| v4.is_loopback()",
        wrong: "|| v4.is_documentation()",
        breaks: "A flow to the world reaches what listens on the gateway itself",
        near: ("packets", "places::promise_11_the_gateway_is_reached_only_by_a_flow"),
    },
    Fault {
        name: "ipv6-loopback-is-the-world",
        file: "gateway/src/policy/model/address.rs",
        right: "|| v6.is_loopback()",
        wrong: "|| v6.is_multicast()",
        breaks: "Likewise over IPv6",
        near: ("packets", "places::promise_11_the_gateway_is_reached_only_by_a_flow"),
    },
];
