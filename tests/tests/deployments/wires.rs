//! Bumps in the wire: the gateway is a bridge, and nothing else in the hospital changes.

use clinigate_tests::dicom;
use clinigate_tests::hospital::Deployment;

use super::site::{Site, eventually};
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

/// What arrives at the port of a bridge is the bridge's, whoever forwards elsewhere; and a bridge that is down passes nothing, so that it may wait
/// for the policy.
#[test]
fn a_wire_stays_one_where_xdp_forwards() {
    let Some(_turn) = turn() else { return };
    let bridge = |state: &str| vec![format!("link set br0 {state}")];
    let site = Site::open_with(Deployment::Wire, "forwarding: xdp", &[], |hospital| {
        hospital.gateway.batch(&bridge("down")).unwrap();
        let pacs = hospital.host("pacs").at(dicom::PORT);
        dicom::echo(&hospital.host("ct-1").namespace, pacs).unwrap_err();
    });
    site.echo("ct-1").unwrap_err();
    site.hospital.gateway.batch(&bridge("up")).unwrap();
    eventually("the wire carries what the policy allows", || site.echo("ct-1").is_ok());
    site.hold();
    assert!(site.metric("clinigate_forwarded_packets_total", &[("by", "xdp")]) < 1.0);
}
