//! What a guest gets: its first program, modules, the controller, test programs, tools, and what they read.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::archive::Archive;
use super::kernels::Kernel;
use super::modules;
use super::page::{DOCTOR, DOCTOR_JSON};
use super::programs::Programs;
use crate::faults::programs::VARIABLE as OBJECT;
use crate::process;

/// Commands of the distribution that tests call.
const TOOLS: [&str; 11] = [
    "ip",
    "bridge",
    "tc",
    "ethtool",
    "nft",
    "storescp",
    "storescu",
    "echoscu",
    "dump2dcm",
    "keepalived",
    "grep",
];

/// What git needs to fetch from a folder and to push to one: a shell, and itself by other names.
const BESIDE_GIT: [(&str, &str); 4] = [
    ("sh", "/bin/sh"),
    ("git", "/usr/bin/git"),
    ("git", "/usr/bin/git-upload-pack"),
    ("git", "/usr/bin/git-receive-pack"),
];

/// Not a command, and so not on the search path.
const NETWORKD: &str = "/usr/lib/systemd/systemd-networkd";

/// systemd-networkd becomes another user by itself.
const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nsystemd-network:x:998:998:systemd:/:/usr/sbin/nologin\n";

/// Suites that time what they try, and take so long that one wants to see it.
const ONE_AT_A_TIME: [&str; 1] = ["deployments"];

/// Suites whose tests wait for much of their time: more of them at once than a guest has processors.
const SIDE_BY_SIDE: [&str; 2] = ["dataplane", "forwarding"];

/// Suites that wait for most of their time, and run beside the others.
const BESIDE: [&str; 1] = ["staying_power"];

/// The first looks for crashes of programs that are the same on all kernels, the second loads 64 variants where any three
/// settings meet in twelve: each would take much of its suite's time.
const LEFT_OUT: [&str; 2] = ["a_million_mutated_frames", "all_combinations_of_settings_are_taken"];

/// Folders of the workspace that tests read at run time.
const READ_BY_TESTS: [&str; 2] = ["policies", "tests"];

/// What dcmtk reads.
const DICTIONARIES: &str = "/usr/share";

/// How many times slower than this machine tests take a guest to be (`tests/src/slowness.rs`): more than it is, as others
/// may want this machine's processors too.
const SLOWNESS: u32 = 10;

/// Where the guest's first program finds what it is to do.
const PLAN: &str = "/guest/plan";

/// Writes the first filesystem for a kernel, and returns the modules that the kernel does not have.
pub(super) fn build(
    kernel: &Kernel,
    programs: &Programs,
    arguments: &[String],
    to: &Path,
) -> Result<Vec<&'static str>> {
    let mut image = Image { archive: Archive::create(to)?, libraries: BTreeSet::new() };
    // The kernel opens it for the first program before anything is mounted.
    image.archive.device("/dev/console", (5, 1))?;
    for folder in ["/proc", "/sys", "/run", "/tmp", "/var/lib", "/root"] {
        image.archive.directory(folder)?;
    }
    image.archive.file("/etc/passwd", false, USERS.as_bytes())?;

    let (order, absent) = modules::order(&kernel.modules)?;
    let mut plan = Vec::new();
    for module in &order {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let path = format!("/lib/modules/{}", name.trim_end_matches(".xz"));
        image.archive.file(&path, false, &modules::read(module)?)?;
        plan.push(format!("module\t{path}"));
    }
    for (name, value) in settings() {
        if name == OBJECT {
            image.archive.copy(Path::new(&value), &value)?;
        }
        plan.push(format!("variable\t{name}\t{value}"));
    }
    plan.push(format!("variable\tCLINIGATE_SLOWNESS\t{SLOWNESS}"));
    image.program(&programs.guest, "/init")?;
    let controller = text(&programs.controller_there)?;
    image.program(&programs.controller, &controller)?;
    image.program(&programs.lab, &text(&programs.lab)?)?;
    plan.push(format!("look\t{DOCTOR}\t{controller}\tdoctor"));
    plan.push(format!("look\t{DOCTOR_JSON}\t{controller}\tdoctor\t--format\tjson"));
    // What runs beside others begins before them.
    let is_beside = |(name, _): &&(String, PathBuf)| BESIDE.contains(&name.as_str());
    let first = programs.tests.iter().filter(is_beside);
    for (name, path) in first.chain(programs.tests.iter().filter(|test| !is_beside(test))) {
        let verb = if BESIDE.contains(&name.as_str()) { "beside" } else { "run" };
        let path_there = text(path)?;
        image.program(path, &path_there)?;
        let mut run = vec![verb.to_owned(), name.clone(), path_there];
        run.extend_from_slice(arguments);
        if arguments.is_empty() {
            run.extend(LEFT_OUT.into_iter().flat_map(|test| ["--skip", test]).map(str::to_owned));
        }
        // It also says what it measured.
        run.extend((name == "instructions").then(|| "--nocapture".to_owned()));
        if ONE_AT_A_TIME.contains(&name.as_str()) {
            run.extend(["--test-threads=1", "--nocapture"].map(str::to_owned));
        }
        if SIDE_BY_SIDE.contains(&name.as_str()) {
            run.push("--test-threads=4".to_owned());
        }
        plan.push(run.join("\t"));
    }
    image.archive.file(PLAN, false, plan.join("\n").as_bytes())?;
    let tools = TOOLS.map(|tool| (tool, format!("/usr/bin/{tool}")));
    let git = BESIDE_GIT.map(|(tool, place)| (tool, place.to_owned()));
    for (tool, place) in tools.into_iter().chain(git) {
        let path = process::find(tool).with_context(|| format!("there is no `{tool}` here"))?;
        image.program(&path, &place)?;
    }
    image.program(Path::new(NETWORKD), NETWORKD)?;
    for folder in READ_BY_TESTS {
        image.folder(&process::workspace_root().join(folder))?;
    }
    for entry in fs::read_dir(DICTIONARIES).with_context(|| format!("cannot list {DICTIONARIES}"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libdcmtk")) {
            image.folder(&path)?;
        }
    }
    image.archive.finish()?;
    Ok(absent)
}

/// What the environment tells tests: seeds, amounts, other programs in place of those that are built in.
fn settings() -> impl Iterator<Item = (String, String)> {
    env::vars().filter(|(name, value)| name.starts_with("CLINIGATE_") && !value.contains(['\t', '\n']))
}

struct Image {
    archive: Archive,
    libraries: BTreeSet<String>,
}

impl Image {
    /// A program without what only debuggers read, and the libraries that it is linked with.
    fn program(&mut self, from: &Path, to: &str) -> Result<()> {
        let mut ldd = process::command("ldd");
        for library in libraries(&process::output(ldd.arg(from))?) {
            if self.libraries.insert(library.clone()) {
                self.archive.copy(Path::new(&library), &library)?;
            }
        }
        let name = from.file_name().context("a program has a name")?.to_string_lossy();
        let stripped = process::workspace_root().join(format!("target/vm/{name}.stripped"));
        process::output(process::command("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(from))?;
        self.archive.copy(&stripped, to)?;
        fs::remove_file(&stripped).with_context(|| format!("cannot remove {}", stripped.display()))
    }

    /// A folder with all that is in it, at its own place, without Rust's sources.
    fn folder(&mut self, from: &Path) -> Result<()> {
        let failed = || format!("cannot list {}", from.display());
        for entry in fs::read_dir(from).with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            if path.is_dir() {
                self.folder(&path)?;
            } else if path.extension().is_none_or(|extension| extension != "rs") {
                self.archive.copy(&path, &text(&path)?)?;
            }
        }
        self.archive.directory(&text(from)?)
    }
}

/// The paths in the output of `ldd`: of libraries (`name => path (address)`) and of the loader (`path (address)`).
fn libraries(ldd: &str) -> Vec<String> {
    let paths = ldd.lines().filter_map(|line| {
        let line = line.split_once(" => ").map_or(line, |(_, path)| path).trim();
        let path = line.split(" (").next()?;
        path.starts_with('/').then(|| path.to_owned())
    });
    paths.collect()
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is no text", path.display()))?;
    ensure!(!text.contains(['\t', '\n']), "{text} has a tab or a line's end in it");
    Ok(text.to_owned())
}

/// Where the image of a kernel is written.
pub(super) fn path(kernel: &Kernel) -> PathBuf {
    process::workspace_root().join(format!("target/vm/{}.cpio", kernel.release))
}

#[cfg(test)]
mod tests {
    use super::libraries;

    #[test]
    fn libraries_and_the_loader_are_found() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(libraries(ldd), ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(libraries("\tstatically linked\n").is_empty());
    }
}
