//! A real Prometheus beside the gateway, with the rules that come with the project.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::metrics;
use crate::namespace::{Namespace, Process};

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// Seconds in alerts that no test waits for.
const LONG: &[&str] = &["> 900", "> 8 * 3600"];

/// Where it answers in its namespace.
pub fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9090))
}

/// What comes with the project for those who watch.
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// How it differs from the example configuration.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often it scrapes and evaluates.
    pub interval: &'static str,
    /// Alerts fire without waiting for their `for`, and what lasts too long does so after five seconds.
    pub at_once: bool,
}

/// A running Prometheus; it ends when this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    namespace: Namespace,
    process: Process,
    log: PathBuf,
}

impl Prometheus {
    /// Starts it in a gateway's namespace, where it scrapes the service, and waits until it answers.
    pub fn start(namespace: &Namespace, directory: &Path, pace: Pace) -> Result<Self> {
        let directory = directory.join("prometheus");
        fs::create_dir_all(&directory)?;
        let example = deploy().join("prometheus");
        let read = |name: &str| -> Result<String> {
            let path = example.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        for rules in ["recording.rules.yml", "alerts.rules.yml"] {
            let mut text = read(rules)?;
            for long in if pace.at_once && rules.starts_with("alerts") { LONG } else { &[] } {
                ensure!(text.contains(long), "no alert waits for {long}");
                text = text.replace(long, "> 5");
            }
            let kept = text.lines().filter(|line| !(pace.at_once && line.trim_start().starts_with("for:")));
            fs::write(directory.join(rules), kept.collect::<Vec<_>>().join("\n") + "\n")?;
        }
        let example = read("prometheus.yml")?;
        ensure!(example.contains("_interval: 15s"), "the example has no intervals of 15 s");
        let configuration = directory.join("prometheus.yml");
        let text = example.replace("_interval: 15s", &format!("_interval: {}", pace.interval));
        fs::write(&configuration, text)?;
        let log = directory.join("log");
        let mut command = namespace.command("prometheus");
        command.arg(format!("--config.file={}", configuration.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg(format!("--web.listen-address={}", address()));
        command
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let process = Process::start(&mut command)?;
        let mut prometheus = Self { namespace: namespace.clone(), process, log };
        prometheus.wait_ready()?;
        Ok(prometheus)
    }

    /// The answer to `path`.
    pub fn get(&self, path: &str) -> Result<String> {
        let (status, body) = metrics::get(&self.namespace, address(), path)?;
        ensure!(status == 200, "Prometheus answers {status} to {path}: {body}");
        Ok(body)
    }

    /// The answer to a query, as JSON.
    pub fn query(&self, expression: &str) -> Result<String> {
        self.get(&format!("/api/v1/query?query={}", encoded(expression)))
    }

    fn wait_ready(&mut self) -> Result<()> {
        let until = Instant::now() + READY;
        loop {
            let said = || fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(status) = self.process.child().try_wait()? {
                bail!("Prometheus ended ({status}): {}", said());
            }
            if matches!(metrics::get(&self.namespace, address(), "/-/ready"), Ok((200, _))) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("Prometheus is not ready after {READY:?}: {}", said());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Text as a part of a query string (RFC 3986, 2.1).
fn encoded(text: &str) -> String {
    let one = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}
