//! Peers as processes: what runs on the hosts of the hospital.

use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use clinigate_tests::dicom::{self, Archive};
use clinigate_tests::hospital::Hospital;
use clinigate_tests::namespace::{Namespace, Process};
use clinigate_tests::peers::{https, mllp, tcp, udp};

/// A server of one kind, on all addresses (IPv4 and IPv6) of its namespace.
#[derive(Debug, Subcommand)]
pub(crate) enum Peer {
    /// HL7 v2 over MLLP: acknowledge every message
    MllpListen {
        /// Ports to listen on
        #[arg(required = true)]
        ports: Vec<u16>,
    },
    /// HTTPS: answer every request
    HttpsServe {
        /// Directory of `certificate.der` and `key.der`
        #[arg(long)]
        identity: PathBuf,
        /// Ports to listen on
        #[arg(required = true)]
        ports: Vec<u16>,
    },
    /// TCP: accept, and read the lab's known byte sequence
    TcpSink {
        /// Ports to listen on
        #[arg(required = true)]
        ports: Vec<u16>,
    },
    /// UDP: send every datagram back
    UdpEcho {
        /// Ports to listen on
        #[arg(required = true)]
        ports: Vec<u16>,
    },
}

impl Peer {
    /// Serves until the process is ended.
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::MllpListen { ports } => on_each(&ports, listener, |listener| {
                mllp::listen(&listener);
                Ok(())
            }),
            Self::HttpsServe { identity, ports } => on_each(&ports, listener, |listener| {
                https::serve(&listener, &https::Identity::read(&identity)?)
            }),
            Self::TcpSink { ports } => on_each(&ports, listener, |listener| {
                tcp::sink(&listener);
                Ok(())
            }),
            Self::UdpEcho { ports } => on_each(&ports, socket, |socket| {
                udp::echo(&socket);
                Ok(())
            }),
        }
    }
}

fn on_each<T: Send>(
    ports: &[u16],
    open: impl Fn(u16) -> Result<T>,
    serve: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let opened = ports.iter().map(|port| open(*port)).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let serve = &serve;
        let threads: Vec<_> = opened.into_iter().map(|socket| scope.spawn(move || serve(socket))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a server panicked")))
    })
}

fn listener(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("cannot listen on tcp/{port}"))
}

fn socket(port: u16) -> Result<UdpSocket> {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("cannot listen on udp/{port}"))
}

/// All servers of the demo. Behind what the policy forbids stands a server too: without Clinigate
/// it answers, so what stops a forbidden packet is Clinigate and not an empty port.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The archive: `storescp` in the PACS.
    pub(crate) archive: Archive,
    /// `storescp` in the viewer.
    pub(crate) viewer: Archive,
    /// What the HTTPS servers show.
    pub(crate) identity: https::Identity,
    _processes: Vec<Process>,
}

/// Kind of server, its host (`gateway` for the gateway itself), its ports.
const SERVERS: &[(&str, &str, &[u16])] = &[
    ("mllp-listen", "integration", &[2575]),
    ("mllp-listen", "his", &[2575]),
    ("mllp-listen", "lis", &[2575]),
    ("mllp-listen", "ris", &[2575]),
    ("https-serve", "his", &[443]),
    ("https-serve", "vendor", &[443]),
    ("https-serve", "attacker", &[443]),
    ("https-serve", "ct-1", &[443]),
    ("tcp-sink", "pump-server-1", &[445, 3613]),
    ("tcp-sink", "lis", &[445, 5000, 5550]),
    ("tcp-sink", "pacs", &[445, 3389]),
    ("tcp-sink", "ris", &[104, 445]),
    ("tcp-sink", "his", &[445]),
    ("tcp-sink", "integration", &[445]),
    ("tcp-sink", "viewer", &[445]),
    ("tcp-sink", "mr-1", &[445]),
    ("tcp-sink", "ct-1", &[445]),
    ("tcp-sink", "vna", &[11112]),
    ("tcp-sink", "pump", &[3613]),
    ("tcp-sink", "infrastructure", &[6514]),
    ("tcp-sink", "gateway", &[22]),
    ("udp-echo", "infrastructure", &[53, 67, 123]),
    ("udp-echo", "monitor", &[24105]),
    ("udp-echo", "monitor-gateway", &[24005]),
    ("udp-echo", "attacker", &[53]),
    ("udp-echo", "gateway", &[500]),
];

impl Servers {
    /// Starts them and waits until each answers inside its own namespace.
    pub(crate) fn start(hospital: &Hospital) -> Result<Self> {
        let directory = hospital.run().directory();
        let identity = https::Identity::generate()?;
        identity.write(directory)?;
        let archive = Archive::start(&hospital.host("pacs").namespace, directory.join("archive"))?;
        let viewer = Archive::start(&hospital.host("viewer").namespace, directory.join("viewer"))?;
        let own = std::env::current_exe()?;
        let mut processes = Vec::new();
        for (kind, host, ports) in SERVERS {
            let mut command: Command = namespace(hospital, host).command(&own);
            command.arg(kind);
            if *kind == "https-serve" {
                command.arg("--identity").arg(directory);
            }
            command.args(ports.iter().map(u16::to_string));
            processes.push(Process::start(&mut command)?);
        }
        let own = [("tcp", "pacs", &[dicom::PORT][..]), ("tcp", "viewer", &[dicom::PORT])];
        for (kind, host, ports) in SERVERS.iter().copied().chain(own) {
            for port in ports {
                wait_for(namespace(hospital, host), kind == "udp-echo", *port)
                    .with_context(|| format!("{kind} on port {port} of {host}"))?;
            }
        }
        Ok(Self { archive, viewer, identity, _processes: processes })
    }
}

fn namespace<'a>(hospital: &'a Hospital, host: &str) -> &'a Namespace {
    if host == "gateway" { &hospital.gateway } else { &hospital.host(host).namespace }
}

fn wait_for(namespace: &Namespace, datagrams: bool, port: u16) -> Result<()> {
    let to = ([127, 0, 0, 1], port).into();
    namespace.run(|| {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            let answers = if datagrams {
                udp::answers(to, 0, b"ready?", Duration::from_millis(200))?
            } else {
                TcpStream::connect(to).is_ok()
            };
            if answers {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("does not answer")
    })?
}
