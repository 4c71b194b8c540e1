//! The first program of a virtual machine (`cargo xtask vm`): mounts what a system has, loads the kernel's modules,
//! runs the test programs of its plan one after the other, says how each ended, and turns the machine off.
//!
//! What it says itself begins with `@guest`: that is what the other side reads the verdict from. Whatever ends it
//! early ends the machine without a verdict, and that is a failure.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::utsname::uname;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

/// Lines of words with tabs between: `module PATH`, `variable NAME VALUE`, `look NAME PROGRAM ARGUMENT...`,
/// `run NAME PROGRAM ARGUMENT...`.
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
    let mut variables = vec![("PATH", "/usr/bin"), ("HOME", "/root"), ("RUST_BACKTRACE", "1")];
    for line in plan.lines() {
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            ["module", path] => load(Path::new(path)).with_context(|| format!("cannot load {path}"))?,
            ["variable", name, value] => variables.push((name, value)),
            ["look", name, program, arguments @ ..] => look(name, program, arguments, &variables)?,
            ["run", name, program, arguments @ ..] => {
                passed &= execute(name, program, arguments, &variables)?;
            }
            _ => anyhow::bail!("the plan has a line of another form: {line}"),
        }
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
fn execute(name: &str, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<bool> {
    say(&format!("begin {name}"));
    let began = Instant::now();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(variables.iter().copied());
    let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let child = Pid::from_raw(child.id().cast_signed());
    // The first program of a system is the parent of everybody whose own is gone.
    let passed = loop {
        match wait()? {
            WaitStatus::Exited(process, code) if process == child => break code == 0,
            WaitStatus::Signaled(process, signal, _) if process == child => {
                say(&format!("error {name} was ended by {signal}"));
                break false;
            }
            _ => {}
        }
    };
    let word = if passed { "passed" } else { "failed" };
    say(&format!("end {name} {word} {:.1}", began.elapsed().as_secs_f64()));
    Ok(passed)
}

/// One line of our own, whatever stands at the end of the console.
fn say(words: &str) {
    eprintln!("\n@guest {words}");
}
