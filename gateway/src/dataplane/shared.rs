//! The maps that outlive generations.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::maps::{Array, MapData};
use gateway_common::connection::{HashKey, WAYS};
use gateway_common::layout::shared;

use super::error::DataplaneError;
use super::object::Declared;
use super::pins::Pins;
use super::sys;

/// Our own map beside the object's: the key of the connection table's hash, which all programs
/// that share the table must agree on.
const HASH_KEY: &str = "HASH_KEY";
/// The smallest connection table.
const BUCKETS_MIN: u32 = 1024;

/// Handles of the shared maps.
pub(super) struct Shared {
    generation: MapData,
    pub(super) connections: MapData,
    pub(super) health: MapData,
    pub(super) no_policy: MapData,
    /// Buckets of the connection table, a power of two.
    pub(super) buckets: u32,
}

/// What stands in the directory of this binary's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing that any program uses.
    Nothing,
    /// Maps that this binary's programs can go on with.
    Fitting,
    /// Maps of another shape: to be replaced, together with all that uses them.
    Foreign,
}

/// Looks at the pinned shared maps without changing any.
pub(super) fn inspect(pins: &Pins, declared: &Declared) -> Result<Found, DataplaneError> {
    let (mut present, mut fitting) = (0, 0);
    for name in shared::ALL {
        let path = pins.shared(name);
        if path.exists() {
            present += 1;
            fitting += usize::from(MapData::from_pin(&path).is_ok_and(|map| declared.fits(name, &map)));
        }
    }
    let key = pins.shared(HASH_KEY);
    if key.exists() {
        present += 1;
        // The kernel writes values of the map's size, whatever we have room for.
        let info = MapData::from_pin(&key).and_then(|map| map.info());
        let fits = |(key, value)| key == 4 && usize::try_from(value) == Ok(size_of::<HashKey>());
        fitting += usize::from(info.is_ok_and(|info| fits((info.key_size(), info.value_size()))));
    }
    let used = !pins.generations()?.is_empty() || !pins.entries()?.is_empty();
    let whole = present == shared::ALL.len() + 1;
    Ok(match () {
        () if present != fitting => Found::Foreign,
        // A map that is missing while programs use it is one that they and we would not share.
        () if used && !whole => Found::Foreign,
        () if !whole => Found::Nothing,
        () => Found::Fitting,
    })
}

/// Buckets for a table that holds `connections`.
pub(super) fn buckets_for(connections: u32) -> u32 {
    let ways = u32::try_from(WAYS).expect("a small constant");
    // Beyond this the map would be larger than the kernel makes them.
    connections.div_ceil(ways).clamp(BUCKETS_MIN, 1 << 22).next_power_of_two()
}

/// Buckets of the connection table, where it exists.
pub(super) fn existing_buckets(pins: &Pins) -> Option<u32> {
    let map = MapData::from_pin(pins.shared(shared::CONNECTIONS)).ok()?;
    Some(map.info().ok()?.max_entries())
}

/// The pinned key of the connection table's hash, drawn and pinned where there is none.
pub(super) fn hash_key(pins: &Pins) -> Result<HashKey, DataplaneError> {
    let path = pins.shared(HASH_KEY);
    let failed =
        |error: aya::maps::MapError| DataplaneError::bpf("cannot keep the hash key")(io::Error::other(error));
    if path.exists() {
        let map = MapData::from_pin(&path).map_err(failed)?;
        let key = sys::lookup::<u32, HashKey>(map.fd().as_fd(), &0)
            .map_err(DataplaneError::bpf("cannot read the hash key"))?;
        return Ok(key.unwrap_or_default());
    }
    let key = random()?;
    let mut map = Array::<MapData, HashKey>::create(1, 0).map_err(failed)?;
    map.set(0, key, 0).map_err(failed)?;
    map.pin(&path)
        .map_err(|error| DataplaneError::bpf("cannot keep the hash key")(io::Error::other(error)))?;
    Ok(key)
}

fn random() -> Result<HashKey, DataplaneError> {
    let mut key = HashKey::default();
    // SAFETY: writes at most so many bytes to the array, of which any are numbers.
    let got = unsafe { libc::getrandom(key.as_mut_ptr().cast(), size_of::<HashKey>(), 0) };
    if usize::try_from(got) != Ok(size_of::<HashKey>()) {
        return Err(DataplaneError::bpf("cannot draw a random number")(io::Error::last_os_error()));
    }
    Ok(key)
}

impl Shared {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let open = |name: &str| {
            MapData::from_pin(pins.shared(name))
                .map_err(|error| DataplaneError::bpf(format!("cannot open {name}"))(io::Error::other(error)))
        };
        let connections = open(shared::CONNECTIONS)?;
        let info = connections.info();
        let info =
            info.map_err(|error| DataplaneError::bpf("cannot look at CONNECTIONS")(io::Error::other(error)))?;
        Ok(Self {
            generation: open(shared::GENERATION)?,
            health: open(shared::HEALTH)?,
            no_policy: open(shared::NO_POLICY)?,
            buckets: info.max_entries(),
            connections,
        })
    }

    /// Number of the program in the generation slot.
    pub(super) fn in_force(&self) -> Result<Option<u32>, DataplaneError> {
        sys::lookup(self.generation.fd().as_fd(), &0_u32)
            .map_err(DataplaneError::bpf("cannot read the generation slot"))
    }

    /// Puts a judge in force, for all interfaces at once.
    pub(super) fn put_in_force(&self, judge: BorrowedFd<'_>) -> Result<(), DataplaneError> {
        let fd = judge.as_raw_fd().unsigned_abs();
        sys::update(self.generation.fd().as_fd(), &0_u32, &fd)
            .map_err(DataplaneError::bpf("cannot set the generation slot"))
    }

    /// Empties the generation slot: every frame is dropped.
    pub(super) fn put_none_in_force(&self) -> Result<(), DataplaneError> {
        sys::delete(self.generation.fd().as_fd(), &0_u32)
            .map_err(DataplaneError::bpf("cannot clear the generation slot"))
    }
}
