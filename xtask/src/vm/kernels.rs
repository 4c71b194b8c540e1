//! Which kernels there are, and where: Debian's for clouds, small and without drivers for real machines; with `-full`
//! behind its name, the one with all drivers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::process;
use crate::setup::debian::PrivateApt;

/// The oldest kernel that is supported. CI runs it.
pub(super) const FLOOR: &str = "6.1";

/// What is run unless kernels are named: a series, or the newest kernel of a suite, which may be of a series named too.
pub(super) const USUAL: [&str; 4] = [FLOOR, "6.12", "trixie-backports", "7"];

/// Where kernels are looked for: old stable with the floor, stable, and its backports, which go with the newest.
const SUITES: [&str; 3] = ["bookworm", "trixie", "trixie-backports"];

/// What Debian calls the packages of such kernels: `linux-image-<release>-cloud-amd64`.
const IMAGE: &str = "linux-image-";
const FLAVOUR: &str = "-cloud-amd64";
/// And those with all drivers: `linux-image-<release>-amd64`.
const FULL_FLAVOUR: &str = "-amd64";
/// What asks for one of those.
const FULL: &str = "-full";

/// A kernel that is unpacked.
pub(super) struct Kernel {
    /// What it was asked for by.
    pub(super) asked: String,
    /// `uname -r`.
    pub(super) release: String,
    /// The bootable file.
    pub(super) image: PathBuf,
    /// The folder of its modules.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// The kernel that was fetched for this name earlier, if one was.
    pub(super) fn fetched(asked: &str) -> Option<Self> {
        let folder = folder(asked);
        let release = fs::read_to_string(folder.join("release")).ok()?.trim().to_owned();
        // Older packages have the kernel in /boot and modules in /lib; newer ones have both in /usr/lib.
        let places = ["lib/modules", "usr/lib/modules"].map(|place| folder.join(place).join(&release));
        let modules = places.iter().find(|place| place.join("kernel").is_dir())?.clone();
        let images = places.iter().map(|place| place.join("vmlinuz"));
        let image = images
            .chain([folder.join("boot").join(format!("vmlinuz-{release}"))])
            .find(|image| image.is_file())?;
        Some(Self { asked: asked.to_owned(), release, image, modules })
    }
}

/// Brings these kernels. One that is not to be had is an error in its place.
pub(super) fn provide(asked: &[String], fresh: bool) -> Vec<Result<Kernel>> {
    let missing = |name: &&String| fresh || Kernel::fetched(name).is_none();
    if !asked.iter().any(|name| missing(&name)) {
        return asked.iter().map(|name| Kernel::fetched(name).context("it was there just now")).collect();
    }
    eprintln!("vm: asking Debian's archive for kernels");
    let apt = PrivateApt::new(process::workspace_root().join("target/vm/apt"), &SUITES);
    let kernels = asked.iter().map(|name| {
        if missing(&name) {
            fetch(apt.as_ref().map_err(|error| anyhow!("{error:#}"))?, name)?;
        }
        Kernel::fetched(name).with_context(|| format!("the package of kernel {name} has another form"))
    });
    kernels.collect()
}

fn fetch(apt: &PrivateApt, asked: &str) -> Result<()> {
    let release = newest(apt, asked)?;
    eprintln!("vm: kernel {asked} is {release}: fetching it");
    let folder = folder(asked);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Newer kernels are split, and the image only names the parts.
    let parts = ["linux-base-", "linux-binary-", "linux-modules-"].map(|part| format!("{part}{release}"));
    let mut packages = vec![format!("{IMAGE}{release}")];
    for part in parts {
        if !apt.madison(&part)?.is_empty() {
            packages.push(part);
        }
    }
    apt.unpack(&packages, &folder)?;
    // Last: a folder without this file is one whose fetching was interrupted.
    fs::write(folder.join("release"), release)
        .with_context(|| format!("cannot write in {}", folder.display()))
}

/// The newest release of a series (`6.12`) or of a suite (`trixie-backports`).
fn newest(apt: &PrivateApt, asked: &str) -> Result<String> {
    let names = apt.names(IMAGE)?;
    let (asked, is_full) = asked.strip_suffix(FULL).map_or((asked, false), |asked| (asked, true));
    let mut releases: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_prefix(IMAGE))
        .filter(|release| is_of_flavour(release, is_full))
        .filter(|release| release.starts_with(|first: char| first.is_ascii_digit()))
        .filter(|release| SUITES.contains(&asked) || is_of_series(release, asked))
        .collect();
    releases.sort_by_key(|release| numbers(release));
    for release in releases.into_iter().rev() {
        // Names of packages that are gone are known too, from what others depend on.
        let table = apt.madison(&format!("{IMAGE}{release}"))?;
        let is_there =
            if SUITES.contains(&asked) { table.contains(&format!(" {asked}/")) } else { !table.is_empty() };
        if is_there {
            return Ok(release.to_owned());
        }
    }
    bail!("Debian's archive has no cloud kernel {asked} in {}", SUITES.join(", "))
}

fn is_of_flavour(release: &str, is_full: bool) -> bool {
    let rest = release.strip_suffix(if is_full { FULL_FLAVOUR } else { FLAVOUR });
    // Others have one more word before the architecture: `-cloud`, `-rt`.
    rest.is_some_and(|rest| !is_full || rest.ends_with(|last: char| last.is_ascii_digit()))
}

fn is_of_series(release: &str, series: &str) -> bool {
    release.strip_prefix(series).is_some_and(|rest| rest.starts_with('.'))
}

/// The numbers in a release, by which releases have an order: 6.12.90 is before 6.12.107.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

fn folder(asked: &str) -> PathBuf {
    process::workspace_root().join("target/vm/kernels").join(Path::new(asked).file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_an_order_and_a_series() {
        let mut releases =
            ["6.12.107+deb13-cloud-amd64", "6.12.90+deb13.1-cloud-amd64", "6.1.0-50-cloud-amd64"];
        releases.sort_by_key(|release| numbers(release));
        assert_eq!(
            releases.map(|release| release.split('-').next()),
            [Some("6.1.0"), Some("6.12.90+deb13.1"), Some("6.12.107+deb13")]
        );
        assert!(is_of_flavour("6.1.0-50-cloud-amd64", false) && !is_of_flavour("6.1.0-50-cloud-amd64", true));
        assert!(is_of_flavour("6.12.107+deb13-amd64", true) && !is_of_flavour("6.12.107+deb13-amd64", false));
        assert!(!is_of_flavour("6.1.0-50-rt-amd64", true));
        assert!(is_of_series("6.1.0-50-cloud-amd64", "6.1"));
        assert!(!is_of_series("6.12.107+deb13-cloud-amd64", "6.1"));
        assert!(is_of_series("7.3.4+deb13-cloud-amd64", "7"));
    }
}
