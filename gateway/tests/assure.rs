//! What `clinigate check`, `test` and `explain` say about the reference policies, and about a change
//! that opens the information network to the archive by mistake. `docs/assurance.md` shows the same.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

/// Runs `clinigate` in a directory: exit code, standard output, standard error.
fn run(directory: &Path, arguments: &[&str]) -> String {
    // Dates of review pass.
    let today: &[&str] = if arguments.contains(&"check") { &["--today", "2026-11-22"] } else { &[] };
    let output = Command::new(env!("CARGO_BIN_EXE_clinigate"))
        .args(arguments)
        .args(today)
        .current_dir(directory)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    format!("exit code {}\n--- stdout\n{stdout}--- stderr\n{stderr}", output.status.code().unwrap())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The reference hospital, where somebody let researchers read the archive, and took away the deny that
/// stood in the way.
fn opened() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let hospital = directory.path().join("hospital");
    copy(&policies().join("hospital"), &hospital);
    let denies = fs::read_to_string(hospital.join("deny.yaml")).unwrap();
    let (before, rest) = denies.split_once("  - name: information-to-clinical").unwrap();
    let (_, after) = rest.split_once("  - name: guest-to-inside").unwrap();
    fs::write(hospital.join("deny.yaml"), format!("{before}  - name: guest-to-inside{after}")).unwrap();
    let flow = "flows:\n  - name: research\n    from: [information]\n    to: [pacs, vna]\n    services: [dicom, dicomweb]\n    purpose: Researchers read studies\n    owner: research\n";
    fs::write(hospital.join("research.yaml"), flow).unwrap();
    directory
}

/// What a command prints must stand in the manual word for word.
fn is_in_the_manual(shown: &str) {
    let manual = fs::read_to_string(policies().join("../docs/assurance.md")).unwrap();
    let (_, stdout) = shown.split_once("--- stdout\n").unwrap();
    let (stdout, _) = stdout.rsplit_once("--- stderr\n").unwrap();
    assert!(manual.contains(stdout.trim_end()), "docs/assurance.md does not show:\n{stdout}");
}

#[test]
fn a_broken_invariant_is_shown_with_a_packet_and_its_rule() {
    let shown = run(opened().path(), &["check", "hospital"]);
    assert!(shown.starts_with("exit code 1\n"), "{shown}");
    is_in_the_manual(&shown);
    insta::assert_snapshot!(shown);
}

#[test]
fn the_tests_of_the_policy_notice_it_too() {
    let shown = run(opened().path(), &["test", "hospital"]);
    assert!(shown.starts_with("exit code 1\n"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn the_hospital_holds_every_expectation() {
    let shown = run(&policies(), &["test", "hospital"]);
    assert!(shown.starts_with("exit code 0\n"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn the_minimal_policy_too() {
    let shown = run(&policies(), &["test", "minimal"]);
    is_in_the_manual(&shown);
    insta::assert_snapshot!(shown);
}

#[test]
fn results_for_pipelines_and_programs() {
    let opened = opened();
    let junit = run(opened.path(), &["--format", "junit", "test", "hospital"]);
    assert!(junit.starts_with("exit code 1\n"), "{junit}");
    insta::assert_snapshot!("junit", junit);
    insta::assert_snapshot!("json", run(&policies(), &["--format", "json", "test", "minimal"]));
    let refused = run(&policies(), &["--format", "junit", "check", "minimal"]);
    assert!(refused.starts_with("exit code 2\n"), "{refused}");
}

#[test]
fn mistakes_in_tests_have_their_places() {
    let directory = tempfile::tempdir().unwrap();
    let minimal = directory.path().join("minimal");
    copy(&policies().join("minimal"), &minimal);
    let text = "must-pass:\n  - { name: a, from: modalites, to: pacs, services: [dicon], rule: store-study, because: typos }\nmust-not:\n  - { name: a }\n";
    fs::write(minimal.join("tests/typos.yaml"), text).unwrap();
    let shown = run(directory.path(), &["test", "minimal"]);
    assert!(shown.starts_with("exit code 1\n"), "{shown}");
    insta::assert_snapshot!("mistakes", shown);
    insta::assert_snapshot!("mistakes_junit", run(directory.path(), &["--format=junit", "test", "minimal"]));
    fs::remove_dir_all(minimal.join("tests")).unwrap();
    let shown = run(directory.path(), &["test", "minimal"]);
    assert!(shown.starts_with("exit code 1\n") && shown.contains("this policy has no tests"), "{shown}");
}

#[test]
fn an_expectation_about_nothing_fails() {
    let directory = tempfile::tempdir().unwrap();
    let minimal = directory.path().join("minimal");
    copy(&policies().join("minimal"), &minimal);
    let text = "must-not-pass:\n  - { name: families, from: 10.10.40.1, to: \"fd00:30::1\", services: any, because: nobody }\n";
    fs::write(minimal.join("tests/nothing.yaml"), text).unwrap();
    let shown = run(directory.path(), &["test", "minimal"]);
    assert!(shown.contains("`families` says nothing"), "{shown}");
}

#[test]
fn what_the_modes_let_pass_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let minimal = directory.path().join("minimal");
    copy(&policies().join("minimal"), &minimal);
    let text = fs::read_to_string(minimal.join("policy.yaml")).unwrap();
    let claim = "\ninvariants:
  - { name: archive-never-calls, from: pacs, to: modalities, never: any }
  - { name: archives-never-talk, from: pacs, to: pacs, never: any }\n";
    fs::write(minimal.join("policy.yaml"), text.replace("mode: enforce", "mode: audit") + claim).unwrap();
    let checked = run(directory.path(), &["check", "minimal"]);
    assert!(checked.starts_with("exit code 0\n"), "{checked}");
    assert!(checked.contains("warning[invariant-not-enforced]"), "{checked}");
    assert!(checked.contains("set `mode: enforce` on `pacs` or `modalities`\n"), "{checked}");
    assert!(checked.contains("set `mode: enforce` on `pacs`\n"), "{checked}");
    let tested = run(directory.path(), &["test", "minimal"]);
    assert!(tested.starts_with("exit code 0\n"), "{tested}");
    assert!(tested.contains("warning[expectation-not-enforced]"), "{tested}");
}

#[test]
fn the_schema_of_tests_is_json() {
    let shown = run(&policies(), &["schema", "--tests"]);
    let (_, json) = shown.split_once("--- stdout\n").unwrap();
    let (json, _) = json.split_once("--- stderr").unwrap();
    let schema: serde_json::Value = serde_json::from_str(json).unwrap();
    assert!(
        schema["properties"]["must-pass"].is_object() && schema["properties"]["must-not-pass"].is_object()
    );
}

/// Runs `clinigate explain` on the reference hospital.
fn explain(arguments: &[&str]) -> String {
    run(&policies(), &[&["explain", "hospital"], arguments].concat())
}

#[test]
fn what_is_allowed_is_explained_by_its_rule() {
    let shown = explain(&["--from", "modalities-a", "--to", "pacs", "--service", "dicom"]);
    assert!(shown.starts_with("exit code 0\n"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn what_is_allowed_in_part_is_told_apart() {
    let shown = explain(&["--from", "modalities", "--to", "pacs", "--service", "dicom,https"]);
    assert!(shown.starts_with("exit code 1\n"), "{shown}");
    is_in_the_manual(&shown);
    insta::assert_snapshot!("explain_part", shown);
    insta::assert_snapshot!("explain_ct", explain(&["--from", "ct-1", "--to", "wan", "--service", "https"]));
    let json = ["--from", "building", "--to", "gateway", "--service", "ping,dhcp", "--format=json"];
    insta::assert_snapshot!("explain_json", explain(&json));
}

#[test]
fn what_is_forbidden_is_explained_by_its_deny_and_its_invariant() {
    let shown = explain(&["--from", "information", "--to", "pacs", "--service", "dicom"]);
    assert!(shown.starts_with("exit code 1\n"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn the_nearest_rule_says_what_it_lacks() {
    let nearest = |from, to, service| {
        let shown = explain(&["--from", from, "--to", to, "--service", service]);
        assert!(shown.starts_with("exit code 1\n"), "{shown}");
        shown.lines().find(|line| line.starts_with("nearest")).unwrap_or_default().to_owned()
    };
    let cases = [
        (("pacs", "modalities", "dicom"), "`store-studies`", "it allows the other direction"),
        (
            ("jump-ct", "ct-1", "https"),
            "`ct-calibration`",
            "it is open only with a grant (clinigate grant open ct-vendor-service DEVICE --ticket TICKET --for 2h), in its \
             window from 01:00 to 05:00 (Asia/Tokyo)",
        ),
        (("10.10.40.12", "203.0.113.17", "https"), "`ct-telemetry`", "`from` does not have 10.10.40.12"),
        (("pumps", "pump-server", "https"), "`pumps-to-server`", "`services` has only alaris"),
    ];
    for ((from, to, service), rule, why) in cases {
        let line = nearest(from, to, service);
        assert!(line.contains(rule) && line.contains(why), "{from} {to} {service}: {line}");
    }
    assert_eq!(nearest("building", "guest", "ssh"), "");
}

#[test]
fn a_packet_is_explained_with_its_place() {
    let packet = |text: &str| explain(&["--packet", text]);
    let shown = packet("tcp 10.20.0.1:49152 -> 10.10.30.1:104 arriving on info0");
    is_in_the_manual(&shown);
    insta::assert_snapshot!("explain_packet", shown);
    let on_trunk = |vlan| {
        packet(&format!("tcp 10.10.41.12:49152 -> 10.10.30.1:104 arriving on trunk0 with VLAN {vlan}"))
    };
    assert!(on_trunk(41).starts_with("exit code 0\n") && on_trunk(41).contains("reason flow"));
    assert!(on_trunk(61).contains("drop, reason spoofed"), "{}", on_trunk(61));
    assert!(on_trunk(42).contains("drop, reason unknown-vlan"), "{}", on_trunk(42));
    assert!(packet("nonsense").starts_with("exit code 2\n"));
}

#[test]
fn questions_with_mistakes_are_wrong_use() {
    let shown = explain(&["--from", "pumpz", "--to", "pacs", "--service", "dicm"]);
    assert!(shown.starts_with("exit code 2\n") && shown.contains("did you mean `pumps`?"), "{shown}");
    insta::assert_snapshot!(shown);
    let impossible = explain(&["--from", "10.10.40.1", "--to", "fd00:30::1"]);
    assert!(impossible.starts_with("exit code 1\n") && impossible.contains("impossible"), "{impossible}");
}

/// Runs `clinigate reach` on the reference hospital.
fn reach(arguments: &[&str]) -> String {
    run(&policies(), &[&["reach", "hospital"], arguments].concat())
}

#[test]
fn a_chain_is_shown_hop_by_hop() {
    let shown = reach(&["--from", "modalities", "--to", "his"]);
    assert!(shown.starts_with("exit code 0\n"), "{shown}");
    is_in_the_manual(&shown);
    insta::assert_snapshot!("reach_chain", shown);
    let json = ["--from", "monitors", "--to", "integration", "--format=json"];
    insta::assert_snapshot!("reach_chain_json", reach(&json));
}

#[test]
fn all_within_reach_is_listed_by_hops() {
    let shown = reach(&["--from", "pumps"]);
    assert!(shown.starts_with("exit code 0\n"), "{shown}");
    is_in_the_manual(&shown);
    insta::assert_snapshot!("reach_all", shown);
    insta::assert_snapshot!(
        "reach_all_json",
        reach(&["--from", "ct-1", "--service", "https", "--format=json"])
    );
}

#[test]
fn what_no_chain_reaches_is_not_reachable() {
    for (from, to, more) in [
        ("information", "zone/clinical", ["--max-hops", "99"]),
        ("modalities", "his", ["--max-hops", "2"]),
        ("modalities", "his", ["--service", "dicom"]),
        ("wan", "zone/clinical", ["--service", "any"]),
    ] {
        let shown = reach(&[&["--from", from, "--to", to, "--neighbours"][..], &more].concat());
        assert!(shown.starts_with("exit code 1\n") && shown.contains("not reachable"), "{shown}");
    }
    let mistaken = reach(&["--from", "pumpz"]);
    assert!(
        mistaken.starts_with("exit code 2\n") && mistaken.contains("did you mean `pumps`?"),
        "{mistaken}"
    );
    let wrong = reach(&["--from", "pumps", "--max-hops", "0"]);
    assert!(wrong.starts_with("exit code 2\n"), "{wrong}");
}

/// The vendor's address alone opens nothing: the packet has to come through the tunnel, and that is said.
#[test]
fn what_must_come_through_a_tunnel_says_so() {
    let explain = |arguments: &[&str]| run(&policies(), &[&["explain", "vendors"], arguments].concat());
    let all = explain(&["--from", "203.0.113.40", "--to", "monitors-1", "--service", "https"]);
    assert!(all.starts_with("exit code 0\n"), "{all}");
    assert!(all.contains("`monitor-logs`") && all.contains(", if packets arrive through wireguard"), "{all}");
    assert!(all.contains("such as tcp 203.0.113.40:49152 -> 10.10.110.20:443 arriving on wg0"), "{all}");
    let packet =
        |interface: &str| format!("tcp 203.0.113.40:49152 -> 10.10.110.20:443 arriving on {interface}");
    assert!(explain(&["--packet", &packet("wg0")]).starts_with("exit code 0\n"));
    let outside = explain(&["--packet", &packet("wan0")]);
    assert!(outside.starts_with("exit code 1\n"), "{outside}");
    assert!(
        outside.contains("nearest: vendor access `monitor-logs`")
            && outside.contains(": it needs to arrive through wireguard"),
        "{outside}"
    );
}
