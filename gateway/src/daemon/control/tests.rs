#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::unistd::Gid;
use tokio::task::spawn_blocking;

use super::*;

/// The names that serde takes for a type, as its error lists them where a text has `?` for one.
fn names<T: serde::de::DeserializeOwned>(text: &str) -> BTreeSet<String> {
    let Err(error) = serde_json::from_str::<T>(text) else { panic!("{text} is read") };
    let error = error.to_string();
    let (_, expected) = error.split_once("expected").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_manual_names_every_request_reply_order_and_error() {
    let page = include_str!("../../../../docs/operation.md");
    let (_, section) = page.split_once("## Control socket").unwrap();
    let quoted = |key: &str| -> BTreeSet<String> {
        let before = format!("{{\"{key}\":\"");
        let after = section.split(before.as_str()).skip(1);
        after.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    assert_eq!(quoted("request"), names::<Request>(r#"{"request":"?"}"#));
    assert_eq!(quoted("order"), names::<Order>(r#"{"order":"?"}"#));
    assert_eq!(quoted("reply"), names::<Reply>(r#"{"reply":"?"}"#));
    let (_, kinds) = section.split_once("| Kind |").unwrap();
    let kinds = kinds.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(kinds.map(str::to_owned).collect::<BTreeSet<_>>(), names::<ErrorKind>(r#""?""#));

    let may = |rights| match rights {
        Rights::ReadOnly => "viewers",
        Rights::Operate => "operators",
        Rights::None | Rights::Full => "root",
    };
    let mut read = 0;
    for row in section.lines().filter(|line| line.starts_with("| `{")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for text in cells[1].split('`').skip(1).step_by(2) {
            let text = if text.starts_with(r#"{"order""#) {
                format!(r#"{{"request":"order","order":{text}}}"#)
            } else {
                text.replace(r#""order":{…}"#, r#""order":{"order":"list"}"#).replace("{…}", "{}")
            };
            let request: Request =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            if cells[2] != "see below" {
                assert_eq!(cells[2], may(request.needs()), "{text}");
            }
            read += 1;
        }
    }
    assert_eq!(read, 10 + names::<Order>(r#"{"order":"?"}"#).len());
}

/// Counts what reaches it, and what is refused.
#[derive(Default)]
struct Counting(AtomicUsize, AtomicUsize);

impl Handler for Counting {
    async fn handle(&self, _: Peer, request: Request) -> Reply {
        self.0.fetch_add(1, Ordering::Relaxed);
        match request {
            Request::Status {} => Reply::Status { status: Box::default() },
            _ => Reply::Applied { change: Change { generation: 7, ..Change::default() } },
        }
    }

    async fn forbidden(&self, _: Peer, _: Request) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

struct Served {
    directory: tempfile::TempDir,
    handler: Arc<Counting>,
    server: tokio::task::JoinHandle<()>,
}

impl Served {
    fn start(readers: Option<Gid>) -> Self {
        Self::with(Groups { viewers: readers, operators: None })
    }

    fn with(groups: Groups) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&directory.path().join("s"), groups).unwrap();
        let handler = Arc::new(Counting::default());
        let carrier = Arc::clone(&handler);
        let server = tokio::spawn(async move { listener.serve(carrier).await });
        Self { directory, handler, server }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    fn handled(&self) -> usize {
        self.handler.0.load(Ordering::Relaxed)
    }

    /// Sends bytes, and returns all that comes back.
    async fn send(&self, bytes: Vec<u8>) -> String {
        let path = self.path();
        spawn_blocking(move || {
            let mut stream = UnixStream::connect(path).unwrap();
            // The service may have heard enough before all is sent.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut reply = Vec::new();
            let _ = stream.read_to_end(&mut reply);
            String::from_utf8(reply).unwrap()
        })
        .await
        .unwrap()
    }

    async fn ask(&self, request: Request) -> Reply {
        let path = self.path();
        spawn_blocking(move || Client::connect(&path).unwrap().ask(&request, Duration::from_secs(5)).unwrap())
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_replies_are_lines_of_json() {
    let served = Served::start(None);
    let requests = "{\"request\":\"status\"}\n{\"request\":\"apply\",\"dir\":\"/etc/policy\"}\n";
    let replies = served.send(requests.into()).await;
    let replies: Vec<Reply> = replies.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(matches!(replies[0], Reply::Status { .. }));
    assert!(matches!(&replies[1], Reply::Applied { change } if change.generation == 7));
    assert_eq!(replies.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_and_disturbs_nobody() {
    let served = Served::start(None);
    let mut nested = "[".repeat(60_000);
    nested.push('\n');
    let garbage: Vec<Vec<u8>> = vec![
        b"\n".to_vec(),
        b"hello\n".to_vec(),
        b"{}\n".to_vec(),
        b"{\"request\":\"explode\"}\n".to_vec(),
        b"{\"request\":\"apply\"}\n".to_vec(),
        b"{\"request\":\"apply\",\"dir\":\"/x\",\"extra\":1}\n".to_vec(),
        b"{\"request\":\"status\"}".to_vec(),
        vec![0; 1000],
        (0..=255).cycle().take(40_000).chain([b'\n']).collect(),
        nested.into_bytes(),
    ];
    for bytes in garbage {
        let reply = served.send(bytes.clone()).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        let reply: Reply =
            serde_json::from_str(reply.trim()).unwrap_or_else(|error| panic!("{shown}: {error}: {reply}"));
        assert!(matches!(reply, Reply::Error { kind: ErrorKind::Malformed, .. }), "{shown}: {reply:?}");
    }
    assert_eq!(served.handled(), 0);
    assert!(matches!(served.ask(Request::Status {}).await, Reply::Status { .. }), "the service goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_largest_size() {
    let served = Served::start(None);
    let path = "x".repeat(REQUEST_LIMIT);
    let reply = served.send(format!("{{\"request\":\"apply\",\"dir\":\"/{path}\"}}\n").into_bytes()).await;
    // The reply may be lost to a reset, because the service does not read what is too much.
    assert!(reply.is_empty() || reply.contains("at most 65536 bytes"), "{reply}");
    let endless = served.send(vec![b'a'; 10_000_000]).await;
    assert!(endless.is_empty() || endless.contains("at most 65536 bytes"), "{endless}");
    assert_eq!(served.handled(), 0);
    assert!(matches!(served.ask(Request::Status {}).await, Reply::Status { .. }), "the service goes on");
}

/// What a client makes of these bytes, after which the service is gone.
fn answered(reply: Vec<u8>) -> Result<Reply, ClientError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let service = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut request).unwrap();
        // The client may have heard enough before all is sent.
        let _ = stream.write_all(&reply);
    });
    let answer = Client::connect(&path).unwrap().ask(&Request::Confirm {}, Duration::from_secs(5));
    service.join().unwrap();
    answer
}

#[test]
fn an_answer_has_a_largest_size() {
    let padded = |length: usize| {
        let mut reply = br#"{"reply":"confirmed","generation":7}"#.to_vec();
        reply.resize(length - 1, b' ');
        reply.push(b'\n');
        reply
    };
    let longest = answered(padded(client::REPLY_LIMIT)).unwrap();
    assert_eq!(longest, Reply::Confirmed { generation: 7 });
    let longer = answered(padded(client::REPLY_LIMIT + 1)).unwrap_err();
    assert!(longer.to_string().contains("is longer than 16777216 bytes"), "{longer}");
    // A character that the limit cuts in two is no other mistake.
    let words = "ä".repeat(client::REPLY_LIMIT).into_bytes();
    let longer = answered([b"\"", words.as_slice()].concat()).unwrap_err();
    assert!(matches!(longer, ClientError::TooLong(_)), "{longer:?}");
    let broken_off = answered(br#"{"reply":"confirmed","gener"#.to_vec()).unwrap_err();
    assert!(matches!(broken_off, ClientError::Io { .. }), "{broken_off:?}");
    let strange = answered(b"{\"reply\":\"what\"}\n".to_vec()).unwrap_err();
    assert!(matches!(strange, ClientError::Reply { .. }), "{strange:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_peers_do_not_keep_others_out() {
    let served = Served::start(None);
    let path = served.path();
    let silent: Vec<UnixStream> = (0..10).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert!(matches!(served.ask(Request::Status {}).await, Reply::Status { .. }));
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_peers_are_told_so() {
    let served = Served::start(None);
    let path = served.path();
    let held: Vec<UnixStream> = (0..32).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let reply = served.ask(Request::Status {}).await;
    assert!(matches!(reply, Reply::Error { kind: ErrorKind::Busy, .. }), "{reply:?}");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let served = Served::start(None);
    let path = served.path();
    let second = Listener::bind(&path, Groups::default()).unwrap_err();
    assert!(matches!(second, ListenError::AlreadyRunning(_)), "{second}");
    assert!(matches!(served.ask(Request::Status {}).await, Reply::Status { .. }), "the first goes on");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);

    served.server.abort();
    let _ = served.server.await;
    assert!(!path.exists(), "a listener takes its file with it");

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::connect(&path), Err(ClientError::NotRunning(_))), "nobody listens there");
    Listener::bind(&path, Groups::default()).unwrap();

    fs::write(&path, "precious").unwrap();
    let file = Listener::bind(&path, Groups::default()).unwrap_err();
    assert!(matches!(file, ListenError::NoSocket(_)), "{file}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

/// Asks as user `nobody` (65534) and group `gid`, who can reach the socket in this test alone.
fn ask_as_nobody(path: &Path, gid: u32, request: Request) -> Reply {
    let path = path.to_owned();
    let asker = std::thread::spawn(move || {
        // SAFETY: the system calls, unlike the C library's functions, change this thread alone,
        // which ends with the question.
        let become_nobody = unsafe {
            [
                libc::syscall(libc::SYS_setresgid, gid, gid, gid),
                libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534),
            ]
        };
        assert_eq!(become_nobody, [0, 0]);
        Client::connect(&path).unwrap().ask(&request, Duration::from_secs(5)).unwrap()
    });
    asker.join().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a test that does nothing says so")]
async fn the_kernel_says_who_asks() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let readers = 4242;
    let served = Served::start(Some(Gid::from_raw(readers)));
    let path = served.path();
    fs::set_permissions(served.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    spawn_blocking(move || {
        let stranger = ask_as_nobody(&path, 65_534, Request::Status {});
        assert!(matches!(stranger, Reply::Error { kind: ErrorKind::Forbidden, .. }), "{stranger:?}");
        let reader = ask_as_nobody(&path, readers, Request::Status {});
        assert!(matches!(reader, Reply::Status { .. }), "{reader:?}");
        let reader = ask_as_nobody(&path, readers, Request::Detach {});
        assert!(matches!(reader, Reply::Error { kind: ErrorKind::Forbidden, .. }), "{reader:?}");
    })
    .await
    .unwrap();
    assert_eq!(served.handled(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a test that does nothing says so")]
async fn operators_order_and_viewers_look() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let (viewers, operators) = (4242, 4243);
    let groups = Groups { viewers: Some(Gid::from_raw(viewers)), operators: Some(Gid::from_raw(operators)) };
    let served = Served::with(groups);
    let path = served.path();
    fs::set_permissions(served.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let refused = spawn_blocking(move || {
        let order = || Request::Order { order: Order::QuarantineRelease { target: "ct-1".to_owned() } };
        let list = || Request::Order { order: Order::List {} };
        let stranger = 65_534;
        let cases = [
            (operators, order(), true),
            (operators, list(), true),
            (operators, Request::Status {}, true),
            (operators, Request::Detach {}, false),
            (operators, Request::Confirm {}, false),
            (viewers, list(), true),
            (viewers, order(), false),
            (stranger, list(), false),
            (stranger, order(), false),
        ];
        let refused = cases.iter().filter(|(.., allowed)| !allowed).count();
        for (gid, request, allowed) in cases {
            let reply = ask_as_nobody(&path, gid, request.clone());
            let forbidden = matches!(reply, Reply::Error { kind: ErrorKind::Forbidden, .. });
            assert_eq!(forbidden, !allowed, "{gid} {request:?}: {reply:?}");
        }
        refused
    });
    let refused = refused.await.unwrap();
    assert_eq!(served.handler.1.load(Ordering::Relaxed), refused, "each refusal is told");
}
