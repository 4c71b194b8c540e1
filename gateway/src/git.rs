//! How git is asked: always the same way, and never by what a repository's own settings would start.

use std::path::Path;
use std::process::{Command, Stdio};

/// git with `arguments` in `directory`, its output piped and nothing to read.
pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git
        // Settings of the repository that would start programs are none of ours.
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C"])
        .arg(directory)
        .args(arguments)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    git
}
