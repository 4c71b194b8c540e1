//! Peers of the lab's own: small servers and clients that speak just enough of a protocol to
//! prove that it passes. All of them bound what they read and how long they wait: a hospital's
//! network sends them anything.

pub mod https;
pub mod mllp;
pub mod path;
pub mod ping;
pub mod tcp;
pub mod udp;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How long a server waits for a silent client.
const PATIENCE: Duration = Duration::from_mins(1);
/// Clients that a server serves at a time; further ones are closed at once.
const CLIENTS: usize = 256;

/// Accepts for ever, one thread a client. Errors of one client end that client alone.
fn accept_each(
    listener: &TcpListener,
    serve: impl Fn(TcpStream) -> anyhow::Result<()> + Send + Sync + 'static,
) {
    let (serve, clients) = (Arc::new(serve), Arc::new(AtomicUsize::new(0)));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        if clients.load(Ordering::Relaxed) >= CLIENTS {
            continue;
        }
        clients.fetch_add(1, Ordering::Relaxed);
        let (serve, clients) = (Arc::clone(&serve), Arc::clone(&clients));
        thread::spawn(move || {
            let bounded =
                stream.set_read_timeout(Some(PATIENCE)).and(stream.set_write_timeout(Some(PATIENCE)));
            // What a client does wrong is its own affair.
            let _ = bounded.map_err(anyhow::Error::from).and_then(|()| serve(stream));
            clients.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
