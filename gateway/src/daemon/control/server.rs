//! The service's side of the control socket.

use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Gid, Uid, chown};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream, unix::UCred};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{ErrorKind, Groups, Peer, REQUEST_LIMIT, Reply, Request, Rights, peer};

/// Peers that are served at once.
const PEERS: usize = 32;
/// For how long a peer may be silent within a request, or before one.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same of a peer that has no rights.
const STRANGERS_PATIENCE: Duration = Duration::from_secs(1);

/// Carries out requests.
pub trait Handler: Send + Sync + 'static {
    /// Carries out `request` of a peer that has been found to have the right to ask it.
    fn handle(&self, peer: Peer, request: Request) -> impl Future<Output = Reply> + Send;

    /// `peer` asked for what it has no right to.
    fn forbidden(&self, peer: Peer, request: Request) -> impl Future<Output = ()> + Send {
        let _ = (peer, request);
        std::future::ready(())
    }

    /// `reply` has been sent, or its peer has gone.
    fn answered(&self, reply: &Reply) {
        let _ = reply;
    }
}

/// The socket. Its file goes when the listener does.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    inode: u64,
    groups: Groups,
    peers: Arc<Semaphore>,
}

/// Why the socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another service answers there.
    #[error("clinigate is already running: a service answers on {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// Something that is no socket stands there.
    #[error("{} exists and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// The file system refuses.
    #[error("cannot listen on {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Listener {
    /// Listens on `path`, in place of a socket that a dead service left there. Members of one of the `groups`
    /// may reach it; where there are two, anybody may, and is asked who it is: a file has one group.
    pub fn bind(path: &Path, groups: Groups) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Io { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(ListenError::AlreadyRunning(path.to_owned()));
                }
            }
            Ok(_) => return Err(ListenError::NoSocket(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        // Nobody can reach the socket before its permissions are right, nor find none at `path`.
        let aside = path.with_extension(format!("{}", std::process::id()));
        let _ = fs::remove_file(&aside);
        let listener = UnixListener::bind(&aside).map_err(failed)?;
        let (mode, group) = match (groups.viewers, groups.operators) {
            (Some(viewers), Some(operators)) if viewers != operators => (0o666, None),
            (viewers, operators) => (0o660, viewers.or(operators)),
        };
        let prepared = fs::set_permissions(&aside, Permissions::from_mode(mode))
            .and_then(|()| group.map_or(Ok(()), |group| Ok(chown(&aside, None, Some(group))?)))
            .and_then(|()| fs::rename(&aside, path))
            .and_then(|()| fs::symlink_metadata(path));
        match prepared {
            Ok(metadata) => Ok(Self {
                socket: listener,
                path: path.to_owned(),
                inode: metadata.ino(),
                groups,
                peers: Arc::new(Semaphore::new(PEERS)),
            }),
            Err(error) => {
                let _ = fs::remove_file(&aside);
                Err(failed(error))
            }
        }
    }

    /// Serves peers for ever.
    pub async fn serve(&self, handler: Arc<impl Handler>) {
        loop {
            let stream = match self.socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: it passes.
                    warn!(%error, "cannot accept a peer on the control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let groups = self.groups;
            let handler = Arc::clone(&handler);
            let place = Arc::clone(&self.peers).try_acquire_owned();
            tokio::spawn(async move {
                let ended = match place {
                    Ok(_held) => serve_peer(stream, groups, handler.as_ref()).await,
                    Err(_) => refuse_busy(stream).await,
                };
                if let Err(error) = ended {
                    debug!(%error, "a peer of the control socket went away");
                }
            });
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Not if another service has put its own there.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn serve_peer(stream: UnixStream, groups: Groups, handler: &impl Handler) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let (uid, gid) = (Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
    let rights = peer::rights(uid, gid, nix::unistd::geteuid(), groups);
    let who = Peer { uid: peer.uid(), pid: peer.pid(), rights };
    // Strangers can reach the socket where two groups may: they do not keep others out for long.
    let patience = if rights == Rights::None { STRANGERS_PATIENCE } else { PATIENCE };
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let request = match timeout(patience, next_request(&mut read)).await {
            Ok(Ok(Some(request))) => request,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(Unreadable::Io(error))) => return Err(error),
            Ok(Err(Unreadable::Malformed(message))) => {
                warn!(peer = %describe(&peer), message, "refused a request on the control socket");
                return send(&mut write, &error(ErrorKind::Malformed, message)).await;
            }
            Err(_) => {
                let message = format!("no request within {} s", patience.as_secs());
                return send(&mut write, &error(ErrorKind::Malformed, message)).await;
            }
        };
        let reply = if rights >= request.needs() {
            debug!(peer = %describe(&peer), request = request.name(), "request on the control socket");
            handler.handle(who.clone(), request).await
        } else {
            warn!(peer = %describe(&peer), request = request.name(), "forbidden request on the control socket");
            let message =
                format!("{} may not ask for `{}`: {}", who.name(), request.name(), request.needs().of());
            handler.forbidden(who.clone(), request).await;
            let refused = send(&mut write, &error(ErrorKind::Forbidden, message)).await;
            if rights == Rights::None {
                return refused;
            }
            refused?;
            continue;
        };
        let sent = send(&mut write, &reply).await;
        handler.answered(&reply);
        sent?;
    }
}

enum Unreadable {
    Io(io::Error),
    Malformed(String),
}

/// The next line, parsed; `None` at the end.
async fn next_request(
    read: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
) -> Result<Option<Request>, Unreadable> {
    let mut line = Vec::new();
    let limit = u64::try_from(REQUEST_LIMIT).unwrap_or(u64::MAX);
    let length = read.take(limit).read_until(b'\n', &mut line).await.map_err(Unreadable::Io)?;
    if length == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        let what = if length == REQUEST_LIMIT {
            format!("a request is at most {REQUEST_LIMIT} bytes")
        } else {
            "a request ends with a newline".to_owned()
        };
        return Err(Unreadable::Malformed(what));
    }
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(|error| Unreadable::Malformed(format!("not a request: {error}")))
}

async fn refuse_busy(mut stream: UnixStream) -> io::Result<()> {
    send(&mut stream, &error(ErrorKind::Busy, format!("{PEERS} peers are being served already"))).await
}

async fn send(write: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    timeout(PATIENCE, write.write_all(&line)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn error(kind: ErrorKind, message: impl Into<String>) -> Reply {
    Reply::Error { kind, message: message.into() }
}

fn describe(peer: &UCred) -> String {
    match peer.pid() {
        Some(pid) => format!("uid {} pid {pid}", peer.uid()),
        None => format!("uid {}", peer.uid()),
    }
}
