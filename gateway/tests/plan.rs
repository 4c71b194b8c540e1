//! What `clinigate plan` prints, and how it exits. The page in `docs` shows the same outputs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Two directories: `before` is the reference hospital, `after` a copy of it to be changed.
fn hospital() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/hospital");
    for copy in ["before", "after"] {
        fs::create_dir(directory.path().join(copy)).unwrap();
        for file in fs::read_dir(&policy).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                fs::copy(file.path(), directory.path().join(copy).join(file.file_name())).unwrap();
            }
        }
    }
    directory
}

/// Replaces the one place where `file` has `from`.
fn edit(directory: &Path, file: &str, from: &str, to: &str) {
    let path = directory.join("after").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from} in {file}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn plan(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_clinigate"))
        .arg("plan")
        .args(arguments)
        // Whatever runs on this machine is none of ours.
        .args(["--pin-root", "nowhere"])
        .current_dir(directory)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    format!("exit code {}\n--- stdout\n{stdout}--- stderr\n{stderr}", output.status.code().unwrap())
}

/// Somebody wants the web viewer in the offices, and takes away the deny that was in the way.
fn opened_by_mistake() -> tempfile::TempDir {
    let directory = hospital();
    let (path, text) = (directory.path(), "    from: [viewers]\n    to: [pacs]\n");
    edit(path, "flows.yaml", text, "    from: [viewers, information]\n    to: [pacs]\n");
    let deny = "  - name: information-to-clinical\n    from: [zone/information]\n    to: [zone/clinical]\n";
    let narrower = deny.replace("zone/clinical", "his, integration, lis");
    edit(path, "deny.yaml", deny, &narrower);
    directory
}

#[test]
fn the_information_network_opened_to_the_pacs_by_mistake() {
    let directory = opened_by_mistake();
    let shown = plan(directory.path(), &["before", "after"]);
    assert!(shown.starts_with("exit code 11\n"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn the_same_for_a_merge_request() {
    let directory = opened_by_mistake();
    insta::assert_snapshot!(plan(directory.path(), &["--format", "markdown", "before", "after"]));
}

#[test]
fn the_same_for_programs() {
    let directory = opened_by_mistake();
    insta::assert_snapshot!(plan(directory.path(), &["--format", "json", "before", "after"]));
}

#[test]
fn the_page_in_docs_shows_these_outputs() {
    let page = include_str!("../../docs/plan.md");
    let directory = opened_by_mistake();
    for arguments in [&["before", "after"][..], &["--format", "markdown", "before", "after"]] {
        let shown = plan(directory.path(), arguments);
        let (_, data) = shown.split_once("--- stdout\n").unwrap();
        let (data, _) = data.split_once("--- stderr").unwrap();
        assert!(page.contains(data), "docs/plan.md does not show:\n{data}");
    }
}

#[test]
fn both_directions_and_what_is_not_a_rule() {
    let directory = hospital();
    let path = directory.path();
    edit(path, "flows.yaml", "    services: [dicom, dicom-tls]\n", "    services: [dicom-tls, tcp/4242]\n");
    edit(path, "segments.yaml", "zone: facility, mode: audit", "zone: facility, mode: enforce");
    edit(path, "segments.yaml", "zone: guest, mode: enforce", "zone: guest, mode: observe");
    edit(path, "interfaces.yaml", "trunk: [41, 61, 62]", "trunk: [41, 61, 80]");
    edit(path, "segments.yaml", "10.10.62.0/24", "10.10.62.0/25");
    edit(path, "invariants.yaml", "name: pumps-never-world", "name: pumps-not-world");
    let shown = plan(path, &["before", "after"]);
    assert!(shown.starts_with("exit code 12\n"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn another_text_of_the_same_meaning_changes_nothing() {
    let directory = hospital();
    let path = directory.path();
    edit(
        path,
        "flows.yaml",
        "    from: [modalities]\n    to: [ris]\n",
        "    from: [modalities-a, modalities-b]\n    to: [\"10.10.32.0/24\", \"fd00:32::/64\"]\n",
    );
    edit(path, "flows.yaml", "name: his-to-integration", "name: messages");
    let shown = plan(path, &["before", "after"]);
    let unknown = "Running connections: cannot tell, no gateway runs on this machine";
    assert_eq!(shown, format!("exit code 0\n--- stdout\n{unknown}\n\nresult: nothing\n--- stderr\n"));
}

#[test]
fn a_flow_that_goes_is_narrowing() {
    let directory = hospital();
    let path = directory.path();
    edit(path, "flows.yaml", "    services: [dicomweb, dicom-workstation]\n", "    services: [dicomweb]\n");
    let shown = plan(path, &["before", "after"]);
    assert!(shown.starts_with("exit code 10\n"), "{shown}");
    assert!(shown.contains("    viewers -> pacs: dicom-workstation\n"), "{shown}");
}

#[test]
fn a_revision_of_git_is_a_policy_too() {
    let directory = opened_by_mistake();
    let path = directory.path();
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
    let git = |arguments: &[&str]| {
        let status = Command::new("git").current_dir(path).args(identity).args(arguments).status().unwrap();
        assert!(status.success(), "git {arguments:?}");
    };
    git(&["init", "--quiet"]);
    git(&["add", "before"]);
    git(&["mv", "before", "policy"]);
    git(&["commit", "--quiet", "--message", "first"]);
    for file in ["flows.yaml", "deny.yaml"] {
        fs::copy(path.join("after").join(file), path.join("policy").join(file)).unwrap();
    }
    let shown = plan(path, &["--git", "HEAD", "policy"]);
    assert!(shown.starts_with("exit code 11\n"), "{shown}");
    assert_eq!(shown, plan(path, &["--git", "HEAD~0", "policy"]));
    let unknown = plan(path, &["--git", "no-such-revision", "policy"]);
    assert!(unknown.starts_with("exit code 2\n"), "{unknown}");
}

#[test]
fn the_policy_in_force_is_the_one_that_the_service_kept() {
    let directory = opened_by_mistake();
    let path = directory.path();
    fs::create_dir(path.join("last-good")).unwrap();
    fs::rename(path.join("before"), path.join("last-good/policy")).unwrap();
    let shown = plan(path, &["--state-dir", ".", "running", "after"]);
    assert!(shown.starts_with("exit code 11\n"), "{shown}");
}

#[test]
fn wrong_use_is_exit_code_2() {
    let directory = hospital();
    let path = directory.path();
    fs::write(path.join("after/broken.yaml"), "flows: [{ name: x }]\n").unwrap();
    for arguments in [
        &["before"][..],
        &["before", "nowhere"],
        &["before", "after"],
        &["--state-dir", ".", "running", "before"],
        &["--git", "HEAD", "before"],
        &["--git", "HEAD", "before", "after"],
    ] {
        let shown = plan(path, arguments);
        assert!(shown.starts_with("exit code 2\n--- stdout\n--- stderr\n"), "{arguments:?}: {shown}");
    }
}
