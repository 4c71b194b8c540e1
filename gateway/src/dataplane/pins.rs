//! Where things are pinned.
//!
//! ```text
//! <root>/v<layout version>/shared/<MAP>          what outlives generations
//!                         /entry-<object hash>   the entry program
//!                         /bare-<object hash>    the same for devices without a link layer, where there may be some
//!                         /gen-<N>/judge, egress, bare-egress, <MAP>
//! <root>/links/<interface>@<index>:xdp, <interface>@<index>:egress
//! ```
//!
//! On kernels without tcx there is no link at the exit: a directory of that name says that there is a classifier
//! (`clsact`), which stays with the interface by itself.
//!
//! A link is known by the index of its interface; the name beside it is the one that the policy
//! has for it. The BPF filesystem allows no dots in names (kernel/bpf/inode.c, `bpf_lookup`); interface names
//! may have them, so they are escaped.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gateway_common::layout;

use super::error::DataplaneError;
use super::{clsact, sys};

/// The pin root and the paths in it.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    /// Ingress of every frame.
    Xdp,
    /// Egress, for what the gateway itself sends.
    Egress,
}

impl Hook {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "XDP",
            Self::Egress => "egress",
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Xdp => ":xdp",
            Self::Egress => ":egress",
        }
    }
}

const GENERATION: &str = "gen-";
const ENTRY: &str = "entry-";
const BARE: &str = "bare-";

impl Pins {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Directory of this binary's layout.
    pub(super) fn layout(&self) -> PathBuf {
        self.root.join(format!("v{}", layout::VERSION))
    }

    pub(super) fn shared(&self, map: &str) -> PathBuf {
        self.layout().join("shared").join(map)
    }

    pub(super) fn generation(&self, number: u32) -> PathBuf {
        self.layout().join(format!("{GENERATION}{number}"))
    }

    /// The entry program of the eBPF object with this hash.
    pub(super) fn entry(&self, object: &str) -> PathBuf {
        self.layout().join(format!("{ENTRY}{}", object.get(..16).unwrap_or(object)))
    }

    /// The entry program for devices without a link layer that belongs to another.
    pub(super) fn bare(&self, entry: &Path) -> PathBuf {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        self.layout().join(name.replacen(ENTRY, BARE, 1))
    }

    /// The same for the program at the exit, of one generation.
    pub(super) fn bare_egress(&self, number: u32) -> PathBuf {
        self.generation(number).join("bare-egress")
    }

    pub(super) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub(super) fn link(&self, interface: &str, ifindex: u32, hook: Hook) -> PathBuf {
        self.links().join(format!("{}@{ifindex}{}", escape(interface), hook.suffix()))
    }

    /// Makes the directories of this layout.
    pub(super) fn create(&self) -> Result<(), DataplaneError> {
        for directory in [self.layout().join("shared"), self.links()] {
            fs::create_dir_all(&directory).map_err(DataplaneError::io("cannot create", &directory))?;
        }
        Ok(())
    }

    /// Every generation that is pinned, whole or not, in order.
    pub(super) fn generations(&self) -> Result<Vec<u32>, DataplaneError> {
        let names = names_in(&self.layout())?;
        let mut numbers: Vec<u32> =
            names.iter().filter_map(|name| name.strip_prefix(GENERATION)?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Every pinned entry program of this layout.
    pub(super) fn entries(&self) -> Result<Vec<PathBuf>, DataplaneError> {
        let layout = self.layout();
        let names = names_in(&layout)?;
        Ok(names.iter().filter(|name| name.starts_with(ENTRY)).map(|name| layout.join(name)).collect())
    }

    /// Every pinned link, and every directory that stands for a classifier.
    pub(super) fn all_links(&self) -> Result<Vec<Attachment>, DataplaneError> {
        let mut links: Vec<_> =
            names_in(&self.links())?.iter().filter_map(|name| attachment(&self.links(), name)).collect();
        links.sort();
        Ok(links)
    }

    /// Directories of other layouts, and of this one where it was set aside.
    pub(super) fn other_layouts(&self) -> Result<Vec<PathBuf>, DataplaneError> {
        let current = self.layout();
        let paths = names_in(&self.root)?.into_iter().filter(|name| is_layout(name));
        Ok(paths.map(|name| self.root.join(name)).filter(|path| *path != current).collect())
    }

    /// Moves this layout's directory out of the way: what is pinned in it stays pinned and in force.
    pub(super) fn set_aside(&self) -> Result<PathBuf, DataplaneError> {
        let current = self.layout();
        let free = (1_u32..).map(|n| self.root.join(format!("v{}-replaced-{n}", layout::VERSION)));
        let target = free.into_iter().find(|path| !path.exists()).expect("numbers do not run out");
        fs::rename(&current, &target).map_err(DataplaneError::io("cannot set aside", &current))?;
        Ok(target)
    }
}

/// What stands in the directory of links.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attachment {
    /// What the policy calls the interface.
    pub(super) interface: String,
    pub(super) hook: Hook,
    pub(super) path: PathBuf,
    /// Index of the interface when it was attached.
    pub(super) ifindex: u32,
}

impl Attachment {
    /// It stands for a classifier, and is no link.
    pub(super) fn is_classifier(&self) -> bool {
        self.path.is_dir()
    }
}

fn attachment(links: &Path, name: &str) -> Option<Attachment> {
    let mut hooks = [Hook::Xdp, Hook::Egress].into_iter();
    let (stem, hook) = hooks.find_map(|hook| Some((name.strip_suffix(hook.suffix())?, hook)))?;
    let (interface, ifindex) = stem.rsplit_once('@')?;
    Some(Attachment {
        interface: unescape(interface),
        hook,
        path: links.join(name),
        ifindex: ifindex.parse().ok()?,
    })
}

/// Notes that an interface has a classifier.
pub(super) fn note(path: &Path) -> Result<(), DataplaneError> {
    fs::create_dir(path).map_err(DataplaneError::io("cannot create", path))
}

/// Removes a pin, or the note of a classifier; that it is absent is no error.
pub(super) fn unpin(path: &Path) -> Result<(), DataplaneError> {
    match if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) } {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DataplaneError::io("cannot unpin", path)(error))
        }
        _ => Ok(()),
    }
}

/// Takes the program of a pinned link or of a classifier off its interface, then removes the pin; that it is
/// absent is no error.
pub(super) fn take_off(path: &Path) -> Result<(), DataplaneError> {
    if path.is_dir() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(classifier) = attachment(path, &name) {
            clsact::detach(classifier.ifindex)
                .map_err(DataplaneError::io("cannot take off the classifier", path))?;
        }
        return unpin(path);
    }
    match sys::open_pin(path) {
        // A link whose interface is gone has nothing to take off.
        Ok(link) => drop(sys::detach_link(link.as_fd())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DataplaneError::io("cannot open the pin", path)(error)),
    }
    unpin(path)
}

/// Removes a directory of pins with all that is in it; that it is absent is no error.
pub(super) fn remove_tree(path: &Path) -> Result<(), DataplaneError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DataplaneError::io("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn is_layout(name: &str) -> bool {
    name.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

fn names_in(directory: &Path) -> Result<Vec<String>, DataplaneError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DataplaneError::io("cannot list", directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(DataplaneError::io("cannot list", directory))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

/// The kernel allows every byte but `/`, `:` and white space in the name of an interface.
fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_survive_escaping() {
        for name in ["eth0", "eth0.10", "a%2eb", "%.%25"] {
            let escaped = escape(name);
            assert!(!escaped.contains('.'), "{escaped}");
            assert_eq!(unescape(&escaped), name);
        }
    }

    #[test]
    fn interface_and_index_are_read_from_the_name_of_a_pin() {
        let found = attachment(Path::new("/links"), "eth0%2e10@7:egress")
            .map(|found| (found.interface, found.ifindex));
        assert_eq!(found, Some(("eth0.10".to_owned(), 7)));
        for other in ["eth0:egress", "eth0@x:egress", "eth0@7", "eth0@7:other"] {
            assert_eq!(attachment(Path::new("/links"), other), None, "{other}");
        }
    }

    #[test]
    fn layouts_are_told_from_links() {
        assert!(is_layout("v1") && is_layout("v1-replaced-1"));
        assert!(!is_layout("links") && !is_layout("vlan"));
    }
}
