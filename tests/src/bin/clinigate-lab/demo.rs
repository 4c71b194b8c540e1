//! `clinigate-lab demo`: the hospital, the real service, and every expectation tried.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use clinigate_tests::dicom::Image;
use clinigate_tests::hospital::{Deployment, Hospital};
use clinigate_tests::metrics::Metrics;
use clinigate_tests::policy;
use clinigate_tests::run::{self, clean_on_exit};
use clinigate_tests::service::{self, Setting};

use crate::attempts::{Scene, Seen};
use crate::expectations::{self, Expectation, Expected, Group};
use crate::growth::Growth;
use crate::peers::Servers;
use crate::table::{self, Row};
use crate::watch::{self, Watchers};

/// How long the service may take to be ready.
const READY: Duration = Duration::from_mins(1);

/// What the excerpt of the metrics shows.
const EXCERPT: &[&str] = &[
    "clinigate_policy_info",
    "clinigate_connections",
    "clinigate_events_lost_total",
    "clinigate_forwarded_packets_total",
    "clinigate_rule_packets_total",
];

/// Build a hospital in namespaces, protect it, and try what must pass and what must not
///
/// Exit codes: 0 when all is as expected, 1 when anything differs, 2 when the demo cannot run.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave the hospital running at the end, to look around in
    #[arg(long)]
    keep: bool,
    /// Instead of trying everything once: keep the hospital at work, with Prometheus and, where it is installed,
    /// Grafana beside it, until ctrl-c
    #[arg(long, conflicts_with_all = ["keep", "without"])]
    watch: bool,
    /// Leave Clinigate out: everything, the forbidden too, must then pass, which shows that
    /// nothing else stops it
    #[arg(long)]
    without: bool,
    /// Who forwards: with `xdp` a second building is there, too, behind a trunk
    #[arg(long, value_enum, value_name = "WHO", default_value_t = Forwarding::Kernel)]
    forwarding: Forwarding,
    /// How the hospital is wired up; all but `ports` take bridges and VLAN devices in the kernel
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Deployment::Ports)]
    deployment: Deployment,
    /// The policy, if not the reference hospital's
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// The program `clinigate`, if not the one beside this
    #[arg(long, value_name = "FILE")]
    clinigate: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Forwarding {
    Kernel,
    Xdp,
}

impl Demo {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let start = Instant::now();
        clean_on_exit()?;
        run::clean()?;
        let binary = if self.without { None } else { Some(self.binary()?) };
        let mut hospital = Hospital::deployed(self.deployment)?;
        let mut groups = expectations::of(self.deployment);
        if self.forwarding == Forwarding::Xdp {
            hospital.let_hosts_poll()?;
            if self.deployment == Deployment::Ports {
                hospital.open_annex()?;
                groups.push(expectations::annex());
            }
        }
        let servers = Servers::start(&hospital)?;
        let image = Image::generate(hospital.run().directory())?;
        let scene = Scene { hospital, servers, image };
        let Some(binary) = binary else { return try_unprotected(&scene, &groups) };
        let setting = Setting::new(&scene.hospital, binary);
        let policy = self.policy(&scene.hospital)?;
        if self.watch {
            return watch(&scene, &setting, &policy);
        }
        let service = setting.start(&policy)?;
        table::say(&format!("hospital of {} hosts is up, clinigate enforces", scene.hospital.hosts().len()))?;

        let first = setting.metrics()?;
        let mut tally = Tally::default();
        table::head()?;
        for group in groups {
            table::group(group.title)?;
            for expectation in &group.expectations {
                tally.add(&try_one(&scene, &setting, expectation)?);
            }
        }
        tally.add(&nothing_else_dropped(&setting, &first, tally.dropped)?);
        excerpt(&setting.metrics()?)?;
        table::say(&format!("\n{} in {:.0?}", tally.words(), start.elapsed()))?;
        if self.keep {
            look_around(&scene, &setting)?;
        }
        service.kill()?;
        Ok(tally.exit())
    }

    fn binary(&self) -> Result<PathBuf> {
        self.clinigate.clone().map_or_else(service::binary, Ok)
    }

    fn policy(&self, hospital: &Hospital) -> Result<PathBuf> {
        let directory = match &self.policy {
            Some(directory) => directory.clone(),
            None => policy::hospital(),
        };
        let directory =
            directory.canonicalize().with_context(|| format!("no policy in {}", directory.display()))?;
        let interfaces = self.deployment.interfaces();
        if self.forwarding == Forwarding::Kernel && interfaces.is_none() {
            return Ok(directory);
        }
        let copy = hospital.run().directory().join("policy");
        policy::copy(&directory, &copy)?;
        if self.forwarding == Forwarding::Xdp {
            fs::write(copy.join("forwarding.yaml"), "settings: { forwarding: xdp }\n")?;
        }
        if let Some(interfaces) = interfaces {
            fs::write(copy.join("interfaces.yaml"), interfaces)?;
        }
        Ok(copy)
    }
}

/// Works until a signal ends the process.
fn watch(scene: &Scene, setting: &Setting, policy: &Path) -> Result<ExitCode> {
    // Who talks is learned in a minute, so that a new one can be seen in the demo.
    let options = ["--policy".as_ref(), policy.as_os_str(), "--learn-talkers".as_ref(), "1m".as_ref()];
    let mut service = setting.run(options)?;
    service.wait_ready(READY)?;
    table::say(&format!("hospital of {} hosts is up, clinigate enforces", scene.hospital.hosts().len()))?;
    let _watchers = Watchers::start(scene, setting)?;
    match watch::go_on(scene)? {}
}

/// What came of one line.
struct Outcome {
    differences: Vec<String>,
    dropped: u64,
}

#[derive(Default)]
struct Tally {
    tried: usize,
    different: usize,
    dropped: u64,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        self.tried += 1;
        self.different += usize::from(!outcome.differences.is_empty());
        self.dropped += outcome.dropped;
    }

    fn words(&self) -> String {
        match self.different {
            0 => format!("all {} as expected", self.tried),
            different => format!("{different} of {} NOT as expected", self.tried),
        }
    }

    fn exit(&self) -> ExitCode {
        ExitCode::from(u8::from(self.different > 0))
    }
}

fn try_one(scene: &Scene, setting: &Setting, expectation: &Expectation) -> Result<Outcome> {
    let before = setting.metrics()?;
    let seen = (expectation.attempt)(scene);
    let grown = Growth::between(&before, &setting.metrics()?);
    let mut differences = Vec::new();
    let (expected, should_pass) = match expectation.expected {
        Expected::Passes(_) => ("passes", true),
        Expected::Stopped { .. } => ("stopped", false),
    };
    let seen = match seen {
        Ok(Seen::Passed) => ("passed", Some(true)),
        Ok(Seen::Stopped) => ("stopped", Some(false)),
        Ok(Seen::CountersOnly) => ("counted", None),
        Ok(Seen::Partly(how)) => {
            differences.push(how);
            ("partly", None)
        }
        Ok(Seen::Wrong(how)) => {
            differences.push(how);
            ("failed", None)
        }
        Err(error) => {
            differences.push(format!("{error:#}"));
            ("failed", None)
        }
    };
    if seen.1.is_some_and(|passed| passed != should_pass) {
        differences.push(format!("expected that it {expected}"));
    }
    let (decided, packets) = grown.judge(expectation.expected, &mut differences);
    table::row(&Row {
        what: expectation.what,
        expected,
        seen: seen.0,
        decided: &decided,
        packets: packets.to_string(),
        differences: &differences,
    })?;
    Ok(Outcome { differences, dropped: grown.dropped() })
}

/// Every drop belongs to a line of the table.
fn nothing_else_dropped(setting: &Setting, first: &Metrics, expected: u64) -> Result<Outcome> {
    let dropped = Growth::between(first, &setting.metrics()?).dropped();
    let mut differences = Vec::new();
    if dropped != expected {
        differences.push(format!("the lines above account for {expected} drops, the counters for {dropped}"));
    }
    table::group("All in all")?;
    table::row(&Row {
        what: "drops in all; each belongs to a line above",
        expected: "stopped",
        seen: "stopped",
        decided: "all reasons",
        packets: dropped.to_string(),
        differences: &differences,
    })?;
    Ok(Outcome { differences, dropped: 0 })
}

/// Tries everything with no Clinigate in the way.
fn try_unprotected(scene: &Scene, groups: &[Group]) -> Result<ExitCode> {
    let mut tally = Tally::default();
    table::say("hospital is up, nothing protects it: all must pass, the forbidden too")?;
    table::head()?;
    for group in groups.iter().filter(|group| !group.counters_only) {
        table::group(group.title)?;
        for expectation in &group.expectations {
            let seen = (expectation.attempt)(scene);
            let mut differences = Vec::new();
            let (seen, passed) = match seen {
                Ok(Seen::Passed) => ("passed", true),
                Ok(Seen::Stopped) => ("stopped", false),
                Ok(Seen::CountersOnly) => ("unseen", false),
                Ok(Seen::Partly(how) | Seen::Wrong(how)) => {
                    differences.push(how);
                    ("failed", false)
                }
                Err(error) => {
                    differences.push(format!("{error:#}"));
                    ("failed", false)
                }
            };
            if passed != expectation.stopped_anyway.is_none() && differences.is_empty() {
                differences.push("not what an unprotected network does".to_owned());
            }
            table::row(&Row {
                what: expectation.what,
                expected: if expectation.stopped_anyway.is_none() { "passes" } else { seen },
                seen,
                decided: expectation.stopped_anyway.unwrap_or("routing alone"),
                packets: String::new(),
                differences: &differences,
            })?;
            tally.add(&Outcome { differences, dropped: 0 });
        }
    }
    table::say(&format!("\n{}", tally.words()))?;
    Ok(tally.exit())
}

fn excerpt(metrics: &Metrics) -> Result<()> {
    table::group("From /metrics")?;
    let dropped = |line: &&str| line.contains("verdict=\"drop\"") && line.contains("direction=\"out\"");
    let named = |line: &str| EXCERPT.iter().any(|name| line.starts_with(name));
    let counted = |line: &&str| !line.ends_with(" 0");
    let wanted = |line: &&str| named(line) || (line.starts_with("clinigate_packets_total") && dropped(line));
    for line in metrics.text().lines().filter(wanted).filter(counted) {
        table::say(line)?;
    }
    Ok(())
}

/// Says how to look around, and waits for Enter (or for a signal, which ends the process).
fn look_around(scene: &Scene, setting: &Setting) -> Result<()> {
    let enter =
        |host: &str| format!("nsenter --net={}", scene.hospital.host(host).namespace.path().display());
    let gateway = scene.hospital.gateway.path();
    table::group("The hospital stays up. Look around from another terminal:")?;
    for (what, command) in [
        ("what is in force", setting.spell("status")),
        (
            "all counters",
            format!("nsenter --net={} curl -s {}/metrics", gateway.display(), service::address()),
        ),
        ("the service's log", format!("tail -f {}", setting.log().display())),
        ("be the CT scanner", format!("{} echoscu 10.10.30.10 11112", enter("ct-1"))),
        ("be the office PC", format!("{} curl -k --max-time 2 https://10.10.20.10/", enter("office-pc"))),
    ] {
        table::say(&format!("  {what:<18} {command}"))?;
    }
    table::say("Enter or ctrl-c takes it down.")?;
    if io::stdin().read_line(&mut String::new())? == 0 {
        // No terminal: only a signal ends it.
        loop {
            std::thread::park();
        }
    }
    Ok(())
}
