//! A hospital of one deployment at work: the service runs, the archive and the integration engine answer.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clinigate_tests::dicom::{self, Archive, Image};
use clinigate_tests::hospital::{Deployment, Hospital};
use clinigate_tests::peers::{mllp, tcp};
use clinigate_tests::policy;
use clinigate_tests::repository::Repository;
use clinigate_tests::service::{self, Service, Setting};
use clinigate_tests::slowness::unhurried;

use super::witness::Witness;

/// How long things may take until they are as they should be, on a machine that is not emulated.
const SOON: Duration = Duration::from_secs(30);
/// Port of HL7 in the reference hospital.
const MLLP: u16 = 2575;

pub(crate) struct Site {
    // Dropped first.
    _witness: Witness,
    pub(crate) service: Service,
    pub(crate) setting: Setting,
    pub(crate) policy: PathBuf,
    /// The options by which a gateway is told its policy.
    pub(crate) source: Vec<OsString>,
    pub(crate) image: Image,
    pub(crate) archive: Archive,
    // Dropped last.
    pub(crate) hospital: Hospital,
}

impl Site {
    /// With the reference hospital's policy and these further settings.
    pub(crate) fn open(deployment: Deployment, settings: &str) -> Self {
        Self::open_with(deployment, settings, &[], |_| ())
    }

    /// As [`Self::open`], with further options of the service; `prepare` sees the hospital before the service does.
    pub(crate) fn open_with(
        deployment: Deployment,
        settings: &str,
        options: &[&str],
        prepare: impl FnOnce(&Hospital),
    ) -> Self {
        let told = |directory: &Path| vec!["--policy".into(), directory.into()];
        Self::told(deployment, settings, told, options, prepare)
    }

    /// As [`Self::open`]; the policy comes from a repository.
    pub(crate) fn following(deployment: Deployment, settings: &str) -> (Self, Repository) {
        let mut repository = None;
        let told = |directory: &Path| {
            let followed = Repository::create(&directory.with_file_name("git")).unwrap();
            policy::copy(directory, &followed.tree()).unwrap();
            followed.publish("The hospital as it is", None).unwrap();
            let url = followed.url().into_os_string();
            repository = Some(followed);
            vec!["--repo".into(), url, "--interval".into(), "1s".into()]
        };
        let site = Self::told(deployment, settings, told, &[], |_| ());
        (site, repository.unwrap())
    }

    /// `told` makes the options about the policy from its folder.
    fn told(
        deployment: Deployment,
        settings: &str,
        told: impl FnOnce(&Path) -> Vec<OsString>,
        options: &[&str],
        prepare: impl FnOnce(&Hospital),
    ) -> Self {
        let hospital = Hospital::deployed(deployment).unwrap();
        hospital.let_hosts_poll().unwrap();
        let directory = hospital.run().directory().join("policy");
        policy::copy(&policy::hospital(), &directory).unwrap();
        if let Some(interfaces) = deployment.interfaces() {
            fs::write(directory.join("interfaces.yaml"), interfaces).unwrap();
        }
        fs::write(directory.join("site.yaml"), format!("settings: {{ {settings} }}\n")).unwrap();
        let scratch = hospital.run().directory();
        let image = Image::generate(scratch).unwrap();
        let archive = Archive::start(&hospital.host("pacs").namespace, scratch.join("archive")).unwrap();
        let engine = hospital.host("integration").namespace.clone();
        let listener = engine.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, MLLP))).unwrap().unwrap();
        thread::spawn(move || mllp::listen(&listener));
        let setting = Setting::new(&hospital, service::binary().unwrap());
        prepare(&hospital);
        let seen = ["ct-1", "pacs"].map(|host| hospital.host(host).namespace.clone());
        let seen = seen.into_iter().chain([hospital.gateway.clone(), hospital.switch.clone()]);
        let witness = Witness::new([setting.clone()], seen);
        let source = told(&directory);
        let given = source.iter().map(OsString::as_os_str).chain(options.iter().map(OsStr::new));
        let mut service = setting.run(given).unwrap();
        service.wait_ready(soon()).unwrap();
        Self { _witness: witness, service, setting, policy: directory, source, image, archive, hospital }
    }

    /// C-STORE from a scanner; the archive's bytes are compared.
    pub(crate) fn store(&self, from: &str) -> Result<()> {
        let to = self.hospital.host("pacs").at(dicom::PORT);
        self.image.store(&self.hospital.host(from).namespace, to)?;
        self.image.compare(&self.archive).map(drop)
    }

    /// C-ECHO from a scanner.
    pub(crate) fn echo(&self, from: &str) -> Result<()> {
        let to = self.hospital.host("pacs").at(dicom::PORT);
        dicom::echo(&self.hospital.host(from).namespace, to)
    }

    /// An HL7 message from the HIS to the integration engine, acknowledged.
    pub(crate) fn message(&self) -> Result<()> {
        let to: SocketAddr = self.hospital.host("integration").at(MLLP);
        self.hospital.host("his").namespace.run(|| mllp::send(to, "DEPLOYED1", Duration::from_secs(5)))?
    }

    /// What the policy allows passes, byte for byte, and what it forbids does not, for these reasons.
    pub(crate) fn hold(&self) {
        self.echo("ct-1").unwrap();
        self.store("ct-1").unwrap();
        self.store("mr-1").unwrap();
        self.message().unwrap();
        for (from, to, port, reason) in [
            ("ct-1", "pacs", 445, "denied"),
            ("office-pc", "his", 443, "denied"),
            ("pump", "attacker", 443, "no-flow"),
            ("attacker", "monitor", 443, "no-flow"),
        ] {
            let labels = [("reason", reason), ("verdict", "drop"), ("direction", "out")];
            let before = self.metric("clinigate_packets_total", &labels);
            let to = self.hospital.host(to).at(port);
            let namespace = &self.hospital.host(from).namespace;
            let until = Instant::now() + soon();
            // A frame may be lost on its way to the gateway, where links come and go.
            loop {
                assert!(
                    !namespace.run(|| tcp::connects(to, Duration::from_millis(700))).unwrap(),
                    "{from} to {to}"
                );
                if self.metric("clinigate_packets_total", &labels) > before {
                    break;
                }
                assert!(Instant::now() < until, "{from} to {to}: not by {reason}");
            }
        }
    }

    /// Sum of a metric.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.setting.metrics().unwrap().sum(name, labels)
    }
}

/// How long things may take here until they are as they should be.
pub(crate) fn soon() -> Duration {
    unhurried(SOON)
}

/// Waits until something holds, and says how long that took.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < soon(), "{what}: not within {:?}", soon());
        thread::sleep(Duration::from_millis(100));
    }
    println!("{what}: after {:.1?}", began.elapsed());
}
