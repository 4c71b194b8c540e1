//! Remotes that are lost, disks that are full, repositories that are large.

use std::fs;
use std::process::Command;

use clinigate_tests::namespace::tool;

use crate::ward::{Ward, wait_until};

/// The last good commit is what a reboot starts from, whether the repository answers or not.
#[test]
fn a_reboot_without_the_remote_starts_from_the_last_good_commit() {
    let ward = Ward::build();
    let good = ward.repository.head().unwrap();
    ward.start().kill().unwrap();
    // What a reboot leaves: the state on disk, and nothing in the kernel.
    ward.setting.call(&["detach", "--yes"]).unwrap();
    let aside = ward.repository.url().with_extension("aside");
    fs::rename(ward.repository.url(), &aside).unwrap();
    let service = ward.start();
    assert_eq!(ward.status()["policy"]["commit"], good.as_str());
    wait_until("the loss is told", || !ward.status()["repository"]["fetch_error"].is_null()).unwrap();
    let status = ward.status();
    assert!(status["findings"].to_string().contains("the repository cannot be asked"), "{status}");
    let metrics = ward.setting.metrics().unwrap();
    assert!(metrics.sum("clinigate_repository_fetches_total", &[("result", "failed")]) > 0.0);

    // What is broken meanwhile is found when it answers again, and what is mended, too.
    fs::rename(&aside, ward.repository.url()).unwrap();
    ward.flow("nobody", "lis", "https");
    let broken = ward.repository.publish("A mistake", Some(&ward.key)).unwrap();
    ward.wait_for(&broken, "refused", &["mistakes"]);
    ward.flow("viewers", "lis", "https");
    let mended = ward.repository.publish("Mended", Some(&ward.key)).unwrap();
    ward.wait_for(&mended, "in-force", &[]);
    assert_eq!(ward.status()["findings"], serde_json::json!([]));
    drop(service);
}

/// Where nothing has ever been in force, a commit that cannot be put there is the end.
#[test]
fn without_a_good_commit_the_service_does_not_start() {
    let ward = Ward::build();
    ward.repository.publish("Nobody signed this", None).unwrap();
    let said = ward.start_unready(&[]).wait_refused(crate::ward::SOON).unwrap();
    assert!(said.contains("no policy is in force") && said.contains("it is not signed"), "{said}");
}

/// A full disk: nothing new comes, what is in force stays, and both are told. Room again: it goes on.
#[test]
fn a_full_disk_stops_changes_and_nothing_else() {
    let ward = Ward::build();
    let state = ward.setting.state();
    fs::create_dir_all(&state).unwrap();
    tool(Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "none"]).arg(&state)).unwrap();
    let service = ward.start();
    let good = ward.repository.head().unwrap();
    ward.wait_for(&good, "in-force", &[]);
    let ballast = state.join("ballast");
    // As much as there is room for.
    let filled =
        Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", ballast.display())).output();
    assert!(!filled.unwrap().status.success());
    ward.flow("viewers", "lis", "https");
    let next = ward.repository.publish("Viewers see results", Some(&ward.key)).unwrap();
    wait_until("the trouble is told", || {
        let repository = ward.status()["repository"].take();
        !repository["fetch_error"].is_null() || repository["head"]["state"] == "refused"
    })
    .unwrap();
    assert_eq!(ward.status()["policy"]["commit"], good.as_str());
    assert_eq!(ward.status()["policy"]["generation"], 1);
    fs::remove_file(&ballast).unwrap();
    ward.wait_for(&next, "in-force", &[]);
    drop(service);
    tool(Command::new("umount").arg("--lazy").arg(&state)).unwrap();
}

/// A hundred megabytes beside the policy: fetched once, and no hindrance.
#[test]
fn a_repository_of_a_hundred_megabytes() {
    let ward = Ward::build();
    // What cannot be packed smaller.
    let firmware = format!("of={}", ward.repository.tree().join("firmware.bin").display());
    tool(Command::new("dd").args(["if=/dev/urandom", "bs=1M", "count=100", &firmware])).unwrap();
    // Neither compressed nor compared with anything: git would take a quarter of a minute to find that it is noise.
    for (key, value) in [("core.compression", "0"), ("core.bigFileThreshold", "1m")] {
        ward.repository.git(&["config", key, value]).unwrap();
        let mut git = Command::new("git");
        tool(git.arg("--git-dir").arg(ward.repository.url()).args(["config", key, value])).unwrap();
    }
    ward.repository.publish("Firmware, too", Some(&ward.key)).unwrap();
    let service = ward.start();
    ward.flow("viewers", "lis", "https");
    let next = ward.repository.publish("Viewers see results", Some(&ward.key)).unwrap();
    ward.wait_for(&next, "in-force", &[]);
    drop(service);
}
