//! Capture files: any bytes are read as pcap or pcapng, up to the first mistake.
//!
//! What holds: packets are counted from 1, no longer than they say, in times that leave room; a small
//! buffer gives the same packets as a large one; and each can be placed and told, whatever it is.

use std::io::Cursor;
use std::path::Path;

use clinigate::replay::capture::{Capture, CaptureError, PACKET_MAX, Packet};
use clinigate::replay::place::{Places, put_tags};
use clinigate::replay::summary::Summary;
use clinigate::replay::view::View;
use clinigate::replay::{Judged, Unjudged};

use crate::frames::decided;
use crate::policies;

/// Bytes of a buffer that is filled again and again.
const SMALL: usize = 512;
/// Bytes of a buffer that holds any input whole.
const LARGE: usize = 1 << 16;

/// A packet, apart from its file: time, bytes, length on the wire.
type Read = (u64, Vec<u8>, u32);

/// Reads an input.
///
/// # Panics
/// Where a promise is broken.
pub fn run(bytes: &[u8]) {
    let (packets, ended) = read(bytes, LARGE);
    let (few, ended_early) = read(bytes, SMALL);
    assert!(few.len() <= packets.len());
    assert_eq!(few[..], packets[..few.len()], "the size of the buffer does not change a packet");
    if few.len() < packets.len() {
        assert!(
            ended_early.is_some_and(|words| words.contains("larger than any")),
            "no packet is passed over"
        );
    } else if !ended_early.as_ref().is_some_and(|words| words.contains("larger than any")) {
        assert_eq!(ended_early, ended);
    }
    // The hospital: it has trunks and access ports.
    let hospital = &policies::ALL[2];
    for forced in [None, Some(0)] {
        let mut places = Places::new(&hospital.image, forced);
        let mut summary = Summary::default();
        let mut tagged = Vec::new();
        for ((time, data, length), number) in packets.iter().zip(1..) {
            let view = View::of(data);
            let placement = places.of(&hospital.image, &view);
            let outcome = match placement {
                Some(placement) => {
                    put_tags(data, placement.put_in, &mut tagged);
                    let interface = &hospital.image.manifest.interfaces[placement.interface].name;
                    decided(hospital, interface, &tagged).ok_or(Unjudged::CutShort)
                }
                None => Err(Unjudged::Unplaced),
            };
            let packet = Packet { number, time: *time, data, length: *length };
            summary.add(&Judged { packet, view, placement, outcome });
        }
        assert_eq!(summary.packets, packets.len() as u64);
        let told: u64 = summary.rows().iter().map(|(_, count)| count.packets).sum();
        assert_eq!(told, summary.not_allowed(), "what is not allowed is told");
    }
}

/// The packets of a capture, and what ended it early.
fn read(bytes: &[u8], buffer: usize) -> (Vec<Read>, Option<String>) {
    let mut packets: Vec<Read> = Vec::new();
    let ended =
        Capture::read_from(Path::new("capture"), Cursor::new(bytes.to_vec()), buffer).and_then(|capture| {
            capture.each::<CaptureError>(|packet| {
                assert_eq!(packet.number, packets.len() as u64 + 1);
                assert!(
                    packet.data.len() <= packet.length as usize,
                    "{} bytes of {}",
                    packet.data.len(),
                    packet.length
                );
                assert!(packet.data.len() <= PACKET_MAX as usize);
                assert!(i64::try_from(packet.time).is_ok(), "times leave room for timeouts");
                packets.push((packet.time, packet.data.to_vec(), packet.length));
                Ok(())
            })
        });
    (packets, ended.err().map(|error| error.to_string()))
}
