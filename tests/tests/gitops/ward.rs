//! A hospital whose gateway follows a repository.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clinigate_tests::hospital::Hospital;
use clinigate_tests::policy;
use clinigate_tests::repository::{Key, Repository};
use clinigate_tests::service::{self, Service, Setting};
use serde_json::Value;

/// How long a change may take to be noticed on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// What must pass, whatever changes: part of the repository.
const TESTS: &str =
    "must-pass:\n  - { name: record, from: viewers, to: his, services: https, because: work }\n";

pub(crate) struct Ward {
    pub(crate) setting: Setting,
    pub(crate) repository: Repository,
    /// The key that may sign.
    pub(crate) key: Key,
    signers: PathBuf,
    pub(crate) hospital: Hospital,
}

impl Ward {
    /// A hospital, and a repository with its policy in one signed commit.
    pub(crate) fn build() -> Self {
        let hospital = Hospital::build().unwrap();
        let setting = Setting::new(&hospital, service::binary().unwrap());
        let repository = Repository::create(&hospital.run().directory().join("git")).unwrap();
        let key = repository.key("mori").unwrap();
        let signers = repository.allowed_signers(&[("mori@example.org", &key)]).unwrap();
        let ward = Self { setting, repository, key, signers, hospital };
        policy::copy(&policy::hospital(), &ward.policy()).unwrap();
        ward.write("tests/record.yaml", TESTS);
        ward.repository.publish("The hospital as it is", Some(&ward.key)).unwrap();
        ward
    }

    /// The policy in the work tree.
    pub(crate) fn policy(&self) -> PathBuf {
        self.repository.tree().join("policies/hospital")
    }

    /// Writes a file of the policy.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.policy().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a file with one flow.
    pub(crate) fn flow(&self, from: &str, to: &str, service: &str) {
        let line = format!("- {{ name: more, from: {from}, to: {to}, services: {service} }}");
        self.write("more.yaml", &format!("flows:\n  {line}\n"));
    }

    /// Options of the service.
    fn options(&self, more: &[&str]) -> Vec<OsString> {
        let mut options: Vec<OsString> = ["--repo".into(), self.repository.url().into()].into();
        options.extend(["--path", "policies/hospital", "--interval", "1s"].map(OsString::from));
        options.extend([
            "--require-signature".into(),
            "--allowed-signers".into(),
            self.signers.clone().into(),
        ]);
        options.extend(more.iter().map(OsString::from));
        options
    }

    pub(crate) fn start(&self) -> Service {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, more: &[&str]) -> Service {
        let mut service = self.start_unready(more);
        service.wait_ready(SOON).unwrap();
        service
    }

    pub(crate) fn start_unready(&self, more: &[&str]) -> Service {
        let options = self.options(more);
        self.setting.run(options.iter().map(OsString::as_os_str).collect::<Vec<&OsStr>>()).unwrap()
    }

    /// The status, whatever its exit code.
    pub(crate) fn status(&self) -> Value {
        self.json(&["status"])
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.setting.command(arguments).args(["--format", "json"]).output().unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Waits until a commit was found to be this, for these reasons; returns the repository's status.
    #[track_caller]
    pub(crate) fn wait_for(&self, commit: &str, state: &str, reasons: &[&str]) -> Value {
        let mut repository = Value::Null;
        wait_until(&format!("{commit} is {state}"), || {
            repository = self.status()["repository"].take();
            let head = &repository["head"];
            head["id"] == commit && head["state"] == state && head["reasons"] == Value::from(reasons.to_vec())
        })
        .unwrap_or_else(|error| panic!("{error}: {repository:#}"));
        let metrics = self.setting.metrics().unwrap();
        let value = |name, label, value| metrics.sum(name, &[(label, value)]).to_string();
        assert_eq!(value("clinigate_repository_commit_state", "state", state), "1");
        for reason in reasons {
            assert_eq!(value("clinigate_repository_commit_blocked", "reason", reason), "1", "{reason}");
        }
        repository
    }

    /// Whether one reaches another's port now.
    pub(crate) fn connects(&self, from: &str, to: &str, port: u16) -> bool {
        let to = self.hospital.host(to).at(port);
        let wait = Duration::from_millis(700);
        self.hospital.host(from).namespace.run(|| clinigate_tests::peers::tcp::connects(to, wait)).unwrap()
    }
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let until = Instant::now() + SOON;
    while !condition() {
        if Instant::now() > until {
            return Err(format!("{what}: not within {SOON:?}"));
        }
        // Asking starts a process and reads all tables: oftener costs more than the service does.
        thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}
