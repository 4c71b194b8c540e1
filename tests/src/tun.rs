//! A tunnel of the lab's own: two devices without a link layer (`tun`), joined by UDP between two namespaces. It hides
//! nothing, and it is a real one to the kernel: what is written to its outer end comes out of its inner one.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::namespace::Namespace;

/// `TUNSETIFF` (`include/uapi/linux/if_tun.h`).
const SET_INTERFACE: libc::c_ulong = 0x4004_54ca;
/// Packets begin at the IP header, without another before it.
const FLAGS: libc::c_int = libc::IFF_TUN | libc::IFF_NO_PI;
/// The longest packet that is carried.
const LONGEST: usize = 2048;

/// Makes the device in a namespace and joins it with what is carried from `own` to `other`, for as long as the program
/// runs or until somebody removes the device.
pub fn end(namespace: &Namespace, name: &str, own: SocketAddr, other: SocketAddr) -> Result<()> {
    let (device, carrier) =
        namespace.run(|| Ok::<_, anyhow::Error>((open(name)?, UdpSocket::bind(own)?)))??;
    carrier.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (device, carrier) = (Arc::new(device), Arc::new(carrier));
    let (into, out_of) = ((Arc::clone(&device), Arc::clone(&carrier)), (device, carrier));
    thread::spawn(move || {
        let (device, carrier) = into;
        let mut packet = [0; LONGEST];
        while let Ok(length) = (&*device).read(&mut packet) {
            // Nobody may be at the other end yet.
            let _ = carrier.send_to(&packet[..length], other);
        }
    });
    thread::spawn(move || {
        let (device, carrier) = out_of;
        let mut packet = [0; LONGEST];
        // Also where nothing comes: that is when a device goes.
        while is_there(&device) {
            // An error of an earlier packet shows up here.
            let Ok((length, from)) = carrier.recv_from(&mut packet) else { continue };
            if from == other {
                // What is no packet is refused by the device.
                let _ = (&*device).write_all(&packet[..length]);
            }
        }
    });
    Ok(())
}

/// Makes a device in the namespace of this thread. It goes when the file is closed.
pub fn open(name: &str) -> Result<File> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let device = device.context("the kernel has no /dev/net/tun")?;
    // SAFETY: zeros are valid in it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(name.len() < request.ifr_name.len(), "{name} is too long for an interface");
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(FLAGS).context("flags of 16 bits")?;
    // SAFETY: the request lives until the call returns, and is of the kind that it takes.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SET_INTERFACE, &raw const request) };
    ensure!(result == 0, "cannot make {name}: {}", std::io::Error::last_os_error());
    Ok(device)
}

/// Gives a device, which must be down, another hardware type (`ARPHRD_*`).
pub fn set_hardware(device: &File, kind: u16) -> Result<()> {
    /// `TUNSETLINK`.
    const SET_LINK: libc::c_ulong = 0x4004_54cd;
    // SAFETY: a number is all that it takes.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SET_LINK, libc::c_ulong::from(kind)) };
    ensure!(result == 0, "cannot set the hardware type: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Whether the device still is: one that somebody has removed cannot even be asked.
fn is_there(device: &File) -> bool {
    /// `TUNGETIFF`.
    const GET_INTERFACE: libc::c_ulong = 0x8004_54d2;
    // SAFETY: zeros are valid in it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the request lives until the call returns, and is of the kind that it fills.
    unsafe { libc::ioctl(device.as_raw_fd(), GET_INTERFACE, &raw mut request) == 0 }
}
