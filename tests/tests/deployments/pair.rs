//! Two gateways, of which one is in charge: keepalived moves the router's addresses.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use clinigate_tests::dicom;
use clinigate_tests::hospital::{Deployment, HEARTBEAT, Hospital, TRUNK, WAN};
use clinigate_tests::namespace::{Namespace, Process, tool};
use clinigate_tests::peers::{mllp, tcp};
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
    /// Who answers in the world.
    _vendor: TcpListener,
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
        let vendor = site.hospital.host("vendor").namespace.clone();
        let pair = Self {
            _witness: witness,
            _vendor: vendor.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 443))).unwrap().unwrap(),
            standby,
            second,
            _service: service,
            _keepers: keepers,
            repository,
            site,
        };
        eventually("the first is in charge", || is_in_charge(&pair.site.hospital.gateway));
        eventually("an echo by the first", || pair.site.echo("ct-1").is_ok());
        pair.reach_the_world("the first");
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

    /// The gateway in charge loses these links.
    fn fail(&self, links: &[&str]) {
        let down: Vec<String> = links.iter().map(|name| format!("link set {name} down")).collect();
        self.site.hospital.gateway.batch(&down).unwrap();
        eventually("the second is in charge", || is_in_charge(&self.standby));
        self.reach_the_world("the second");
    }

    /// The cable of the first is mended: it is in charge again, but not as long as it forwards nothing, as after a start without a policy.
    fn come_back(&self) {
        let first = &self.site.hospital.gateway;
        first.sysctl("ipv4/ip_forward", "0").unwrap();
        first.batch(&[format!("link set {TRUNK} up")]).unwrap();
        thread::sleep(Duration::from_secs(10));
        assert!(is_in_charge(&self.standby) && !is_in_charge(first));
        first.sysctl("ipv4/ip_forward", "1").unwrap();
        eventually("the first is in charge again", || is_in_charge(first) && !is_in_charge(&self.standby));
        eventually("an echo by the first", || self.site.echo("ct-1").is_ok());
    }

    /// The scanner reaches its vendor, and the pump does not.
    fn reach_the_world(&self, by: &str) {
        let reaches = |from: &str| {
            let to = self.site.hospital.host("vendor").at(443);
            let namespace = &self.site.hospital.host(from).namespace;
            namespace.run(|| tcp::connects(to, Duration::from_secs(1))).unwrap()
        };
        eventually(&format!("the vendor by {by}"), || reaches("ct-1"));
        assert!(!reaches("pump"));
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
    // Links are named by `track_interface`: a VLAN that goes is no reason to hand over all others.
    for address in Hospital::router_addresses()? {
        writeln!(addresses, "    {address} no_track")?;
    }
    let ways = Hospital::router_ways().map(|way| format!("{way} no_track")).join("\n    ");
    // Only as many addresses as an advertisement takes are in it; the others move along.
    let text = format!(
        "global_defs {{\n  enable_script_security\n  script_user root\n}}\n\
         vrrp_script forwards {{\n  script \"/usr/bin/grep -qx 1 /proc/sys/net/ipv4/ip_forward\"\n  interval 1\n}}\n\
         vrrp_instance hospital {{\n  version 3\n  state BACKUP\n  interface {HEARTBEAT}\n  dont_track_primary\n  \
         track_interface {{\n    {TRUNK}\n    {WAN}\n  }}\n  track_script {{\n    forwards\n  }}\n  virtual_router_id 51\n  \
         priority {priority}\n  advert_int 0.5\n  virtual_ipaddress {{\n    172.16.0.254/32 dev {HEARTBEAT}\n  }}\n  \
         virtual_ipaddress_excluded {{\n{addresses}  }}\n  virtual_routes {{\n    {ways}\n  }}\n}}\n"
    );
    fs::write(file("conf"), text)?;
    let mut command = gateway.command("keepalived");
    command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(file("conf"));
    command.arg("--pid").arg(file("pid")).arg("--vrrp_pid").arg(file("vrrp-pid"));
    let log = fs::File::create(file("log"))?;
    // One that runs scripts ends its whole process group with itself.
    command.process_group(0);
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
    // Its power.
    pair.fail(&[HEARTBEAT, TRUNK, WAN]);
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
    let pair = Pair::build("midstream: false, forwarding: xdp");
    // Who has data on the way waits until TCP gives up: after half a minute here, and not after a quarter of an hour.
    for host in ["ct-1", "pacs"] {
        pair.site.hospital.host(host).namespace.sysctl("ipv4/tcp_retries2", "6").unwrap();
    }
    let mut images = pair.storing();
    let (talk, stop) = pair.conversing();
    // A cable: the first is well and says so to the second.
    pair.fail(&[TRUNK]);
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
    pair.come_back();
}
