//! What the controller keeps on disk about generations, so that the next one can name what it finds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use gateway_common::place::{Place, PlaceKey};
use serde::{Deserialize, Serialize};

use super::error::DataplaneError;
use super::links::EarlierName;
use crate::compile::image::{Manifest, NamedPlace};

/// Where a generation comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Directory of the policy, or what else it came from.
    pub source: String,
    /// Commit of the policy, where it is under version control.
    pub commit: Option<String>,
    /// SHA-256 of the policy's text.
    pub policy_hash: String,
    /// Milliseconds since 1970 (UTC) at which it was applied.
    pub applied_at: u64,
    /// Microseconds that loading it took, until it was in force.
    pub duration_us: u64,
    /// Version of the binary that applied it.
    pub binary: String,
    /// Files of the policy, relative to its directory.
    #[serde(default)]
    pub files: Vec<String>,
    /// Sizes of the tables, by what they hold.
    #[serde(default)]
    pub tables: BTreeMap<String, u64>,
    /// Tells apart what was laid over the policy; empty where nothing was.
    #[serde(default)]
    pub orders: String,
    /// Milliseconds since 1970 at which the kernel's clock began, as the wall clock said then; where what was laid depends on it.
    #[serde(default)]
    pub beginning: Option<i64>,
}

/// A pinned generation, described.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) generation: u32,
    /// SHA-256 of the eBPF object that it was loaded from.
    pub(super) object: String,
    pub(super) manifest: Manifest,
    pub(super) record: Record,
    pub(super) places: Vec<StoredPlace>,
    /// The gateway's addresses when it was applied.
    pub(super) addresses: Vec<IpAddr>,
    /// What earlier policies called interfaces that have other names by now, for whoever goes back to one of them.
    #[serde(default)]
    pub(super) earlier: Vec<EarlierName>,
}

/// A [`NamedPlace`] on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredPlace {
    pub(super) interface: String,
    outer: u16,
    vlan: u16,
    segment: u16,
    flags: u16,
    link_atom: u32,
}

impl StoredPlace {
    /// The entry of the place table, on interface `ifindex`.
    pub(super) fn on(&self, ifindex: u32) -> (PlaceKey, Place) {
        let key = PlaceKey { ifindex, outer: self.outer, vlan: self.vlan };
        (key, Place { segment: self.segment, flags: self.flags, link_atom: self.link_atom })
    }

    /// The entry for what a bond receives by its link with this index.
    pub(super) fn on_link(&self, ifindex: u32) -> (PlaceKey, Place) {
        let (key, mut place) = self.on(ifindex);
        if self.outer == 0 && self.vlan == 0 || key == PlaceKey::interface(ifindex) {
            place.flags |= Place::LINK;
        }
        (key, place)
    }
}

impl From<&NamedPlace> for StoredPlace {
    fn from(named: &NamedPlace) -> Self {
        let NamedPlace { interface, outer, vlan, place } = named;
        Self {
            interface: interface.clone(),
            outer: *outer,
            vlan: *vlan,
            segment: place.segment,
            flags: place.flags,
            link_atom: place.link_atom,
        }
    }
}

impl Description {
    /// The description of a generation, or `None` where there is none that can be read: the
    /// generation is then in force all the same, without names.
    pub(super) fn read(state: &Path, generation: u32) -> Option<Self> {
        let path = path(state, generation);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no description of a pinned generation");
                return None;
            }
        };
        let parsed = serde_json::from_slice(&text);
        parsed
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "unreadable description"))
            .ok()
    }

    /// Writes the description, all of it or nothing.
    pub(super) fn write(&self, state: &Path) -> Result<(), DataplaneError> {
        let path = path(state, self.generation);
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        text.and_then(|text| replace(&path, &text)).map_err(DataplaneError::io("cannot write", &path))
    }

    /// Stands in where a generation has none.
    pub(super) fn nameless(generation: u32) -> Self {
        let hash = String::new();
        Self {
            generation,
            object: String::new(),
            manifest: Manifest {
                hash,
                segments: Vec::new(),
                rules: Vec::new(),
                interfaces: Vec::new(),
                table_bytes: 0,
                forwarding: false,
            },
            record: Record::default(),
            places: Vec::new(),
            addresses: Vec::new(),
            earlier: Vec::new(),
        }
    }

    /// Removes the descriptions of generations that are gone.
    pub(super) fn remove_all_but(state: &Path, generation: u32) {
        let Ok(entries) = fs::read_dir(state.join("generations")) else { return };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let numbers = names.filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        for other in numbers.filter(|number| *number != generation) {
            Self::remove(state, other);
        }
    }

    /// Removes the description of a generation.
    pub(super) fn remove(state: &Path, generation: u32) {
        let path = path(state, generation);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a description");
        }
    }
}

fn path(state: &Path, generation: u32) -> PathBuf {
    state.join("generations").join(format!("{generation}.json"))
}

/// Replaces a file: after a crash at any point it holds the old text or the new.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}
