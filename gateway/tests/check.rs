//! What `clinigate check` prints, for people and for programs, and how it exits.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

/// Runs `clinigate check` in `tests/check`: exit code, standard output, standard error.
fn check(arguments: &[&str]) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check");
    run(&directory, &[&["check"], arguments].concat())
}

fn run(directory: &Path, arguments: &[&str]) -> String {
    // Dates of review pass.
    let today: &[&str] = if arguments.contains(&"check") && !arguments.contains(&"--today") {
        &["--today", "2026-11-22"]
    } else {
        &[]
    };
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

#[test]
fn twelve_mistakes_in_three_files_are_all_shown() {
    let shown = check(&["twelve-mistakes"]);
    assert!(shown.starts_with("exit code 1\n"), "{shown}");
    assert_eq!(shown.matches("\nerror[").count() + usize::from(shown.contains("stdout\nerror[")), 12 + 1);
    insta::assert_snapshot!(shown);
}

#[test]
fn programs_get_the_same_as_json() {
    insta::assert_snapshot!(check(&["--format", "json", "twelve-mistakes"]));
}

#[test]
fn every_key_is_taken() {
    insta::assert_snapshot!(check(&["every-key"]));
}

#[test]
fn a_summary_is_part_of_the_json() {
    insta::assert_snapshot!(check(&["--format=json", "every-key"]));
}

#[test]
fn warnings_can_be_findings() {
    let shown = check(&["--deny-warnings", "every-key"]);
    assert!(shown.starts_with("exit code 1\n"), "{shown}");
}

#[test]
fn each_kind_of_value_has_its_mistake() {
    insta::assert_snapshot!(check(&["values"]));
}

#[test]
fn what_is_not_yaml_does_not_hide_the_rest() {
    insta::assert_snapshot!(check(&["broken-yaml"]));
}

#[test]
fn a_missing_directory_is_wrong_use() {
    insta::assert_snapshot!(check(&["no-such-directory"]));
}

#[test]
fn a_file_is_not_a_policy() {
    insta::assert_snapshot!(check(&["every-key/policy.yaml"]));
}

#[test]
fn an_empty_directory_is_not_a_policy() {
    let directory = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(run(directory.path(), &["check", "."]));
}

#[test]
fn the_schema_is_json() {
    let shown = run(Path::new("."), &["schema"]);
    let (_, json) = shown.split_once("--- stdout\n").unwrap();
    let (json, _) = json.split_once("--- stderr").unwrap();
    let schema: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["properties"]["vendors"].is_object());
    insta::assert_snapshot!(json);
}

#[test]
fn the_policies_of_this_repository_have_no_mistake() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    for policy in ["hospital", "minimal"] {
        let shown = run(&policies, &["check", policy]);
        assert!(shown.starts_with("exit code 0\n"), "{shown}");
    }
}

#[test]
fn the_hospital_is_reviewed_and_looked_after() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let on = |today: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_clinigate"))
            .args(["--format=json", "check", "hospital", "--today", today])
            .current_dir(&policies)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let today = on("2026-11-22");
    let lists = ["without_owner", "without_review", "narrowed"].map(|list| &today["summary"][list]);
    assert_eq!(lists, [&serde_json::json!([]); 3]);
    let overdue = |shown: &serde_json::Value| {
        let codes = shown["diagnostics"].as_array().unwrap().iter().map(|found| found["code"].clone());
        codes.filter(|code| code == "review-overdue").count()
    };
    let rules = ["flows", "denies", "vendor_rules"].map(|kind| today["summary"][kind].as_u64().unwrap());
    assert_eq!((overdue(&today), overdue(&on("2031-01-01")) as u64), (0, rules.iter().sum()));
    let shown = run(&policies, &["check", "hospital", "--today", "tomorrow"]);
    assert!(shown.starts_with("exit code 2\n"), "{shown}");
}
