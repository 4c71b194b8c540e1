//! Changes that go back unless somebody confirms them, and going back by hand.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clinigate_tests::peers::tcp;
use clinigate_tests::policy;
use clinigate_tests::traffic::Datagrams;
use serde_json::Value;

use crate::ward::{Ward, wait_until};

const PACE: Duration = Duration::from_millis(1);

/// The hospital's policy with one flow more: viewers reach the laboratory's port 443.
fn wider(ward: &Ward) -> PathBuf {
    let directory = ward.hospital.run().directory().join("wider");
    policy::copy(&policy::hospital(), &directory).unwrap();
    let flow = "flows: [{ name: more, from: viewers, to: lis, services: https }]\n";
    fs::write(directory.join("more.yaml"), flow).unwrap();
    directory
}

fn listen(ward: &Ward) {
    let lis = &ward.hospital.host("lis").namespace;
    let listener = lis.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 443))).unwrap().unwrap();
    thread::spawn(move || tcp::sink(&listener));
}

fn apply(ward: &Ward, directory: &std::path::Path, within: &str) {
    ward.setting.call(&["apply", directory.to_str().unwrap(), "--confirm-within", within]).unwrap();
}

fn policy_of(ward: &Ward) -> (u64, Value) {
    let policy = ward.status()["policy"].take();
    (policy["generation"].as_u64().unwrap(), policy["hash"].clone())
}

/// Must-show: an unconfirmed change goes back by itself; with its service, without one, and where the service was killed and started
/// again in between. Nothing that both policies allow notices.
#[test]
fn an_unconfirmed_change_goes_back_by_itself() {
    let ward = Ward::build();
    listen(&ward);
    let directory = wider(&ward);
    let mut service = ward.setting.start(&policy::hospital()).unwrap();
    let host = |name| ward.hospital.host(name);
    let kept = Datagrams::start(host("pump"), host("infrastructure"), 53, PACE).unwrap();
    let (_, before) = policy_of(&ward);

    apply(&ward, &directory, "6s");
    assert!(ward.connects("viewer", "lis", 443));
    let status = ward.status();
    assert_eq!(status["unconfirmed"]["generation"], 2, "{status}");
    assert!(status["findings"].to_string().contains("clinigate confirm"), "{status}");
    // Nobody makes another change on top of it.
    let other = ward.setting.command(&["apply", policy::hospital().to_str().unwrap()]).output().unwrap();
    assert_eq!(other.status.code(), Some(1), "{}", String::from_utf8_lossy(&other.stderr));
    wait_until("it goes back", || policy_of(&ward) == (3, before.clone())).unwrap();
    assert!(!ward.connects("viewer", "lis", 443));
    let metrics = ward.setting.metrics().unwrap();
    let back = metrics.sum("clinigate_policy_rollbacks_total", &[("cause", "not-confirmed")]);
    assert_eq!(
        (back.to_string(), metrics.sum("clinigate_policy_unconfirmed", &[]).to_string()),
        ("1".into(), "0".into())
    );
    let past = ward.json(&["generations"]);
    let of = |index: usize, key: &str| past[index][key].clone();
    assert_eq!(
        (of(1, "generation"), of(1, "confirmation")["result"].clone()),
        (2.into(), "went-back".into()),
        "{past}"
    );
    assert_eq!((of(2, "cause"), of(2, "restores")), ("not-confirmed".into(), 1.into()), "{past}");

    // The service is killed, and nobody starts it again.
    apply(&ward, &directory, "6s");
    service.kill().unwrap();
    assert!(ward.connects("viewer", "lis", 443), "until then it is in force");
    wait_until("it goes back without a service", || policy_of(&ward) == (5, before.clone())).unwrap();
    assert!(!ward.connects("viewer", "lis", 443));

    // The service is killed and started again, with the directory whose policy was taken back.
    service = ward.setting.start(&directory).unwrap();
    assert_eq!(policy_of(&ward), (5, before.clone()), "a restart does not take it up again");
    assert!(ward.status()["withdrawn"]["why"].as_str().unwrap().contains("nobody confirmed"));
    apply(&ward, &directory, "8s");
    service.kill().unwrap();
    service = ward.setting.start(&directory).unwrap();
    assert!(ward.status()["unconfirmed"]["generation"] == 6, "{}", ward.status());
    wait_until("it goes back after a restart", || policy_of(&ward) == (7, before.clone())).unwrap();

    // Confirmed, it stays, also over a restart.
    apply(&ward, &directory, "5m");
    let (_, after) = policy_of(&ward);
    ward.setting.call(&["confirm"]).unwrap();
    assert!(ward.setting.call(&["confirm"]).unwrap_err().to_string().contains("no change waits"));
    service.kill().unwrap();
    let service = ward.setting.start(&directory).unwrap();
    assert_eq!(policy_of(&ward), (8, after), "confirmed");
    let kept = kept.finish().unwrap();
    println!("{} datagrams sent over all that, {} lost", kept.sent, kept.lost(0..kept.sent));
    assert_eq!(kept.lost(0..kept.sent), 0);
    drop(service);
}

/// A way back waits for no port: the others get the policy that was confirmed.
#[test]
fn a_change_goes_back_while_an_interface_is_missing() {
    let ward = Ward::build();
    listen(&ward);
    let directory = wider(&ward);
    let service = ward.setting.start(&policy::hospital()).unwrap();
    let (_, before) = policy_of(&ward);
    apply(&ward, &directory, "3s");
    ward.hospital.gateway.batch(&["link delete poct0".to_owned()]).unwrap();
    assert!(ward.connects("viewer", "lis", 443));
    wait_until("it goes back", || policy_of(&ward).1 == before).unwrap();
    assert!(!ward.connects("viewer", "lis", 443));
    wait_until("it is missed", || ward.status()["findings"].to_string().contains("poct0 does not exist"))
        .unwrap();

    // By hand, too.
    wait_until("it is settled", || ward.status()["unconfirmed"].is_null()).unwrap();
    ward.setting.call(&["rollback", "--to", "2"]).unwrap();
    assert!(ward.connects("viewer", "lis", 443));
    drop(service);
}

#[test]
fn going_back_by_hand() {
    let ward = Ward::build();
    let service = ward.setting.start(&policy::hospital()).unwrap();
    let (_, first) = policy_of(&ward);
    let directory = wider(&ward);
    ward.setting.call(&["apply", directory.to_str().unwrap()]).unwrap();
    let (_, second) = policy_of(&ward);
    ward.setting.call(&["rollback"]).unwrap();
    assert_eq!(policy_of(&ward), (3, first.clone()));
    assert!(ward.setting.call(&["rollback"]).unwrap_err().to_string().contains("no such generation"));
    ward.setting.call(&["rollback", "--to", "2"]).unwrap();
    assert_eq!(policy_of(&ward), (4, second.clone()));
    // A change that waits is taken back by the same word.
    ward.setting.call(&["rollback", "--to", "1"]).unwrap();
    apply(&ward, &directory, "5m");
    assert_eq!(policy_of(&ward), (6, second.clone()));
    ward.setting.call(&["rollback"]).unwrap();
    assert_eq!(policy_of(&ward), (7, first));
    assert!(ward.status()["unconfirmed"].is_null());
    let text = ward.setting.call(&["generations"]).unwrap();
    let line = |number: &str| text.lines().find(|line| line.starts_with(number)).unwrap().to_owned();
    assert!(line("6").contains("WENT BACK") && line("7").contains("as generation"), "{text}");
    assert!(line("2").contains("apply") && line("2").contains("widening"), "{text}");
    // An auditor sees who did that.
    apply(&ward, &directory, "5m");
    ward.setting.call(&["confirm"]).unwrap();
    let log = ward.setting.call(&["audit", "show"]).unwrap();
    let told = |action: &str| {
        log.lines().filter(|line| line.contains(&format!("  root (uid 0)  {action} asked"))).count()
    };
    assert_eq!([told("apply"), told("rollback"), told("confirm")], [3, 5, 1], "{log}");
    let done = log.lines().filter(|line| line.contains("  clinigate  policy done  generation=")).count();
    assert_eq!(done, 8, "{log}");
    let verified = ward.setting.call(&["audit", "verify"]).unwrap();
    assert!(verified.starts_with("the log is whole"), "{verified}");
    // Of generations with one text the latest keep it.
    ward.setting.call(&["rollback"]).unwrap();
    fs::remove_dir_all(ward.setting.state().join("history/2/policy")).unwrap();
    ward.setting.call(&["rollback", "--to", "2"]).unwrap();
    assert_eq!(policy_of(&ward).1, second);
    drop(service);
}

/// A commit that must be confirmed goes back, too, and does not come again by itself.
#[test]
fn a_commit_goes_back_and_stays_back() {
    let ward = Ward::build();
    let key = Some(&ward.key);
    let good = ward.repository.head().unwrap();
    let service = ward.start();
    ward.wait_for(&good, "in-force", &[]);
    ward.flow("viewers", "lis", "https");
    let careful = "Viewers see results\n\nClinigate-Confirm-Within: 3s";
    let commit = ward.repository.publish(careful, key).unwrap();
    ward.wait_for(&commit, "withdrawn", &["withdrawn"]);
    let status = ward.status();
    assert_eq!(
        (&status["policy"]["commit"], &status["policy"]["generation"]),
        (&good.as_str().into(), &3.into())
    );
    let past = ward.json(&["generations"]);
    let about = &past[1]["about"];
    assert_eq!(about["author"], "Mori Aya <mori@example.org>", "{past}");
    assert!(about["signer"].as_str().unwrap().starts_with("mori@example.org"), "{past}");
    assert_eq!(
        (&past[1]["cause"], &past[1]["plan"]["effect"]),
        (&"commit".into(), &"widening".into()),
        "{past}"
    );
    // By hand it comes again; confirmed, it stays.
    ward.setting.call(&["apply", "--confirm-within", "5m"]).unwrap();
    ward.wait_for(&commit, "unconfirmed", &[]);
    ward.setting.call(&["confirm"]).unwrap();
    let found = ward.wait_for(&commit, "in-force", &[]);
    wait_until("it is accepted", || ward.status()["repository"]["accepted"] == commit.as_str())
        .unwrap_or_else(|error| panic!("{error}: {found}"));
    // And rolled back by hand, it stays back until something else comes.
    ward.setting.call(&["rollback"]).unwrap();
    ward.wait_for(&commit, "withdrawn", &["withdrawn"]);
    ward.flow("viewers", "lis", "ssh");
    let next = ward.repository.publish("Viewers reach the laboratory otherwise", key).unwrap();
    ward.wait_for(&next, "in-force", &[]);
    drop(service);
}
