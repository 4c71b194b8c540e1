//! HTTPS: a server with a certificate made for the run, and a client that trusts only that one.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// What the server answers to a request for any path.
pub const BODY: &str = "the HIS is here\n";
/// Name in the certificate.
const NAME: &str = "his.hospital.example";
/// Longest request head, and longest answer, that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// A certificate that signs itself, and its key, both DER.
#[derive(Debug)]
pub struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    /// Makes one.
    pub fn generate() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
        Ok(Self { certificate: made.cert.der().to_vec(), key: made.signing_key.serialize_der() })
    }

    /// Writes `certificate.der` and `key.der`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::write(directory.join("certificate.der"), &self.certificate)?;
        fs::write(directory.join("key.der"), &self.key)?;
        Ok(())
    }

    /// Reads what [`Identity::write`] wrote.
    pub fn read(directory: &Path) -> Result<Self> {
        let read = |name| fs::read(directory.join(name)).with_context(|| format!("cannot read {name}"));
        Ok(Self { certificate: read("certificate.der")?, key: read("key.der")? })
    }
}

/// Answers every request with [`BODY`], for ever.
pub fn serve(listener: &TcpListener, identity: &Identity) -> Result<()> {
    let certificate = CertificateDer::from(identity.certificate.clone());
    let key =
        PrivateKeyDer::try_from(identity.key.clone()).map_err(|error| anyhow::anyhow!("key: {error}"))?;
    let config =
        Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?);
    super::accept_each(listener, move |stream| {
        let tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config))?, stream);
        let mut reader = BufReader::new(tls.take(LONGEST));
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 && line.trim_end() != "" {
            line.clear();
        }
        let mut tls = reader.into_inner().into_inner();
        write!(
            tls,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
            BODY.len()
        )?;
        tls.conn.send_close_notify();
        tls.flush()?;
        Ok(())
    });
    Ok(())
}

/// Asks for `/` and checks certificate, status and body.
pub fn get(to: SocketAddr, identity: &Identity, wait: Duration) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(identity.certificate.clone()))?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect_timeout(&to, wait).context("no connection")?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))?;
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME)?)?;
    let mut tls = StreamOwned::new(connection, stream);
    write!(tls, "GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n").context("request not sent")?;
    let mut answer = String::new();
    tls.take(LONGEST).read_to_string(&mut answer).context("no answer")?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "answer is {:?}", answer.lines().next());
    ensure!(answer.ends_with(BODY), "the body is not the one that was sent");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::thread;

    use super::*;

    fn serve_as(identity: Identity) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener, &identity));
        address
    }

    #[test]
    fn an_answer_comes_from_the_identity_that_the_client_trusts() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::generate().unwrap();
        identity.write(directory.path()).unwrap();
        let to = serve_as(identity);
        get(to, &Identity::read(directory.path()).unwrap(), Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn another_server_is_not_trusted() {
        let to = serve_as(Identity::generate().unwrap());
        assert!(get(to, &Identity::generate().unwrap(), Duration::from_secs(5)).is_err());
    }

    #[test]
    fn garbage_ends_its_own_connection_alone() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::generate().unwrap();
        identity.write(directory.path()).unwrap();
        let to = serve_as(identity);
        for garbage in [&b"\x0bMSH|^~\\&|\x1c\x0d"[..], &[0xff; 9000], &[0x16, 3, 1, 0xff, 0xff]] {
            let mut stream = TcpStream::connect(to).unwrap();
            stream.write_all(garbage).unwrap();
        }
        get(to, &Identity::read(directory.path()).unwrap(), Duration::from_secs(5)).unwrap();
    }
}
