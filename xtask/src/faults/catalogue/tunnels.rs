//! Faults in what holds only for packets that come through a tunnel.

use crate::faults::fault::Fault;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "tunnel-not-asked-for",
        file: "gateway-ebpf/src/condition.rs",
        right: "let takes = config::ways() == 0 || condition.takes(moment.way.into());",
        wrong: "let takes = config::ways() == 0 || condition.takes(u64::MAX);",
        breaks: "Access through a tunnel is open to the whole world",
        near: (
            "packets",
            "tunnels::promise_5_access_through_a_tunnel_is_open_to_what_comes_through_it_alone",
        ),
    },
    Fault {
        name: "forged-packet-ends-session",
        file: "gateway-ebpf/src/revalidate.rs",
        right: "if config::ways() == 1 && arrives && own != 0 && own != way {",
        wrong: "if config::ways() == 1 && arrives && own != 0 && own == way {",
        breaks: "A packet that is forged on the open network ends a vendor's session",
        near: ("packets", "tunnels::promise_5_forged_packets_of_a_tunnels_session_neither_pass_nor_end_it"),
    },
    Fault {
        name: "session-leaves-its-tunnel",
        file: "gateway-ebpf/src/revalidate.rs",
        right: "if config::ways() == 1 && !arrives {",
        wrong: "if config::ways() == 1 {",
        breaks: "Packets that are forged on the open network belong to a vendor's session",
        near: ("packets", "tunnels::promise_5_forged_packets_of_a_tunnels_session_neither_pass_nor_end_it"),
    },
    Fault {
        name: "error-from-outside-its-tunnel",
        file: "gateway-ebpf/src/icmp.rs",
        right: "let arrives = config::ways() == 1 && !conntrack::from_initiator(connection, slot);",
        wrong: "let arrives = config::ways() == 2 && !conntrack::from_initiator(connection, slot);",
        breaks: "ICMP errors that are forged on the open network reach a vendor's session",
        near: ("packets", "tunnels::promise_5_forged_packets_of_a_tunnels_session_neither_pass_nor_end_it"),
    },
    Fault {
        name: "taken-up-outside-its-tunnel",
        file: "gateway-ebpf/src/judge.rs",
        right: "condition::arrive(0);",
        wrong: "condition::arrive(u32::MAX);",
        breaks: "A connection through a tunnel is taken up in its middle by its answers, wherever they go",
        near: ("packets", "tunnels::promise_5_nothing_is_taken_up_in_its_middle_outside_its_tunnel"),
    },
    Fault {
        name: "session-forgets-its-tunnel",
        file: "gateway-ebpf/src/revalidate.rs",
        right: "if config::ways() == 1 && forgets && !condition::binds(connection) {",
        wrong: "if config::ways() == 1 && forgets {",
        breaks: "A new policy cuts a vendor's session if the hospital's end speaks first",
        near: ("packets", "tunnels::promise_5_another_policy_judges_what_runs_by_where_it_lives"),
    },
    Fault {
        name: "direct-not-a-way",
        file: "gateway/src/compile/condition.rs",
        right: "Tunnel::Direct => tunnel::DIRECT,",
        wrong: "Tunnel::Direct => tunnel::ANY,",
        breaks: "Access that must not come through a tunnel does",
        near: (
            "packets",
            "tunnels::promise_5_access_through_a_tunnel_is_open_to_what_comes_through_it_alone",
        ),
    },
    Fault {
        name: "closed-tunnel-open",
        file: "gateway/src/policy/resolve/vendors.rs",
        right: "rule.unenforced |= self.policy.is_out_of_reach(&rule);",
        wrong: "rule.unenforced &= !self.policy.is_out_of_reach(&rule);",
        breaks: "Access through a tunnel that ends nowhere takes part in decisions",
        near: ("unit", "policy::tests::access_through_a_tunnel_is_active_where_one_ends"),
    },
];
