//! The service in daily work: what it keeps, what it falls back to, what it tells.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clinigate_tests::hospital::Hospital;
use clinigate_tests::namespace::tool;
use clinigate_tests::policy;
use clinigate_tests::service::{self, Setting};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

fn build() -> (Hospital, Setting, PathBuf) {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let directory = hospital.run().directory().join("policy");
    policy::copy(&policy::hospital(), &directory).unwrap();
    (hospital, setting, directory)
}

fn break_policy(directory: &Path) {
    fs::write(
        directory.join("broken.yaml"),
        "flows: [{ name: x, from: [nobody], to: [pacs], services: [dicom] }]\n",
    )
    .unwrap();
}

/// The status, whatever its exit code.
fn status(setting: &Setting) -> Value {
    let output = setting.command(&["status", "--format", "json"]).output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn generation(setting: &Setting) -> u64 {
    status(setting)["policy"]["generation"].as_u64().unwrap()
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < until, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_restart_keeps_the_generation_that_it_finds() {
    let (_hospital, setting, directory) = build();
    setting.start(&directory).unwrap().kill().unwrap();
    let code = || setting.command(&["status"]).output().unwrap().status.code();
    assert_eq!(code(), Some(1), "something needs attention");
    let alone = status(&setting);
    assert!(alone["service"].is_null() && alone["policy"]["generation"] == 1, "{alone}");
    assert!(alone["findings"][0].as_str().unwrap().contains("the controller is not running"), "{alone}");
    let again = setting.start(&directory).unwrap();
    let found = status(&setting);
    assert!(found["policy"]["generation"] == 1 && found["findings"] == Value::Array(Vec::new()), "{found}");
    assert_eq!(code(), Some(0));
    drop(again);
}

/// Windows stand on the kernel's clock. Where the wall clock was set while no service was there to see it, they moved.
#[test]
fn a_wall_clock_that_was_set_meanwhile_is_noticed_at_the_start() {
    let (_hospital, setting, directory) = build();
    setting.start(&directory).unwrap().kill().unwrap();
    let description = setting.state().join("generations/1.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&description).unwrap()).unwrap();
    let beginning = text["record"]["beginning"].as_i64().unwrap();
    text["record"]["beginning"] = (beginning - 3_600_000).into();
    fs::write(&description, text.to_string()).unwrap();
    let service = setting.start(&directory).unwrap();
    wait_until("windows are laid anew", || generation(&setting) == 2);
    service.kill().unwrap();
    let service = setting.start(&directory).unwrap();
    thread::sleep(Duration::from_secs(5));
    assert_eq!(generation(&setting), 2, "and are then as they should be");
    drop(service);
}

#[test]
fn a_broken_policy_at_start_leaves_what_is_in_force() {
    let (_hospital, setting, directory) = build();
    setting.start(&directory).unwrap().kill().unwrap();
    break_policy(&directory);
    let service = setting.start(&directory).unwrap();
    let status = status(&setting);
    assert_eq!(status["policy"]["generation"], 1);
    assert!(status["last_apply"]["error"].as_str().unwrap().contains("broken.yaml"), "{status}");
    let metrics = setting.metrics().unwrap();
    for (name, value) in
        [("clinigate_policy_last_apply_success", "0"), ("clinigate_policy_apply_failures_total", "1")]
    {
        assert_eq!(metrics.sum(name, &[]).to_string(), value, "{name}");
    }
    drop(service);
}

#[test]
fn a_broken_policy_after_a_reboot_falls_back_to_the_last_good_one() {
    let (_hospital, setting, directory) = build();
    setting.start(&directory).unwrap().kill().unwrap();
    let hash = status(&setting)["policy"]["hash"].clone();
    // What a reboot leaves: the state on disk, and nothing in the kernel.
    setting.call(&["detach", "--yes"]).unwrap();
    break_policy(&directory);
    let service = setting.start(&directory).unwrap();
    let fallen_back = status(&setting);
    assert_eq!(fallen_back["policy"]["hash"], hash);
    assert!(fallen_back["findings"][0].as_str().unwrap().contains("refused"), "{fallen_back}");
    assert!(service.log_tail().contains("falling back to the last policy"), "{}", service.log_tail());
    drop(service);
    setting.call(&["detach", "--yes"]).unwrap();

    fs::remove_dir_all(setting.state().join("last-good")).unwrap();
    let said = setting.start_unready(&directory).unwrap().wait_refused(SOON).unwrap();
    assert!(said.contains("no policy is in force") && said.contains("broken.yaml"), "{said}");
}

/// The text in force is compiled again, not what stands in its directory by now.
#[test]
fn new_addresses_of_the_gateway_are_its_own_at_once() {
    let (hospital, setting, directory) = build();
    let service = setting.start(&directory).unwrap();
    let before = status(&setting);
    break_policy(&directory);
    hospital.gateway.batch(&["address add 10.10.10.77/24 dev infra0".to_owned()]).unwrap();
    wait_until("the address is compiled in", || generation(&setting) == 2);
    let after = status(&setting);
    assert_eq!(after["policy"]["hash"], before["policy"]["hash"]);
    assert!(after["last_apply"]["error"].is_null(), "nobody asked for another policy: {after}");
    drop(service);
}

/// A port that somebody unplugged is no reason to leave the others as they were.
#[test]
fn a_missing_interface_stops_neither_addresses_nor_orders() {
    let (hospital, setting, directory) = build();
    let service = setting.start(&directory).unwrap();
    let mac = "02:00:00:00:be:ef";
    hospital.gateway.batch(&["link delete poct0".to_owned()]).unwrap();
    wait_until("it is missed", || status(&setting)["findings"].to_string().contains("poct0"));

    let before = generation(&setting);
    hospital.gateway.batch(&["address add 10.10.10.77/24 dev infra0".to_owned()]).unwrap();
    wait_until("the address is compiled in", || generation(&setting) > before);

    let address = |host: &str| format!("neighbour replace {host} lladdr {mac} nud permanent dev infra0");
    hospital.gateway.batch(&[address("10.10.10.201")]).unwrap();
    setting.call(&["quarantine", "add", mac, "--reason", "worm", "--for", "1h", "--yes"]).unwrap();
    hospital.gateway.batch(&[address("10.10.10.202")]).unwrap();
    hospital.gateway.batch(&[address("fd00:10:10::203"), address("fe80::203")]).unwrap();
    let isolated = || setting.call(&["quarantine", "list", "--format", "json"]).unwrap();
    wait_until("its other address is isolated", || isolated().contains("10.10.10.202"));
    wait_until("so is that of the other family", || isolated().contains("fd00:10:10::203"));
    let all = isolated();
    assert!(all.contains("10.10.10.201") && !all.contains("fe80"), "{all}");

    setting.call(&["break-glass", "analysers", "--reason", "fire", "--for", "2s"]).unwrap();
    let open = |segment: &str| {
        setting.metrics().unwrap().sum("clinigate_break_glass_open", &[("segment", segment)]).to_string()
    };
    assert_eq!(open("analysers"), "1");
    wait_until("the metrics say that it is over", || open("analysers") == "0");
    drop(service);
}

#[test]
fn detach_is_the_only_way_off_and_asks_first() {
    let (hospital, setting, directory) = build();
    let attached = || tool(hospital.gateway.command("ip").args(["link", "show"])).unwrap().contains("xdp");
    let mut service = setting.start(&directory).unwrap();
    for refused in [vec!["detach", "--yes"], vec!["detach", "--stop"]] {
        setting.call(&refused).unwrap_err();
        assert!(attached(), "{refused:?}");
    }
    setting.call(&["detach", "--yes", "--stop"]).unwrap();
    assert!(!attached());
    // A service manager that restarts what failed leaves it off.
    let ended = service.wait_refused(SOON).unwrap_err().to_string();
    assert_eq!(ended, "clinigate ended without an error");
    assert!(status(&setting)["findings"][0].as_str().unwrap().starts_with("no policy is in force; to put"));
}

#[test]
fn garbage_on_the_socket_disturbs_nothing() {
    let (_hospital, setting, directory) = build();
    let service = setting.start(&directory).unwrap();
    let before = status(&setting)["service"]["pid"].clone();
    let noise: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let nested = vec![b'['; 65_536];
    let requests: [&[u8]; 4] =
        [&noise, b"\n\n\n", b"{\"request\":\"apply\",\"dir\":\"relative\"}\n", &nested];
    for bytes in requests {
        let mut stream = UnixStream::connect(setting.socket()).unwrap();
        // It may have heard enough before all is sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut reply = String::new();
        let _ = stream.read_to_string(&mut reply);
        assert!(reply.is_empty() || reply.contains("\"reply\":\"error\""), "{reply}");
    }
    let after = status(&setting);
    assert_eq!((&after["service"]["pid"], &after["policy"]["generation"]), (&before, &Value::from(1)));
    drop(service);
}

/// Files for other gateways are none of this one's: neither for the service nor for `apply` before it asks.
#[test]
fn apply_reads_what_the_gateways_labels_select() {
    let (_hospital, setting, directory) = build();
    let one = |site: &str, host: u8| {
        format!("gateways: {{ site: {site} }}\ngroups: {{ there: [10.10.40.{host}] }}\n")
    };
    fs::write(directory.join("north.yaml"), one("north", 77)).unwrap();
    fs::write(directory.join("south.yaml"), one("south", 78)).unwrap();
    let flow = "flows: [{ name: more, from: [there], to: [pacs], services: [https] }]\n";
    let options = ["--policy".as_ref(), directory.as_os_str(), "--label".as_ref(), "site=north".as_ref()];
    let mut service = setting.run(options).unwrap();
    service.wait_ready(SOON).unwrap();
    fs::write(directory.join("more.yaml"), flow).unwrap();
    setting.call(&["apply", directory.to_str().unwrap()]).unwrap();
    let status = status(&setting);
    assert_eq!(
        (&status["policy"]["generation"], &status["service"]["labels"]["site"]),
        (&2.into(), &"north".into())
    );
    let question = ["explain", "running", "--from", "10.10.40.77", "--to", "pacs", "--service", "https"];
    assert!(setting.call(&question).unwrap().contains("allowed by flow `more`"));
    // Without the labels there is no such group.
    fs::write(directory.join("north.yaml"), one("west", 77)).unwrap();
    let refused = setting.command(&["apply", directory.to_str().unwrap()]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nothing is named `there`"));
    service.end().unwrap();
}
