//! Network namespaces: made, entered, wired together, removed.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};

use crate::slowness::unhurried;

/// A named network namespace (as `ip netns` makes them). The last clone removes it.
#[derive(Clone, Debug)]
pub struct Namespace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // It may be gone already, removed together with its run.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).stderr(Stdio::null()).status();
    }
}

impl Namespace {
    /// Makes a namespace with loopback up and nothing that speaks by itself: no duplicate
    /// address detection, no router solicitation.
    pub fn create(name: String) -> Result<Self> {
        tool(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { inner: Arc::new(Inner { name }) };
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
            namespace.sysctl(&format!("ipv6/conf/{scope}/accept_ra"), "0")?;
            namespace.sysctl(&format!("ipv6/conf/{scope}/router_solicitations"), "0")?;
            // The lab sends spoofed packets on purpose: the judge is Clinigate, not this filter.
            namespace.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
        }
        namespace.batch(&["link set lo up".to_owned()])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its file, which `setns` takes.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.name())
    }

    /// Whether both are the same namespace.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Sets `net/<key>`, for example `ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let (file, text) = (format!("/proc/sys/net/{key}"), value.to_owned());
        let write = self.run(move || fs::write(&file, text).with_context(|| format!("cannot set {file}")));
        write?.with_context(|| format!("in namespace {}", self.name()))
    }

    /// Runs lines of `ip -batch` inside.
    #[expect(clippy::missing_panics_doc, reason = "its standard input is a pipe")]
    pub fn batch(&self, lines: &[String]) -> Result<()> {
        let mut ip =
            self.command("ip").args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let text = lines.join("\n") + "\n";
        ip.stdin.take().expect("piped above").write_all(text.as_bytes())?;
        let output = ip.wait_with_output()?;
        if !output.status.success() {
            bail!("ip in {}: {}\n{text}", self.name(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Waits until every interface inside carries packets: the kernel takes up to a second from
    /// "up" to that (`net/core/link_watch.c`).
    pub fn wait_up(&self) -> Result<()> {
        let until = Instant::now() + unhurried(Duration::from_secs(5));
        loop {
            let links = tool(self.command("ip").args(["-brief", "link", "show", "type", "veth"]))?;
            if links.lines().all(|link| link.split_ascii_whitespace().nth(1) == Some("UP")) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("interfaces in {} do not come up:\n{links}", self.name());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A command that will run inside, and end when the thread that starts it ends.
    ///
    /// Not `ip netns exec`: that mounts another sysfs and hides the bpffs of the caller.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = File::open(self.path());
        let enter = move || {
            let namespace = namespace.as_ref().map_err(|error| std::io::Error::from(error.kind()))?;
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            SigSet::empty().thread_set_mask()?;
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        };
        // SAFETY: `enter` makes three system calls after the fork and neither allocates nor locks.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs `work` on a thread inside and waits for its result.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.enter().map(|()| work()));
            inside.join().map_err(|_| anyhow!("a thread in namespace {} panicked", self.name()))?
        })
    }

    /// Starts `work` on a thread inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> thread::JoinHandle<Result<T>> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.enter()?;
            work()
        })
    }

    /// Moves the calling thread inside, for good.
    fn enter(&self) -> Result<()> {
        let file = File::open(self.path()).with_context(|| format!("no namespace {}", self.name()))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", self.name()))
    }
}

/// One end of a veth pair.
#[derive(Clone, Debug)]
pub struct End<'a> {
    /// Where it lies.
    pub namespace: &'a Namespace,
    /// Name of the interface there.
    pub interface: &'a str,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Addresses with the length of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl End<'_> {
    fn batch(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .addresses
            .iter()
            .map(|(address, length)| {
                let nodad = if address.is_ipv6() { " nodad" } else { "" };
                format!("address add {address}/{length} dev {}{nodad}", self.interface)
            })
            .collect();
        lines.push(format!("link set {} up", self.interface));
        lines
    }
}

/// Wires two namespaces together and brings both ends up.
///
/// Checksums and tags are in the bytes of every frame, as on a wire: the offloads that hand
/// them over beside the frame are off.
pub fn wire(one: &End<'_>, other: &End<'_>) -> Result<()> {
    one.namespace.batch(&[format!(
        "link add {} address {} type veth peer name {} address {} netns {}",
        one.interface,
        mac_text(one.mac),
        other.interface,
        mac_text(other.mac),
        other.namespace.name()
    )])?;
    for end in [one, other] {
        let off = ["tx", "off", "tx-vlan-offload", "off", "rx-vlan-offload", "off"];
        tool(end.namespace.command("ethtool").args(["-K", end.interface]).args(off))?;
        end.namespace.batch(&end.batch())?;
    }
    Ok(())
}

/// A hardware address as `ip` takes it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Runs a tool to its end; its error output is the error.
pub fn tool(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {program}: is it installed?"))?;
    if !output.status.success() {
        let said = [output.stderr, output.stdout].concat();
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&said).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a command.
    pub fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program}: is it installed?"))?;
        Ok(Self { child })
    }

    /// Its process identifier.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}
