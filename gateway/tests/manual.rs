//! Pages of the manual that consist of commands and what they print: each is run, and compared with the
//! page. `CLINIGATE_WRITE_DOCS=1` writes what is printed into the page instead.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FENCE: &str = "```";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
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

/// Applies a patch of the page to a directory.
fn patch(directory: &Path, patch: &str) {
    let mut git = Command::new("git");
    git.arg("apply").current_dir(directory).stdin(Stdio::piped());
    // Not the repository that may be above the temporary directory.
    git.env("GIT_CEILING_DIRECTORIES", directory.parent().unwrap());
    let mut child = git.spawn().unwrap();
    child.stdin.take().unwrap().write_all(patch.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "the page's change does not apply:\n{patch}");
}

/// The line of a command, such as `$ clinigate check before    # exit code 0`, as it is now, and what it
/// prints.
fn run(directory: &Path, line: &str) -> String {
    let typed = line.split("  #").next().unwrap().trim_end();
    let arguments: Vec<&str> = typed.strip_prefix("$ clinigate ").unwrap().split_whitespace().collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_clinigate"));
    command.args(&arguments).current_dir(directory);
    if arguments[0] == "plan" {
        // Whatever runs on this machine is none of ours.
        command.args(["--pin-root", "nowhere"]);
    }
    if arguments[0] == "check" {
        // Dates of review pass.
        command.args(["--today", "2026-11-22"]);
    }
    let output = command.output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(words, "", "{typed} has something to say");
    let data = String::from_utf8(output.stdout).unwrap();
    format!("{typed}    # exit code {}\n{data}", output.status.code().unwrap())
}

#[test]
fn the_page_of_a_mistake_shows_what_the_commands_print() {
    let path = repository().join("docs/mistake.md");
    let page = fs::read_to_string(&path).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for name in ["before", "after"] {
        copy(&repository().join("policies/hospital"), &directory.path().join(name));
    }
    let (_, change) = page.split_once("```diff\n").unwrap();
    patch(&directory.path().join("after"), change.split(FENCE).next().unwrap());

    let mut parts = page.split("```console\n");
    let mut real = parts.next().unwrap().to_owned();
    let mut commands = 0;
    for part in parts {
        let (block, rest) = part.split_once(FENCE).unwrap();
        let shown = run(directory.path(), block.lines().next().unwrap());
        for text in [FENCE, "console\n", &shown, FENCE, rest] {
            real.push_str(text);
        }
        commands += 1;
    }
    assert_eq!(commands, 7);
    if std::env::var_os("CLINIGATE_WRITE_DOCS").is_some() {
        fs::write(&path, &real).unwrap();
        return;
    }
    let different = page.lines().zip(real.lines()).find(|(page, real)| page != real);
    assert!(
        page == real,
        "docs/mistake.md is not what the commands print, at {different:?}: CLINIGATE_WRITE_DOCS=1 writes it anew"
    );
}
