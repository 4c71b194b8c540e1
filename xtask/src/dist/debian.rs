//! The package's tree, and dpkg-deb.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::components::Components;
use super::{licences, sbom};
use crate::process;

/// What is packed.
pub(super) struct Package<'a> {
    pub(super) program: &'a Path,
    pub(super) version: &'a str,
    pub(super) components: &'a Components,
    pub(super) compressed: bool,
}

/// Files of the tree: where they stand in it, and where in the package. Folders go whole.
const FILES: [(&str, &str); 9] = [
    ("deploy/debian/clinigate.service", "usr/lib/systemd/system/clinigate.service"),
    ("deploy/debian/clinigate-forwarding.service", "usr/lib/systemd/system/clinigate-forwarding.service"),
    ("deploy/debian/sysusers.conf", "usr/lib/sysusers.d/clinigate.conf"),
    ("deploy/debian/default", "etc/default/clinigate"),
    ("deploy/debian/forwarding.conf", "etc/clinigate/forwarding.conf"),
    ("policies", "usr/share/doc/clinigate/examples/policies"),
    ("docs", "usr/share/doc/clinigate"),
    ("README.md", "usr/share/doc/clinigate/README.md"),
    ("CHANGELOG.md", "usr/share/doc/clinigate/CHANGELOG.md"),
];
/// Dashboards, rules, and what else there is for the programs around it; all but our own folder.
const DEPLOY: (&str, &str) = ("deploy", "usr/share/clinigate");
/// What of the tree is this package's own.
const OWN: &str = "debian";
/// What an administrator changes, and an upgrade leaves alone.
const CONFFILES: &str = "/etc/clinigate/forwarding.conf\n/etc/default/clinigate\n";
/// Scripts that dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Completions: the shell's name, and where it looks for them.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/clinigate"),
    ("zsh", "usr/share/zsh/vendor-completions/_clinigate"),
    ("fish", "usr/share/fish/vendor_completions.d/clinigate.fish"),
];
const DOCUMENTS: &str = "usr/share/doc/clinigate";

impl Package<'_> {
    /// Writes the package into a folder, and the bill of materials beside it.
    pub(super) fn write(&self, out: &Path) -> Result<PathBuf> {
        let architecture = process::output(process::command("dpkg").arg("--print-architecture"))?;
        let name = format!("clinigate_{}_{}", self.version, architecture.trim());
        let tree = out.join(&name);
        if tree.exists() {
            fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
        }
        let root = process::workspace_root();
        put(self.program, &tree.join("usr/bin/clinigate"), 0o755)?;
        for (from, to) in FILES {
            put_all(&root.join(from), &tree.join(to))?;
        }
        let (from, to) = (root.join(DEPLOY.0), tree.join(DEPLOY.1));
        for entry in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
            let entry = entry?;
            if entry.file_name() != OWN {
                put_all(&entry.path(), &to.join(entry.file_name()))?;
            }
        }
        fs::create_dir_all(tree.join("etc/clinigate/policy")).context("cannot create the policy's folder")?;
        self.made_by_the_program(&tree)?;
        let documents = tree.join(DOCUMENTS);
        write(&documents.join("copyright"), &licences::copyright(self.components)?)?;
        let bill = serde_json::to_string_pretty(&sbom::sbom(self.components, self.version))? + "\n";
        write(&documents.join("clinigate.cdx.json"), &bill)?;
        write(&out.join(format!("{name}.cdx.json")), &bill)?;
        self.control(&tree, architecture.trim())?;
        let file = out.join(format!("{name}.deb"));
        // zstd is not read by every dpkg that is in use.
        let compression = if self.compressed { "-Zxz" } else { "-Znone" };
        process::output(
            process::command("dpkg-deb")
                .args(["--root-owner-group", compression, "--build"])
                .arg(&tree)
                .arg(&file),
        )?;
        fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
        Ok(file)
    }

    /// Manual pages and completions, made by the program that is packed.
    fn made_by_the_program(&self, tree: &Path) -> Result<()> {
        let pages = tree.join("usr/share/man/man1");
        process::output(process::command(self.program).arg("manual").arg(&pages))?;
        let found = fs::read_dir(&pages).with_context(|| format!("cannot list {}", pages.display()))?;
        let mut gzip = process::command("gzip");
        gzip.args(["-9", "--no-name"]);
        for page in found {
            gzip.arg(page?.path());
        }
        process::output(&mut gzip)?;
        for (shell, place) in COMPLETIONS {
            let script = process::output(process::command(self.program).args(["completions", shell]))?;
            write(&tree.join(place), &script)?;
        }
        Ok(())
    }

    fn control(&self, tree: &Path, architecture: &str) -> Result<()> {
        let folder = tree.join("DEBIAN");
        let control = format!(
            "Package: clinigate\nVersion: {}\nArchitecture: {architecture}\nSection: net\nPriority: optional\n\
             Maintainer: Clinigate maintainers <maintainers@clinigate.example>\nInstalled-Size: {}\n\
             Recommends: git\nSuggests: grafana, prometheus\n\
             Description: microsegmentation for hospital networks, in XDP\n \
             Compiles a policy of segments, devices and flows into programs that judge every\n \
             packet in the driver of a router's interfaces, before the kernel's network stack.\n \
             A policy stays in force when the service stops or is upgraded.\n",
            self.version,
            kibibytes(tree)?,
        );
        write(&folder.join("control"), &control)?;
        write(&folder.join("conffiles"), CONFFILES)?;
        for script in SCRIPTS {
            put(&process::workspace_root().join("deploy/debian").join(script), &folder.join(script), 0o755)?;
        }
        Ok(())
    }
}

fn kibibytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        sum += if path.is_dir() { kibibytes(&path)? } else { fs::metadata(&path)?.len().div_ceil(1024) };
    }
    Ok(sum)
}

/// Copies a file, or a folder with all that is in it.
fn put_all(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        let mode = fs::metadata(from).with_context(|| format!("no {}", from.display()))?.permissions().mode();
        return put(from, to, if mode & 0o100 == 0 { 0o644 } else { 0o755 });
    }
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        put_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    ensure!(from.is_file(), "no {}", from.display());
    let folder = to.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", to.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}
