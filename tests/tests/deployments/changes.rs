//! What changes about a router while it runs: VLANs, and its addresses to the world.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use clinigate_tests::hospital::{Deployment, TRUNK, WAN, vlan_device};
use clinigate_tests::peers::{tcp, udp};
use clinigate_tests::traffic::Transfer;

use super::site::{Site, eventually};
use super::turn;

const WAIT: Duration = Duration::from_secs(1);

#[test]
fn vlans_come_and_go_where_the_kernel_forwards() {
    let Some(_turn) = turn() else { return };
    come_and_go("forwarding: kernel");
}

#[test]
fn vlans_come_and_go_where_xdp_forwards() {
    let Some(_turn) = turn() else { return };
    come_and_go("forwarding: xdp");
}

/// The device of a VLAN goes and comes back, then the VLAN leaves the policy and comes back: each time its hosts are
/// cut off and served again, and the others notice nothing.
fn come_and_go(forwarding: &str) {
    let site = Site::open(Deployment::Trunk, forwarding);
    let gateway = &site.hospital.gateway;
    let transfer =
        Transfer::start(site.hospital.host("pump"), site.hospital.host("pump-server-1"), 3613).unwrap();
    site.store("ct-1").unwrap();
    site.message().unwrap();

    gateway.batch(&[format!("link delete {TRUNK}.40")]).unwrap();
    site.echo("ct-1").unwrap_err();
    vlan_device(gateway, TRUNK, 40).unwrap();
    eventually("an echo by the new device", || site.echo("ct-1").is_ok());
    site.store("ct-1").unwrap();
    if forwarding.ends_with("xdp") {
        let by_xdp = || site.metric("clinigate_forwarded_packets_total", &[("by", "xdp")]);
        eventually("XDP knows the new device", || {
            let before = by_xdp();
            site.store("ct-1").unwrap();
            by_xdp() - before > 400.0
        });
    }

    let file = site.policy.join("interfaces.yaml");
    let whole = fs::read_to_string(&file).unwrap();
    let without = whole.replacen(" 40,", "", 1);
    assert_ne!(whole, without);
    let strangers = || site.metric("clinigate_packets_total", &[("reason", "unknown-vlan")]);
    let before = strangers();
    fs::write(&file, without).unwrap();
    site.service.reload().unwrap();
    eventually("VLAN 40 is out of the policy", || {
        let _ = site.echo("ct-1");
        strangers() > before
    });
    site.echo("ct-1").unwrap_err();
    fs::write(&file, whole).unwrap();
    site.service.reload().unwrap();
    eventually("VLAN 40 is back", || site.echo("ct-1").is_ok());
    site.store("ct-1").unwrap();

    let transferred = transfer.finish().unwrap();
    assert_eq!(transferred.sent, transferred.received, "{transferred:?}");
    assert!(transferred.longest_stall < Duration::from_secs(10), "{transferred:?}");
}

/// A second address of the gateway in the world is the gateway, too, from the moment that it is there.
#[test]
fn the_gateway_has_several_addresses_in_the_world() {
    let Some(_turn) = turn() else { return };
    let site = Site::open(Deployment::Trunk, "forwarding: kernel");
    let gateway = &site.hospital.gateway;
    let second = "192.0.2.3";
    gateway.batch(&[format!("address add {second}/24 dev {WAN}")]).unwrap();
    let tunnel = gateway.run(|| UdpSocket::bind((second, 500))).unwrap().unwrap();
    let _echo = gateway.spawn(move || {
        udp::echo(&tunnel);
        Ok(())
    });
    let asks = |host: &str| {
        let to = format!("{second}:500").parse().unwrap();
        let namespace = &site.hospital.host(host).namespace;
        namespace.run(|| udp::answers(to, 0, b"IKE?", WAIT)).unwrap().unwrap()
    };
    eventually("the vendor's tunnel to the second address", || asks("vendor"));
    assert!(!asks("attacker"));
    let _ssh = gateway.run(|| std::net::TcpListener::bind((second, 22))).unwrap().unwrap();
    let ssh = format!("{second}:22").parse().unwrap();
    let namespace = &site.hospital.host("attacker").namespace;
    assert!(!namespace.run(|| tcp::connects(ssh, WAIT)).unwrap());
    // And what is forwarded does not mind.
    site.store("ct-1").unwrap();
}
