//! What `clinigate export` prints. Whether the rulesets decide as they should, `tests/tests/nftables`
//! tries in a kernel.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs `clinigate export nftables` beside the policies: exit code, standard output, standard error.
fn export(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_clinigate"))
        .args(["export", "nftables"])
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies"))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_minimal_policy() {
    let (code, ruleset, limits) = export(&["minimal"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(format!("{ruleset}--- stderr\n{limits}"));
}

#[test]
fn what_the_hospital_needs_and_nftables_does_not_do() {
    let (code, ruleset, limits) = export(&["hospital"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(limits);
    let unwrapped = ruleset.replace("\n#  ", "");
    for limit in limits.lines() {
        let what = limit.strip_prefix("note: ").unwrap();
        assert!(unwrapped.contains(what), "the heading does not say: {what}");
    }
    assert!(!ruleset.contains("ct-calibration\" accept"), "a grant that nobody enforces is open");
}

#[test]
fn a_file_gets_the_ruleset_and_programs_the_list() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("minimal.nft");
    let (code, answer, _) =
        export(&["--format", "json", "--stateless", "--output", file.to_str().unwrap(), "minimal"]);
    assert_eq!(code, Some(0));
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["limits"].as_array().unwrap().iter().all(|limit| limit["what"].is_string()));
    assert_eq!(answer.get("ruleset"), None);
    let ruleset = fs::read_to_string(file).unwrap();
    assert!(ruleset.starts_with("#!/usr/sbin/nft -f\n") && !ruleset.contains("ct state"));
}

#[test]
fn a_policy_with_mistakes_is_not_exported() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("policy.yaml"), "flows: [{ name: a }]\n").unwrap();
    let (code, ruleset, words) = export(&[directory.path().to_str().unwrap()]);
    assert_eq!((code, ruleset.as_str()), (Some(2), ""));
    assert!(words.contains("policy.yaml:1"), "{words}");
}
