//! Two gateways, of which one is in charge: keepalived moves the router's addresses.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use clinigate_tests::dicom;
use clinigate_tests::hospital::{Deployment, HEARTBEAT, Hospital, TRUNK};
use clinigate_tests::namespace::{Namespace, Process, tool};
use clinigate_tests::peers::mllp;
use clinigate_tests::repository::Repository;
use clinigate_tests::service::{self, Service, Setting};
use serde_json::Value;

use super::site::{Site, eventually, soon};
use super::turn;
use super::witness::Witness;

/// Images of one association: more than pass before the gateway in charge fails.
const IMAGES: u32 = 100_000;
/// How long a peer of a running session waits for its next word.
const PATIENCE: Duration = Duration::from_secs(20);

struct Pair {
    // Dropped first.
    _witness: Witness,
    standby: Namespace,
    second: Setting,
    _service: Service,
    _keepers: [Process; 2],
    /// What both follow.
    repository: Repository,
    // Dropped last.
    site: Site,
}

impl Pair {
    fn build(settings: &str) -> Self {
        let (site, repository) = Site::following(Deployment::Trunk, settings);
        let standby = site.hospital.add_standby().unwrap();
        let run = site.hospital.run();
        let second = Setting::at(&standby, run, service::binary().unwrap()).foreign("second");
        let witness = Witness::new([second.clone()], [standby.clone()]);
        let mut service = second.run(site.source.iter().map(OsString::as_os_str)).unwrap();
        service.wait_ready(soon()).unwrap();
        let keepers = [(&site.hospital.gateway, "first", 150), (&standby, "second", 100)]
            .map(|(gateway, name, priority)| keepalived(gateway, run.directory(), name, priority).unwrap());
        let pair = Self {
            _witness: witness,
            standby,
            second,
            _service: service,
            _keepers: keepers,
            repository,
            site,
        };
        eventually("the first is in charge", || is_in_charge(&pair.site.hospital.gateway));
        eventually("an echo by the first", || pair.site.echo("ct-1").is_ok());
        pair
    }

    /// Both hold the same commit, also after another one.
    fn follow(&self) {
        let both = |commit: &str| [&self.site.setting, &self.second].iter().all(|it| commit_of(it) == commit);
        let first = self.repository.head().unwrap();
        assert!(both(&first), "{first}: {} {}", commit_of(&self.site.setting), commit_of(&self.second));
        let note = "groups:\n  both-gateways: [ct-1]\n";
        fs::write(self.repository.tree().join("note.yaml"), note).unwrap();
        let next = self.repository.publish("A name that both know", None).unwrap();
        assert_ne!(first, next);
        eventually("both follow to the next commit", || both(&next));
    }

    /// The gateway in charge loses its power.
    fn fail(&self) {
        let down = |name: &str| format!("link set {name} down");
        self.site.hospital.gateway.batch(&[down(HEARTBEAT), down(TRUNK)]).unwrap();
        eventually("the second is in charge", || is_in_charge(&self.standby));
    }

    fn counted(&self, reason: &str) -> f64 {
        let labels = [("reason", reason), ("direction", "out")];
        self.second.metrics().unwrap().sum("clinigate_packets_total", &labels)
    }

    /// Starts to store images over one association, and waits until the first of them has arrived.
    fn storing(&self) -> Process {
        let to = self.site.hospital.host("pacs").at(dicom::PORT);
        let from = &self.site.hospital.host("ct-1").namespace;
        let packets = || self.site.metric("clinigate_rule_packets_total", &[("rule", "store-studies")]);
        let before = packets();
        let process = self.site.image.store_repeatedly(from, to, IMAGES).unwrap();
        eventually("images arrive", || packets() - before > 500.0);
        process
    }

    /// Starts to send messages over one connection.
    fn conversing(&self) -> (JoinHandle<Result<u64>>, Arc<AtomicBool>) {
        let stop = Arc::new(AtomicBool::new(false));
        let (to, ended) = (self.site.hospital.host("integration").at(2575), Arc::clone(&stop));
        let pause = Duration::from_millis(50);
        let his = &self.site.hospital.host("his").namespace;
        let talk = his.spawn(move || mllp::converse(to, pause, PATIENCE, &ended));
        thread::sleep(Duration::from_secs(1));
        assert!(!talk.is_finished());
        (talk, stop)
    }

    fn packets_of_second(&self, rule: &str) -> f64 {
        self.second.metrics().unwrap().sum("clinigate_rule_packets_total", &[("rule", rule)])
    }
}

fn keepalived(gateway: &Namespace, directory: &Path, name: &str, priority: u8) -> Result<Process> {
    let file = |what: &str| directory.join(format!("keepalived-{name}.{what}"));
    let mut addresses = String::new();
    for address in Hospital::router_addresses()? {
        writeln!(addresses, "    {address}")?;
    }
    // Only as many addresses as an advertisement takes are in it; the others move along.
    let text = format!(
        "vrrp_instance hospital {{\n  version 3\n  state BACKUP\n  interface {HEARTBEAT}\n  dont_track_primary\n  virtual_router_id 51\n  \
         priority {priority}\n  advert_int 0.5\n  virtual_ipaddress {{\n    172.16.0.254/32 dev {HEARTBEAT}\n  }}\n  \
         virtual_ipaddress_excluded {{\n{addresses}  }}\n}}\n"
    );
    fs::write(file("conf"), text)?;
    let mut command = gateway.command("keepalived");
    command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(file("conf"));
    command.arg("--pid").arg(file("pid")).arg("--vrrp_pid").arg(file("vrrp-pid"));
    let log = fs::File::create(file("log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    Process::start(&mut command)
}

fn is_in_charge(gateway: &Namespace) -> bool {
    let device = format!("{TRUNK}.40");
    tool(gateway.command("ip").args(["-brief", "address", "show", "dev", &device]))
        .is_ok_and(|text| text.contains("10.10.40.1/24"))
}

/// The commit that `clinigate status` shows to be in force; it has findings, as no gateway here is watched.
fn commit_of(setting: &Setting) -> String {
    let output = setting.command(&["status", "--format", "json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    status["policy"]["commit"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn with_mid_stream_pickup_running_sessions_survive() {
    let Some(_turn) = turn() else { return };
    let pair = Pair::build("midstream: true");
    pair.follow();
    let mut images = pair.storing();
    let (talk, stop) = pair.conversing();
    let failed = Instant::now();
    pair.fail();
    eventually("the session goes on by the second", || {
        pair.packets_of_second("store-studies") > 500.0 && pair.packets_of_second("his-to-integration") > 10.0
    });
    println!("sessions went on within {:.1?} of the failure", failed.elapsed());
    assert!(images.child().try_wait().unwrap().is_none(), "the association ended");
    assert!(!talk.is_finished(), "the connection ended: {:?}", talk.join());
    stop.store(true, Ordering::Relaxed);
    assert!(talk.join().unwrap().unwrap() > 20);
    assert!(pair.counted("mid-stream") >= 2.0);
    images.kill().unwrap();
    pair.site.store("ct-1").unwrap();
    // And nothing else was taken up: what the policy denies stays denied.
    assert!(pair.counted("denied") < 1.0);
}

#[test]
fn without_it_they_are_cut_and_begin_anew() {
    let Some(_turn) = turn() else { return };
    let pair = Pair::build("midstream: false");
    let mut images = pair.storing();
    let (talk, stop) = pair.conversing();
    pair.fail();
    eventually("the session is refused by the second", || pair.counted("not-in-connection") > 1.0);
    let ended = Instant::now();
    while images.child().try_wait().unwrap().is_none() {
        assert!(ended.elapsed() < soon(), "the association goes on");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(!images.child().wait().unwrap().success());
    talk.join().unwrap().unwrap_err();
    stop.store(true, Ordering::Relaxed);
    eventually("a new association", || pair.site.echo("ct-1").is_ok());
    pair.site.message().unwrap();
}
