//! A policy's directory as it was at a revision of git.

use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::{env, fs, process};

use anyhow::{Context, bail, ensure};

use crate::git;

/// Bytes of one listing or file that are read from git.
const OUTPUT_LIMIT: u64 = 64 << 20;

/// A directory that is removed again.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        for attempt in 0..1000 {
            let path = env::temp_dir().join(format!("clinigate-plan-{}-{attempt}", process::id()));
            // It is ours, or it is not made: what others put there is never read.
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        bail!("there is no free name for a temporary directory")
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left in a temporary directory does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The files of `directory` at `revision`, in a directory of their own.
pub(super) fn checked_out(directory: &Path, revision: &str) -> anyhow::Result<Scratch> {
    let verify = ["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")];
    let commit = git(directory, &verify).with_context(|| format!("git knows no revision {revision} here"))?;
    let commit = String::from_utf8(commit).context("git names commits in hexadecimal")?;
    let commit = commit.trim();
    let listing = git(directory, &["ls-tree", "-r", "-z", commit, "--", "."])?;
    let scratch = Scratch::new()?;
    for entry in listing.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        let entry = std::str::from_utf8(entry).context("the name of a file of a policy must be UTF-8")?;
        let (about, name) = entry.split_once('\t').context("git's listing has a form of its own")?;
        let is_policy = [".yaml", ".yml"].iter().any(|end| name.ends_with(end));
        let mut about = about.split(' ');
        let (Some(mode), Some("blob"), Some(object)) = (about.next(), about.next(), about.next()) else {
            continue;
        };
        if !is_policy {
            continue;
        }
        ensure!(mode.starts_with("100"), "{name} is a link at {revision}: links are not followed");
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(plain, "{name} leads out of the policy's directory");
        let path = scratch.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create_new(&path)?.write_all(&git(directory, &["cat-file", "blob", object])?)?;
    }
    Ok(scratch)
}

fn git(directory: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut child = git::command(directory, arguments).spawn().context("git cannot be started")?;
    let mut output = Vec::new();
    let stdout = child.stdout.take().context("git's output is piped")?;
    stdout.take(OUTPUT_LIMIT).read_to_end(&mut output)?;
    let status = child.wait()?;
    ensure!(status.success(), "git {} failed", arguments.first().unwrap_or(&""));
    Ok(output)
}
