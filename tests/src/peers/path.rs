//! What routers on the way say: that a packet's last hop was theirs, that it is too large for the next link.

use std::io::{IoSliceMut, Result as IoResult};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg};

/// Between two packets: routers limit how often they say anything.
const PAUSE: Duration = Duration::from_millis(200);

/// The router that says *time exceeded* of an IPv4 datagram with hop limit 1 to `to`, as traceroute asks; `None`
/// where none does within `wait`.
pub fn first_hop(to: SocketAddr, wait: Duration) -> Result<Option<IpAddr>> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("no UDP socket")?;
    set(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
    socket.set_ttl(1)?;
    socket.connect(to)?;
    let until = Instant::now() + wait;
    loop {
        // Refused where the error of an earlier one is here.
        let _ = socket.send(b"traceroute");
        thread::sleep(PAUSE);
        if let Some(router) = complaint(&socket)? {
            return Ok(Some(router));
        }
        if Instant::now() > until {
            return Ok(None);
        }
    }
}

/// Who sent the error that a packet of `socket` came back with.
fn complaint(socket: &UdpSocket) -> Result<Option<IpAddr>> {
    let (mut buffer, mut control) = ([0; 64], nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in));
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
        Ok(message) => message,
        Err(nix::errno::Errno::EAGAIN) => return Ok(None),
        Err(error) => return Err(error).context("cannot read the errors of a socket"),
    };
    let from = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4RecvErr(_, from) => from,
        _ => None,
    });
    Ok(from.map(|from| IpAddr::from(u32::from_be(from.sin_addr.s_addr).to_be_bytes())))
}

/// The path MTU to `to` that is known once datagrams of `length` bytes, not to be fragmented, have been sent; asked
/// again until it is below `below` or `wait` is over.
pub fn mtu(to: SocketAddr, length: usize, below: u32, wait: Duration) -> Result<u32> {
    let (any, level, discover, query) = if to.is_ipv4() {
        ("0.0.0.0:0", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_MTU)
    } else {
        ("[::]:0", libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_MTU)
    };
    let socket = UdpSocket::bind(any).context("no UDP socket")?;
    set(&socket, level, discover, libc::IP_PMTUDISC_DO)?;
    socket.connect(to)?;
    let until = Instant::now() + wait;
    loop {
        // Refused where it is too large for what is known by now.
        let _ = socket.send(&vec![0; length]);
        let mtu = get(&socket, level, query)?;
        if mtu < below || Instant::now() > until {
            return Ok(mtu);
        }
        thread::sleep(PAUSE);
    }
}

fn set(socket: &UdpSocket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> IoResult<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("four bytes");
    // SAFETY: the value lives until the call returns, and its length is given.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn get(socket: &UdpSocket, level: libc::c_int, option: libc::c_int) -> IoResult<u32> {
    let mut value = 0_u32;
    let mut length = libc::socklen_t::try_from(size_of::<u32>()).expect("four bytes");
    // SAFETY: both live until the call returns, and the length is the value's.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut length)
    };
    if done == 0 { Ok(value) } else { Err(std::io::Error::last_os_error()) }
}
