//! Bumps in the wire: the gateway is a bridge, and nothing else in the hospital changes.

use super::{demo, turn};

#[test]
fn a_bridge_between_the_switch_and_the_router() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "wire"]);
}

/// Nothing but the policy stops what is forbidden there.
#[test]
fn an_unprotected_wire_lets_everything_pass() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "wire", "--without"]);
}
