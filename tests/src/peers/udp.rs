//! UDP that is counted: numbered datagrams, and a server that sends each back.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Sends every datagram back, for ever.
pub fn echo(socket: &UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An ICMP error of an earlier answer shows up here; the next datagram is another matter.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// Whether a datagram with this payload comes back from `to` within `wait`.
pub fn answers(to: SocketAddr, source_port: u16, payload: &[u8], wait: Duration) -> Result<bool> {
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let socket = UdpSocket::bind((any, source_port)).context("no UDP socket")?;
    socket.connect(to)?;
    socket.send(payload)?;
    let (until, mut buffer) = (Instant::now() + wait, vec![0; 65_536]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(length) if buffer[..length] == *payload => return Ok(true),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(false),
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
}
