//! The first program of a virtual machine (`cargo xtask vm`): mounts what a system has, loads the kernel's modules,
//! runs the test programs of its plan one after the other, says how each ended, and turns the machine off.
//!
//! What it says itself begins with `@guest`: that is what the other side reads the verdict from. Whatever ends it
//! early ends the machine without a verdict, and that is a failure.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::utsname::uname;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

/// Lines of words with tabs between: `module PATH`, `variable NAME VALUE`, `look NAME PROGRAM ARGUMENT...`,
/// `run NAME PROGRAM ARGUMENT...`, and `beside NAME PROGRAM ARGUMENT...` for what runs beside all that follows.
const PLAN: &str = "/guest/plan";

// Not /tmp: the workspace may stand there, and all of this is in memory anyway.
const MOUNTS: [(&str, &str); 5] =
    [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("bpf", "/sys/fs/bpf")];

fn main() {
    if std::process::id() != 1 {
        eprintln!("this is the first program of a virtual machine: cargo xtask vm");
        std::process::exit(2);
    }
    match run() {
        Ok(true) => say("verdict passed"),
        Ok(false) => say("verdict failed"),
        Err(error) => {
            say(&format!("error {error:#}"));
            say("verdict failed");
        }
    }
    // SAFETY: takes nothing; what the disks have not written does not matter, there are none.
    unsafe { libc::sync() };
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    say(&format!("error cannot turn the machine off: {error}"));
}

/// Whether all programs of the plan ended well.
fn run() -> Result<bool> {
    for (kind, at) in MOUNTS {
        fs::create_dir_all(at).with_context(|| format!("cannot create {at}"))?;
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {at}"))?;
    }
    let plan = fs::read_to_string(PLAN).with_context(|| format!("cannot read {PLAN}"))?;
    say(&format!("kernel {}", uname()?.release().display()));
    let mut passed = true;
    let mut beside = Vec::new();
    let mut variables = vec![("PATH", "/usr/bin"), ("HOME", "/root"), ("RUST_BACKTRACE", "1")];
    for line in plan.lines() {
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            ["module", path] => load(Path::new(path)).with_context(|| format!("cannot load {path}"))?,
            ["variable", name, value] => variables.push((name, value)),
            ["look", name, program, arguments @ ..] => look(name, program, arguments, &variables)?,
            ["run", name, program, arguments @ ..] => {
                passed &= execute(name, program, arguments, &variables, &mut beside)?;
            }
            ["beside", name, program, arguments @ ..] => {
                beside.push(Beside::start(name, program, arguments, &variables)?);
            }
            _ => anyhow::bail!("the plan has a line of another form: {line}"),
        }
    }
    while let Some(program) = beside.pop() {
        passed &= program.end(&mut beside)?;
    }
    Ok(passed)
}

fn load(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    Ok(nix::kmod::finit_module(&file, &CString::default(), nix::kmod::ModuleInitFlags::empty())?)
}

/// Shows what a program says on standard output, between two lines of our own; its code is for others to judge.
fn look(name: &str, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(variables.iter().copied());
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    let code = output.status.code().unwrap_or(-1);
    say(&format!("look {name} {code}"));
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    say(&format!("looked {name}"));
    Ok(())
}

/// Runs a program to its end, with its output on the console; whether it says that all is well.
fn execute(
    name: &str,
    program: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
    beside: &mut [Beside],
) -> Result<bool> {
    say(&format!("begin {name}"));
    let began = Instant::now();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(variables.iter().copied());
    let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let ended = wait_for(Pid::from_raw(child.id().cast_signed()), beside)?;
    Ok(tell_end(name, &ended, began))
}

/// A program that runs while others do. Its output comes as it is made, each line with its name before it; the lines that say
/// how its tests went come once more at its end, as if it had run then.
struct Beside {
    name: String,
    process: Pid,
    began: Instant,
    results: Receiver<String>,
    ended: Option<(WaitStatus, Instant)>,
}

impl Beside {
    fn start(name: &str, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(variables.iter().copied());
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        // It has our ends for writing: the lines end with those that have them from the program.
        drop(command);
        let (sender, results) = mpsc::channel();
        let prefix = name.to_owned();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(io::Result::ok) {
                eprintln!("{prefix}: {line}");
                if line.starts_with("test result: ") && sender.send(line).is_err() {
                    return;
                }
            }
        });
        let process = Pid::from_raw(child.id().cast_signed());
        Ok(Self { name: name.to_owned(), process, began: Instant::now(), results, ended: None })
    }

    /// Waits for its end; whether it says that all is well.
    fn end(mut self, others: &mut [Self]) -> Result<bool> {
        let (status, at) = match self.ended.take() {
            Some(ended) => ended,
            None => (wait_for(self.process, others)?, Instant::now()),
        };
        say(&format!("begin {}", self.name));
        // What it started may hold its output open.
        while let Ok(line) = self.results.recv_timeout(Duration::from_secs(2)) {
            eprintln!("{line}");
        }
        // As long as it took, and not until now.
        let began = self.began + at.elapsed();
        Ok(tell_end(&self.name, &status, began))
    }
}

/// Waits for a process, and keeps what becomes of others.
fn wait_for(child: Pid, beside: &mut [Beside]) -> Result<WaitStatus> {
    loop {
        // The first program of a system is the parent of everybody whose own is gone.
        let status = wait()?;
        if status.pid() == Some(child)
            && !matches!(status, WaitStatus::Stopped(..) | WaitStatus::Continued(_))
        {
            return Ok(status);
        }
        if let Some(other) = beside.iter_mut().find(|other| status.pid() == Some(other.process)) {
            other.ended = Some((status, Instant::now()));
        }
    }
}

/// Says how a program ended, and how long it took; whether all is well.
fn tell_end(name: &str, status: &WaitStatus, began: Instant) -> bool {
    if let WaitStatus::Signaled(_, signal, _) = status {
        say(&format!("error {name} was ended by {signal}"));
    }
    let passed = matches!(status, WaitStatus::Exited(_, 0));
    let word = if passed { "passed" } else { "failed" };
    say(&format!("end {name} {word} {:.1}", began.elapsed().as_secs_f64()));
    passed
}

/// One line of our own, whatever stands at the end of the console.
fn say(words: &str) {
    eprintln!("\n@guest {words}");
}
