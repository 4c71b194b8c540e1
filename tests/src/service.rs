//! The real `clinigate`, run in the gateway's namespace.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::hospital::Hospital;
use crate::metrics::{self, Metrics};
use crate::namespace::{Namespace, Process, tool};
use crate::run::Run;
use crate::slowness::unhurried;

/// Where the service answers in its namespace.
pub fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9469))
}

/// How long the service may take to be ready.
const READY: Duration = Duration::from_mins(1);

/// Finds the program `clinigate` beside the one that runs, or one folder up, where the tests' own
/// programs lie below it.
pub fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found =
        own.ancestors().skip(1).take(2).map(|folder| folder.join("clinigate")).find(|path| path.is_file());
    found.context("no program `clinigate` beside this one: build it first (cargo build --package clinigate)")
}

/// Everything that the service needs to know about its surroundings: the same for each of its
/// processes in one hospital.
#[derive(Clone, Debug)]
pub struct Setting {
    binary: PathBuf,
    gateway: Namespace,
    directory: PathBuf,
    pin_root: PathBuf,
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    setting: Setting,
    process: Process,
}

impl Setting {
    /// The service of this hospital's gateway.
    pub fn new(hospital: &Hospital, binary: PathBuf) -> Self {
        Self::at(&hospital.gateway, hospital.run(), binary)
    }

    /// The service of any gateway of a run.
    pub fn at(gateway: &Namespace, run: &Run, binary: PathBuf) -> Self {
        Self {
            binary,
            gateway: gateway.clone(),
            directory: run.directory().to_owned(),
            pin_root: run.bpffs().join("clinigate"),
        }
    }

    /// Another service in the same namespace, with pins, state and socket of its own.
    #[must_use]
    pub fn foreign(&self, name: &str) -> Self {
        Self {
            directory: self.directory.join(name),
            pin_root: self.pin_root.with_file_name(name),
            ..self.clone()
        }
    }

    /// Starts it with a policy and waits until it is ready.
    pub fn start(&self, policy: &Path) -> Result<Service> {
        let mut service = self.start_unready(policy)?;
        service.wait_ready(unhurried(READY))?;
        Ok(service)
    }

    /// Starts it with a policy.
    pub fn start_unready(&self, policy: &Path) -> Result<Service> {
        self.run(["--policy".as_ref(), policy.as_os_str()])
    }

    /// Starts it with these options beside those about its surroundings.
    pub fn run<'a>(&self, options: impl IntoIterator<Item = &'a OsStr>) -> Result<Service> {
        fs::create_dir_all(&self.directory)?;
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = self.command(&["run"]);
        command.args(options).arg("--metrics").arg(address().to_string());
        command.stdout(log.try_clone()?).stderr(log);
        Ok(Service { setting: self.clone(), process: Process::start(&mut command)? })
    }

    /// Runs one of its subcommands to its end and returns what it printed.
    pub fn call(&self, arguments: &[&str]) -> Result<String> {
        tool(&mut self.command(arguments))
    }

    /// What to type to run one of its subcommands.
    pub fn spell(&self, arguments: &str) -> String {
        format!(
            "nsenter --net={} {} {arguments} --pin-root {} --state-dir {} --socket {}",
            self.gateway.path().display(),
            self.binary.display(),
            self.pin_root.display(),
            self.directory.join("state").display(),
            self.directory.join("socket").display()
        )
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.directory.join("clinigate.log")
    }

    /// Its metrics.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::read(&self.gateway, address())
    }

    /// One of its subcommands, ready to run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.gateway.command(&self.binary);
        command.args(arguments).arg("--pin-root").arg(&self.pin_root);
        command.arg("--state-dir").arg(self.state());
        command.arg("--socket").arg(self.socket());
        command
    }

    /// The program itself, in the gateway's namespace, for subcommands that ask no service.
    pub fn binary_command(&self) -> Command {
        self.gateway.command(&self.binary)
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }
}

impl Service {
    /// Waits until it ends by itself; what it said is the error.
    pub fn wait_refused(&mut self, patience: Duration) -> Result<String> {
        let until = Instant::now() + patience;
        loop {
            match self.process.child().try_wait()? {
                Some(status) if status.success() => bail!("clinigate ended without an error"),
                Some(_) => return Ok(self.log_tail()),
                None if Instant::now() > until => bail!("clinigate runs; its log:\n{}", self.log_tail()),
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Waits until `/healthz` says that it is ready.
    pub fn wait_ready(&mut self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.process.child().try_wait()? {
                bail!("clinigate ended ({status}) before it was ready; its log:\n{}", self.log_tail());
            }
            if let Ok((200, _)) = metrics::get(&self.setting.gateway, address(), "/healthz") {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("clinigate is not ready after {patience:?}; its log:\n{}", self.log_tail());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()
    }

    /// Tells it to end (SIGTERM), and waits for that.
    pub fn end(mut self) -> Result<()> {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM)?;
        self.process.child().wait()?;
        Ok(())
    }

    /// Asks it to read its policy again (SIGHUP).
    pub fn reload(&self) -> Result<()> {
        Ok(kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGHUP)?)
    }

    /// What it runs with.
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// Last lines of its log, but for the records of single flows.
    pub fn log_tail(&self) -> String {
        let read = File::open(self.setting.log()).and_then(std::io::read_to_string);
        let text = read.unwrap_or_default();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('{')).collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}
