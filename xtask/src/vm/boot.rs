//! One boot of a guest: its console passed on as it comes, its verdict taken from there.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::cards::Cable;
use super::kernels::Kernel;
use crate::process;
use crate::test::Total;

/// What the guest's first program puts before what it says itself (`tests/src/bin/clinigate-guest`).
const GUEST: &str = "@guest ";

/// What the test that measures programs puts before their sizes (`tests/tests/instructions.rs`).
const SIZES: &str = "@sizes ";

const QEMU: &str = "qemu-system-x86_64";

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed,
    /// The guest did not get to the end of its plan: it panicked, or qemu failed.
    Broken,
    /// It was ended by us.
    TimedOut,
}

/// One test program in a guest.
#[derive(Debug, PartialEq)]
pub(super) struct Ran {
    pub(super) suite: String,
    pub(super) total: Total,
    pub(super) seconds: f64,
    /// It ended by itself and said that all is well.
    pub(super) success: bool,
}

/// What came of a boot.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// It died of the emulation, not of what ran in it, see [`BOOTS`].
    pub(super) by_emulation: bool,
    pub(super) ran: Vec<Ran>,
    /// What programs that only look said, by name.
    pub(super) looks: BTreeMap<String, String>,
    /// The sizes of the programs, as JSON, where the test that measures them ran.
    pub(super) sizes: Option<String>,
    pub(super) duration: Duration,
}

/// Boots of a kernel, at most. A kernel patches its own code while it starts, and whenever an XDP program is attached
/// (`bpf_dispatcher_xdp_func`), with an int3 in between; and the emulated processors of qemu before 8.1 are not always told in
/// time that it is gone (mended by its commit deba78709a). No program of ours can put one there: a guest that dies of it is
/// booted again, and so is one that dies before its first program said a word.
const BOOTS: u32 = 3;

/// Boots a kernel with this first filesystem and waits until it is off, for `limit` at most; again where it dies of the emulation.
pub(super) fn boot(kernel: &Kernel, filesystem: &Path, limit: Duration) -> Result<Outcome> {
    for _ in 1..BOOTS {
        match boot_once(kernel, filesystem, limit)? {
            Outcome { by_emulation: true, duration, .. } => {
                let seconds = duration.as_secs();
                eprintln!(
                    "vm: Linux {} died of the emulation after {seconds} s: it boots again",
                    kernel.release
                );
            }
            outcome => return Ok(outcome),
        }
    }
    boot_once(kernel, filesystem, limit)
}

fn boot_once(kernel: &Kernel, filesystem: &Path, limit: Duration) -> Result<Outcome> {
    let began = Instant::now();
    let mut guest =
        Guest(command(kernel, filesystem).spawn().with_context(|| format!("cannot start {QEMU}"))?);
    let console = guest.0.stdout.take().context("it was asked for a line above")?;
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut console = BufReader::new(console);
        let mut line = Vec::new();
        while console.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
            line.clear();
        }
    });
    let mut console = Console::default();
    let verdict = loop {
        let Some(patience) = limit.checked_sub(began.elapsed()) else { break Verdict::TimedOut };
        match lines.recv_timeout(patience) {
            Ok(line) => {
                writeln!(io::stdout(), "[{}] {line}", kernel.asked)?;
                console.take(&line);
            }
            Err(RecvTimeoutError::Timeout) => break Verdict::TimedOut,
            Err(RecvTimeoutError::Disconnected) => break console.verdict.unwrap_or(Verdict::Broken),
        }
    };
    drop(guest);
    // It ends with the pipe.
    let _ = reader.join();
    let by_emulation = verdict == Verdict::Broken && (!console.begun || console.int3);
    let Console { ran, looks, sizes, .. } = console;
    Ok(Outcome { verdict, by_emulation, ran, looks, sizes, duration: began.elapsed() })
}

fn command(kernel: &Kernel, filesystem: &Path) -> Command {
    // It goes with us, also where we are killed.
    let cable = Cable::find();
    if cable == Cable::Qemu {
        eprintln!("vm: network cards with one queue: several take root, tap devices and nftables here");
    }
    let around = cable.around(QEMU);
    let mut qemu = process::command("setpriv");
    qemu.args(["--pdeathsig", "KILL", "--"]).arg(around.get_program()).args(around.get_args());
    // Emulated: it runs wherever this runs, also within another virtual machine.
    qemu.args(["-accel", "tcg,thread=multi", "-machine", "q35", "-smp", "2", "-m", "3072"]);
    // Every processor that qemu can emulate, but for some things: five levels of page tables cost time; qemu 7.2
    // gets the exchange of 16 bytes wrong where an interrupt comes in between; and where a processor says that it copies
    // bytes fast (erms, fsrm), kernel and libc have it do so byte by byte, which the emulation does: all takes twice as long.
    qemu.args(["-cpu", "max,la57=off,cx16=off,erms=off,fsrm=off"]);
    qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    // A network card whose other end nobody has.
    qemu.args(["-netdev", "hubport,id=alone,hubid=0", "-device", "virtio-net-pci,netdev=alone"]);
    qemu.args(cable.arguments());
    qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(filesystem);
    // A panic reboots at once, which `-no-reboot` makes an end. Linux 6.1 does not trust the emulated counter and would take a
    // clock of which each reading is emulated anew.
    qemu.args(["-append", "console=ttyS0 panic=-1 loglevel=5 tsc=reliable rdinit=/init"]);
    qemu.stdout(Stdio::piped());
    qemu
}

/// A running qemu; ended when this is dropped.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was read from the console so far.
#[derive(Debug, Default)]
struct Console {
    /// Its first program said something.
    begun: bool,
    /// The kernel met a breakpoint instruction that it does not know.
    int3: bool,
    suite: Option<(String, Total)>,
    ran: Vec<Ran>,
    look: Option<(String, String)>,
    looks: BTreeMap<String, String>,
    sizes: Option<String>,
    verdict: Option<Verdict>,
}

impl Console {
    fn take(&mut self, line: &str) {
        // `die("int3", ..)`, lately with `Oops: ` before it.
        self.int3 |= line.starts_with('[') && line.contains(" int3: 0000 [#1]");
        if let Some((_, total)) = &mut self.suite {
            total.add(line);
        }
        if let Some(sizes) = line.strip_prefix(SIZES) {
            self.sizes = Some(sizes.to_owned());
        }
        let Some(words) = line.strip_prefix(GUEST) else {
            if let Some((_, text)) = &mut self.look {
                text.push_str(line);
                text.push('\n');
            }
            return;
        };
        self.begun = true;
        match words.split(' ').collect::<Vec<_>>().as_slice() {
            ["look", name, _] => self.look = Some(((*name).to_owned(), String::new())),
            ["looked", _] => {
                let look = self.look.take().map(|(name, text)| (name, text.trim().to_owned()));
                self.looks.extend(look);
            }
            ["begin", suite] => self.suite = Some(((*suite).to_owned(), Total::default())),
            ["end", _, status, seconds] => {
                if let Some((suite, total)) = self.suite.take() {
                    let success = *status == "passed";
                    self.ran.push(Ran {
                        suite,
                        total,
                        seconds: seconds.parse().unwrap_or_default(),
                        success,
                    });
                }
            }
            ["verdict", verdict] => {
                self.verdict = Some(if *verdict == "passed" { Verdict::Passed } else { Verdict::Failed });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Console {
        let mut console = Console::default();
        text.lines().for_each(|line| console.take(line));
        console
    }

    #[test]
    fn a_verdict_is_read_with_what_ran() {
        let console = read(
            "[    1.0] a kernel's word\n@guest begin packets\ntest a ... ok\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.1s\n\
             @guest end packets passed 12.5\n@guest verdict passed\n",
        );
        let total = Total { passed: 3, failed: 0, ignored: 1 };
        let packets = Ran { suite: "packets".to_owned(), total, seconds: 12.5, success: true };
        assert_eq!(console.ran, [packets]);
        assert_eq!(console.verdict, Some(Verdict::Passed));
    }

    #[test]
    fn looks_and_sizes_are_kept() {
        let console = read(
            "\n@guest look doctor 1\n{\n  \"a\": 1\n}\n\n@guest looked doctor\n@guest begin instructions\n@sizes {}\n",
        );
        assert_eq!(console.looks["doctor"], "{\n  \"a\": 1\n}");
        assert_eq!(console.sizes.as_deref(), Some("{}"));
    }

    #[test]
    fn without_a_word_of_the_guest_there_is_no_verdict() {
        let console = read("@guest begin packets\nKernel panic - not syncing\nverdict passed\n");
        assert_eq!(console.verdict, None);
        assert!(console.ran.is_empty());
        assert!(
            console.begun && !read("Kernel panic - not syncing\n").begun,
            "what died before it is booted again"
        );
        assert!(!console.int3);
        for line in ["[  244.18] Oops: int3: 0000 [#1] SMP NOPTI", "[    3.09] int3: 0000 [#1] PREEMPT SMP"] {
            assert!(read(&format!("@guest begin packets\n{line}\nKernel panic - not syncing\n")).int3);
        }
        assert!(!read("test int3: 0000 [#1]\n").int3, "only the kernel says so");
    }
}
