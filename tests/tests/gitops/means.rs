//! Other means than a directory and ssh's signatures: `OpenPGP`, a remote over ssh, and telling others what became of a commit.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use clinigate_tests::namespace::tool;
use clinigate_tests::service::{self, Setting};

use crate::ward::{Ward, wait_until};

/// Writes a program.
fn script(path: &Path, text: &str) -> PathBuf {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

/// A home directory of gpg with one key.
struct Keyring(PathBuf);

impl Keyring {
    fn create(directory: PathBuf, owner: &str) -> Self {
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(&directory).args(["--batch", "--quiet", "--passphrase", ""]);
        tool(gpg.args(["--quick-gen-key", owner, "ed25519", "sign", "never"])).unwrap();
        Self(directory)
    }

    /// Commits and pushes with its key.
    fn publish(&self, ward: &Ward, message: &str) -> String {
        // git finds gpg's home in its environment only.
        let program = script(
            &self.0.join("gpg"),
            &format!("#!/bin/sh\nexec gpg --homedir '{}' \"$@\"\n", self.0.display()),
        );
        let program = format!("gpg.program={}", program.display());
        let repository = &ward.repository;
        repository.git(&["add", "--all"]).unwrap();
        let settings = ["-c", &program, "-c", "user.signingKey=@example.org"];
        repository
            .git(
                &[&settings[..], &["commit", "--quiet", "--allow-empty", "-S", "--message", message]]
                    .concat(),
            )
            .unwrap();
        repository.push().unwrap();
        repository.head().unwrap()
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        let _ = tool(Command::new("gpgconf").arg("--homedir").arg(&self.0).args(["--kill", "all"]));
    }
}

/// Stands for ssh: what it is asked to run there it runs here, and it writes down how it was called.
const SSH: &str =
    "#!/bin/sh\nprintf '%s\\n' \"$*\" >> \"$0.log\"\nfor last; do :; done\nexec sh -c \"$last\"\n";

/// Commits signed by a key of the keyring count, those of other keys do not; and the repository is reached over ssh, which asks
/// nothing and talks to known hosts only.
#[test]
fn openpgp_signatures_count_and_ssh_asks_nothing() {
    let ward = Ward::build();
    let directory = ward.hospital.run().directory();
    let keyring = Keyring::create(directory.join("gpg"), "Mori Aya <mori@example.org>");
    let stranger = Keyring::create(directory.join("stranger"), "A Stranger <stranger@example.org>");
    let good = keyring.publish(&ward, "Signed otherwise");
    let bin = directory.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let ssh = script(&bin.join("ssh"), SSH);
    let program = service::binary().unwrap();
    let with_ssh = format!("#!/bin/sh\nPATH='{}':$PATH exec '{}' \"$@\"\n", bin.display(), program.display());
    let setting = Setting::new(&ward.hospital, script(&bin.join("clinigate"), &with_ssh));
    let key = directory.join("id");
    fs::write(&key, "").unwrap();
    let url = format!("ssh://git@git.hospital.example{}", ward.repository.url().display());
    let options: [&OsStr; 11] = [
        "--repo".as_ref(),
        url.as_ref(),
        "--path".as_ref(),
        "policies/hospital".as_ref(),
        "--interval".as_ref(),
        "1s".as_ref(),
        "--require-signature".as_ref(),
        "--keyring".as_ref(),
        keyring.0.as_ref(),
        "--ssh-key".as_ref(),
        key.as_ref(),
    ];
    let mut service = setting.run(options).unwrap();
    service.wait_ready(crate::ward::SOON).unwrap();
    let found = ward.wait_for(&good, "in-force", &[]);
    let signer = found["head"]["signer"].as_str().unwrap();
    assert!(signer.starts_with("Mori Aya <mori@example.org> ("), "{signer}");
    let called = fs::read_to_string(ssh.with_extension("log")).unwrap();
    let wanted =
        ["-o BatchMode=yes -o StrictHostKeyChecking=yes", "-i ", "git@git.hospital.example git-upload-pack"];
    assert!(wanted.iter().all(|wanted| called.contains(wanted)), "{called}");

    ward.flow("viewers", "lis", "https");
    let commit = stranger.publish(&ward, "A stranger signed this");
    let found = ward.wait_for(&commit, "refused", &["signature"]);
    assert!(found["head"]["message"].as_str().unwrap().contains("does not count"), "{found}");
    ward.repository.reset(&good).unwrap();
    ward.flow("viewers", "lis", "https");
    let commit = ward.repository.publish("By ssh, whose keys are not given", Some(&ward.key)).unwrap();
    let found = ward.wait_for(&commit, "refused", &["signature"]);
    assert!(found["head"]["message"].as_str().unwrap().contains("--allowed-signers is not given"), "{found}");
    service.end().unwrap();
}

/// A forge that takes statuses of commits: what it was sent.
fn forge(ward: &Ward) -> (u16, Receiver<String>) {
    let listener = ward.hospital.gateway.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, receive) = channel();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let (mut text, mut part) = (String::new(), [0; 4096]);
            while !text.ends_with('}') {
                let length = stream.read(&mut part).unwrap();
                text += &String::from_utf8_lossy(&part[..length]);
            }
            stream
                .write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .unwrap();
            if send.send(text).is_err() {
                return;
            }
        }
    });
    (port, receive)
}

/// The hooks that come with the project: what became of a commit stands in its notes, and in the forge.
#[test]
fn hooks_tell_what_became_of_a_commit() {
    let ward = Ward::build();
    let directory = ward.hospital.run().directory();
    let (port, statuses) = forge(&ward);
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/hooks").canonicalize().unwrap();
    let clone = directory.join("notes");
    tool(Command::new("git").args(["clone", "--quiet"]).arg(ward.repository.url()).arg(&clone)).unwrap();
    fs::write(directory.join("token"), "secret\n").unwrap();
    let text = format!(
        "#!/bin/sh\nset -e\nexport GATEWAY=gw-north GIT_CONFIG_GLOBAL=/dev/null\n\
         export GIT_AUTHOR_NAME=gw GIT_AUTHOR_EMAIL=gw@example.org GIT_COMMITTER_NAME=gw GIT_COMMITTER_EMAIL=gw@example.org\n\
         NOTES_REPOSITORY='{}' '{hooks}/git-note'\n\
         STATUS_URL=http://127.0.0.1:{port}/statuses TOKEN_FILE='{}' '{hooks}/commit-status'\n",
        clone.display(),
        directory.join("token").display(),
        hooks = hooks.display()
    );
    let hook = script(&directory.join("hook"), &text);
    let service = ward.start_with(&["--hook", hook.to_str().unwrap()]);
    let first = ward.repository.head().unwrap();
    ward.wait_for(&first, "in-force", &[]);
    ward.flow("building", "his", "https");
    let held = ward.repository.publish("Building management reads records", Some(&ward.key)).unwrap();
    ward.wait_for(&held, "held", &["widen-zones"]);
    let noted = |commit: &str, words: &str| {
        let mut git = Command::new("git");
        git.arg("--git-dir").arg(ward.repository.url()).args(["notes", "--ref=clinigate", "show", commit]);
        git.output().is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(words))
    };
    wait_until("the notes tell", || {
        noted(&first, "gw-north: in-force") && noted(&held, "gw-north: held widen-zones")
    })
    .unwrap();
    let mut told = Vec::new();
    wait_until("the forge is told", || {
        told.extend(statuses.try_iter());
        told.iter().any(|it| it.contains(&held))
    })
    .unwrap_or_else(|error| panic!("{error}: {told:#?}"));
    let of =
        |commit: &str| told.iter().find(|it| it.starts_with(&format!("POST /statuses/{commit} "))).unwrap();
    assert!(of(&first).contains(r#"{"state":"success","context":"clinigate/gw-north","#), "{told:#?}");
    assert!(
        of(&held).contains(r#""state":"pending""#) && of(&held).contains("held widen-zones"),
        "{told:#?}"
    );
    assert!(of(&held).contains("Authorization: token secret"), "{told:#?}");
    drop(service);
}
