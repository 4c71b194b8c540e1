//! The Debian package: built, installed in a root of its own, its service started in the hospital's gateway, upgraded under
//! traffic, removed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; what is said is meant to be read")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use clinigate_tests::hospital::Hospital;
use clinigate_tests::namespace::tool;
use clinigate_tests::policy;
use clinigate_tests::service::{self, Setting};
use clinigate_tests::traffic::{Datagrams, Transfer};
use serde_json::Value;

const PACE: Duration = Duration::from_millis(1);

#[test]
fn installed_started_upgraded_under_traffic_and_removed() {
    let hospital = Hospital::build().unwrap();
    let root = Root::make(&hospital);
    let [first, second] = packages(hospital.run().directory());

    let said = root.dpkg("--install", &first);
    assert!(said.contains("nothing is enforced yet"), "{said}");
    root.is_complete();
    root.is_of_use();
    let setting = Setting::new(&hospital, root.at("usr/bin/clinigate"));
    let directory = root.at("etc/clinigate/policy");
    policy::copy(&root.at("usr/share/doc/clinigate/examples/policies/hospital"), &directory).unwrap();
    let service = setting.start(&directory).unwrap();
    has_only_the_capabilities_of_its_unit(&root, &setting);

    let host = |name| hospital.host(name);
    let transfer = Transfer::start(host("pump"), host("pump-server-1"), 3613).unwrap();
    let kept = Datagrams::start(host("pump"), host("infrastructure"), 53, PACE).unwrap();
    let forbidden = Datagrams::start(host("ct-1"), host("pump-server-1"), 3613, PACE).unwrap();
    let own = "# ours\nCLINIGATE_POLICY=\"--policy /etc/clinigate/policy\"\n";
    fs::write(root.at("etc/default/clinigate"), own).unwrap();
    root.dpkg("--install", &second);
    assert_eq!(fs::read_to_string(root.at("etc/default/clinigate")).unwrap(), own);
    // As systemd does where it runs: the old one ends, the new one starts.
    let before = generation(&setting);
    service.kill().unwrap();
    let service = setting.start(&directory).unwrap();
    assert_ne!(generation(&setting), before, "it is still the old version");
    thread::sleep(Duration::from_millis(300));
    let (transferred, kept) = (transfer.finish().unwrap(), kept.finish().unwrap());
    println!("transfer: {transferred:?}; datagrams: {} sent, {} lost", kept.sent, kept.lost(0..kept.sent));
    assert_eq!((transferred.sent, kept.lost(0..kept.sent)), (transferred.received, 0));

    service.kill().unwrap();
    let gone = classifier_of_an_old_kernel(&hospital);
    let said = root.dpkg("--remove", Path::new("clinigate"));
    println!("{said}");
    assert!(said.contains("THE POLICY STAYS IN FORCE") && said.contains("clinigate:   pumps0\n"), "{said}");
    assert!(!root.at("usr/bin/clinigate").exists() && directory.join("flows.yaml").exists());
    thread::sleep(Duration::from_millis(300));
    let removed = forbidden.begun();
    let (_, commands) = said.split_once("so that everything passes unfiltered:\n").unwrap();
    let commands: Vec<&str> = commands.lines().map_while(|line| line.strip_prefix("clinigate:   ")).collect();
    assert!(!gone(), "{said}");
    tool(hospital.gateway.command("sh").args(["-ec", &commands.join("\n")])).unwrap();
    assert!(gone(), "{said}");
    assert!(forbidden.wait_for_arrival(Duration::from_secs(10)), "nothing passes although it was taken off");
    let forbidden = forbidden.finish().unwrap();
    assert_eq!(forbidden.arrived(0..removed), 0, "of {removed}");

    fs::create_dir_all(root.at("var/lib/clinigate/last-good")).unwrap();
    root.dpkg("--purge", Path::new("clinigate"));
    assert!(!root.at("var/lib/clinigate").exists() && !root.at("etc/default/clinigate").exists());
    assert!(directory.join("flows.yaml").exists(), "the policy is not the package's");
}

/// What the service leaves at an exit before Linux 6.6: a classifier (here one that does nothing), and a directory among the
/// pins. Returns whether the classifier is gone.
fn classifier_of_an_old_kernel(hospital: &Hospital) -> impl Fn() -> bool {
    let tc = |line: &str| tool(hospital.gateway.command("tc").args(line.split(' '))).unwrap();
    hospital.gateway.batch(&["link add old.7 type veth peer name old-peer".to_owned()]).unwrap();
    tc("qdisc add dev old.7 clsact");
    let place = "filter add dev old.7 egress protocol all pref 1 handle 0x43470001 bpf";
    tool(hospital.gateway.command("tc").args(place.split(' ')).args(["bytecode", "1,6 0 0 0"])).unwrap();
    fs::create_dir(hospital.run().bpffs().join("clinigate/links/old%2e7@77:egress")).unwrap();
    move || !tc("filter show dev old.7 egress").contains("0x43470001")
}

/// A root file system with an empty database of packages, and our BPF file system where the machine's would be.
struct Root(PathBuf);

impl Root {
    fn make(hospital: &Hospital) -> Self {
        let root = Self(hospital.run().directory().join("root"));
        for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log", "sys/fs"] {
            fs::create_dir_all(root.at(folder)).unwrap();
        }
        fs::write(root.at("var/lib/dpkg/status"), "").unwrap();
        symlink(hospital.run().bpffs(), root.at("sys/fs/bpf")).unwrap();
        root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// What dpkg and the package's scripts say. These run where they are, with the root in `DPKG_ROOT`.
    fn dpkg(&self, action: &str, what: &Path) -> String {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.0.display()));
        dpkg.args(["--force-script-chrootless", "--force-confold", action]).arg(what);
        tool(&mut dpkg).unwrap()
    }

    /// All that a package of ours has.
    fn is_complete(&self) {
        let files = [
            "usr/lib/systemd/system/clinigate.service",
            "usr/lib/systemd/system/clinigate-forwarding.service",
            "usr/share/man/man1/clinigate.1.gz",
            "usr/share/man/man1/clinigate-apply.1.gz",
            "usr/share/bash-completion/completions/clinigate",
            "usr/share/zsh/vendor-completions/_clinigate",
            "usr/share/fish/vendor_completions.d/clinigate.fish",
            "usr/share/doc/clinigate/operation.md",
            "usr/share/clinigate/prometheus/prometheus.yml",
            "usr/share/clinigate/prometheus/recording.rules.yml",
            "usr/share/clinigate/prometheus/alerts.rules.yml",
            "usr/share/clinigate/grafana/provisioning/datasources/clinigate.yml",
            "usr/share/clinigate/hooks/commit-status",
            "etc/clinigate/forwarding.conf",
        ];
        for file in files {
            assert!(fs::metadata(self.at(file)).unwrap().len() > 0, "{file}");
        }
        let licences = fs::read_to_string(self.at("usr/share/doc/clinigate/copyright")).unwrap();
        assert!(licences.contains("\naya 0.14.0: MIT OR Apache-2.0\n"));
        assert!(licences.contains("Permission is hereby granted") && licences.contains("Apache License"));
        let bill = fs::read_to_string(self.at("usr/share/doc/clinigate/clinigate.cdx.json")).unwrap();
        let bill: Value = serde_json::from_str(&bill).unwrap();
        let components = bill["components"].as_array().unwrap();
        let named = |name| components.iter().find(|component| component["name"] == name);
        let aya = named("aya").unwrap();
        assert_eq!((&aya["purl"], &bill["bomFormat"]), (&"pkg:cargo/aya@0.14.0".into(), &"CycloneDX".into()));
        assert!(aya["hashes"][0]["content"].as_str().unwrap().len() == 64 && named("aya-ebpf").is_some());
        assert!(named("proptest").is_none(), "what only tests use is not in it");
    }
}

impl Root {
    /// What others read of it is where they look, and in order: systemd its units, Grafana the dashboards, Prometheus the rules,
    /// a new user the example.
    fn is_of_use(&self) {
        let units = self.at("units");
        fs::create_dir_all(&units).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no"]);
        for unit in ["clinigate.service", "clinigate-forwarding.service"] {
            let text = fs::read_to_string(self.at("usr/lib/systemd/system").join(unit)).unwrap();
            let program = self.at("usr/bin/clinigate");
            fs::write(units.join(unit), text.replace("/usr/bin/clinigate", program.to_str().unwrap()))
                .unwrap();
            verify.arg(units.join(unit));
        }
        let verified = verify.output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        // It complains of what it does not know, and calls that a success.
        assert!(verified.status.success() && said.is_empty(), "{said}");
        let unit = fs::read_to_string(self.at("usr/lib/systemd/system/clinigate.service")).unwrap();
        for line in [
            "Type=notify",
            "Restart=on-failure",
            "WatchdogSec=30s",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
        ] {
            assert!(unit.lines().any(|it| it == line), "{line}");
        }
        let restart = unit.lines().find(|line| line.starts_with("Restart=")).unwrap();
        let manual = fs::read_to_string(self.at("usr/share/doc/clinigate/gitops.md")).unwrap();
        assert!(manual.contains(&format!("`{restart}` in the package's unit")), "{restart}");
        self.waits_for_a_policy(&unit);
        self.forwards_once_a_policy_is_in_force();

        let provider =
            fs::read_to_string(self.at("usr/share/clinigate/grafana/provisioning/dashboards/clinigate.yml"));
        let provider = provider.unwrap();
        let path = provider.lines().find_map(|line| line.trim().strip_prefix("path: /")).unwrap();
        let dashboards = fs::read_dir(self.at(path)).unwrap();
        assert_eq!(dashboards.count(), 4);
        let mut check = Command::new("promtool");
        check
            .args(["check", "config", "prometheus.yml"])
            .current_dir(self.at("usr/share/clinigate/prometheus"));
        tool(&mut check).unwrap();
        let examples = self.at("usr/share/doc/clinigate/examples/policies");
        for example in ["minimal", "hospital", "vendors"] {
            tool(Command::new(self.at("usr/bin/clinigate")).arg("check").arg(examples.join(example)))
                .unwrap();
        }
        let groups = fs::read_to_string(self.at("etc/group")).unwrap();
        let options = fs::read_to_string(self.at("etc/default/clinigate")).unwrap();
        for group in ["clinigate-viewers", "clinigate-operators"] {
            assert!(groups.contains(&format!("{group}:")) && options.contains(group), "{group}: {groups}");
        }
    }

    /// Each start of the service asks for forwarding, also one after a failure; a start that failed or was skipped does not
    /// turn it on.
    fn forwards_once_a_policy_is_in_force(&self) {
        let unit = self.at("usr/lib/systemd/system/clinigate-forwarding.service");
        let unit = fs::read_to_string(unit).unwrap();
        for line in [
            "After=clinigate.service",
            "ExecCondition=/usr/bin/systemctl is-active --quiet clinigate.service",
            "WantedBy=clinigate.service",
        ] {
            assert!(unit.lines().any(|it| it == line), "{line}");
        }
        // They end with the first start that fails.
        for bond in ["Requires=", "Requisite=", "BindsTo="] {
            assert!(!unit.lines().any(|line| line.starts_with(bond)), "{bond}");
        }
    }

    /// The unit is skipped where there is neither a policy nor a repository.
    fn waits_for_a_policy(&self, unit: &str) {
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecCondition=/bin/sh -c '")).unwrap();
        let directory = self.at("etc/clinigate/policy");
        let line = line.strip_suffix('\'').unwrap().replace("$$", "$");
        let line = line.replace("/etc/clinigate/policy", directory.to_str().unwrap());
        let starts = |policy: &str| {
            Command::new("sh").args(["-c", &line]).env("CLINIGATE_POLICY", policy).status().unwrap().success()
        };
        assert!(
            !starts("--policy /etc/clinigate/policy")
                && starts("--repo https://git.hospital.example/policy.git")
        );
        fs::write(directory.join("a.yaml"), "").unwrap();
        assert!(starts("--policy /etc/clinigate/policy"));
        fs::remove_file(directory.join("a.yaml")).unwrap();
    }
}

/// Two versions: of the same program, but for a byte that makes it another.
fn packages(directory: &Path) -> [PathBuf; 2] {
    let (program, xtask) = (service::binary().unwrap(), service::binary().unwrap().with_file_name("xtask"));
    assert!(xtask.is_file(), "build it first: cargo build --package xtask");
    let other = directory.join("other");
    fs::write(&other, [fs::read(&program).unwrap(), vec![0]].concat()).unwrap();
    tool(Command::new("chmod").arg("755").arg(&other)).unwrap();
    [(program, "+1"), (other, "+2")].map(|(program, suffix)| {
        let out = directory.join(format!("dist{suffix}"));
        let mut dist = Command::new(&xtask);
        dist.arg("dist").arg("--binary").arg(program).args(["--suffix", suffix]).arg("--out").arg(&out);
        tool(&mut dist).unwrap();
        let mut written = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        written.find(|path| path.extension().is_some_and(|it| it == "deb")).unwrap()
    })
}

fn status(setting: &Setting) -> Value {
    serde_json::from_str(&setting.call(&["status", "--format=json"]).unwrap()).unwrap()
}

fn generation(setting: &Setting) -> u64 {
    status(setting)["policy"]["generation"].as_u64().unwrap()
}

/// What the process may do is what systemd would let it do.
fn has_only_the_capabilities_of_its_unit(root: &Root, setting: &Setting) {
    // include/uapi/linux/capability.h
    const NUMBERS: [(&str, u32); 5] = [
        ("CAP_CHOWN", 0),
        ("CAP_DAC_READ_SEARCH", 2),
        ("CAP_NET_ADMIN", 12),
        ("CAP_PERFMON", 38),
        ("CAP_BPF", 39),
    ];
    let unit = fs::read_to_string(root.at("usr/lib/systemd/system/clinigate.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let number = |name: &str| NUMBERS.iter().find(|(own, _)| *own == name).unwrap().1;
    let allowed = line.split(' ').fold(0_u64, |all, name| all | 1 << number(name));
    let pid = status(setting)["service"]["pid"].as_u64().unwrap();
    let own = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        let hex = own.lines().find_map(|line| line.strip_prefix(set)).unwrap();
        assert_eq!(u64::from_str_radix(hex.trim(), 16).unwrap(), allowed, "{set}");
    }
}
