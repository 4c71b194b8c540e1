//! Routers: one port for each segment, or one trunk with a VLAN device for each.

use super::{demo, turn};

/// The demo on a trunk of some kind, twice: forwarded by the kernel, and by XDP.
macro_rules! trunks {
    ($($name:ident: $deployment:literal;)*) => {$(
        mod $name {
            #[test]
            fn forwarded_by_the_kernel() {
                super::by($deployment, "kernel");
            }

            #[test]
            fn forwarded_by_xdp() {
                super::by($deployment, "xdp");
            }
        }
    )*};
}

trunks! {
    vlan_devices_on_one_trunk: "trunk";
    a_trunk_of_two_bonded_links: "bond";
    a_trunk_with_a_standby_link: "standby-bond";
    routing_tables_for_each_zone: "vrf";
}

fn by(deployment: &str, forwarding: &str) {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", deployment, "--forwarding", forwarding]);
}

#[test]
fn one_port_for_each_segment() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "ports"]);
}

/// Nothing but the policy stops what is forbidden there.
#[test]
fn an_unprotected_trunk_lets_everything_pass() {
    let Some(_turn) = turn() else { return };
    demo(&["--deployment", "trunk", "--without"]);
}
