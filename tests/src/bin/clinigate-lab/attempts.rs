//! What hosts of the hospital try: each attempt says whether it came through.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clinigate_tests::dicom::{self, Archive, Image};
use clinigate_tests::frames::{self, Link, Packet, Wire};
use clinigate_tests::hospital::{Hospital, WAN_V4};
use clinigate_tests::peers::{https, mllp, path, ping, tcp, udp};

use crate::peers::Servers;

/// Less than the second after which a SYN is sent again: what is stopped is counted once.
const WAIT: Duration = Duration::from_millis(700);
/// For whole exchanges that should pass.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// Bytes that a link takes in the attempt at path MTU discovery.
const SMALL_MTU: u32 = 1400;
/// In the payload of every raw frame, so that its receiver knows it.
const TOKEN: &[u8] = b"clinigate-lab raw frame";

/// The hospital with its servers running.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) hospital: Hospital,
    pub(crate) servers: Servers,
    pub(crate) image: Image,
}

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Seen {
    /// All of it came through.
    Passed,
    /// None of it did.
    Stopped,
    /// Some of it did.
    Partly(String),
    /// Nobody can see it but the counters: there is no tagged receiver behind the gateway.
    CountersOnly,
    /// It came through, but not as it should.
    Wrong(String),
}

impl Seen {
    fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Stopped }
    }

    /// Of an exchange that fails with a sentence: an exchange that got no connection was stopped.
    fn of_exchange(done: Result<()>) -> Self {
        match done {
            Ok(()) => Self::Passed,
            Err(error) => {
                let text = format!("{error:#}");
                if text.contains("no connection") || text.contains("Association Request Failed") {
                    Self::Stopped
                } else {
                    Self::Wrong(text)
                }
            }
        }
    }
}

impl Scene {
    /// C-ECHO.
    pub(crate) fn dicom_echo(&self, from: &str, to: &str) -> Seen {
        let (from, to) = (self.hospital.host(from), self.hospital.host(to));
        Seen::of_exchange(dicom::echo(&from.namespace, to.at(dicom::PORT)))
    }

    /// C-STORE; what arrives is compared.
    pub(crate) fn dicom_store(&self, from: &str, to: &str) -> Seen {
        let archive: &Archive = if to == "viewer" { &self.servers.viewer } else { &self.servers.archive };
        let (from, to) = (self.hospital.host(from), self.hospital.host(to));
        let stored = self.image.store(&from.namespace, to.at(dicom::PORT));
        Seen::of_exchange(stored.and_then(|()| self.image.compare(archive).map(drop)))
    }

    /// An HL7 message and its acknowledgement.
    pub(crate) fn hl7(&self, from: &str, to: &str) -> Result<Seen> {
        let to = self.hospital.host(to).at(2575);
        self.inside(from, || Seen::of_exchange(mllp::send(to, "LAB0001", LONG_WAIT)))
    }

    /// The same over IPv6.
    pub(crate) fn hl7_v6(&self, from: &str, to: &str) -> Result<Seen> {
        let to = self.hospital.host(to).at_v6(2575);
        self.inside(from, || Seen::of_exchange(mllp::send(to, "LAB0002", LONG_WAIT)))
    }

    /// A request over HTTPS.
    pub(crate) fn https(&self, from: &str, to: &str) -> Result<Seen> {
        let (to, identity) = (self.hospital.host(to).at(443), &self.servers.identity);
        self.inside(from, || Seen::of_exchange(https::get(to, identity, LONG_WAIT)))
    }

    /// An echo request with this many bytes to the host's router: the gateway.
    pub(crate) fn ping_gateway(&self, from: &str, length: usize) -> Result<Seen> {
        let to = IpAddr::V4(self.hospital.host(from).router_v4);
        self.inside(from, || ping::answers(to, length, WAIT).map(Seen::of))?
    }

    /// A TCP connection.
    pub(crate) fn tcp(&self, from: &str, to: &str, port: u16) -> Result<Seen> {
        self.scan(from, &[to], port)
    }

    /// TCP connections to many hosts at once.
    pub(crate) fn scan(&self, from: &str, hosts: &[&str], port: u16) -> Result<Seen> {
        let targets: Vec<_> = hosts.iter().map(|host| self.hospital.host(host).at(port)).collect();
        let found = self.inside(from, || connections(&self.hospital, from, &targets))??;
        Ok(match found {
            0 => Seen::Stopped,
            found if found == targets.len() => Seen::Passed,
            found => Seen::Partly(format!("{found} of {} connections came about", targets.len())),
        })
    }

    /// A TCP connection to the gateway's address in the world.
    pub(crate) fn tcp_to_gateway(&self, from: &str, port: u16) -> Result<Seen> {
        self.inside(from, || Seen::of(tcp::connects((WAN_V4, port).into(), WAIT)))
    }

    /// A datagram to the gateway's address in the world, and its echo.
    pub(crate) fn udp_to_gateway(&self, from: &str, port: u16) -> Result<Seen> {
        self.inside(from, || udp::answers((WAN_V4, port).into(), 0, TOKEN, WAIT).map(Seen::of))?
    }

    /// A datagram and its echo.
    pub(crate) fn udp(&self, from: &str, to: &str, port: u16) -> Result<Seen> {
        let to = self.hospital.host(to).at(port);
        self.inside(from, || udp::answers(to, 0, TOKEN, WAIT).map(Seen::of))?
    }

    /// The same over IPv6.
    pub(crate) fn udp_v6(&self, from: &str, to: &str, port: u16) -> Result<Seen> {
        let to = self.hospital.host(to).at_v6(port);
        self.inside(from, || udp::answers(to, 0, TOKEN, WAIT).map(Seen::of))?
    }

    /// Whether the gateway, by its address in that segment, is the first hop that traceroute shows.
    pub(crate) fn first_hop(&self, from: &str, to: &str, port: u16) -> Result<Seen> {
        let (to, router) = (self.hospital.host(to).at(port), self.hospital.host(from).router_v4);
        Ok(match self.inside(from, || path::first_hop(to, LONG_WAIT))?? {
            Some(hop) if hop == router => Seen::Passed,
            Some(hop) => Seen::Wrong(format!("the first hop is {hop}, not {router}")),
            None => Seen::Stopped,
        })
    }

    /// Whether the sender learns that the link to `to` takes less than others.
    pub(crate) fn path_mtu(&self, from: &str, to: &str, port: u16) -> Result<Seen> {
        let link = &self.hospital.host(to).port;
        let set = |mtu: u32| self.hospital.gateway.batch(&[format!("link set {link} mtu {mtu}")]);
        set(SMALL_MTU)?;
        let to = self.hospital.host(to).at(port);
        let mtu = self.inside(from, || path::mtu(to, 1472, 1500, LONG_WAIT))?;
        set(1500)?;
        Ok(match mtu? {
            SMALL_MTU => Seen::Passed,
            1500 => Seen::Stopped,
            mtu => Seen::Wrong(format!("the path is said to take {mtu} bytes, not {SMALL_MTU}")),
        })
    }

    /// Raw frames onto the wire of `from`, looked for at `to`.
    pub(crate) fn raw(
        &self,
        from: &str,
        to: &str,
        make: impl FnOnce(Link) -> Result<Vec<Vec<u8>>>,
    ) -> Result<Seen> {
        let sender = self.hospital.host(from);
        let receiver = self.hospital.host(to).wire()?;
        let (wire, frames) = (sender.wire()?, make(sender.link)?);
        frames.iter().try_for_each(|frame| wire.send(frame))?;
        let carries = |frame: &[u8]| frames::carries(frame, TOKEN);
        Ok(match receiver.count(WAIT, frames.len(), carries)? {
            0 => Seen::Stopped,
            found if found == frames.len() => Seen::Passed,
            found => Seen::Partly(format!("{found} of {} frames came through", frames.len())),
        })
    }

    /// A broadcast for the gateway onto the wire of `from`, looked for where the gateway takes it
    /// from there.
    pub(crate) fn broadcast(&self, from: &str, make: impl FnOnce(Link) -> Result<Vec<u8>>) -> Result<Seen> {
        let sender = self.hospital.host(from);
        let receiver = Wire::open(&self.hospital.gateway, &sender.port)?;
        sender.wire()?.send(&make(Link { to: [0xff; 6], ..sender.link })?)?;
        Ok(Seen::of(receiver.count(WAIT, 1, |frame| frames::carries(frame, TOKEN))? == 1))
    }

    /// An ARP request that claims an address; looked for is the gateway's answer to it.
    pub(crate) fn arp_claim(&self, from: &str, claimed: Ipv4Addr) -> Result<Seen> {
        let sender = self.hospital.host(from);
        let wire = sender.wire()?;
        wire.send(&frames::arp_request(sender.link, claimed, sender.router_v4)?)?;
        // EtherType ARP, operation reply, target the claimed address.
        let reply = |frame: &[u8]| {
            frame.get(12..14) == Some(&[0x08, 0x06])
                && frame.get(20..22) == Some(&[0, 2])
                && frame.get(38..42) == Some(&claimed.octets())
        };
        Ok(Seen::of(wire.count(WAIT, 1, reply)? == 1))
    }

    /// Frames onto the trunk.
    pub(crate) fn trunk(&self, make: impl FnOnce(Link) -> Result<Vec<Vec<u8>>>) -> Result<Seen> {
        let (wire, link) = self.hospital.trunk()?;
        make(link)?.iter().try_for_each(|frame| wire.send(frame))?;
        // The counters are read next: give the gateway's CPU time to see the frames.
        thread::sleep(Duration::from_millis(50));
        Ok(Seen::CountersOnly)
    }

    /// A socket address on a host.
    pub(crate) fn at(&self, host: &str, port: u16) -> SocketAddr {
        self.hospital.host(host).at(port)
    }

    /// An IPv6 socket address on a host.
    pub(crate) fn at_v6(&self, host: &str, port: u16) -> SocketAddr {
        self.hospital.host(host).at_v6(port)
    }

    /// The IPv4 address of a host.
    pub(crate) fn v4(&self, host: &str) -> Ipv4Addr {
        self.hospital.host(host).v4
    }

    fn inside<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.hospital.host(host).namespace.run(work)
    }
}

/// A packet with the token in it, ready to be written as UDP or TCP.
pub(crate) fn packet(link: Link, tags: &[u16], from: SocketAddr, to: SocketAddr) -> Packet {
    Packet { link, tags: tags.to_vec(), from, to, payload: TOKEN.to_vec() }
}

/// The token behind a UDP header without checksum, for fragments written by hand.
pub(crate) fn datagram(from: u16, to: u16) -> Vec<u8> {
    let length = u16::try_from(8 + TOKEN.len()).expect("the token is short");
    [&from.to_be_bytes(), &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0][..], TOKEN].concat()
}

fn connections(hospital: &Hospital, from: &str, targets: &[SocketAddr]) -> Result<usize> {
    let namespace = &hospital.host(from).namespace;
    let threads: Vec<_> =
        targets.iter().copied().map(|to| namespace.spawn(move || Ok(tcp::connects(to, WAIT)))).collect();
    threads.into_iter().try_fold(0, |found, thread| {
        let connected = thread.join().map_err(|_| anyhow::anyhow!("a scanning thread panicked"))??;
        Ok(found + usize::from(connected))
    })
}
