//! The eBPF object that the binary carries, and how a generation is loaded from it.

use std::collections::HashMap;
use std::fs;
use std::sync::LazyLock;

use aya::maps::{MapData, MapType};
use aya::programs::{Program, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use gateway_common::layout::{self, generation, shared};
use gateway_common::place::{Place, PlaceKey};
use gateway_common::table::Config;
use sha2::{Digest, Sha256};

use super::error::DataplaneError;
use super::pins::{self, Pins};
use super::{sys, tables};
use crate::compile::image::Image;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/clinigate-ebpf.o"));

/// The object that this binary carries.
#[cfg(not(feature = "testing"))]
fn object() -> &'static [u8] {
    OBJECT
}

/// The same; in tests, the file that `CLINIGATE_OBJECT` names stands in for it, so that a change of the programs
/// can be tried without building anything else anew.
#[cfg(feature = "testing")]
fn object() -> &'static [u8] {
    static NAMED: LazyLock<Option<Vec<u8>>> = LazyLock::new(|| {
        let path = std::env::var_os("CLINIGATE_OBJECT")?;
        Some(fs::read(path).expect("CLINIGATE_OBJECT names a file that can be read"))
    });
    NAMED.as_deref().unwrap_or(OBJECT)
}

/// SHA-256 of the object, in hexadecimal: tells binaries with other programs apart.
pub(super) fn hash() -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| format!("{:x}", Sha256::digest(object())));
    &HASH
}

/// Instructions of one of the object's programs, as the compiler left them.
pub(super) fn compiled(name: &str) -> Result<u32, DataplaneError> {
    let object = parse()?;
    let program = object.programs.get(name);
    let function = program.and_then(|program| object.functions.get(&program.function_key()));
    let function = function.ok_or_else(|| DataplaneError::Incomplete(format!("program {name}")))?;
    Ok(u32::try_from(function.instructions.len()).unwrap_or(u32::MAX))
}

fn parse() -> Result<aya_obj::Object, DataplaneError> {
    aya_obj::Object::parse(object())
        .map_err(|error| DataplaneError::Object(Box::new(aya::EbpfError::ParseError(error))))
}

/// What makes two maps interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    kind: u32,
    /// Bytes.
    key: u32,
    /// Bytes.
    value: u32,
    entries: u32,
    flags: u32,
}

/// The maps that the object declares.
pub(super) struct Declared {
    maps: HashMap<String, Shape>,
}

impl Declared {
    /// Parses the object.
    pub(super) fn parse() -> Result<Self, DataplaneError> {
        let object = parse()?;
        let shape = |map: &aya_obj::Map| Shape {
            kind: map.map_type(),
            key: map.key_size(),
            value: map.value_size(),
            entries: map.max_entries(),
            flags: map.map_flags(),
        };
        let maps = object.maps.iter().map(|(name, map)| (name.clone(), shape(map))).collect();
        Ok(Self { maps })
    }

    /// Bytes of one element of a map.
    pub(super) fn element(&self, name: &str) -> Result<usize, DataplaneError> {
        let shape = self.maps.get(name);
        shape
            .map(|shape| shape.value as usize)
            .ok_or_else(|| DataplaneError::Incomplete(format!("map {name}")))
    }

    /// Whether a pinned map can be used as the object's map of this name.
    pub(super) fn fits(&self, name: &str, map: &MapData) -> bool {
        let (Some(declared), Ok(info)) = (self.maps.get(name), map.info()) else { return false };
        let kind = info.map_type().unwrap_or(MapType::Unspecified);
        let mut found = Shape {
            kind: kind as u32,
            key: info.key_size(),
            value: info.value_size(),
            entries: info.max_entries(),
            flags: info.map_flags(),
        };
        let mut wanted = *declared;
        match name {
            // Its size is the first policy's to choose; the programs take any power of two.
            shared::CONNECTIONS if found.entries.is_power_of_two() => found.entries = wanted.entries,
            // The declared value type of a ring is for its readers; the kernel wants 0.
            shared::EVENTS => {
                wanted.value = 0;
                wanted.key = 0;
                found.key = 0;
            }
            _ => {}
        }
        found == wanted
    }
}

/// What a generation is loaded from, besides its image.
pub(super) struct Load<'a> {
    pub(super) pins: &'a Pins,
    pub(super) declared: &'a Declared,
    pub(super) image: &'a Image,
    /// Its places, on the interfaces that exist.
    pub(super) places: &'a [(PlaceKey, Place)],
    pub(super) config: Config,
    /// Buckets of the connection table where it does not exist yet.
    pub(super) buckets: u32,
    /// Trace single packets with aya-log.
    pub(super) trace: bool,
    /// Load and pin the programs of the exits as well: interfaces need them, frames that nobody sent seldom do.
    pub(super) exits: bool,
}

/// Loads a generation and pins it, not yet in force; and the entry program where it is not pinned
/// yet. On an error nothing of the generation is left pinned. What comes back is for [`egress`].
pub(super) fn load(load: &Load<'_>) -> Result<Ebpf, DataplaneError> {
    let directory = load.pins.generation(load.config.generation);
    pins::remove_tree(&directory)?;
    fs::create_dir(&directory).map_err(DataplaneError::io("cannot create", &directory))?;
    let result = load_into(load);
    if result.is_err() {
        pins::remove_tree(&directory)?;
    }
    result
}

fn load_into(load: &Load<'_>) -> Result<Ebpf, DataplaneError> {
    let mut ebpf = create_maps(load)?;
    tables::fill(load.image, |name| generation_map(&ebpf, name), load.places)?;
    let directory = load.pins.generation(load.config.generation);
    for name in generation::ALL {
        let path = directory.join(name);
        let pinned = generation_map(&ebpf, name)?.pin(&path);
        pinned.map_err(|error| {
            DataplaneError::bpf(format!("cannot pin {name}"))(std::io::Error::other(error))
        })?;
    }
    verify_and_pin(&mut ebpf, layout::PROGRAM_JUDGE, &directory.join("judge"))?;
    if load.exits {
        verify_and_pin(&mut ebpf, layout::PROGRAM_EGRESS, &directory.join("egress"))?;
    }
    let entry = load.pins.entry(hash());
    if !entry.exists() {
        verify_and_pin(&mut ebpf, layout::PROGRAM_ENTRY, &entry)?;
    }
    if load.config.tunnels == 1 {
        if load.exits {
            let egress = load.pins.bare_egress(load.config.generation);
            verify_and_pin(&mut ebpf, layout::PROGRAM_BARE_EGRESS, &egress)?;
        }
        let bare = load.pins.bare(&entry);
        if !bare.exists() {
            verify_and_pin(&mut ebpf, layout::PROGRAM_BARE_ENTRY, &bare)?;
        }
    }
    Ok(ebpf)
}

/// The program of the exits, of what [`load`] loaded: verified now, where it was not asked for then.
pub(super) fn egress(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DataplaneError> {
    let name = layout::PROGRAM_EGRESS;
    let Some(Program::SchedClassifier(program)) = ebpf.program_mut(name) else {
        return Err(DataplaneError::Incomplete(format!("program {name}")));
    };
    if program.fd().is_err() {
        program.load().map_err(|error| DataplaneError::Program { name, source: Box::new(error) })?;
    }
    Ok(program)
}

fn create_maps(load: &Load<'_>) -> Result<Ebpf, DataplaneError> {
    let config = [load.config];
    let level = [u8::from(load.trace) * TRACE];
    let mut loader = EbpfLoader::new();
    loader.override_global(layout::GLOBAL_CONFIG, sys::bytes_of(&config), true);
    loader.override_global(layout::GLOBAL_LOG_LEVEL, &level[..], false);
    for name in shared::ALL {
        loader.map_pin_path(name, load.pins.shared(name));
    }
    loader.map_max_entries(shared::CONNECTIONS, load.buckets);
    for (name, entries) in tables::sizes(load.image, |name| load.declared.element(name))? {
        loader.map_max_entries(name, entries);
    }
    loader.load(object()).map_err(|error| DataplaneError::Object(Box::new(error)))
}

/// `aya_log_common::Level::Trace`.
const TRACE: u8 = 5;

fn generation_map<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a MapData, DataplaneError> {
    ebpf.map(name).and_then(tables::data).ok_or_else(|| DataplaneError::Incomplete(format!("map {name}")))
}

fn verify_and_pin(ebpf: &mut Ebpf, name: &'static str, path: &std::path::Path) -> Result<(), DataplaneError> {
    let program =
        ebpf.program_mut(name).ok_or_else(|| DataplaneError::Incomplete(format!("program {name}")))?;
    let refused = |error: ProgramError| DataplaneError::Program { name, source: Box::new(error) };
    match program {
        Program::Xdp(program) => program.load().map_err(refused)?,
        Program::SchedClassifier(program) => program.load().map_err(refused)?,
        _ => return Err(DataplaneError::Incomplete(format!("program {name} for its hook"))),
    }
    program
        .pin(path)
        .map_err(|error| DataplaneError::bpf(format!("cannot pin {name}"))(std::io::Error::other(error)))
}
