//! The gateway's own addresses, and word of their changes.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

use super::error::DataplaneError;

/// Addresses of all interfaces of this network namespace, but for loopback and link-local ones,
/// which are nobody's beyond a host or a link. Sorted, each once.
pub fn local_addresses() -> Result<Vec<IpAddr>, DataplaneError> {
    let all = nix::ifaddrs::getifaddrs()
        .map_err(|error| DataplaneError::bpf("cannot list the gateway's addresses")(error.into()))?;
    let storages = all.filter_map(|interface| interface.address);
    let addresses = storages.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let mut addresses: Vec<IpAddr> = addresses.filter(is_of_the_gateway).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn is_of_the_gateway(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => Ipv6Addr::is_unicast_link_local(v6),
    };
    !address.is_loopback() && !address.is_unspecified() && !link_local
}

/// Wakes when an interface or an address of this network namespace changes.
pub struct NetworkChanges {
    socket: AsyncFd<OwnedFd>,
}

impl NetworkChanges {
    /// Begins to listen. Within a tokio runtime.
    pub fn listen() -> Result<Self, DataplaneError> {
        let failed =
            |error: io::Error| DataplaneError::bpf("cannot listen for changes of the network")(error);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
            .map_err(|error| failed(error.into()))?;
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups.unsigned_abs()))
            .map_err(|error| failed(error.into()))?;
        // SAFETY: the socket is owned, and stays the same, until it is dropped.
        let socket = unsafe { AsyncFd::register(socket) }.map_err(|error| failed(error.into()))?;
        Ok(Self { socket })
    }

    /// Waits for the next change, or for many at once.
    pub async fn changed(&mut self) -> Result<(), DataplaneError> {
        let failed =
            |error: io::Error| DataplaneError::bpf("cannot listen for changes of the network")(error);
        loop {
            let mut guard = self.socket.readable_mut().await.map_err(failed)?;
            let drained = guard.try_io(|socket| Ok(drain(socket.get_ref())?));
            match drained {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => return Err(failed(error)),
            }
        }
    }
}

/// Reads what is there; whether there was anything.
fn drain(socket: &OwnedFd) -> Result<bool, Errno> {
    let mut buffer = [0_u8; 8192];
    let mut any = false;
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            // More came than the socket could keep: a change all the same.
            Ok(_) | Err(Errno::ENOBUFS) => any = true,
            Err(Errno::EAGAIN) if any => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}
