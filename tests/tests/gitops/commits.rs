//! Commits that come into force, and those that do not.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::thread;
use std::time::Duration;

use clinigate_tests::dicom::{self, Archive, Image};
use clinigate_tests::peers::tcp;
use clinigate_tests::policy;
use clinigate_tests::traffic::Datagrams;

use crate::ward::Ward;

const PACE: Duration = Duration::from_millis(1);

/// Must-show: a change is pushed and enforced; commits that are unsigned, of a stranger, forged, of another
/// history, broken, against an invariant, against a test, or that would cut a running DICOM transfer or open
/// zones, are refused or held, with the reason in status, metrics and log, and disturb no traffic.
#[test]
fn what_comes_into_force_and_what_does_not() {
    let ward = Ward::build();
    let (repository, key) = (&ward.repository, Some(&ward.key));
    let host = |name| ward.hospital.host(name);
    let listener =
        host("lis").namespace.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 443))).unwrap().unwrap();
    thread::spawn(move || tcp::sink(&listener));
    let directory = ward.hospital.run().directory().to_owned();
    let status_file = directory.join("status.json");
    let service = ward.start_with(&["--status-file", status_file.to_str().unwrap()]);

    // What runs all the time.
    let archive = Archive::start(&host("pacs").namespace, directory.join("archive")).unwrap();
    let image = Image::generate(&directory).unwrap();
    let archive_port = host("pacs").at(dicom::PORT);
    crate::ward::wait_until("the archive answers", || {
        dicom::echo(&host("ct-1").namespace, archive_port).is_ok()
    })
    .unwrap();
    let mut transfer = image.store_repeatedly(&host("ct-1").namespace, archive_port, 1_000_000).unwrap();
    let kept = Datagrams::start(host("pump"), host("infrastructure"), 53, PACE).unwrap();

    // A change is pushed, and enforced.
    let first = repository.head().unwrap();
    let found = ward.wait_for(&first, "in-force", &[]);
    assert!(found["head"]["signer"].as_str().unwrap().starts_with("mori@example.org (SHA256:"), "{found}");
    assert!(!ward.connects("viewer", "lis", 443));
    ward.flow("viewers", "lis", "https");
    let good = repository.publish("Viewers see results", key).unwrap();
    ward.wait_for(&good, "in-force", &[]);
    assert!(ward.connects("viewer", "lis", 443));
    let in_force = ward.status()["policy"].clone();
    assert_eq!((&in_force["commit"], &in_force["generation"]), (&good.as_str().into(), &2.into()));

    let stranger = repository.key("stranger").unwrap();
    let refused = |what: &str, commit: &str, state: &str, reason: &str, words: &str| {
        let found = ward.wait_for(commit, state, &[reason]);
        let message = found["head"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{what}: {message}");
        let log = fs::read_to_string(service.setting().log()).unwrap();
        assert!(log.contains(commit) && log.contains(reason), "{what}: {log}");
        let file = fs::read_to_string(&status_file).unwrap();
        assert!(file.contains(commit) && file.contains(state), "{what}: {file}");
        let status = ward.status();
        assert_eq!(status["policy"], in_force, "{what}");
        assert!(status["findings"].to_string().contains(&commit[..12]), "{what}: {status}");
        println!("{what}: {state}, {}", message.lines().last().unwrap());
        repository.reset(&good).unwrap();
    };
    ward.flow("viewers", "lis", "ssh");
    let commit = repository.publish("Nobody signed this", None).unwrap();
    refused("unsigned", &commit, "refused", "signature", "it is not signed");
    ward.flow("viewers", "lis", "ssh");
    let commit = repository.publish("A stranger signed this", Some(&stranger)).unwrap();
    refused("a stranger's", &commit, "refused", "signature", "does not count");
    ward.flow("viewers", "lis", "ssh");
    repository.commit("With the signature of another commit", None).unwrap();
    let commit = repository.forge(&good).unwrap();
    refused("forged", &commit, "refused", "signature", "does not count");
    repository.reset(&first).unwrap();
    ward.flow("viewers", "lis", "ssh");
    let commit = repository.publish("History as it should have been", key).unwrap();
    refused("another history", &commit, "refused", "history", &good);
    repository.reset(&first).unwrap();
    repository.push().unwrap();
    refused("an old commit", &first, "refused", "history", &good);
    ward.flow("nobody", "lis", "https");
    let commit = repository.publish("A mistake", key).unwrap();
    refused("broken", &commit, "refused", "mistakes", "1 mistake in the policy");
    ward.flow("pumps", "wan", "https");
    let commit = repository.publish("Pumps reach the world", key).unwrap();
    refused("against an invariant", &commit, "refused", "invariant", "pumps-never-world");
    policy::remove_flow(&ward.policy(), "open-record").unwrap();
    let commit = repository.publish("Nobody works in the record", key).unwrap();
    refused("against a test", &commit, "refused", "tests", "`record` fails");
    ward.flow("building", "his", "https");
    let commit = repository.publish("Building management reads records", key).unwrap();
    refused("across zones", &commit, "held", "widen-zones", "zone/facility -> zone/clinical");
    policy::remove_flow(&ward.policy(), "store-studies").unwrap();
    let commit = repository.publish("No more studies", key).unwrap();
    refused(
        "cuts a DICOM transfer",
        &commit,
        "held",
        "cut-connections",
        "store-studies, modalities-a -> pacs: 1",
    );

    assert_eq!(transfer.child().try_wait().unwrap(), None, "the transfer went on all the time");
    let kept = kept.finish().unwrap();
    println!("{} datagrams sent meanwhile, {} lost", kept.sent, kept.lost(0..kept.sent));
    assert_eq!(kept.lost(0..kept.sent), 0);

    // What somebody says that he means comes into force.
    policy::remove_flow(&ward.policy(), "store-studies").unwrap();
    let meant = "No more studies\n\nThe archive moves.\n\nClinigate-Allow: cut-connections";
    let commit = repository.publish(meant, key).unwrap();
    let found = ward.wait_for(&commit, "in-force", &[]);
    assert_eq!(
        (&found["head"]["plan"]["cut"], &found["head"]["plan"]["effect"]),
        (&1.into(), &"narrowing".into()),
        "{found}"
    );
    let revoked = || {
        let metrics = ward.setting.metrics().unwrap();
        metrics.sum("clinigate_connection_changes_total", &[("change", "revoked")]) > 0.0
    };
    crate::ward::wait_until("the transfer is cut", revoked).unwrap();
    drop((service, archive));
}

/// A held commit is let through by hand, too; and one whose connections have ended, by itself.
#[test]
fn what_is_held_waits_for_a_word_or_for_quiet() {
    let ward = Ward::build();
    let (repository, key) = (&ward.repository, Some(&ward.key));
    let service = ward.start();
    // A minute is long for a test.
    ward.write("settings.yaml", "settings: { timeouts: { udp-new: 3s } }\n");
    ward.flow("building", "his", "https");
    let commit = repository.publish("Building management reads records", key).unwrap();
    ward.wait_for(&commit, "held", &["widen-zones"]);
    let code = |arguments: &[&str]| ward.setting.command(arguments).output().unwrap().status.code();
    assert_eq!(code(&["apply"]), Some(1), "it is a finding");
    assert_eq!(code(&["apply", "--allow", "cut-connections"]), Some(1), "that is not what is missing");
    assert_eq!(code(&["apply", "--allow", "widen-zones"]), Some(0));
    ward.wait_for(&commit, "in-force", &[]);

    let host = |name| ward.hospital.host(name);
    let datagrams = Datagrams::start(host("monitor"), host("monitor-gateway"), 24005, PACE).unwrap();
    assert!(datagrams.wait_for_arrival(Duration::from_secs(5)));
    policy::remove_flow(&ward.policy(), "monitors-announce").unwrap();
    let commit = repository.publish("Monitors announce nothing", key).unwrap();
    ward.wait_for(&commit, "held", &["cut-connections"]);
    datagrams.finish().unwrap();
    let found = ward.wait_for(&commit, "in-force", &[]);
    assert_eq!(found["head"]["plan"]["cut"], 0);
    drop(service);
}
