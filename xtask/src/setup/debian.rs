//! Packages of Debian that are unpacked and not installed: the source of Rust's library (`rust-src`), for machines
//! that reach a Debian archive but not the servers of rustup, and the kernels of `cargo xtask vm`.
//!
//! They are usually of another suite than the machine's. They are downloaded
//! alone, with apt's lists, cache and configuration in a folder of our own, and unpacked there: the
//! system's apt and its packages stay as they are.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// Where the pinned compiler's version stands.
const SUITE: &str = "trixie-backports";

/// Debian's own keys, which sign that suite on every mirror.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Fetches the source of exactly this release, hands its `library` folder to `adopt`, and removes what was
/// fetched. Returns the package's version.
pub(super) fn library_source(release: &str, adopt: impl FnOnce(&Path) -> Result<()>) -> Result<String> {
    let apt = PrivateApt::new(process::workspace_root().join("target/setup-apt"), &[SUITE])?;
    let madison = apt.madison("rust-src")?;
    let version = newest_of_release(&madison, release)
        .with_context(|| format!("{SUITE} has no rust-src of release {release}"))?;
    let unpacked = apt.folder.join("unpacked");
    apt.unpack(&[format!("rust-src={version}")], &unpacked)?;
    adopt(&unpacked.join(format!("usr/src/rustc-{release}/library")))?;
    Ok(version.to_owned())
}

/// The addresses from which this machine has its packages, as apt itself reads them from either form of its
/// source lists.
fn archives() -> Result<Vec<String>> {
    let mut list = process::command("apt-get");
    list.args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
        "Component: main",
    ]);
    let mut archives = Vec::new();
    for line in process::output(&mut list)?.lines() {
        let Some((address, suite)) = line.split_once(' ') else { continue };
        // Security updates have an archive of their own, without backports.
        if !suite.contains("security") && !archives.iter().any(|known| known == address) {
            archives.push(address.to_owned());
        }
    }
    Ok(archives)
}

/// The version in `apt-cache madison`'s table whose upstream part is this release: newest first, as they come.
fn newest_of_release<'a>(madison: &'a str, release: &str) -> Option<&'a str> {
    let versions = madison.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    versions.into_iter().find(|version| {
        version.strip_prefix(release).is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', '-', '~']))
    })
}

/// apt with everything that it writes, and its one source, in a folder that is removed at the end.
pub(crate) struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    /// With the lists of these suites, from the archives that this machine has its packages from.
    pub(crate) fn new(folder: PathBuf, suites: &[&str]) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "apt-config", "dpkg-deb"] {
            ensure!(process::find(program).is_some(), "this is not a Debian system: it has no {program}");
        }
        let archives = archives()?;
        ensure!(!archives.is_empty(), "apt has no source of Debian's `main` here");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let apt = Self { folder };
        for part in ["lists/partial", "cache/archives/partial", "download"] {
            let part = apt.folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let machine_s = process::output(process::command("apt-config").arg("dump"))?;
        for (name, text) in
            [("apt.conf", apt.configuration(&machine_s)), ("archive.sources", sources(&archives, suites))]
        {
            let path = apt.folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        process::output(apt.command("apt-get").args(["--quiet=2", "update"]))?;
        Ok(apt)
    }

    /// Names of all packages that begin so.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = process::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The versions of a package that the archive has, as a table; empty where it only knows the name.
    pub(crate) fn madison(&self, package: &str) -> Result<String> {
        process::output(self.command("apt-cache").args(["madison", package]))
    }

    /// Downloads packages, each a name or `name=version`, and unpacks them together into `to`.
    pub(crate) fn unpack(&self, packages: &[String], to: &Path) -> Result<()> {
        process::output(self.command("apt-get").args(["--quiet=2", "download"]).args(packages))?;
        for package in self.downloaded()? {
            process::output(process::command("dpkg-deb").arg("-x").arg(&package).arg(to))?;
            fs::remove_file(&package).with_context(|| format!("cannot remove {}", package.display()))?;
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = process::command(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf")).current_dir(self.folder.join("download"));
        command
    }

    fn downloaded(&self) -> Result<Vec<PathBuf>> {
        let files =
            fs::read_dir(self.folder.join("download")).context("cannot read the folder of downloads")?;
        let paths = files.map(|file| Ok(file.context("cannot read the folder of downloads")?.path()));
        let paths = paths.collect::<Result<Vec<_>>>()?;
        ensure!(!paths.is_empty(), "apt-get downloaded nothing");
        Ok(paths)
    }

    /// The machine's configuration (its proxies are needed) without its hooks (they tidy up the system's apt,
    /// and may want root), then our folders in place of the system's.
    fn configuration(&self, machine_s: &str) -> String {
        let mut text: String = machine_s
            .lines()
            .filter(|line| !line.contains("-Invoke"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let folder = self.folder.display();
        for (option, value) in [
            ("Dir::Etc::main", "/dev/null".to_owned()),
            ("Dir::Etc::parts", "/dev/null".to_owned()),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("Dir::Etc::sourcelist", format!("{folder}/archive.sources")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::State::lists", format!("{folder}/lists")),
            ("Dir::Cache", format!("{folder}/cache")),
            ("Acquire::Languages", "none".to_owned()),
        ] {
            writeln!(text, "{option} \"{value}\";").expect("a string takes any text");
        }
        // apt gives up root for downloads, for a user who may not enter this folder.
        if process::is_root() {
            text.push_str("APT::Sandbox::User \"root\";\n");
        }
        text
    }
}

impl Drop for PrivateApt {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("setup: cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// One source in deb822 form: the machine's addresses, the suites that we need.
fn sources(archives: &[String], suites: &[&str]) -> String {
    let (archives, suites) = (archives.join(" "), suites.join(" "));
    let mut text = format!("Types: deb\nURIs: {archives}\nSuites: {suites}\nComponents: main\n");
    if Path::new(KEYRING).exists() {
        writeln!(text, "Signed-By: {KEYRING}").expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::newest_of_release;

    #[test]
    fn takes_the_package_of_exactly_the_release() {
        let madison = "  rust-src | 1.95.10+dfsg1-1~bpo13+1 | https://archive.example/debian trixie-backports/main amd64\n  \
                         rust-src | 1.95.0+dfsg1-2~bpo13+1 | https://archive.example/debian trixie-backports/main amd64\n  \
                         rust-src | 1.95.0+dfsg1-1~bpo13+1 | https://archive.example/debian trixie-backports/main amd64\n";
        assert_eq!(newest_of_release(madison, "1.95.0"), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(newest_of_release(madison, "1.95.1"), None);
        assert_eq!(newest_of_release("", "1.95.0"), None);
    }
}
