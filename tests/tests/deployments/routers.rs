//! Routers: one port for each segment, or one trunk with a VLAN device for each.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use clinigate_tests::hospital::{Deployment, Hospital};
use clinigate_tests::peers::tcp;

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

/// Its routes alone keep a zone apart, without Clinigate: what its table does not know is not looked up in another.
#[test]
fn a_zone_without_a_way_to_the_world_has_none() {
    let Some(_turn) = turn() else { return };
    let hospital = Hospital::deployed(Deployment::Vrf).unwrap();
    let vendor = hospital.host("vendor");
    let _https = vendor.namespace.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 443))).unwrap().unwrap();
    let to = vendor.at(443);
    let reaches =
        |from: &str| hospital.host(from).namespace.run(|| tcp::connects(to, Duration::from_secs(2))).unwrap();
    assert!(reaches("guest") && reaches("ct-1"));
    hospital.gateway.batch(&["route delete 0.0.0.0/0 dev wan0 table 1250".to_owned()]).unwrap();
    assert!(!reaches("guest") && reaches("ct-1"));
}
