//! The client's side of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Reply, Request};

/// A reply is a status at most, which grows with the policy's segments and interfaces.
const REPLY_LIMIT: u64 = 16 * 1024 * 1024;

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

    /// Asks, and waits for the reply for at most `patience`.
    pub fn ask(&mut self, request: &Request, patience: Duration) -> Result<Reply, ClientError> {
        let line = self.exchange(request, patience).map_err(|source| self.broken(source))?;
        serde_json::from_str(&line).map_err(|source| ClientError::Reply { path: self.path.clone(), source })
    }

    fn exchange(&mut self, request: &Request, patience: Duration) -> io::Result<String> {
        self.stream.get_ref().set_read_timeout(Some(patience))?;
        self.stream.get_ref().set_write_timeout(Some(patience))?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        // A service that refuses us may answer and close before it has read the request.
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        let mut reply = String::new();
        let received = (&mut self.stream).take(REPLY_LIMIT).read_line(&mut reply);
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
