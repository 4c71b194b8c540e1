//! Which commit a policy's text came from.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::git;

/// A directory of text answers in milliseconds; a stuck file system must not hold up a change.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of git's output that are read.
const OUTPUT_LIMIT: u64 = 64 * 1024;

/// The commit that is checked out in `dir`, followed by `+changes` where files in it differ from
/// the commit; `None` where `dir` is no work tree of git, or git does not answer. Git itself
/// refuses to read repositories of other users.
pub(super) fn of(dir: &Path) -> Option<String> {
    let head = git(dir, &["rev-parse", "--verify", "--quiet", "HEAD"])?;
    let head = head.trim();
    if head.is_empty() || !head.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let differences = git(dir, &["status", "--porcelain", "--untracked-files=normal", "--", "."])?;
    Some(if differences.is_empty() { head.to_owned() } else { format!("{head}+changes") })
}

/// What git prints; `None` where it fails or takes too long.
fn git(dir: &Path, arguments: &[&str]) -> Option<String> {
    let mut child = git::command(dir, arguments).stderr(Stdio::null()).spawn().ok()?;
    let mut stdout = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        // A list of a million differing files is as good as one.
        let _ = (&mut stdout).take(OUTPUT_LIMIT).read_to_string(&mut text);
        text
    });
    let deadline = Instant::now() + PATIENCE;
    while !reader.is_finished() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let text = reader.join().ok()?;
    // The reader may have heard enough before git had said all; then git ends by the closed pipe.
    let status = child.wait().ok()?;
    (status.success() || !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::fs;

    use super::*;

    fn run(dir: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
        let status = std::process::Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(identity)
            .args(arguments)
            .status()
            .unwrap();
        assert!(status.success(), "git {arguments:?}");
    }

    #[test]
    fn the_commit_of_a_work_tree_and_whether_it_was_changed() {
        let tree = tempfile::tempdir().unwrap();
        let policy = tree.path().join("policy");
        fs::create_dir(&policy).unwrap();
        assert_eq!(of(&policy), None, "no work tree");
        run(tree.path(), &["init", "--quiet"]);
        assert_eq!(of(&policy), None, "no commit yet");
        fs::write(policy.join("a.yaml"), "segments: {}").unwrap();
        run(tree.path(), &["add", "."]);
        run(tree.path(), &["commit", "--quiet", "--message", "first"]);
        let commit = of(&policy).unwrap();
        assert_eq!(commit.len(), 40, "{commit}");
        fs::write(tree.path().join("elsewhere"), "").unwrap();
        assert_eq!(of(&policy).unwrap(), commit, "other directories do not matter");
        fs::write(policy.join("b.yaml"), "").unwrap();
        assert_eq!(of(&policy).unwrap(), format!("{commit}+changes"));
    }

    #[test]
    fn no_directory_has_no_commit() {
        assert_eq!(of(Path::new("/nonexistent")), None);
    }
}
