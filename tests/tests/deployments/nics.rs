//! Network cards of a guest: with native XDP, and without.

use clinigate_tests::hospital::{Deployment, TRUNK, has_cards};

use super::site::{Site, soon};
use super::turn;

fn mode(site: &Site, mode: &str) -> bool {
    site.metric("clinigate_interface_info", &[("interface", TRUNK), ("mode", mode)]) > 0.0
}

#[test]
fn virtio_net_in_native_mode() {
    let Some(_turn) = turn() else { return };
    for forwarding in ["kernel", "xdp"] {
        let site = Site::open(Deployment::Virtio, &format!("forwarding: {forwarding}"));
        let queues = site.hospital.gateway.command("ethtool").args(["-l", TRUNK]).output().unwrap();
        println!("{}", String::from_utf8_lossy(&queues.stdout));
        assert!(mode(&site, "native"));
        site.hold();
        if forwarding == "xdp" {
            assert!(site.metric("clinigate_forwarded_packets_total", &[("by", "xdp")]) > 400.0);
        }
    }
}

/// Refused with the way out; in generic mode it works and says so. The alert for it is tested with the others.
#[test]
fn a_card_without_native_xdp() {
    let Some(_turn) = turn() else { return };
    if !has_cards(Deployment::E1000).unwrap() {
        println!("skipped: this kernel has no e1000; `cargo xtask vm --kernel 6.12-full` brings one");
        return;
    }
    let site =
        Site::open_with(Deployment::E1000, "forwarding: kernel", &["--xdp-mode", "generic"], |hospital| {
            // What takes off tags is turned off by itself.
            let on =
                hospital.gateway.command("ethtool").args(["-K", TRUNK, "rxvlan", "on"]).status().unwrap();
            assert!(on.success());
        });
    assert!(mode(&site, "generic") && !mode(&site, "native"));
    let status = site.setting.call(&["status"]).unwrap();
    assert!(status.contains("generic"), "{status}");
    site.hold();
    let log = std::fs::read_to_string(site.setting.log()).unwrap();
    assert!(log.contains("generic"), "{log}");
    let Site { service, setting, policy, hospital, .. } = site;
    service.end().unwrap();
    setting.call(&["detach"]).unwrap();

    let mut native = setting.start_unready(&policy).unwrap();
    let refusal = native.wait_refused(soon()).unwrap();
    assert!(refusal.contains("no native XDP; --xdp-mode generic works with any driver"), "{refusal}");
    let left = hospital.gateway.command("ip").args(["link", "show", TRUNK]).output().unwrap();
    assert!(!String::from_utf8_lossy(&left.stdout).contains("xdp"));
}
