//! What became of a commit, told to others: a file, and a command of the operator's.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, error, warn};

use super::super::status::RepositoryStatus;
use super::Service;
use super::follow::Following;
use crate::dataplane;

/// How long the command may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl Service {
    /// Tells of the repository's status, where somebody wants to hear of it.
    pub(super) fn announce(&self, following: &Following) {
        let status = following.status();
        let Ok(mut text) = serde_json::to_vec_pretty(&status) else { return };
        text.push(b'\n');
        if let Some(path) = following.status_file()
            && let Err(error) = dataplane::replace_file(path, &text)
        {
            self.metrics.rollout.state_not_written();
            error!(path = %path.display(), %error, "cannot write the status file");
        }
        if let Some(command) = following.hook() {
            run(command.to_owned(), status, text);
        }
    }
}

/// Runs the command on a thread of its own: nothing waits for it, and what it does wrong is only logged.
fn run(command: std::path::PathBuf, status: RepositoryStatus, text: Vec<u8>) {
    thread::spawn(move || match call(&command, &status, &text) {
        Ok(()) => debug!(command = %command.display(), "the hook was told"),
        Err(error) => warn!(command = %command.display(), error, "the hook was not told"),
    });
}

fn call(command: &Path, status: &RepositoryStatus, text: &[u8]) -> Result<(), String> {
    let Some(head) = &status.head else { return Ok(()) };
    let mut child = Command::new(command)
        .env("CLINIGATE_COMMIT", &head.commit.id)
        .env("CLINIGATE_STATE", head.state.name())
        .env("CLINIGATE_REASONS", head.reasons.join(" "))
        .env("CLINIGATE_MESSAGE", head.message.as_deref().unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read is fine.
        let _ = stdin.write_all(text);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it took longer than {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
