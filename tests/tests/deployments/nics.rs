//! Network cards of a guest: with native XDP, and without.

use clinigate_tests::hospital::{Deployment, TRUNK, has_cards};
use clinigate_tests::namespace::tool;

use super::site::{Site, soon};
use super::turn;

fn mode(site: &Site, mode: &str) -> bool {
    site.metric("clinigate_interface_info", &[("interface", TRUNK), ("mode", mode)]) > 0.0
}

fn ethtool(site: &Site, option: &str) -> String {
    tool(site.hospital.gateway.command("ethtool").args([option, TRUNK])).unwrap()
}

/// Pairs of queues that the trunk's card uses, with those on which programs send: the last figure that is listed as
/// such, after the most that it could.
fn combined(site: &Site) -> usize {
    let list = ethtool(site, "-l");
    let mut figures =
        list.lines().rev().filter_map(|line| line.strip_prefix("Combined:")?.trim().parse().ok());
    figures.next().unwrap()
}

/// Packets that programs have seen of each of its queues; the driver calls that `rx0_xdp_packets`, or
/// `rx_queue_0_xdp_packets`.
fn received(site: &Site) -> Vec<u64> {
    let list = ethtool(site, "-S");
    let figures = list.lines().filter_map(|line| {
        let (name, figure) = line.trim().split_once(": ")?;
        let queue = name.strip_prefix("rx")?.strip_suffix("_xdp_packets")?.trim_start_matches("_queue_");
        queue.parse::<usize>().ok()?;
        figure.parse().ok()
    });
    figures.collect()
}

#[test]
fn virtio_net_in_native_mode() {
    let Some(_turn) = turn() else { return };
    for forwarding in ["kernel", "xdp"] {
        let settings = format!("forwarding: {forwarding}");
        let site = Site::open_with(Deployment::Virtio, &settings, &[], |hospital| {
            // Programs send on queues of their own, one for each processor, where there are so many more.
            let two = ["-L", TRUNK, "combined", "2"];
            if let Err(error) = tool(hospital.gateway.command("ethtool").args(two)) {
                println!("one queue: {error:#}");
            }
        });
        assert!(mode(&site, "native"));
        site.hold();
        let (queues, packets) = (combined(&site), received(&site));
        println!("{queues} queues, forwarded by {forwarding}: {packets:?} packets received by each");
        let busy = packets.iter().filter(|packets| **packets > 0).count();
        assert!(busy > 1 || queues == 1, "all came by one queue of {queues}: {packets:?}");
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
    assert!(log.contains("GENERIC XDP MODE"), "{log}");
    let Site { service, setting, policy, hospital, .. } = site;
    service.end().unwrap();
    setting.call(&["detach", "--yes"]).unwrap();

    let mut native = setting.start_unready(&policy).unwrap();
    let refusal = native.wait_refused(soon()).unwrap();
    assert!(refusal.contains("no native XDP; --xdp-mode generic works with any driver"), "{refusal}");
    let left = hospital.gateway.command("ip").args(["link", "show", TRUNK]).output().unwrap();
    assert!(!String::from_utf8_lossy(&left.stdout).contains("xdp"));
}
