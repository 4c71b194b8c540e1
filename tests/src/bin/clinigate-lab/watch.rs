//! `clinigate-lab demo --watch`: the hospital at work, and now and then in trouble, for those who want to look at it
//! through Prometheus and Grafana.

use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clinigate_tests::namespace::Process;
use clinigate_tests::prometheus::{Pace, Prometheus};
use clinigate_tests::service::Setting;
use clinigate_tests::{grafana, prometheus, proxy};

use crate::attempts::{Scene, Seen, packet};
use crate::table;

/// As often as a router at work would be asked, and quicker.
const PACE: Pace = Pace { interval: "5s", at_once: false };
/// Between two rounds of the day's work.
const PAUSE: Duration = Duration::from_secs(1);
/// Rounds between two kinds of trouble.
const CALM: usize = 10;

/// What watches.
pub(crate) struct Watchers {
    _prometheus: Prometheus,
    _grafana: Option<Process>,
}

impl Watchers {
    /// Starts them beside the gateway, and says where they are.
    pub(crate) fn start(scene: &Scene, setting: &Setting) -> Result<Self> {
        let (gateway, directory) = (&scene.hospital.gateway, scene.hospital.run().directory());
        let watching = Prometheus::start(gateway, directory, PACE)?;
        let grafana = grafana::start(gateway, directory)?;
        table::group("Everything runs in namespaces; these ports of the machine's loopback lead there:")?;
        let address = proxy::open(gateway, prometheus::address(), prometheus::address().port())?;
        table::say(&format!("  Prometheus         http://{address}/alerts"))?;
        if grafana.is_some() {
            let address = proxy::open(gateway, grafana::address(), grafana::address().port())?;
            table::say(&format!("  Grafana            http://{address}/dashboards"))?;
        } else {
            table::say("  Grafana            is not installed here: the dashboards are in deploy/grafana")?;
        }
        for (what, command) in [
            ("what is blocked", "flows --blocked --follow"),
            ("who is busiest", "top"),
            ("what is in force", "status"),
        ] {
            table::say(&format!("  {what:<18} {}", setting.spell(command)))?;
        }
        Ok(Self { _prometheus: watching, _grafana: grafana })
    }
}

/// Works until a signal ends the process.
pub(crate) fn go_on(scene: &Scene) -> Result<Infallible> {
    table::group("Traffic goes on until ctrl-c. In between:")?;
    let mut round = 0;
    loop {
        work(scene);
        if round % CALM == CALM - 1 {
            let (what, attempt) = TROUBLE[round / CALM % TROUBLE.len()];
            table::say(&format!("  {what}"))?;
            // It is dropped, which is what it is for.
            let _ = attempt(scene);
        }
        round += 1;
        thread::sleep(PAUSE);
    }
}

/// What a hospital does all day. Nobody looks at the answers here: the counters tell.
fn work(scene: &Scene) {
    let _ = scene.dicom_echo("ct-1", "pacs");
    let _ = scene.dicom_store("ct-1", "pacs");
    let _ = scene.hl7("his", "integration");
    let _ = scene.hl7("lis", "integration");
    let _ = scene.https("viewer", "his");
    let _ = scene.https("ct-1", "vendor");
    let _ = scene.tcp("pump", "pump-server-1", 3613);
    let _ = scene.tcp("analyser", "lis", 5000);
    let _ = scene.udp("monitor-gateway", "monitor", 24105);
    let _ = scene.udp("pump", "infrastructure", 53);
    let _ = scene.udp("building", "infrastructure", 123);
    let _ = scene.udp_to_gateway("vendor", 500);
}

type Attempt = fn(&Scene) -> Result<Seen>;

/// Trouble, one after the other.
const TROUBLE: [(&str, Attempt); 6] = [
    ("a worm on the CT scanner looks for SMB", |scene| {
        scene.scan("ct-1", &["pacs", "his", "ris", "mr-1"], 445)
    }),
    ("a pump calls the world", |scene| scene.tcp("pump", "attacker", 443)),
    ("somebody outside reaches for the CT scanner", |scene| scene.tcp("attacker", "ct-1", 445)),
    ("a host in the scanners' segment claims to be a pump", |scene| {
        let (pump, server) = (scene.at("pump", 40_000), scene.at("pump-server-1", 3613));
        scene.raw("ct-1", "pump-server-1", |link| Ok(vec![packet(link, &[], pump, server).tcp_syn()?]))
    }),
    ("the CT scanner sends a study where no flow leads", |scene| scene.tcp("ct-1", "vna", 11112)),
    ("an office PC opens RDP to the archive", |scene| scene.tcp("office-pc", "pacs", 3389)),
];
