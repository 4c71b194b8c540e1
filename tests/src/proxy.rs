//! A way for the machine's user to what listens inside a namespace: connections to a loopback port of the machine are
//! carried over, byte by byte. No packet leaves the machine's loopback for it, and none enters a namespace: the
//! other connection begins inside.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::namespace::Namespace;

/// How long what listens inside may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Carries connections to `inside` of a namespace, until the process ends. Returns where it listens: `port` of
/// 127.0.0.1, or another where that is taken.
pub fn open(namespace: &Namespace, inside: SocketAddr, port: u16) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .context("no port of the machine's loopback is free")?;
    let address = listener.local_addr()?;
    let namespace = namespace.clone();
    thread::Builder::new().name("proxy".to_owned()).spawn(move || {
        for outer in listener.incoming().flatten() {
            // Nobody listens inside any more: the peer sees its connection end.
            let connected = namespace.run(|| TcpStream::connect_timeout(&inside, PATIENCE));
            if let Ok(Ok(inner)) = connected {
                thread::spawn(move || carry(outer, inner));
            }
        }
    })?;
    Ok(address)
}

fn carry(outer: TcpStream, inner: TcpStream) {
    let (Ok(from), Ok(to)) = (outer.try_clone(), inner.try_clone()) else { return };
    let back = thread::spawn(move || one_way(inner, outer));
    one_way(from, to);
    // It ends when its side does; a panic in it is none of ours.
    let _ = back.join();
}

fn one_way(mut from: TcpStream, mut to: TcpStream) {
    // Whatever ends it, both sides are told.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
