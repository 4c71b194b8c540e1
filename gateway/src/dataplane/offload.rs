//! Offloads that hide from an XDP program what it must see.
//!
//! A NIC that strips VLAN tags makes every tagged frame look untagged, and one that merges TCP
//! segments (LRO) hands over frames that nobody sent.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::error::DataplaneError;

// include/uapi/linux/ethtool.h
const GET_DRIVER: u32 = 0x03;
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const FLAG_RX_VLAN: u32 = 1 << 8;
const FLAG_LRO: u32 = 1 << 15;
/// include/uapi/linux/sockios.h
const SIOCETHTOOL: libc::c_ulong = 0x8946;

#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut libc::c_void,
    rest: [u8; 16],
}

#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    rest: [u8; 160],
}

/// Turns off what must be off on `interface`; returns ethtool's names of what was turned off.
pub(super) fn settle(interface: &str, trunk: bool) -> Result<Vec<&'static str>, DataplaneError> {
    let socket = open()?;
    // An interface without any ethtool operation has no offload to turn off.
    let Ok(flags) = value(&socket, interface, GET_FLAGS, 0) else { return Ok(Vec::new()) };
    let mut off = Vec::new();
    let hiding = [
        (FLAG_RX_VLAN, "rxvlan", "its NIC strips VLAN tags before they are seen", trunk),
        (FLAG_LRO, "lro", "its NIC merges segments before they are seen", true),
    ];
    let mut wanted = flags;
    for (flag, feature, what, applies) in hiding {
        if applies && flags & flag != 0 {
            wanted &= !flag;
            let refused =
                |source| DataplaneError::Offload { interface: interface.to_owned(), feature, what, source };
            value(&socket, interface, SET_FLAGS, wanted).map_err(refused)?;
            let after = value(&socket, interface, GET_FLAGS, 0).map_err(refused)?;
            if after & flag != 0 {
                return Err(refused(io::Error::other("the driver keeps it on")));
            }
            off.push(feature);
        }
    }
    Ok(off)
}

/// Name of the driver, where the interface has one.
pub(super) fn driver(interface: &str) -> Option<String> {
    let mut driver = Driver { command: GET_DRIVER, name: [0; 32], rest: [0; 160] };
    ethtool(&open().ok()?, interface, (&raw mut driver).cast()).ok()?;
    let end = driver.name.iter().position(|byte| *byte == 0)?;
    String::from_utf8(driver.name[..end].to_vec()).ok()
}

fn open() -> Result<OwnedFd, DataplaneError> {
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|error| DataplaneError::bpf("cannot open a socket for ethtool")(error.into()))
}

fn value(socket: &OwnedFd, interface: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = Value { command, data };
    ethtool(socket, interface, (&raw mut value).cast())?;
    Ok(value.data)
}

fn ethtool(socket: &OwnedFd, interface: &str, data: *mut libc::c_void) -> io::Result<()> {
    let mut request = Request { name: [0; libc::IFNAMSIZ], data, rest: [0; 16] };
    let name = interface.as_bytes();
    // One byte is left for the terminating zero.
    request.name[..libc::IFNAMSIZ - 1]
        .get_mut(..name.len())
        .ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(name);
    // SAFETY: `request` is a `struct ifreq` whose data points at the structure of its command; both
    // live until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
