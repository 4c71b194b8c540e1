//! A VLAN switch in user space: tagged frames on its trunk, untagged ones on its access ports. The kernels
//! that the lab runs on need neither bridges nor VLAN devices.

use std::io::{Error, Result};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::Socket;

use crate::frames::{ETHERNET, Wire};
use crate::namespace::Namespace;

const TAG: usize = 4;
/// Hardware addresses of a frame.
const ADDRESSES: usize = 12;
const CUSTOMER_TAG: u16 = 0x8100;
/// How long a port waits for a frame before it looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(50);

/// A switch at work. Dropping it ends it.
#[derive(Debug)]
pub struct Switch {
    stop: Arc<AtomicBool>,
    untagged: Arc<AtomicU64>,
    ports: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Switch {
    /// Joins `trunk` with the access ports, each of one VLAN. All are interfaces of `namespace`.
    pub fn start(namespace: &Namespace, trunk: &str, access: &[(u16, &str)]) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let uplink = Arc::new(port(namespace, trunk)?);
        let mut ports = Vec::new();
        let mut members = Vec::new();
        for (vlan, interface) in access {
            let member = Arc::new(port(namespace, interface)?);
            members.push((*vlan, Arc::clone(&member)));
            let (uplink, stop, vlan) = (Arc::clone(&uplink), Arc::clone(&stop), *vlan);
            ports.push(namespace.spawn(move || {
                run(&member, &stop, |frame, _| {
                    let tagged = tagged(frame, vlan);
                    // A full queue drops, as a switch does.
                    let _ = uplink.send(&tagged);
                })
            }));
        }
        let untagged = Arc::new(AtomicU64::new(0));
        let (stopped, bare) = (Arc::clone(&stop), Arc::clone(&untagged));
        ports.push(namespace.spawn(move || {
            run(&uplink, &stopped, |frame, vlan| {
                bare.fetch_add(u64::from(vlan == 0), Ordering::Relaxed);
                for (_, member) in members.iter().filter(|(own, _)| *own == vlan) {
                    let _ = member.send(frame);
                }
            })
        }));
        Ok(Self { stop, untagged, ports })
    }

    /// Frames that have arrived on the trunk without a tag.
    pub fn untagged(&self) -> u64 {
        self.untagged.load(Ordering::Relaxed)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for port in self.ports.drain(..) {
            // What ended it is of no interest any more.
            let _ = port.join();
        }
    }
}

/// Hands every frame that arrives on `port` to `carry`, with the tag that it had, or 0.
fn run(port: &Wire, stop: &AtomicBool, mut carry: impl FnMut(&[u8], u16)) -> anyhow::Result<()> {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        if let Some((length, vlan)) = receive(port.socket(), &mut buffer)?
            && length >= ETHERNET
        {
            carry(&buffer[..length], vlan);
        }
    }
    Ok(())
}

fn port(namespace: &Namespace, interface: &str) -> anyhow::Result<Wire> {
    let wire = Wire::open(namespace, interface)?;
    let socket = wire.socket();
    socket.set_read_timeout(Some(PATIENCE))?;
    set(socket, libc::PACKET_AUXDATA, &1_i32)?;
    // Its own frames are not for it to carry back.
    set(socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    let promiscuous = libc::packet_mreq {
        mr_ifindex: namespace.run(|| nix::net::if_::if_nametoindex(interface))??.cast_signed(),
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC)?,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)?;
    Ok(wire)
}

fn set<T>(socket: &Socket, option: libc::c_int, value: &T) -> Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("a small structure");
    // SAFETY: the value lives until the call returns, and its length is given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// One frame, without the tag that the kernel has taken off it, and that tag. `None` where none came in time.
fn receive(socket: &Socket, buffer: &mut [u8]) -> Result<Option<(usize, u16)>> {
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message points at a buffer and at room for control data that outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let Ok(length) = usize::try_from(length) else {
        let error = Error::last_os_error();
        return if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
            Ok(None)
        } else {
            Err(error)
        };
    };
    // SAFETY: the kernel has filled the message in; its control data is aligned as it must be.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let vlan = header.filter(|header| header.cmsg_type == libc::PACKET_AUXDATA).map_or(0, |header| {
        // SAFETY: control data of this type is one tpacket_auxdata.
        let data = unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
        if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 { 0 } else { data.tp_vlan_tci & 0xfff }
    });
    Ok(Some((length, vlan)))
}

fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut tagged = Vec::with_capacity(frame.len() + TAG);
    tagged.extend(&frame[..ADDRESSES]);
    tagged.extend(CUSTOMER_TAG.to_be_bytes());
    tagged.extend(vlan.to_be_bytes());
    tagged.extend(&frame[ADDRESSES..]);
    tagged
}
