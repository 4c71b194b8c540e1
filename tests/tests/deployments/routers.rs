//! Routers: one port for each segment, or one trunk with a VLAN device for each.

use super::{demo, turn};

#[test]
fn one_port_for_each_segment() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "ports"]);
}

#[test]
fn vlan_devices_on_one_trunk() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "trunk"]);
}

#[test]
fn vlan_devices_on_one_trunk_forwarded_by_xdp() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "trunk", "--forwarding", "xdp"]);
}

#[test]
fn a_trunk_of_two_bonded_links() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "bond"]);
}

#[test]
fn a_trunk_of_two_bonded_links_forwarded_by_xdp() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "bond", "--forwarding", "xdp"]);
}

#[test]
fn routing_tables_for_each_zone() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "vrf"]);
}

#[test]
fn routing_tables_for_each_zone_forwarded_by_xdp() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "vrf", "--forwarding", "xdp"]);
}

/// Nothing but the policy stops what is forbidden there.
#[test]
fn an_unprotected_trunk_lets_everything_pass() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "trunk", "--without"]);
}
