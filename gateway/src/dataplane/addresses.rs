//! The gateway's own addresses, and word of their changes.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recv,
    socket,
};
use tokio::io::unix::AsyncFd;

use super::error::DataplaneError;

/// Addresses of all interfaces of this network namespace, but for loopback and link-local ones,
/// which are nobody's beyond a host or a link; and what else ends at this host in the networks that they
/// lie in. Sorted, each once.
pub fn local_addresses() -> Result<Vec<IpAddr>, DataplaneError> {
    let all = nix::ifaddrs::getifaddrs()
        .map_err(|error| DataplaneError::bpf("cannot list the gateway's addresses")(error.into()))?;
    let mut addresses = Vec::new();
    for interface in all {
        let Some(own) = interface.address.as_ref().and_then(ip).filter(is_of_the_gateway) else { continue };
        addresses.push(own);
        addresses.extend(interface.netmask.as_ref().and_then(ip).and_then(|mask| shared(own, mask)));
    }
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// What a router hears to beside its own address in a network, wherever it comes from: the broadcast
/// address (RFC 1122, 3.3.6; `fib_add_ifaddr` in `net/ipv4/fib_frontend.c`), or the routers' anycast address
/// (RFC 4291, 2.6.1; `addrconf_join_anycast` in `net/ipv6/addrconf.c`).
fn shared(own: IpAddr, mask: IpAddr) -> Option<IpAddr> {
    match (own, mask) {
        (IpAddr::V4(own), IpAddr::V4(mask)) if mask.to_bits().count_ones() < 31 => Some((own | !mask).into()),
        (IpAddr::V6(own), IpAddr::V6(mask)) if mask.to_bits().count_ones() < 127 => Some((own & mask).into()),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_a_router_shares_with_a_network() {
        for (own, mask, expected) in [
            ("10.0.1.1", "255.255.255.0", Some("10.0.1.255")),
            ("10.20.0.1", "255.255.0.0", Some("10.20.255.255")),
            ("203.0.113.22", "255.255.255.248", Some("203.0.113.23")),
            ("10.0.1.1", "255.255.255.254", None),
            ("10.0.1.1", "255.255.255.255", None),
            ("fd00:1::1", "ffff:ffff:ffff:ffff::", Some("fd00:1::")),
            ("fd00:1::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", None),
            ("fd00:1::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(shared(own.parse().unwrap(), mask.parse().unwrap()), expected, "{own} {mask}");
        }
    }
}
