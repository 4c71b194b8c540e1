//! The client's side of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Reply, Request};

/// Bytes of a reply, its newline included, at most. `traffic` is the longest: it has every rule, and every pair of segments that has
/// seen packets.
pub(super) const REPLY_LIMIT: usize = 16 * 1024 * 1024;

/// A connection to the service.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

/// Why the service could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "no clinigate service answers on {}; look with `systemctl status clinigate`, or name another socket with --socket",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// The socket's permissions keep us out.
    #[error(
        "no permission to talk to the service on {}; run as root, or as a member of the group that `clinigate run \
         --socket-group` or `--operator-group` names",
        .0.display()
    )]
    Permission(PathBuf),
    /// The connection broke, or took too long.
    #[error("lost the connection to the service on {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// What came back is no reply of ours.
    #[error("the service on {} gave an answer that this version does not understand", path.display())]
    Reply {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// What came back is more than we read.
    #[error(
        "the answer of the service on {} is longer than {REPLY_LIMIT} bytes, the most that is read; `/metrics` has its counters",
        .0.display()
    )]
    TooLong(PathBuf),
}

impl Client {
    /// Connects to the service that listens on `path`.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(path.to_owned())
            }
            io::ErrorKind::PermissionDenied => ClientError::Permission(path.to_owned()),
            _ => ClientError::Io { path: path.to_owned(), source },
        })?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the reply for at most `patience`. After an error the connection is of no use: the rest of an
    /// answer may still come.
    pub fn ask(&mut self, request: &Request, patience: Duration) -> Result<Reply, ClientError> {
        let line = self.exchange(request, patience).map_err(|source| self.broken(source))?;
        if line.last() != Some(&b'\n') {
            return Err(if line.len() == REPLY_LIMIT {
                ClientError::TooLong(self.path.clone())
            } else {
                self.broken(io::ErrorKind::UnexpectedEof.into())
            });
        }
        serde_json::from_slice(&line).map_err(|source| ClientError::Reply { path: self.path.clone(), source })
    }

    fn exchange(&mut self, request: &Request, patience: Duration) -> io::Result<Vec<u8>> {
        self.stream.get_ref().set_read_timeout(Some(patience))?;
        self.stream.get_ref().set_write_timeout(Some(patience))?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        // A service that refuses us may answer and close before it has read the request.
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        let mut reply = Vec::new();
        let received = (&mut self.stream).take(REPLY_LIMIT as u64).read_until(b'\n', &mut reply);
        match (received, sent) {
            (Ok(1..), _) => Ok(reply),
            (Ok(0), Ok(())) => Err(io::ErrorKind::UnexpectedEof.into()),
            (Err(error), Ok(())) | (_, Err(error)) => Err(error),
        }
    }

    fn broken(&self, source: io::Error) -> ClientError {
        ClientError::Io { path: self.path.clone(), source }
    }
}
