//! Captures and frames, written out byte by byte.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

/// Milliseconds since 2026-03-02T00:00:00Z, and a frame.
pub(crate) type Timed = (u64, Vec<u8>);

const EPOCH: u64 = 1_772_409_600_000;

/// A pcap file of whole frames.
pub(crate) fn pcap(directory: &Path, name: &str, packets: &[Timed]) -> PathBuf {
    let records = packets.iter().map(|(time, frame)| record(*time, frame, frame.len()));
    write(directory, name, &[header(), records.collect::<Vec<_>>().concat()].concat())
}

pub(crate) fn write(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn header() -> Vec<u8> {
    let mut header = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    header.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
    header
}

/// A record of `captured` bytes of a frame.
pub(crate) fn record(time: u64, frame: &[u8], captured: usize) -> Vec<u8> {
    let time = EPOCH + time;
    let numbers = [time / 1000, time % 1000 * 1000, captured as u64, frame.len() as u64];
    let mut record: Vec<u8> = numbers.iter().flat_map(|&n| u32::try_from(n).unwrap().to_le_bytes()).collect();
    record.extend(&frame[..captured]);
    record
}

/// `frame` with a tag.
pub(crate) fn tagged(vlan: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0x00], &vlan.to_be_bytes(), &frame[12..]].concat()
}

pub(crate) fn tcp(from: &str, to: &str, (source, port): (u16, u16), flags: u8, payload: usize) -> Vec<u8> {
    let mut segment = [source.to_be_bytes(), port.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.resize(20 + payload, 0x5a);
    ipv4(from, to, 6, &segment)
}

pub(crate) fn udp(from: &str, to: &str, (source, port): (u16, u16)) -> Vec<u8> {
    let mut datagram = [source.to_be_bytes(), port.to_be_bytes()].concat();
    datagram.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    ipv4(from, to, 17, &datagram)
}

/// The hardware address is drawn from the IPv4 address.
fn ipv4(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [from, to]: [Ipv4Addr; 2] = [from.parse().unwrap(), to.parse().unwrap()];
    let mut frame = ethernet(from, 0x0800);
    frame.extend([0x45, 0]);
    frame.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend([from.octets(), to.octets()].concat());
    frame.extend(payload);
    frame
}

/// A neighbour solicitation from a link-local address, by the hardware address of `host`.
pub(crate) fn solicitation(host: &str) -> Vec<u8> {
    let mut frame = ethernet(host.parse().unwrap(), 0x86dd);
    frame.extend([0x60, 0, 0, 0, 0, 24, 58, 255]);
    frame.extend("fe80::5".parse::<std::net::Ipv6Addr>().unwrap().octets());
    frame.extend("ff02::1:ff00:9".parse::<std::net::Ipv6Addr>().unwrap().octets());
    frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend("fe80::9".parse::<std::net::Ipv6Addr>().unwrap().octets());
    frame
}

fn ethernet(host: Ipv4Addr, kind: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0];
    frame.extend(host.octets());
    frame.extend(kind.to_be_bytes());
    frame
}
