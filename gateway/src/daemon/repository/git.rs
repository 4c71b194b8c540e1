//! git, started with nothing of the user's or the system's settings, and bounded in time and size.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Access, Location};

/// Bytes of a single file that git may write: a pack holds all that is fetched at once.
const FILE_LIMIT: u64 = 2 << 30;
/// Bytes of git's complaints that are kept.
const WORDS_LIMIT: u64 = 16 << 10;
/// Between the request to end and the end.
const GRACE: Duration = Duration::from_secs(2);
/// What git and its helpers need from outside: where programs are, and how the network is reached.
const PASSED_ON: [&str; 13] = [
    "PATH",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "TZ",
];

/// Why git did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It is not installed, or there are no more processes.
    #[error("git cannot be started")]
    Start(#[source] io::Error),
    /// Its directory cannot be prepared.
    #[error("cannot write {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It took too long, and was ended.
    #[error("git {what} took longer than {} s and was ended", after.as_secs())]
    Slow {
        /// Its subcommand.
        what: String,
        /// What it was given.
        after: Duration,
    },
    /// It said more than it may.
    #[error("git {what} has more to say than is read")]
    TooMuch {
        /// Its subcommand.
        what: String,
    },
    /// It failed.
    #[error("git {what} failed: {said}")]
    Failed {
        /// Its subcommand.
        what: String,
        /// Its own words.
        said: String,
    },
    /// Its answer has another form than its manual says.
    #[error("git {what} gave an answer of an unknown form")]
    Answer {
        /// Its subcommand.
        what: String,
    },
}

/// What a call may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) time: Duration,
    /// Bytes of its output.
    pub(super) output: u64,
}

impl Bounds {
    /// A question to the repository on disk.
    pub(super) const LOCAL: Self = Self { time: Duration::from_secs(30), output: 32 << 20 };
}

/// git on one bare repository.
#[derive(Debug)]
pub(super) struct Git {
    directory: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

impl Git {
    /// git on the bare repository `root/mirror.git`; `root` also has its settings and temporary files.
    pub(super) fn new(root: &Path, location: &Location, access: &Access) -> Result<Self, GitError> {
        for directory in ["home", "tmp"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(|source| GitError::Directory { path, source })?;
        }
        let settings = root.join("gitconfig");
        let text = configuration(location, access);
        if fs::read(&settings).ok().as_deref() != Some(text.as_bytes()) {
            fs::write(&settings, text)
                .map_err(|source| GitError::Directory { path: settings.clone(), source })?;
        }
        let mut environment: Vec<(OsString, OsString)> =
            PASSED_ON.iter().filter_map(|name| Some((OsString::from(name), env::var_os(name)?))).collect();
        let mut set = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            environment.push((name.into(), value.as_ref().to_owned()));
        };
        set("HOME", &root.join("home"));
        set("XDG_CONFIG_HOME", &root.join("home"));
        set("TMPDIR", &root.join("tmp"));
        set("LC_ALL", &"C.UTF-8");
        set("GIT_CONFIG_NOSYSTEM", &"1");
        set("GIT_CONFIG_GLOBAL", &settings);
        set("GIT_ATTR_NOSYSTEM", &"1");
        set("GIT_NO_LAZY_FETCH", &"1");
        set("GIT_NO_REPLACE_OBJECTS", &"1");
        set("GIT_OPTIONAL_LOCKS", &"0");
        // Nobody is there to be asked.
        set("GIT_TERMINAL_PROMPT", &"0");
        set("GIT_ASKPASS", &"false");
        set("SSH_ASKPASS_REQUIRE", &"never");
        set("GIT_SSH_COMMAND", &ssh(access));
        if let Some(keyring) = &access.keyring {
            set("GNUPGHOME", keyring);
        }
        Ok(Self { directory: root.join("mirror.git"), environment })
    }

    /// The bare repository.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What a local question answers.
    pub(super) fn ask(&self, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        self.run(arguments, Vec::new(), Bounds::LOCAL)
    }

    /// As [`Git::ask`], as text without the end of its last line.
    pub(super) fn ask_text(&self, arguments: &[&str]) -> Result<String, GitError> {
        let mut text = String::from_utf8_lossy(&self.ask(arguments)?).into_owned();
        text.truncate(text.trim_end_matches('\n').len());
        Ok(text)
    }

    /// Runs git to its end, with `input` to read.
    pub(super) fn run(
        &self,
        arguments: &[&str],
        input: Vec<u8>,
        bounds: Bounds,
    ) -> Result<Vec<u8>, GitError> {
        let what = arguments.first().copied().unwrap_or_default().to_owned();
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(&self.directory).arg("--literal-pathspecs").args(arguments);
        command.current_dir("/").env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        // SAFETY: `bound` makes two system calls after the fork and neither allocates nor locks. Needed, for
        // limits of a process can be set by itself only.
        unsafe { command.pre_exec(bound) };
        let mut child = command.spawn().map_err(GitError::Start)?;
        let mut stdin = child.stdin.take();
        // Who does not read its input to the end says why on its standard error.
        let writer = thread::spawn(move || stdin.as_mut().map(|pipe| pipe.write_all(&input)).is_some());
        let stdout = gather(child.stdout.take(), bounds.output.saturating_add(1));
        let stderr = gather(child.stderr.take(), WORDS_LIMIT);
        let ended = wait(&mut child, &stdout, bounds);
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        let _ = writer.join();
        match ended {
            Some(status) if status.success() && stdout.len() as u64 <= bounds.output => Ok(stdout),
            _ if stdout.len() as u64 > bounds.output => Err(GitError::TooMuch { what }),
            Some(status) => Err(GitError::Failed { what, said: words(&stderr, status) }),
            None => Err(GitError::Slow { what, after: bounds.time }),
        }
    }
}

/// Settings of the whole: what a repository says about itself cannot go beyond them.
fn configuration(location: &Location, access: &Access) -> String {
    let mut text = String::from(
        "# Written by clinigate at every start.\n\
         [core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\taskPass = false\n\tattributesFile = /dev/null\n\
         [protocol]\n\tallow = never\n[protocol \"ssh\"]\n\tallow = always\n\
         [protocol \"https\"]\n\tallow = always\n[protocol \"file\"]\n\tallow = always\n\
         [http]\n\tfollowRedirects = initial\n\tlowSpeedLimit = 100\n\tlowSpeedTime = 60\n\
         [transfer]\n\tfsckObjects = true\n\tcredentialsInUrl = allow\n\
         [fetch]\n\trecurseSubmodules = false\n\twriteCommitGraph = false\n\
         [gc]\n\tautoDetach = false\n\tpruneExpire = 2.days.ago\n\
         [maintenance]\n\tauto = false\n\
         [gpg]\n\tminTrustLevel = undefined\n\
         [gpg \"x509\"]\n\tprogram = false\n\
         [i18n]\n\tlogOutputEncoding = UTF-8\n",
    );
    // The operator named it; whoever owns its files.
    if let Some(local) = location.local() {
        for path in [local.to_owned(), local.join(".git")] {
            text.extend(["[safe]\n\tdirectory = ", &quoted(&path), "\n"]);
        }
    }
    if let Some(signers) = &access.allowed_signers {
        text.extend(["[gpg \"ssh\"]\n\tallowedSignersFile = ", &quoted(signers), "\n"]);
    }
    if let Some(credentials) = &access.credentials {
        let helper = format!("store --file='{}'", credentials.display().to_string().replace('\'', "'\\''"));
        text.extend(["[credential]\n\thelper = ", &quoted(Path::new(&helper)), "\n"]);
    }
    text
}

/// A value of git's settings.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

/// How ssh is started: it asks nothing, and talks to hosts that are known only.
fn ssh(access: &Access) -> String {
    let word = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
    let mut command =
        "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=20 -o ServerAliveInterval=15"
            .to_owned();
    if let Some(key) = &access.ssh_key {
        command.extend([" -o IdentitiesOnly=yes -i ", &word(key)]);
    }
    if let Some(hosts) = &access.known_hosts {
        command.extend([" -o UserKnownHostsFile=", &word(hosts)]);
    }
    command
}

/// In the child: it ends with the thread that started it, and fills no disk.
fn bound() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    let limit = libc::rlimit { rlim_cur: FILE_LIMIT, rlim_max: FILE_LIMIT };
    // SAFETY: the pointer is to a whole `rlimit` that outlives the call; there is no other way to set it here.
    if unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) } != 0 {
        // A stricter limit holds already, which may not be raised.
        let _stricter = io::Error::last_os_error();
    }
    Ok(())
}

/// Reads a pipe to its end on a thread of its own, and keeps the first `limit` bytes.
fn gather(pipe: Option<impl Read + Send + 'static>, limit: u64) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let Some(mut pipe) = pipe else { return kept };
        if (&mut pipe).take(limit).read_to_end(&mut kept).is_ok() && (kept.len() as u64) < limit {
            return kept;
        }
        // Whatever git writes into a closed pipe would end it without a word.
        let _ = io::copy(&mut pipe.take(64 << 20), &mut io::sink());
        kept
    })
}

/// Waits for the end; `None` where it was ended for taking too long.
fn wait(child: &mut Child, stdout: &JoinHandle<Vec<u8>>, bounds: Bounds) -> Option<ExitStatus> {
    let deadline = Instant::now() + bounds.time;
    let mut pause = Duration::from_millis(1);
    let mut told = false;
    loop {
        match child.try_wait() {
            // Helpers of git may hold its pipes a moment longer.
            Ok(Some(status)) if stdout.is_finished() || Instant::now() >= deadline + GRACE => {
                end(child, Signal::SIGKILL);
                return (!told).then_some(status);
            }
            Err(_) => return None,
            Ok(_) => {}
        }
        if Instant::now() >= deadline && !told {
            // It removes its lock files.
            end(child, Signal::SIGTERM);
            told = true;
        }
        if Instant::now() >= deadline + GRACE {
            end(child, Signal::SIGKILL);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Ends git and the helpers that it has started.
fn end(child: &Child, signal: Signal) {
    if let Ok(id) = i32::try_from(child.id()) {
        // They may have ended already.
        let _ = killpg(Pid::from_raw(id), signal);
    }
}

/// What git says about a failure: its last lines.
fn words(stderr: &[u8], status: ExitStatus) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return status.to_string();
    }
    super::plain(&lines[lines.len().saturating_sub(4)..].join("; "), 600)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn git(root: &Path) -> Git {
        Git::new(root, &"/srv/policy".parse().unwrap(), &Access::default()).unwrap()
    }

    #[test]
    fn it_sees_no_settings_but_ours() {
        let root = tempfile::tempdir().unwrap();
        let git = git(root.path());
        git.ask(&["init", "--bare", "--quiet"]).unwrap();
        let settings = git.ask_text(&["config", "--list", "--show-scope"]).unwrap();
        assert!(settings.lines().all(|line| !line.starts_with("system")), "{settings}");
        for line in ["global\tprotocol.allow=never", "global\tsafe.directory=/srv/policy"] {
            assert!(settings.contains(line), "{settings}");
        }
        assert!(!settings.contains("user.name"), "{settings}");
    }

    #[test]
    fn its_time_and_its_output_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        let git = git(root.path());
        git.ask(&["init", "--bare", "--quiet"]).unwrap();
        let begun = Instant::now();
        let bounds = Bounds { time: Duration::from_millis(100), output: 1 << 20 };
        let slow = git.run(&["-c", "alias.wait=!sleep 60", "wait"], Vec::new(), bounds);
        assert!(matches!(slow, Err(GitError::Slow { .. })), "{slow:?}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        let bounds = Bounds { time: Duration::from_secs(20), output: 100 };
        let long = git.run(&["-c", "alias.say=!yes | head -c 100000", "say"], Vec::new(), bounds);
        assert!(matches!(long, Err(GitError::TooMuch { .. })), "{long:?}");
        let failed = git.ask(&["rev-parse", "--verify", "HEAD"]).unwrap_err().to_string();
        assert!(failed.contains("Needed a single revision"), "{failed}");
    }
}
