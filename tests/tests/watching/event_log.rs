//! The log of blocked flows as a file, written by the running service.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clinigate_tests::hospital::Hospital;
use clinigate_tests::peers::tcp;
use clinigate_tests::policy;
use clinigate_tests::service::{self, Setting};
use serde_json::Value;

fn all_services(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line in {text}");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["service"].as_str().unwrap().to_owned()).collect()
}

/// What somebody tried: hosts that were just made also tell routers of their groups, some seconds long.
fn services(path: &Path) -> Vec<String> {
    all_services(path).into_iter().filter(|service| service.starts_with("tcp/")).collect()
}

/// The file has what is blocked; moved away, it is made anew, at once on SIGHUP; what is left is written when the
/// service ends.
#[test]
fn blocked_flows_are_written_to_a_file_that_may_be_moved_away() {
    let hospital = Hospital::build().unwrap();
    let setting = Setting::new(&hospital, service::binary().unwrap());
    let log = hospital.run().directory().join("blocked.jsonl");
    let policy = policy::hospital();
    let options = ["--policy".as_ref(), policy.as_os_str(), "--event-log".as_ref(), log.as_os_str()];
    let mut service = setting.run(options).unwrap();
    service.wait_ready(Duration::from_secs(20)).unwrap();
    let attempt = |port: u16| {
        let (host, to) = (hospital.host("ct-1"), hospital.host("pacs").at(port));
        assert!(!host.namespace.run(|| tcp::connects(to, Duration::from_millis(200))).unwrap());
    };
    attempt(445);
    let until = Instant::now() + Duration::from_secs(20);
    while services(&log).is_empty() && Instant::now() < until {
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(services(&log), ["tcp/445"]);
    let moved = log.with_extension("moved");
    fs::rename(&log, &moved).unwrap();
    service.reload().unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while !log.exists() && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(log.exists(), "SIGHUP makes the file anew");
    attempt(3389);
    let counted = || setting.metrics().unwrap().sum("clinigate_event_log_lines_total", &[]).to_string();
    let written = || (all_services(&moved).len() + all_services(&log).len()).to_string();
    let until = Instant::now() + Duration::from_secs(5);
    let mut lines = (counted(), written());
    while lines.0 != lines.1 && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
        lines = (counted(), written());
    }
    assert_eq!(lines.0, lines.1);
    service.end().unwrap();
    assert_eq!((services(&moved), services(&log)), (vec!["tcp/445".to_owned()], vec!["tcp/3389".to_owned()]));
}
