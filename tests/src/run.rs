//! One run of the lab: its prefix for namespaces, its scratch directory, its own bpffs, and the
//! removal of all of them, also after a panic, a signal, or (by a later run) a `kill -9`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, Signal};

use crate::namespace::Namespace;

const PREFIX: &str = "cg-";
const NAMESPACES: &str = "/run/netns";

/// One run of the lab. Dropping it removes all that it made.
#[derive(Debug)]
pub struct Run {
    prefix: String,
    directory: PathBuf,
}

impl Run {
    /// Makes the scratch directory and mounts a bpffs in it.
    ///
    /// # Errors
    /// Where the process is not root, or the kernel refuses the mount.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            bail!("the lab makes network namespaces and loads XDP programs: run it as root");
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}-", std::process::id());
        let directory = std::env::temp_dir().join(prefix.trim_end_matches('-'));
        let run = Self { prefix, directory };
        fs::create_dir_all(run.bpffs())
            .with_context(|| format!("cannot make the scratch directory {}", run.directory.display()))?;
        mount(Some("bpf"), &run.bpffs(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("cannot mount a bpffs of the lab's own")?;
        Ok(run)
    }

    /// A new namespace of this run.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(format!("{}{name}", self.prefix))
    }

    /// The scratch directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where this run's own bpffs is mounted.
    pub fn bpffs(&self) -> PathBuf {
        self.directory.join("bpf")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Scratch that is still there hinders nobody; the next `clean` takes it.
        let _ = remove(&self.prefix, &self.directory);
    }
}

/// Removes what runs of processes that are no more left behind, and returns their names.
pub fn clean() -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for directory in [Path::new(NAMESPACES), &std::env::temp_dir()] {
        for name in names_of_runs(directory) {
            let Some(process) = process_of(&name) else { continue };
            if !Path::new("/proc").join(process.to_string()).exists() {
                let run = name.splitn(4, '-').take(3).collect::<Vec<_>>().join("-");
                remove(&format!("{run}-"), &std::env::temp_dir().join(&run))?;
                removed.push(run);
            }
        }
    }
    removed.sort();
    removed.dedup();
    Ok(removed)
}

/// Removes what this process made when it panics, is interrupted (ctrl-c) or told to end. Call it
/// once, before any thread starts: signals are blocked in all of them.
pub fn clean_on_exit() -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().context("cannot block signals")?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        if let Ok(signal) = signals.wait() {
            clean_own();
            std::process::exit(128 + signal as i32);
        }
    })?;
    // Panics abort in this workspace: no destructor runs after one.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        clean_own();
    }));
    Ok(())
}

fn clean_own() {
    let own = format!("{PREFIX}{}-", std::process::id());
    for directory in [Path::new(NAMESPACES), &std::env::temp_dir()] {
        for name in names_of_runs(directory).into_iter().filter(|name| name.starts_with(&own)) {
            let run = name.splitn(4, '-').take(3).collect::<Vec<_>>().join("-");
            let _ = remove(&format!("{run}-"), &std::env::temp_dir().join(&run));
        }
    }
}

fn names_of_runs(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| process_of(name).is_some())
        .collect()
}

/// The process that made a thing of this name: `cg-<process>-<number>[-<rest>]`.
fn process_of(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let process = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    Some(process)
}

fn remove(prefix: &str, directory: &Path) -> Result<()> {
    if let Ok(entries) = fs::read_dir(NAMESPACES) {
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            if name.starts_with(prefix) {
                // It may be gone already, removed by its owner.
                let _ = Command::new("ip").args(["netns", "delete", &name]).output();
            }
        }
    }
    // Some tests put the service's state onto a small disk of its own.
    for mounted in ["bpf", "state"] {
        while umount2(&directory.join(mounted), MntFlags::MNT_DETACH).is_ok() {}
    }
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove the scratch directory {}", directory.display()))?;
    }
    Ok(())
}
