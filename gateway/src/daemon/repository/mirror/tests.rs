#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use super::super::{Access, Allowed};
use super::*;

/// A repository with a work tree, and a mirror of it.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.tree()).unwrap();
        bench.git(&["init", "--quiet", "--initial-branch=main"]);
        bench
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    fn git(&self, arguments: &[&str]) -> String {
        let identity =
            ["-c", "user.name=Mori\x07 Aya", "-c", "user.email=a@example.org", "-c", "commit.gpgSign=false"];
        let mut git = Command::new("git");
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let output = git.arg("-C").arg(self.tree()).args(identity).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, file: &str, text: &str, message: &str) -> String {
        let path = self.tree().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn mirror(&self) -> Mirror {
        let settings = Settings {
            location: self.tree().to_str().unwrap().parse().unwrap(),
            reference: "main".parse().unwrap(),
            path: "policies/north".parse().unwrap(),
            interval: Duration::from_secs(1),
            require_signature: false,
            access: Access::default(),
            confirm_within: None,
            status_file: None,
            hook: None,
        };
        Mirror::open(&settings, &self.directory.path().join("state")).unwrap()
    }
}

#[test]
fn a_commit_is_fetched_and_read_as_it_is() {
    let bench = Bench::new();
    bench.commit("policies/north/a.yaml", "segments: {}\n", "old");
    bench.commit("policies/north/b/c.yml", "\u{fffd}\n\nflows: []", "files");
    bench.commit("policies/north/notes.txt", "no policy", "notes");
    let head = bench.commit("policies/south/z.yaml", "other: 1", "other\x1b[2J words");
    std::os::unix::fs::symlink("/etc/passwd", bench.tree().join("policies/north/link.yaml")).unwrap();
    let mirror = bench.mirror();
    assert_eq!(mirror.head(), None);
    mirror.fetch().unwrap();
    assert_eq!(mirror.head().as_ref(), Some(&head));
    let about = mirror.about(&head).unwrap();
    assert_eq!(
        (about.author.as_str(), about.subject.as_str()),
        ("Mori  Aya <a@example.org>", "other [2J words")
    );
    let mut files: Vec<(String, Option<String>)> = mirror
        .read(&head)
        .unwrap()
        .into_iter()
        .map(|blob| (blob.name, blob.bytes.map(|bytes| String::from_utf8(bytes).unwrap())))
        .collect();
    files.sort();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        files,
        [
            ("a.yaml".to_owned(), text("segments: {}\n")),
            ("b/c.yml".to_owned(), text("\u{fffd}\n\nflows: []")),
        ]
    );
    let linked = bench.commit("policies/north/a.yaml", "", "a link");
    mirror.fetch().unwrap();
    let files = mirror.read(&linked).unwrap();
    assert!(files.iter().any(|blob| blob.name == "link.yaml" && blob.bytes.is_none()), "{files:?}");
}

#[test]
fn history_goes_on_from_the_accepted_commit_or_is_from_elsewhere() {
    let bench = Bench::new();
    let first = bench.commit("policies/north/a.yaml", "1", "first");
    let second = bench.commit("policies/north/a.yaml", "2", "second");
    let mirror = bench.mirror();
    mirror.fetch().unwrap();
    assert_eq!(mirror.descent(&second).unwrap(), Descent::After, "nothing has been accepted");
    mirror.accept(&second).unwrap();
    let third = bench.commit("policies/north/a.yaml", "3", "third");
    mirror.fetch().unwrap();
    assert_eq!(mirror.descent(&third).unwrap(), Descent::After);
    mirror.accept(&third).unwrap();
    // An old commit put back, and a history that somebody wrote anew.
    bench.git(&["reset", "--quiet", "--hard", &second]);
    mirror.fetch().unwrap();
    assert_eq!(mirror.head().as_ref(), Some(&second));
    assert_eq!(mirror.descent(&second).unwrap(), Descent::Elsewhere);
    bench.git(&["reset", "--quiet", "--hard", &first]);
    let other = bench.commit("policies/north/a.yaml", "3", "third, they say");
    mirror.fetch().unwrap();
    assert_eq!(mirror.descent(&other).unwrap(), Descent::Elsewhere);
    // It is known after a restart, and when the copy was lost.
    fs::remove_dir_all(bench.directory.path().join("state/repository/mirror.git")).unwrap();
    let mirror = bench.mirror();
    assert_eq!(mirror.accepted(), Some(third));
    mirror.fetch().unwrap();
    assert_eq!(mirror.descent(&other).unwrap(), Descent::Elsewhere);
}

#[test]
fn trailers_of_all_commits_since_the_accepted_one_count() {
    let bench = Bench::new();
    let first = bench.commit("policies/north/a.yaml", "1", "first\n\nClinigate-Allow: widen-zones");
    let mirror = bench.mirror();
    mirror.fetch().unwrap();
    assert!(mirror.trailers(&first).unwrap().allowed.widens);
    mirror.accept(&first).unwrap();
    bench.commit("policies/north/a.yaml", "2", "second\n\nClinigate-Allow: cut-connections");
    let third = bench.commit("policies/north/a.yaml", "3", "third\n\nClinigate-Confirm-Within: 5m");
    mirror.fetch().unwrap();
    let trailers = mirror.trailers(&third).unwrap();
    assert_eq!(trailers.allowed, Allowed { cuts: true, widens: false });
    assert_eq!(trailers.confirm_within, Some(Duration::from_mins(5)));
    // In the middle of a message it is no trailer.
    let fourth =
        bench.commit("policies/north/a.yaml", "4", "fourth\n\nClinigate-Allow: widen-zones\n\nas we said");
    mirror.fetch().unwrap();
    assert!(!mirror.trailers(&fourth).unwrap().allowed.widens);
}

#[test]
fn a_lost_remote_and_a_damaged_copy_are_survived() {
    let bench = Bench::new();
    let first = bench.commit("policies/north/a.yaml", "1", "first");
    let mirror = bench.mirror();
    mirror.fetch().unwrap();
    let aside = bench.directory.path().join("aside");
    fs::rename(bench.tree(), &aside).unwrap();
    assert!(mirror.fetch().is_err());
    assert_eq!(mirror.head(), Some(first.clone()), "what is here stays here");
    fs::rename(&aside, bench.tree()).unwrap();
    // A power cut left packs and objects empty, and a lock behind.
    let git = bench.directory.path().join("state/repository/mirror.git");
    fs::remove_dir_all(git.join("objects")).unwrap();
    fs::create_dir(git.join("objects")).unwrap();
    fs::write(git.join("refs/clinigate/head.lock"), "").unwrap();
    let second = bench.commit("policies/north/a.yaml", "2", "second");
    let mirror = bench.mirror();
    mirror.fetch().unwrap();
    assert_eq!(mirror.head(), Some(second.clone()));
    assert_eq!(mirror.read(&second).unwrap().len(), 1);
}
