//! Frames that no honest host sends, and the packet sockets that put them on a wire and see
//! what comes off it.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpFragOffset, IpNumber, Ipv4Header, PacketBuilder,
    VlanId,
};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::namespace::Namespace;

/// Length of an Ethernet header without tags.
pub const ETHERNET: usize = 14;

/// Hardware addresses of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Sender.
    pub from: [u8; 6],
    /// Receiver.
    pub to: [u8; 6],
}

/// A packet of UDP or TCP, before it is written out.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Hardware addresses.
    pub link: Link,
    /// VLAN identifiers, outermost first: none, one (802.1Q) or two (802.1ad, then 802.1Q).
    pub tags: Vec<u16>,
    /// Source. Both ends are of one family.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// What the transport carries.
    pub payload: Vec<u8>,
}

impl Packet {
    /// As a UDP frame with right checksums.
    pub fn udp(&self) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        let step = self.network()?.udp(self.from.port(), self.to.port());
        step.write(&mut frame, &self.payload).context("cannot write a UDP frame")?;
        Ok(frame)
    }

    /// As a TCP SYN (with data, which receivers of the lab recognise) with right checksums.
    pub fn tcp_syn(&self) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        let step = self.network()?.tcp(self.from.port(), self.to.port(), 1, 64_000).syn();
        step.write(&mut frame, &self.payload).context("cannot write a TCP frame")?;
        Ok(frame)
    }

    /// As a TCP segment in the middle of a connection.
    pub fn tcp_middle(&self) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        let step = self.network()?.tcp(self.from.port(), self.to.port(), 7_000, 64_000).ack(9_000).psh();
        step.write(&mut frame, &self.payload).context("cannot write a TCP frame")?;
        Ok(frame)
    }

    /// As a TCP segment that opens and closes at once.
    pub fn tcp_syn_fin(&self) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        let step = self.network()?.tcp(self.from.port(), self.to.port(), 1, 64_000).syn().fin();
        step.write(&mut frame, &self.payload).context("cannot write a TCP frame")?;
        Ok(frame)
    }

    fn network(&self) -> Result<etherparse::PacketBuilderStep<etherparse::IpHeaders>> {
        let header = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => etherparse::IpHeaders::Ipv4(
                Ipv4Header::new(0, 64, IpNumber::UDP, from.octets(), to.octets())
                    .context("an empty payload fits")?,
                etherparse::Ipv4Extensions::default(),
            ),
            (IpAddr::V6(from), IpAddr::V6(to)) => etherparse::IpHeaders::Ipv6(
                etherparse::Ipv6Header {
                    source: from.octets(),
                    destination: to.octets(),
                    hop_limit: 64,
                    ..Default::default()
                },
                etherparse::Ipv6Extensions::default(),
            ),
            _ => bail!("{} and {} are of two families", self.from, self.to),
        };
        let ethernet = PacketBuilder::ethernet2(self.link.from, self.link.to);
        Ok(match self.tags[..] {
            [] => ethernet.ip(header),
            [tag] => ethernet.single_vlan(VlanId::try_new(tag)?).ip(header),
            [outer, inner] => {
                ethernet.double_vlan(VlanId::try_new(outer)?, VlanId::try_new(inner)?).ip(header)
            }
            _ => bail!("no more than two tags"),
        })
    }
}

/// An ARP request that claims `sender` for the link's own hardware address.
pub fn arp_request(link: Link, sender: Ipv4Addr, target: Ipv4Addr) -> Result<Vec<u8>> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &link.from,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
    )?;
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(link.from, link.to).arp(packet).write(&mut frame)?;
    Ok(frame)
}

/// One IPv4 fragment of a datagram of `protocol`: `payload` stands `offset` bytes (a multiple of
/// eight) into it.
pub fn ipv4_fragment(
    link: Link,
    (from, to): (Ipv4Addr, Ipv4Addr),
    protocol: IpNumber,
    (offset, more): (u16, bool),
    payload: &[u8],
) -> Result<Vec<u8>> {
    let length = u16::try_from(payload.len())?;
    let mut header = Ipv4Header::new(length, 64, protocol, from.octets(), to.octets())?;
    header.identification = 0xc119;
    header.dont_fragment = false;
    header.more_fragments = more;
    header.fragment_offset = IpFragOffset::try_new(offset / 8)?;
    header.header_checksum = header.calc_header_checksum();
    let mut frame = [&link.to[..], &link.from[..], &[0x08, 0x00]].concat();
    header.write(&mut frame)?;
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// `frame` with another length of header in its IPv4 header (in words of four bytes), checksum
/// mended, so that nothing but the length is wrong.
pub fn with_header_length(mut frame: Vec<u8>, words: u8) -> Vec<u8> {
    frame[ETHERNET] = 0x40 | words;
    frame[ETHERNET + 10..ETHERNET + 12].fill(0);
    let header = &frame[ETHERNET..ETHERNET + usize::from(words.max(5)) * 4];
    let sum = checksum(&header[..usize::from(words) * 4]);
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// `frame` (IPv4 without options, UDP) with a UDP header that claims more than the packet holds.
/// Its checksum is zero: not computed.
pub fn with_long_datagram(mut frame: Vec<u8>) -> Vec<u8> {
    let udp = ETHERNET + 20;
    frame[udp + 4..udp + 6].copy_from_slice(&u16::MAX.to_be_bytes());
    frame[udp + 6..udp + 8].fill(0);
    frame
}

/// The Internet checksum (RFC 1071) of whole words.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits above")
}

/// `ETH_P_ALL`.
const EVERY_PROTOCOL: u16 = 3;

/// A packet socket on one interface: sends whole frames, sees all that arrive.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
}

impl Wire {
    /// Opens one. Frames that arrive from then on are kept for [`Wire::count`].
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let open = || -> Result<Self> {
            let protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            socket.set_recv_buffer_size(4 << 20)?;
            socket.bind(&link_address(if_nametoindex(interface)?))?;
            Ok(Self { socket })
        };
        let opened = namespace.run(open)?;
        opened.with_context(|| format!("no packet socket on {interface} in {}", namespace.name()))
    }

    /// The socket itself.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sends one frame as it stands.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send(frame).context("cannot send a frame")?;
        Ok(())
    }

    /// Counts the frames that arrive and that `wanted` recognises, until `enough` are there or
    /// `wait` is over.
    pub fn count(
        &self,
        wait: Duration,
        enough: usize,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Result<usize> {
        let (until, mut found, mut buffer) = (Instant::now() + wait, 0, vec![0; 65_536]);
        while found < enough {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.socket.set_read_timeout(Some(left))?;
            match (&self.socket).read(&mut buffer) {
                Ok(length) => found += usize::from(wanted(&buffer[..length])),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("cannot receive frames"),
            }
        }
        Ok(found)
    }
}

fn link_address(index: u32) -> SockAddr {
    #[expect(clippy::cast_possible_truncation, reason = "17")]
    const FAMILY: u16 = libc::AF_PACKET as u16;
    #[expect(clippy::cast_possible_truncation, reason = "20")]
    const LENGTH: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of the forms that a sockaddr_storage may take, and zeros are valid in it.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = FAMILY;
    link.sll_protocol = EVERY_PROTOCOL.to_be();
    link.sll_ifindex = index.cast_signed();
    // SAFETY: the storage holds a whole sockaddr_ll, and the length is its.
    unsafe { SockAddr::new(storage, LENGTH) }
}

/// Whether `needle` stands anywhere in `frame`.
pub fn carries(frame: &[u8], needle: &[u8]) -> bool {
    frame.windows(needle.len()).any(|window| window == needle)
}
