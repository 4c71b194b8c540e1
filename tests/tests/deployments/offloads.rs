//! What network cards do by themselves: verdicts are right with it, or it is turned off.

use std::fs;

use clinigate_tests::hospital::{Deployment, HOST_INTERFACE, TRUNK};
use clinigate_tests::namespace::{Namespace, tool};

use super::site::{Site, eventually};
use super::turn;

/// Features that a card may have on without harm, by what `ethtool -K` calls them: none, all, and all but one.
const HARMLESS: [&str; 8] = ["rx", "tx", "sg", "tso", "gso", "gro", "rx-udp-gro-forwarding", "txvlan"];

/// What must be off.
const HIDING: [&str; 3] = ["rxvlan", "lro", "rx-gro-hw"];

/// Sets a feature; whether the device has it.
fn set(namespace: &Namespace, device: &str, feature: &str, on: bool) -> bool {
    let value = if on { "on" } else { "off" };
    tool(namespace.command("ethtool").args(["-K", device, feature, value])).is_ok()
        && is(namespace, device, feature) == on
}

fn is(namespace: &Namespace, device: &str, feature: &str) -> bool {
    let long = match feature {
        "rx" => "rx-checksumming",
        "tx" => "tx-checksumming",
        "sg" => "scatter-gather",
        "tso" => "tcp-segmentation-offload",
        "gso" => "generic-segmentation-offload",
        "gro" => "generic-receive-offload",
        "lro" => "large-receive-offload",
        "rxvlan" => "rx-vlan-offload",
        "txvlan" => "tx-vlan-offload",
        other => other,
    };
    let list = tool(namespace.command("ethtool").args(["-k", device])).unwrap();
    list.lines().any(|line| line.trim().starts_with(&format!("{long}: on")))
}

fn all(deployment: Deployment, forwarding: &str) {
    let site = Site::open_with(deployment, &format!("forwarding: {forwarding}"), &[], |hospital| {
        for feature in HIDING {
            let had = set(&hospital.gateway, TRUNK, feature, true);
            println!(
                "{deployment:?}: {feature} {}",
                if had { "on before" } else { "is not there, or fixed" }
            );
        }
    });
    let gateway = &site.hospital.gateway;
    for feature in HIDING {
        assert!(!is(gateway, TRUNK, feature), "{feature} is on while the policy is enforced");
    }
    site.hold();
    let all = |on: bool| {
        let taken: Vec<_> = HARMLESS.into_iter().filter(|feature| set(gateway, TRUNK, feature, on)).collect();
        println!("{deployment:?}: {} {}", taken.join(" "), if on { "on" } else { "off" });
        site.hold();
        taken
    };
    all(false);
    for feature in all(true) {
        if set(gateway, TRUNK, feature, false) {
            println!("{deployment:?}: all but {feature}");
            site.hold();
            assert!(set(gateway, TRUNK, feature, true), "{feature}");
        }
    }
    // Turned on while it runs: off again by itself.
    if set(gateway, TRUNK, "rxvlan", true) {
        eventually("rxvlan is off again", || !is(gateway, TRUNK, "rxvlan"));
        site.hold();
    }
}

#[test]
fn of_a_virtual_link() {
    let Some(_turn) = turn() else { return };
    for forwarding in ["kernel", "xdp"] {
        all(Deployment::Trunk, forwarding);
    }
}

#[test]
fn of_virtio_net() {
    let Some(_turn) = turn() else { return };
    for forwarding in ["kernel", "xdp"] {
        all(Deployment::Virtio, forwarding);
    }
}

/// The links of a bond receive for it: it is there that tags would be taken off.
#[test]
fn of_the_links_of_a_bond() {
    let Some(_turn) = turn() else { return };
    let site = Site::open_with(Deployment::Bond, "forwarding: kernel", &[], |hospital| {
        for link in ["link1", "link2"] {
            assert!(set(&hospital.gateway, link, "rxvlan", true));
        }
    });
    for link in ["link1", "link2"] {
        assert!(!is(&site.hospital.gateway, link, "rxvlan"), "{link}");
    }
    site.hold();
    // What the links' ends say to each other every second came through meanwhile.
    let bond = format!("/proc/thread-self/net/bonding/{TRUNK}");
    let agreed = || site.hospital.gateway.run(|| fs::read_to_string(&bond)).unwrap().unwrap();
    assert!(agreed().contains("Number of ports: 2"), "{}", agreed());
    // One link is enough.
    site.hospital.gateway.batch(&["link set link1 down".to_owned()]).unwrap();
    eventually("traffic on the other link", || site.echo("ct-1").is_ok());
    site.hold();
    // So is one that came later.
    site.hospital.add_link("link3").unwrap();
    site.hospital.gateway.batch(&["link set link2 down".to_owned()]).unwrap();
    eventually("traffic on the new link", || site.echo("ct-1").is_ok());
    site.hold();
}

/// Frames of 9,000 bytes come in several buffers. Not by a veth: newer kernels do not bear that, and it is refused.
#[test]
fn jumbo_frames() {
    let Some(_turn) = turn() else { return };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    if release.starts_with("6.1.") {
        println!("skipped: virtio-net of Linux {} runs no programs on them", release.trim());
        return;
    }
    for forwarding in ["kernel", "xdp"] {
        let site =
            Site::open_with(Deployment::Virtio, &format!("forwarding: {forwarding}"), &[], |hospital| {
                let large = |device: &str| format!("link set {device} mtu 9000");
                let host = |name: &str| hospital.host(name).namespace.clone();
                hospital.switch.batch(&[large(HOST_INTERFACE)]).unwrap();
                hospital.gateway.batch(&[large(TRUNK), large("trunk0.30"), large("trunk0.40")]).unwrap();
                for (name, port) in [("ct-1", "moda0"), ("pacs", "pacs0")] {
                    host(name).batch(&[large(HOST_INTERFACE)]).unwrap();
                    hospital.switch.batch(&[large(port)]).unwrap();
                }
            });
        site.hold();
        let packets = || site.metric("clinigate_rule_packets_total", &[("rule", "store-studies")]);
        let before = packets();
        site.store("ct-1").unwrap();
        let took = packets() - before;
        println!("{took} packets for an image, forwarded by {forwarding}");
        assert!(took < 300.0, "of 1,500 bytes it takes 500");
    }
}
