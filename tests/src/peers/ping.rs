//! Echo of ICMP, for both families.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

/// Octets of an echo header (RFC 792, RFC 4443): type, code, checksum, identifier, sequence.
const HEADER: usize = 8;

/// Whether an echo request with `length` bytes of data is answered, with the same data, within
/// `wait`. More than the link's MTU holds travels in fragments.
pub fn answers(to: IpAddr, length: usize, wait: Duration) -> Result<bool> {
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    // Identifier and checksum are the kernel's on such a socket.
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol)).context("no ping socket")?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    let data: Vec<u8> = (0..=250).cycle().take(length).collect();
    socket.send(&[&[request, 0, 0, 0, 0, 0, 0, 1], &data[..]].concat())?;
    let (until, mut buffer) = (Instant::now() + wait, vec![0; 65_536]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        match (&socket).read(&mut buffer) {
            Ok(read) if read >= HEADER && buffer[0] == reply && buffer[HEADER..read] == data[..] => {
                return Ok(true);
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // An ICMP error: unreachable.
            Err(error)
                if matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
}
