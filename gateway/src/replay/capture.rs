//! Packets out of capture files, pcap and pcapng, in bounded memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

/// Bytes of the buffer, and so of the largest block that is read: four times the largest packet.
const BUFFER: usize = 1 << 20;
/// The longest packet, in bytes: what capture programs take at most (`MAXIMUM_SNAPLEN` of tcpdump).
pub const PACKET_MAX: u32 = 1 << 18;
/// Bytes of a pcapng block without a body: type, length, length again.
const BLOCK_MIN: u32 = 12;
/// Interfaces that a section of a pcapng file may describe.
const INTERFACES_MAX: usize = 4096;
/// Times later than this (the year 2262) are nonsense, and leave no room for timeouts.
const TIME_MAX: u128 = i64::MAX as u128;
/// How a pcapng file begins: the type of its section header block.
const SECTION_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECOND: u128 = 1_000_000_000;

/// Why a capture is not read (any further).
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read {} at byte {offset}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// How far it was read.
        offset: u64,
        /// Why, where the system said so.
        source: io::Error,
    },
    /// The file is no capture.
    #[error("{}: {what}", path.display())]
    NoCapture {
        /// The file.
        path: PathBuf,
        /// What it is, or is not.
        what: &'static str,
    },
    /// The file ends within a packet or a block.
    #[error(
        "{}: cut off: the file ends within what begins at byte {offset}, after {packets} whole packets",
        path.display()
    )]
    CutOff {
        /// The file.
        path: PathBuf,
        /// Where the part begins that is not whole.
        offset: u64,
        /// Packets before it.
        packets: u64,
    },
    /// The file contradicts itself, or asks for more than is read.
    #[error("{}: at byte {offset}, after {packets} packets: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where the offending part begins.
        offset: u64,
        /// Packets before it.
        packets: u64,
        /// What is wrong.
        what: String,
    },
}

/// A packet as it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Counts from 1 in each file.
    pub number: u64,
    /// Nanoseconds since 1970; at most `i64::MAX`.
    pub time: u64,
    /// Bytes that were captured.
    pub data: &'a [u8],
    /// Bytes that the packet had on the wire: no fewer.
    pub length: u32,
}

/// A capture file that is being read.
pub struct Capture {
    path: PathBuf,
    reader: Box<dyn PcapReaderIterator + Send>,
    packets: u64,
    /// Of the last packet; a simple packet block of pcapng has none of its own.
    time: u64,
    format: Format,
}

enum Format {
    Unknown,
    /// One link for the whole file.
    Pcap {
        nanoseconds: bool,
    },
    Pcapng {
        interfaces: Vec<Interface>,
        /// Byte order of the section.
        is_big_endian: bool,
    },
}

/// An interface of a section of a pcapng file.
#[derive(Clone, Copy)]
struct Interface {
    /// `if_tsresol`: as its standard has it, a negative power of 10, or of 2 with the high bit set.
    resolution: u8,
    /// `if_tsoffset`, in seconds.
    offset: i64,
    ethernet: bool,
    link: i32,
}

/// One step through a file, without what is borrowed from it.
enum Step {
    Refill,
    End,
    Failed(Fault),
}

enum Fault {
    CutOff,
    Read,
    TooLarge,
    Malformed(String),
}

impl Capture {
    /// Opens a file and recognises its format.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        Self::read_from(path, file, BUFFER)
    }

    /// Reads what is not (yet) a file, through a buffer of so many bytes, and recognises its format;
    /// errors call it `path`.
    pub fn read_from(
        path: &Path,
        source: impl Read + Send + 'static,
        buffer: usize,
    ) -> Result<Self, CaptureError> {
        let mut source = Whole(source);
        let mut magic = [0; 4];
        let begun = source.read(&mut magic).unwrap_or_default();
        let source = io::Cursor::new(magic).take(begun as u64).chain(source);
        let reader = create_reader(buffer, Whole(source)).map_err(|error| {
            let what = match error {
                // The reader recognises a pcapng file by its whole first block.
                PcapError::HeaderNotRecognized if magic == SECTION_MAGIC => {
                    "a pcapng file whose first block is broken, cut off or larger than any that is read"
                }
                PcapError::Eof => "the file is empty",
                PcapError::Incomplete(_) => "the file ends within its header",
                PcapError::ReadError => "the file cannot be read",
                _ => "neither pcap nor pcapng (a compressed capture has to be unpacked first)",
            };
            CaptureError::NoCapture { path: path.to_owned(), what }
        })?;
        Ok(Self { path: path.to_owned(), reader, packets: 0, time: 0, format: Format::Unknown })
    }

    /// Hands every packet to `visit`, in the file's order. Ends with the first error.
    pub fn each<E: From<CaptureError>>(
        mut self,
        mut visit: impl FnMut(Packet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            if self.has_short_block() {
                let what = "a block shorter than what every block has".to_owned();
                return Err(self.fault(Fault::Malformed(what)).into());
            }
            let step = match self.reader.next() {
                Ok((size, block)) => {
                    let packet = match packet_of(&block, &mut self.format, self.time) {
                        Ok(packet) => packet,
                        Err(what) => return Err(self.fault(Fault::Malformed(what)).into()),
                    };
                    if let Some((time, data, length)) = packet {
                        self.packets += 1;
                        self.time = time;
                        visit(Packet { number: self.packets, time, data, length })?;
                    }
                    drop(block);
                    self.reader.consume(size);
                    continue;
                }
                Err(PcapError::Eof) => Step::End,
                Err(PcapError::Incomplete(_)) => Step::Refill,
                Err(PcapError::UnexpectedEof) => Step::Failed(Fault::CutOff),
                Err(PcapError::BufferTooSmall) => Step::Failed(Fault::TooLarge),
                Err(PcapError::ReadError) => Step::Failed(Fault::Read),
                Err(_) => Step::Failed(Fault::Malformed("not a whole block of its kind".to_owned())),
            };
            match step {
                Step::End => return Ok(()),
                Step::Failed(Fault::CutOff) if self.reader.data().is_empty() => return Ok(()),
                Step::Failed(fault) => return Err(self.fault(fault).into()),
                Step::Refill => {
                    let before = self.reader.data().len();
                    if self.reader.refill().is_err() {
                        return Err(self.fault(Fault::Read).into());
                    }
                    // Neither more data nor the end of it: no room.
                    if self.reader.data().len() == before && !self.reader.reader_exhausted() {
                        return Err(self.fault(Fault::TooLarge).into());
                    }
                }
            }
        }
    }

    /// Whether the next block says that it is shorter than its own frame. The parser takes some of
    /// those and reckons with lengths below zero.
    fn has_short_block(&self) -> bool {
        let Format::Pcapng { is_big_endian, .. } = self.format else { return false };
        let Some(&length) = self.reader.data().get(4..).and_then(<[u8]>::first_chunk) else { return false };
        let length = if is_big_endian { u32::from_be_bytes(length) } else { u32::from_le_bytes(length) };
        length < BLOCK_MIN
    }

    fn fault(&self, fault: Fault) -> CaptureError {
        let (path, packets) = (self.path.clone(), self.packets);
        let offset = self.reader.consumed() as u64;
        let what = match fault {
            Fault::CutOff => return CaptureError::CutOff { path, offset, packets },
            Fault::Read => {
                return CaptureError::Read { path, offset, source: io::ErrorKind::Other.into() };
            }
            Fault::TooLarge => "a packet or block claims to be larger than any that is read".to_owned(),
            Fault::Malformed(what) => what,
        };
        CaptureError::Malformed { path, offset, packets, what }
    }
}

type Found<'a> = Option<(u64, &'a [u8], u32)>;

/// Time, data and length of the packet in a block, if it holds one; else what it says is noted.
fn packet_of<'a>(block: &PcapBlockOwned<'a>, format: &mut Format, last: u64) -> Result<Found<'a>, String> {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            if header.is_modified_format() {
                return Err("the format of patched captures (magic a1b2cd34) is not read".to_owned());
            }
            // The upper half says how long a checksum follows each frame (draft-ietf-opsawg-pcap).
            ethernet_only(header.network.0 & 0xffff)?;
            *format = Format::Pcap { nanoseconds: header.is_nanosecond_precision() };
            Ok(None)
        }
        PcapBlockOwned::Legacy(record) => {
            let Format::Pcap { nanoseconds } = *format else {
                return Err("a packet before its header".to_owned());
            };
            let fraction = u128::from(record.ts_usec) * if nanoseconds { 1 } else { 1000 };
            let time = time(u128::from(record.ts_sec) * SECOND + fraction)?;
            found(time, record.data, record.origlen)
        }
        PcapBlockOwned::NG(Block::SectionHeader(section)) => {
            *format = Format::Pcapng { interfaces: Vec::new(), is_big_endian: section.big_endian() };
            Ok(None)
        }
        PcapBlockOwned::NG(block) => {
            let Format::Pcapng { interfaces, .. } = format else {
                return Err("a block before its section".to_owned());
            };
            section_block(block, interfaces, last)
        }
    }
}

fn section_block<'a>(
    block: &Block<'a>,
    interfaces: &mut Vec<Interface>,
    last: u64,
) -> Result<Found<'a>, String> {
    match block {
        Block::InterfaceDescription(interface) => {
            if interfaces.len() == INTERFACES_MAX {
                return Err(format!("more than {INTERFACES_MAX} interfaces"));
            }
            let Linktype(link) = interface.linktype;
            interfaces.push(Interface {
                resolution: interface.if_tsresol,
                offset: interface.if_tsoffset,
                ethernet: link == Linktype::ETHERNET.0,
                link,
            });
            Ok(None)
        }
        Block::EnhancedPacket(packet) => {
            let interface = usize::try_from(packet.if_id).ok().and_then(|id| interfaces.get(id));
            let interface =
                interface.ok_or_else(|| format!("no interface {} was described", packet.if_id))?;
            if !interface.ethernet {
                ethernet_only(interface.link)?;
            }
            let stamp = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            let data = packet.data.get(..packet.caplen as usize).ok_or("a packet longer than its block")?;
            found(interface.time(stamp)?, data, packet.origlen)
        }
        Block::SimplePacket(packet) => {
            let interface = interfaces.first().ok_or("a packet before its interface")?;
            if !interface.ethernet {
                ethernet_only(interface.link)?;
            }
            let data = packet.data.get(..packet.origlen as usize).unwrap_or(packet.data);
            found(last, data, packet.origlen)
        }
        _ => Ok(None),
    }
}

fn found(time: u64, data: &[u8], length: u32) -> Result<Found<'_>, String> {
    let captured = u32::try_from(data.len()).ok().filter(|&captured| captured <= PACKET_MAX);
    let captured =
        captured.ok_or_else(|| format!("a packet of {} bytes; {PACKET_MAX} are read", data.len()))?;
    Ok(Some((time, data, length.max(captured))))
}

fn ethernet_only(link: i32) -> Result<(), String> {
    if link == Linktype::ETHERNET.0 {
        return Ok(());
    }
    Err(format!(
        "captured from a link that is not Ethernet (link type {link}); capture on one interface, not on `any`"
    ))
}

fn time(nanoseconds: u128) -> Result<u64, String> {
    let time = Some(nanoseconds).filter(|&time| time <= TIME_MAX).and_then(|time| u64::try_from(time).ok());
    time.ok_or_else(|| "a time after the year 2262".to_owned())
}

impl Interface {
    /// Nanoseconds since 1970 that a time stamp stands for.
    fn time(self, stamp: u64) -> Result<u64, String> {
        let power = u32::from(self.resolution & 0x7f);
        let since = if self.resolution & 0x80 != 0 {
            (u128::from(stamp) * SECOND).checked_shr(power).unwrap_or(0)
        } else if power <= 9 {
            u128::from(stamp) * 10_u128.pow(9 - power)
        } else {
            10_u128.checked_pow(power - 9).map_or(0, |divisor| u128::from(stamp) / divisor)
        };
        let offset = u128::from(self.offset.unsigned_abs()) * SECOND;
        time(if self.offset < 0 { since.saturating_sub(offset) } else { since + offset })
    }
}

/// Reads until the buffer is full or nothing follows: a pipe hands out less than was asked for.
struct Whole<R>(R);

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
            match self.0.read(space) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests;
