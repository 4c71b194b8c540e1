#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Cursor;

use super::*;

const FRAME: [u8; 20] = [7; 20];

type Seen = (u64, u64, Vec<u8>, u32);

fn read(bytes: &[u8]) -> Result<Vec<Seen>, CaptureError> {
    read_through(BUFFER, bytes)
}

fn read_through(buffer: usize, bytes: &[u8]) -> Result<Vec<Seen>, CaptureError> {
    let mut seen = Vec::new();
    let capture = Capture::read_from(Path::new("some.pcap"), Cursor::new(bytes.to_vec()), buffer)?;
    capture.each(|packet| {
        seen.push((packet.number, packet.time, packet.data.to_vec(), packet.length));
        Ok::<_, CaptureError>(())
    })?;
    Ok(seen)
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

/// Numbers in either byte order.
#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u32(self, number: u32) -> [u8; 4] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    fn u16(self, number: u16) -> [u8; 2] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    fn pcap(self, magic: u32, link: u32) -> Vec<u8> {
        let mut file = self.u32(magic).to_vec();
        file.extend([self.u16(2), self.u16(4)].concat());
        file.extend([self.u32(0), self.u32(0), self.u32(65_535), self.u32(link)].concat());
        file
    }

    fn record(self, (seconds, fraction): (u32, u32), captured: u32, length: u32, data: &[u8]) -> Vec<u8> {
        [&[self.u32(seconds), self.u32(fraction), self.u32(captured), self.u32(length)].concat(), data]
            .concat()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let length = self.u32(u32::try_from(12 + body.len() + padding.len()).unwrap());
        [&self.u32(kind)[..], &length, body, &padding, &length].concat()
    }

    fn section(self) -> Vec<u8> {
        let body = [&self.u32(0x1a2b_3c4d)[..], &self.u16(1), &self.u16(0), &[0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    fn interface(self, link: u16, options: &[u8]) -> Vec<u8> {
        self.block(1, &[&self.u16(link)[..], &self.u16(0), &self.u32(0), options].concat())
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
        [&self.u16(code)[..], &self.u16(u16::try_from(value.len()).unwrap()), value, &padding].concat()
    }

    fn enhanced(self, interface: u32, stamp: u64, data: &[u8]) -> Vec<u8> {
        let [high, low] =
            [stamp >> 32, stamp & 0xffff_ffff].map(|half| self.u32(u32::try_from(half).unwrap()));
        let length = self.u32(u32::try_from(data.len()).unwrap());
        self.block(6, &[&self.u32(interface)[..], &high, &low, &length, &length, data].concat())
    }
}

use Order::{Big, Little};

#[test]
fn a_block_shorter_than_its_frame_is_malformed() {
    for order in [Little, Big] {
        // Process information (0x80000001): the parser's smallest block is too small.
        let file = [order.section(), [order.u32(0x8000_0001), order.u32(9), order.u32(9)].concat()].concat();
        assert!(refusal(&file).ends_with("a block shorter than what every block has"));
    }
}

#[test]
fn a_broken_first_block_of_pcapng_is_called_that() {
    let section = Little.section();
    let mut too_large = section.clone();
    too_large[4..8].copy_from_slice(&(2 * u32::try_from(BUFFER).unwrap()).to_le_bytes());
    for file in [&section[..20], &too_large] {
        let refusal = refusal(file);
        assert!(refusal.starts_with("some.pcap: a pcapng file whose first block is broken"), "{refusal}");
    }
}

#[test]
fn pcap_in_both_orders_and_resolutions() {
    for order in [Little, Big] {
        for (magic, fraction) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1)] {
            let file = [
                order.pcap(magic, 1),
                order.record((5, 7), 20, 20, &FRAME),
                order.record((6, 0), 20, 1500, &FRAME),
            ];
            let expected = [
                (1, 5_000_000_000 + 7 * fraction, FRAME.to_vec(), 20),
                (2, 6_000_000_000, FRAME.to_vec(), 1500),
            ];
            assert_eq!(read(&file.concat()).unwrap(), expected);
        }
    }
}

#[test]
fn pcapng_in_both_orders_with_its_own_clock() {
    for order in [Little, Big] {
        let seconds_binary = order.option(9, &[0x8a]);
        let nanoseconds = order.option(9, &[9]);
        let file = [
            order.section(),
            order.interface(1, &[]),
            order.interface(1, &nanoseconds),
            order.interface(1, &seconds_binary),
            order.enhanced(0, 5_000_007, &FRAME),
            order.enhanced(1, 6_000_000_001, &FRAME),
            order.enhanced(2, 7 * 1024 + 512, &FRAME),
            order.block(3, &[&order.u32(20)[..], &FRAME].concat()),
        ];
        let times: Vec<_> = read(&file.concat()).unwrap().iter().map(|seen| seen.1).collect();
        assert_eq!(times, [5_000_007_000, 6_000_000_001, 7_500_000_000, 7_500_000_000]);
    }
}

#[test]
fn a_new_section_forgets_the_interfaces_of_the_last() {
    let file = [
        Little.section(),
        Little.interface(1, &[]),
        Little.enhanced(0, 1, &FRAME),
        Big.section(),
        Big.enhanced(0, 2, &FRAME),
    ];
    let refusal = refusal(&file.concat());
    assert!(refusal.contains("after 1 packets: no interface 0 was described"), "{refusal}");
}

#[test]
fn a_file_cut_off_anywhere_is_refused_with_its_place_or_ends_between_packets() {
    let head = Little.pcap(0xa1b2_c3d4, 1);
    let record = Little.record((5, 7), 20, 20, &FRAME);
    let pcap = [&head[..], &record, &record].concat();
    let whole = [head.len(), head.len() + record.len(), pcap.len()];
    for length in 0..=pcap.len() {
        let result = read(&pcap[..length]);
        match whole.iter().position(|&end| end == length) {
            Some(packets) => assert_eq!(result.unwrap().len(), packets),
            None if length < head.len() => {
                assert!(matches!(result, Err(CaptureError::NoCapture { .. })), "{length}: {result:?}");
            }
            None => {
                let begin = whole.iter().rev().find(|&&end| end < length).unwrap();
                let refusal = result.unwrap_err().to_string();
                assert!(refusal.contains(&format!("begins at byte {begin}")), "{length}: {refusal}");
            }
        }
    }
    let ng = [Little.section(), Little.interface(1, &[]), Little.enhanced(0, 1, &FRAME)].concat();
    for length in ng.len() - 51..ng.len() {
        let refusal = refusal(&ng[..length]);
        assert!(refusal.contains("cut off"), "{length}: {refusal}");
    }
}

#[test]
fn claims_of_size_cost_nothing() {
    let head = Little.pcap(0xa1b2_c3d4, 1);
    for claim in [0x0010_0000, 0x7fff_ffff, u32::MAX] {
        let file = [&head[..], &Little.record((1, 0), claim, claim, &FRAME)].concat();
        let refusal = refusal(&file);
        assert!(
            refusal.contains("at byte 24") && refusal.contains("claims to be larger"),
            "{claim}: {refusal}"
        );
    }
    let large = vec![0; 300_000];
    let file = [&head[..], &Little.record((1, 0), 300_000, 300_000, &large)].concat();
    assert!(refusal(&file).contains("a packet of 300000 bytes"));

    for claim in [u32::MAX, u32::MAX - 3, 0x7fff_fffc] {
        let mut block = Little.enhanced(0, 1, &FRAME);
        block[4..8].copy_from_slice(&claim.to_le_bytes());
        let file = [Little.section(), Little.interface(1, &[]), block].concat();
        let refusal = refusal(&file);
        assert!(refusal.contains("at byte 48"), "{claim}: {refusal}");
    }
    let mut block = Little.enhanced(0, 1, &FRAME);
    block[20..24].copy_from_slice(&0x00ff_ffff_u32.to_le_bytes());
    let file = [Little.section(), Little.interface(1, &[]), block].concat();
    assert!(read(&file).is_err(), "a packet longer than its block");
}

#[test]
fn no_more_interfaces_than_are_kept() {
    let mut file = Little.section();
    for _ in 0..=INTERFACES_MAX {
        file.extend(Little.interface(1, &[]));
    }
    assert!(refusal(&file).contains("more than 4096 interfaces"));
}

#[test]
fn what_is_no_ethernet_capture_is_said() {
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4]).contains("compressed"));
    assert!(refusal(&Little.pcap(0xa1b2_c3d4, 113)).contains("link type 113"));
    let file = [Big.section(), Big.interface(101, &[]), Big.enhanced(0, 1, &FRAME)].concat();
    assert!(refusal(&file).contains("link type 101"));
    let far = [
        Little.section(),
        Little.interface(1, &Little.option(9, &[0])),
        Little.enhanced(0, u64::MAX, &FRAME),
    ];
    assert!(refusal(&far.concat()).contains("2262"));
    let error = Capture::open(Path::new("/")).err().unwrap().to_string();
    assert!(error.contains("cannot open /"), "{error}");
}

/// Bytes changed at random never end in a panic (which would end the process), and never in more
/// packets than the bytes hold.
#[test]
fn broken_files_end_in_an_error_or_in_packets() {
    let order = Big;
    let ng = [
        order.section(),
        order.interface(1, &order.option(9, &[6])),
        order.enhanced(0, 1, &FRAME),
        order.block(3, &[&order.u32(20)[..], &FRAME].concat()),
        order.block(5, &[0; 12]),
        order.block(4, &[0; 4]),
        order.block(0x0000_0bad, &[0; 32]),
        order.enhanced(0, 2, &FRAME),
    ];
    let record = Little.record((5, 7), 20, 20, &FRAME);
    let pcap = [&Little.pcap(0xa1b2_c3d4, 1)[..], &record, &record, &record].concat();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % limit
    };
    for original in [ng.concat(), pcap] {
        for _ in 0..4000 {
            let mut file = original.clone();
            for _ in 0..=random(3) {
                let at = random(file.len());
                file[at] = [0, 1, 0x7f, 0x80, 0xff, file[at].wrapping_add(1)][random(6)];
            }
            file.truncate(file.len() - random(8) * random(8));
            if let Ok(seen) = read_through(512, &file) {
                assert!(seen.len() <= original.len() / 16, "{file:?}");
            }
        }
    }
}
