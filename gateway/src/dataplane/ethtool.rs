//! The ethtool ioctl (include/uapi/linux/ethtool.h): features of an interface by name.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const GET_DRIVER: u32 = 0x03;
const GET_STRINGS: u32 = 0x1b;
const GET_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
/// `ETH_SS_FEATURES`: the set of strings that are features.
const FEATURE_STRINGS: u32 = 4;
/// `ETH_GSTRING_LEN`.
const STRING: usize = 32;
/// include/uapi/linux/sockios.h
const SIOCETHTOOL: u32 = 0x8946;
/// More than any kernel has; bounds what its answer may make us allocate.
const FEATURES_MAX: u32 = 1024;

/// One interface, asked through the ioctl.
pub(super) struct Ethtool<'a> {
    socket: OwnedFd,
    interface: &'a str,
}

/// `struct ifreq`.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut libc::c_void,
    rest: [u8; 16],
}

impl<'a> Ethtool<'a> {
    pub(super) fn open(interface: &'a str) -> io::Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { socket, interface })
    }

    /// Name of the driver.
    pub(super) fn driver(&self) -> Option<String> {
        // struct ethtool_drvinfo: command, name of 32 bytes, and 160 bytes more.
        let mut answer = [0_u32; 49];
        answer[0] = GET_DRIVER;
        self.call(&mut answer).ok()?;
        text(&bytes(&answer[1..9]))
    }

    /// The features of the interface that are on, each with its number.
    pub(super) fn active(&self) -> io::Result<Vec<(usize, String)>> {
        let names = self.names()?;
        let active = self.blocks(names.len())?;
        let is_on = |number: usize| active.get(number / 32).is_some_and(|block| block & bit(number) != 0);
        Ok(names.into_iter().enumerate().filter(|(number, _)| is_on(*number)).collect())
    }

    /// Turns a feature off, and fails where it stays on.
    pub(super) fn turn_off(&self, number: usize) -> io::Result<()> {
        // The kernel takes all blocks or none.
        let features = self.names()?.len();
        let count = features.div_ceil(32);
        // struct ethtool_sfeatures: command, blocks, and for each block which bits and what for.
        let mut request = vec![0; 2 + 2 * count];
        request[0] = SET_FEATURES;
        request[1] = u32::try_from(count).map_err(io::Error::other)?;
        *request.get_mut(2 + 2 * (number / 32)).ok_or(io::ErrorKind::InvalidInput)? = bit(number);
        self.call(&mut request)?;
        let after = self.blocks(features)?;
        match after.get(number / 32) {
            Some(block) if block & bit(number) == 0 => Ok(()),
            _ => Err(io::Error::other("the driver keeps it on")),
        }
    }

    /// Which features are on, 32 to a block.
    fn blocks(&self, features: usize) -> io::Result<Vec<u32>> {
        let count = features.div_ceil(32);
        // struct ethtool_gfeatures: command, blocks, and for each block what can be changed, what is
        // wished, what is on, what can never change.
        let mut answer = vec![0; 2 + 4 * count];
        answer[0] = GET_FEATURES;
        answer[1] = u32::try_from(count).map_err(io::Error::other)?;
        self.call(&mut answer)?;
        Ok(answer[2..].chunks_exact(4).map(|block| block[2]).collect())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        // struct ethtool_sset_info: command, reserved, 64 bits that say which sets, length of each.
        let mut answer = [0_u32; 5];
        answer[0] = GET_SET_INFO;
        let mask = (1_u64 << FEATURE_STRINGS).to_ne_bytes();
        answer[2] = u32::from_ne_bytes([mask[0], mask[1], mask[2], mask[3]]);
        answer[3] = u32::from_ne_bytes([mask[4], mask[5], mask[6], mask[7]]);
        self.call(&mut answer)?;
        let count = answer[4].min(FEATURES_MAX);

        // struct ethtool_gstrings: command, set, length, strings.
        let mut answer = vec![0; 3 + count as usize * STRING / 4];
        answer[..3].copy_from_slice(&[GET_STRINGS, FEATURE_STRINGS, count]);
        self.call(&mut answer)?;
        let strings = bytes(&answer[3..]);
        Ok(strings.chunks_exact(STRING).map(|name| text(name).unwrap_or_default()).collect())
    }

    fn call(&self, data: &mut [u32]) -> io::Result<()> {
        let mut request =
            Request { name: [0; libc::IFNAMSIZ], data: data.as_mut_ptr().cast(), rest: [0; 16] };
        let name = self.interface.as_bytes();
        // One byte is left for the terminating zero.
        let room = request.name[..libc::IFNAMSIZ - 1].get_mut(..name.len());
        room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name);
        // SAFETY: `request` is a `struct ifreq` whose data points at the structure of its command, as
        // long as its own fields say; both live until the call returns.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL.into(), &raw mut request) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

const fn bit(number: usize) -> u32 {
    1 << (number % 32)
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Text up to the first zero byte.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).ok()
}
