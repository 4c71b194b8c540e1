//! TCP that is counted: a source of a known byte sequence, a sink that checks it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Bytes of one block of the sequence.
const BLOCK: usize = 1024;

/// Accepts and reads for ever; answers nothing. What a port scanner finds behind an open port.
pub fn sink(listener: &TcpListener) {
    counting_sink(listener, Arc::default());
}

/// As [`sink`], and counts the bytes of the known sequence that arrived in order. A connection that
/// brings anything else is closed.
pub fn counting_sink(listener: &TcpListener, received: Arc<AtomicU64>) {
    super::accept_each(listener, move |mut stream| {
        let (mut position, mut buffer) = (0_u64, vec![0; 1 << 16]);
        loop {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            for byte in &buffer[..length] {
                if *byte != expected(position) {
                    bail!("byte {position} is not the one that was sent");
                }
                position += 1;
            }
            received.fetch_add(length as u64, Ordering::Relaxed);
        }
    });
}

/// Sends the known sequence, a block every `pause`, until `stop`; returns the bytes sent.
///
/// # Errors
/// When no connection comes about in three seconds, or when the peer takes nothing for `wait`.
pub fn source(to: SocketAddr, pause: Duration, wait: Duration, stop: &AtomicBool) -> Result<u64> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3)).context("no connection")?;
    stream.set_write_timeout(Some(wait))?;
    stream.set_nodelay(true)?;
    let mut position = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let block: Vec<u8> = (position..position + BLOCK as u64).map(expected).collect();
        stream.write_all(&block).with_context(|| format!("stalled after {position} bytes"))?;
        position += BLOCK as u64;
        thread::sleep(pause);
    }
    Ok(position)
}

/// Whether a TCP connection comes about within `wait`.
pub fn connects(to: SocketAddr, wait: Duration) -> bool {
    TcpStream::connect_timeout(&to, wait).is_ok()
}

/// Byte at a position of the known sequence: its period, 251, is no power of two, so that a lost
/// or doubled segment shows.
fn expected(position: u64) -> u8 {
    (position % 251) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_the_known_sequence_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, received) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&received);
        thread::spawn(move || counting_sink(&listener, counter));
        let mut other = TcpStream::connect(address).unwrap();
        other.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // It is closed for that.
        assert!(!matches!(other.read(&mut [0]), Ok(1..)));
        let mut known = TcpStream::connect(address).unwrap();
        known.write_all(&(0..1000).map(expected).collect::<Vec<_>>()).unwrap();
        drop(known);
        let waited = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(10));
            received.load(Ordering::Relaxed) == 1000
        });
        assert!(waited);
    }
}
