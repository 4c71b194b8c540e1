//! Fills the maps of a generation.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{Map, MapData};
use gateway_common::counter::{RULES_PER_ELEMENT, pair_elements};
use gateway_common::layout::generation;
use gateway_common::place::{Place, PlaceKey};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::apply::ROOM;
use super::error::DataplaneError;
use super::forward;
use super::sys::{self, bytes_of};
use crate::compile::image::Image;

/// `BPF_F_MMAPABLE` (include/uapi/linux/bpf.h).
const MMAPABLE: u32 = 1 << 10;

/// The arrays of an image, each by its map's name, as they stand in memory.
pub(super) fn arrays(image: &Image) -> [(&'static str, &[u8]); 15] {
    [
        (generation::V4, bytes_of(&image.v4)),
        (generation::V6, bytes_of(&image.v6)),
        (generation::ATOMS, bytes_of(&image.atoms)),
        (generation::SERVICES, bytes_of(&image.services)),
        (generation::SOURCE_PORTS, bytes_of(&image.source_ports)),
        (generation::MATRIX, bytes_of(&image.matrix)),
        (generation::PAIRS, bytes_of(&image.pairs)),
        (generation::LAYER_SOURCES, bytes_of(&image.layer_sources)),
        (generation::LAYER_DESTS, bytes_of(&image.layer_destinations)),
        (generation::VERDICTS, bytes_of(&image.verdicts)),
        (generation::SEGMENTS, bytes_of(&image.segments)),
        (generation::CONDITIONS, bytes_of(&image.conditions)),
        (generation::CHOICES, bytes_of(&image.choices)),
        (generation::QUARANTINES, bytes_of(&image.quarantines)),
        (generation::BREAK_GLASS, bytes_of(&image.break_glass)),
    ]
}

/// Elements that each map of a generation must have; `element` gives the size of one element of
/// an array in bytes, which may hold many values.
pub(super) fn sizes(
    image: &Image,
    element: impl Fn(&'static str) -> Result<usize, DataplaneError>,
) -> Result<Vec<(&'static str, u32)>, DataplaneError> {
    let mut sizes = Vec::new();
    for (name, bytes) in arrays(image) {
        sizes.push((name, bytes.len().div_ceil(element(name)?.max(1))));
    }
    let rows = image.config.segments * pair_elements(image.config.segments);
    sizes.push((generation::PAIR_COUNTERS, rows as usize));
    sizes.push((generation::RULE_COUNTERS, image.manifest.rules.len().div_ceil(RULES_PER_ELEMENT)));
    sizes.push((generation::PLACES, image.places.len() * ROOM));
    sizes.push((generation::ETHERTYPES, image.ethertypes.len()));
    let (places, interfaces) = match image.config.forwarding {
        0 => (0, 0),
        _ => (image.places.len(), image.manifest.interfaces.len()),
    };
    sizes.extend(forward::sizes(places, interfaces));
    let checked = sizes.into_iter().map(|(name, size)| {
        let size = u32::try_from(size.max(1)).map_err(|_| DataplaneError::TooLarge(name))?;
        Ok((name, size))
    });
    checked.collect()
}

/// Writes the whole image, with its places on the interfaces that exist.
pub(super) fn fill<'a>(
    image: &Image,
    map: impl Fn(&'static str) -> Result<&'a MapData, DataplaneError>,
    placed: &[(PlaceKey, Place)],
) -> Result<(), DataplaneError> {
    for (name, bytes) in arrays(image) {
        write(name, map(name)?, bytes)?;
    }
    let places = map(generation::PLACES)?.fd().as_fd();
    for (key, place) in placed {
        sys::update(places, key, place).map_err(DataplaneError::bpf("cannot fill PLACES"))?;
    }
    let ethertypes = map(generation::ETHERTYPES)?.fd().as_fd();
    for key in &image.ethertypes {
        sys::update(ethertypes, key, &1_u8).map_err(DataplaneError::bpf("cannot fill ETHERTYPES"))?;
    }
    Ok(())
}

/// The generic part of a map of any type that a generation has.
pub(super) fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::HashMap(data) | Map::DevMap(data) => Some(data),
        _ => None,
    }
}

/// Writes an array without a system call for each element.
fn write(name: &'static str, map: &MapData, bytes: &[u8]) -> Result<(), DataplaneError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let failed = || format!("cannot fill {name}");
    let info = map.info().map_err(|error| DataplaneError::bpf(failed())(std::io::Error::other(error)))?;
    let size = info.value_size() as usize;
    let fd = map.fd().as_fd();
    if info.map_flags() & MMAPABLE != 0 {
        return write_mapped(fd, size, info.max_entries() as usize, bytes)
            .map_err(DataplaneError::bpf(failed()));
    }
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(size), 0);
    sys::write_array(fd, size, &padded).map_err(DataplaneError::bpf(failed()))
}

fn write_mapped(map: BorrowedFd<'_>, size: usize, entries: usize, bytes: &[u8]) -> std::io::Result<()> {
    // The kernel keeps the elements of an array 8 bytes aligned (kernel/bpf/arraymap.c).
    let stride = size.next_multiple_of(8);
    let length = NonZeroUsize::new(stride * entries).ok_or(std::io::ErrorKind::InvalidInput)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map, 0)? };
    // SAFETY: the mapping is `length` bytes long and zeroed; the program that will read it is not
    // reachable by packets yet, so nobody else looks at it.
    let mapped = unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>().as_ptr(), length.get()) };
    for (element, value) in mapped.chunks_exact_mut(stride).zip(bytes.chunks(size)) {
        element[..value.len()].copy_from_slice(value);
    }
    // SAFETY: `mapped` is not used any more.
    unsafe { munmap(start, length.get())? };
    Ok(())
}
