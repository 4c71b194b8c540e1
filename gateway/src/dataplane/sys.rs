//! System calls that aya does not wrap: batches, links with their interface, barriers, detached mounts.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use gateway_common::condition::{Choice, Condition};
use gateway_common::connection::Bucket;
use gateway_common::counter::{Counter, Health, PairRow, RuleCounters};
use gateway_common::event::Event;
use gateway_common::forward::{Exit, Leg, TagKey, Tags};
use gateway_common::place::{Place, PlaceKey};
use gateway_common::table::{Atom, Config, TestContext, TestJudgement};

// enum bpf_cmd (include/uapi/linux/bpf.h).
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const MAP_GET_NEXT_KEY: u32 = 4;
const OBJ_GET: u32 = 7;
const PROG_GET_FD_BY_ID: u32 = 13;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const MAP_LOOKUP_BATCH: u32 = 24;
const MAP_UPDATE_BATCH: u32 = 26;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;

/// Values that are the same on both sides of the kernel.
///
/// # Safety
/// Every bit pattern is a valid value, and there is no padding.
pub(super) unsafe trait Plain: Copy + 'static {}

// SAFETY: integers, or `repr(C)` structures of integers whose padding is named.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for Atom {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u32; N] {}
// SAFETY: as above.
unsafe impl Plain for Bucket {}
// SAFETY: as above.
unsafe impl Plain for Choice {}
// SAFETY: as above.
unsafe impl Plain for Condition {}
// SAFETY: as above.
unsafe impl Plain for Config {}
// SAFETY: as above.
unsafe impl Plain for Counter {}
// SAFETY: as above.
unsafe impl Plain for Event {}
// SAFETY: as above.
unsafe impl Plain for Health {}
// SAFETY: as above.
unsafe impl Plain for PairRow {}
// SAFETY: as above.
unsafe impl Plain for Place {}
// SAFETY: as above.
unsafe impl Plain for PlaceKey {}
// SAFETY: as above.
unsafe impl Plain for Leg {}
// SAFETY: as above.
unsafe impl Plain for Exit {}
// SAFETY: as above.
unsafe impl Plain for TagKey {}
// SAFETY: as above.
unsafe impl Plain for Tags {}
// SAFETY: as above.
unsafe impl Plain for RuleCounters {}
// SAFETY: as above.
unsafe impl Plain for TestContext {}
// SAFETY: as above.
unsafe impl Plain for TestJudgement {}

/// The bytes of a slice as they stand in memory.
pub(super) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: `Plain` has no padding, so every byte is initialised; the length is the slice's own.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The value that stands at the beginning of `bytes`, or `None` where they are too short.
pub(super) fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: long enough, `Plain` takes every bit pattern, and the read does not need alignment.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Batch {
    begin: u64,
    end: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Pin {
    name: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Info {
    fd: u32,
    length: u32,
    to: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    expected_revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// The part of `struct bpf_link_info` that XDP and tcx links share.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkInfo {
    kind: u32,
    id: u32,
    /// Program that the link runs.
    pub(super) program: u32,
    pad: u32,
    /// Interface, or 0 where it is gone.
    pub(super) ifindex: u32,
    rest: [u32; 11],
}

fn bpf<T>(command: u32, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is the command's member of `union bpf_attr`, alive for the call; the kernel
    // takes what lies beyond `size` as zero. Pointers in it are the callers' to answer for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            libc::c_long::from(command),
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("an open descriptor is not negative")
}

fn owned(result: libc::c_long) -> OwnedFd {
    let fd = i32::try_from(result).expect("descriptors are ints");
    // SAFETY: the kernel has just made it for this call, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn address<T: ?Sized>(pointer: *const T) -> u64 {
    pointer.cast::<u8>() as u64
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    bpf(OBJ_GET, &mut Pin { name: address(path.as_ptr()), ..Default::default() }).map(owned)
}

/// Opens a pinned map for reading alone: through this descriptor nothing can be written.
pub(super) fn open_pin_to_read(path: &Path) -> io::Result<OwnedFd> {
    // BPF_F_RDONLY (include/uapi/linux/bpf.h).
    const READ_ONLY: u32 = 1 << 3;
    let path = c_path(path)?;
    bpf(OBJ_GET, &mut Pin { name: address(path.as_ptr()), flags: READ_ONLY, ..Default::default() }).map(owned)
}

/// Opens a program by its number.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    bpf(PROG_GET_FD_BY_ID, &mut [id, 0_u32, 0, 0]).map(owned)
}

/// The value of `key` in a map whose values are `V`, or `None` where it has none. Not for per-CPU maps.
pub(super) fn lookup<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = std::mem::MaybeUninit::<V>::zeroed();
    let mut element = Element {
        map: raw(map),
        key: address(key),
        value: address(value.as_mut_ptr()),
        ..Default::default()
    };
    match bpf(MAP_LOOKUP_ELEM, &mut element) {
        // SAFETY: zeroed, then written by the kernel; `Plain` takes every bit pattern.
        Ok(_) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets the value of `key`.
pub(super) fn update<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut element =
        Element { map: raw(map), key: address(key), value: address(value), ..Default::default() };
    bpf(MAP_UPDATE_ELEM, &mut element).map(drop)
}

/// Removes `key`; that it is absent is no error.
pub(super) fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let mut element = Element { map: raw(map), key: address(key), ..Default::default() };
    match bpf(MAP_DELETE_ELEM, &mut element) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Every key of a hash map that nobody else changes.
pub(super) fn keys<K: Plain>(map: BorrowedFd<'_>) -> io::Result<Vec<K>> {
    let mut keys: Vec<K> = Vec::new();
    loop {
        let mut next = std::mem::MaybeUninit::<K>::zeroed();
        let mut element = Element {
            map: raw(map),
            key: keys.last().map_or(0, |key| address(key)),
            value: address(next.as_mut_ptr()),
            ..Default::default()
        };
        match bpf(MAP_GET_NEXT_KEY, &mut element) {
            // SAFETY: zeroed, then written by the kernel; `Plain` takes every bit pattern.
            Ok(_) => keys.push(unsafe { next.assume_init() }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
            Err(error) => return Err(error),
        }
    }
}

/// Removes every element of a hash map whose keys have `size` bytes, and that nobody else changes.
pub(super) fn clear_hash(map: BorrowedFd<'_>, size: usize) -> io::Result<()> {
    let mut key = vec![0_u8; size];
    loop {
        // Without a key before it, the first.
        let mut element = Element { map: raw(map), value: address(key.as_mut_ptr()), ..Default::default() };
        match bpf(MAP_GET_NEXT_KEY, &mut element) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut element = Element { map: raw(map), key: address(key.as_ptr()), ..Default::default() };
        bpf(MAP_DELETE_ELEM, &mut element)?;
    }
}

/// Elements asked for in one call, at most: bounds the buffer.
const BATCH: u32 = 512;

/// Reads a whole array map, `visit`ing each element's bytes in order: `size` bytes of it, or, for
/// a per-CPU array, `size` bytes for each possible CPU.
pub(super) fn read_array(
    map: BorrowedFd<'_>,
    entries: u32,
    size: usize,
    mut visit: impl FnMut(u32, &[u8]),
) -> io::Result<()> {
    // Most maps are smaller: to clear what nobody fills took longer than to read them.
    let most = BATCH.min(entries);
    let mut keys = vec![0_u32; most as usize];
    let mut values = vec![0_u8; size * most as usize];
    let mut position = 0_u32;
    let mut first = true;
    let mut done = 0;
    while done < entries {
        let mut next = position;
        let mut batch = Batch {
            begin: if first { 0 } else { address(&raw const position) },
            end: address(&raw mut next),
            keys: address(keys.as_mut_ptr()),
            values: address(values.as_mut_ptr()),
            count: most.min(entries - done),
            map: raw(map),
            ..Default::default()
        };
        match bpf(MAP_LOOKUP_BATCH, &mut batch) {
            Ok(_) => {}
            // The end of the map; `count` says how many came before it.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && batch.count > 0 => {}
            Err(error) => return Err(error),
        }
        let count = batch.count as usize;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (key, value) in keys.iter().zip(values.chunks_exact(size)).take(count) {
            visit(*key, value);
        }
        done += batch.count;
        position = next;
        first = false;
    }
    Ok(())
}

/// Writes the first elements of an array map: `values` holds them, `size` bytes each.
pub(super) fn write_array(map: BorrowedFd<'_>, size: usize, values: &[u8]) -> io::Result<()> {
    let mut index = 0_u32;
    for part in values.chunks(size * BATCH as usize) {
        let count = u32::try_from(part.len() / size).expect("at most BATCH");
        let keys: Vec<u32> = (index..index + count).collect();
        let mut batch = Batch {
            keys: address(keys.as_ptr()),
            values: address(part.as_ptr()),
            count,
            map: raw(map),
            ..Default::default()
        };
        bpf(MAP_UPDATE_BATCH, &mut batch)?;
        index += count;
    }
    Ok(())
}

/// What a link runs, and where.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let length = u32::try_from(size_of::<LinkInfo>()).expect("small");
    bpf(OBJ_GET_INFO_BY_FD, &mut Info { fd: raw(link), length, to: address(&raw mut info) })?;
    Ok(info)
}

/// Attaches `program` to an interface. Never falls back to an attachment without a link: that
/// could neither be pinned nor replaced in one step.
pub(super) fn create_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut create =
        LinkCreate { program: raw(program), target: ifindex, attach_type, flags, ..Default::default() };
    bpf(LINK_CREATE, &mut create).map(owned)
}

/// Makes a link run `program` instead: in one step, no frame meets none.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(LINK_UPDATE, &mut LinkUpdate { link: raw(link), program: raw(program), ..Default::default() })
        .map(drop)
}

/// Takes a link's program off its interface before this returns. To close the last handle or pin
/// is not enough: the kernel then does it some time later, on a worker.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    const LINK_DETACH: u32 = 34;
    bpf(LINK_DETACH, &mut raw(link)).map(drop)
}

/// Pins a link.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    const OBJ_PIN: u32 = 6;
    let path = c_path(path)?;
    let mut pin = Pin { name: address(path.as_ptr()), fd: raw(object), flags: 0 };
    bpf(OBJ_PIN, &mut pin).map(drop)
}

/// Waits until every program run that began before this call has ended.
pub(super) fn wait_for_running_programs() {
    // MEMBARRIER_CMD_GLOBAL is `synchronize_rcu` (kernel/sched/membarrier.c); XDP runs inside an RCU
    // read-side section.
    const GLOBAL: libc::c_int = 1;
    // SAFETY: takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if result != 0 {
        // Kernels with isolated CPUs refuse it. A run takes microseconds.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A BPF filesystem of our own that no path but `/proc/self/fd/N` leads to: it and all that is
/// pinned in it go when the descriptor is closed.
pub(super) fn private_bpffs() -> io::Result<OwnedFd> {
    const CLOEXEC: libc::c_uint = 1;
    const CMD_CREATE: libc::c_uint = 6;
    let kind: &CStr = c"bpf";
    // SAFETY: `kind` is a string; the others take numbers and null.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOEXEC) };
    if context < 0 {
        return Err(io::Error::last_os_error());
    }
    let context = owned(context);
    let null = std::ptr::null::<libc::c_void>();
    // SAFETY: as above.
    let created =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CMD_CREATE, null, null, 0) };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    let mount = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, 0) };
    if mount < 0 { Err(io::Error::last_os_error()) } else { Ok(owned(mount)) }
}

/// Nanoseconds of the clock that connections are timed with.
pub(super) fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec. The clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
