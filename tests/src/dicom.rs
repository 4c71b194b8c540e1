//! DICOM with the programs of DCMTK: an image made for the run, stored and compared.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::namespace::{Namespace, Process, tool};

/// Port of the archive.
pub const PORT: u16 = 11112;
/// Seconds until a DCMTK program gives up.
const PATIENCE: &str = "3";
/// The same for one that goes on for long: a gateway may fail meanwhile, and another one take over.
const LONG_PATIENCE: &str = "60";
/// Rows and columns of the image.
const SIDE: u16 = 512;

/// An image in a file (DICOM part 10, explicit little endian).
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    dataset: Vec<u8>,
}

impl Image {
    /// Makes a CT image of 512 by 512 points in `directory`.
    pub fn generate(directory: &Path) -> Result<Self> {
        let (dump, pixels, path) =
            (directory.join("image.dump"), directory.join("image.raw"), directory.join("image.dcm"));
        let points = (0..u32::from(SIDE) * u32::from(SIDE)).map(|point| (point % 4093) as u16);
        fs::write(&pixels, points.flat_map(u16::to_le_bytes).collect::<Vec<_>>())?;
        fs::write(&dump, description(&pixels)?)?;
        tool(Command::new("dump2dcm").args(["--quiet", "+te"]).arg(&dump).arg(&path))?;
        let dataset = dataset_of(&path)?;
        Ok(Self { path, dataset })
    }

    /// Sends it to an archive.
    pub fn store(&self, from: &Namespace, to: SocketAddr) -> Result<()> {
        let mut command = from.command("storescu");
        tool(peer(&mut command, to).arg(&self.path)).map(drop)
    }

    /// Begins to send it `times` times over one association; the process ends with the last.
    pub fn store_repeatedly(&self, from: &Namespace, to: SocketAddr, times: u32) -> Result<Process> {
        let mut command = from.command("storescu");
        command.args(["--quiet", "--repeat", &times.to_string()]);
        Process::start(patient_peer(&mut command, to, LONG_PATIENCE).arg(&self.path))
    }

    /// Compares it, byte for byte, with the one file that the archive wrote.
    pub fn compare(&self, archive: &Archive) -> Result<usize> {
        let stored: Vec<_> = fs::read_dir(&archive.directory)?.collect::<std::io::Result<_>>()?;
        let [stored] = &stored[..] else { bail!("the archive holds {} files instead of one", stored.len()) };
        let dataset = dataset_of(&stored.path())?;
        ensure!(dataset == self.dataset, "the archive's bytes are not those that were sent");
        fs::remove_file(stored.path())?;
        Ok(dataset.len())
    }
}

/// C-ECHO.
pub fn echo(from: &Namespace, to: SocketAddr) -> Result<()> {
    let mut command = from.command("echoscu");
    tool(peer(&mut command, to)).map(drop)
}

/// A running `storescp`.
#[derive(Debug)]
pub struct Archive {
    directory: PathBuf,
    _process: Process,
}

impl Archive {
    /// Starts it in a namespace; what it receives goes to `directory`, bit for bit.
    pub fn start(namespace: &Namespace, directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut command = namespace.command("storescp");
        command
            .args(["--quiet", "--disable-host-lookup", "--bit-preserving"])
            // It serves one association at a time: one whose other end is gone keeps all others out.
            .args(["--dimse-timeout", LONG_PATIENCE, "--output-directory"])
            .arg(&directory)
            .arg(PORT.to_string());
        Ok(Self { directory, _process: Process::start(&mut command)? })
    }
}

fn peer(command: &mut Command, to: SocketAddr) -> &mut Command {
    patient_peer(command, to, PATIENCE)
}

fn patient_peer<'a>(command: &'a mut Command, to: SocketAddr, patience: &str) -> &'a mut Command {
    let (address, port) = (to.ip().to_string(), to.port().to_string());
    command.args(["--timeout", patience, "--acse-timeout", patience, "--dimse-timeout", patience]);
    command.args([address, port])
}

/// The file without preamble and meta header, which the receiver writes anew (DICOM part 10, 7.1).
fn dataset_of(path: &Path) -> Result<Vec<u8>> {
    let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // 128 bytes, "DICM", then (0002,0000) UL: the length of what follows it in the meta header.
    let group_length: [u8; 4] =
        file.get(140..144).and_then(|bytes| bytes.try_into().ok()).context("not a DICOM file")?;
    ensure!(file[128..140] == *b"DICM\x02\0\0\0UL\x04\0", "a DICOM file without length of its meta header");
    let start = 144 + usize::try_from(u32::from_le_bytes(group_length))?;
    Ok(file.get(start..).context("a meta header longer than its file")?.to_vec())
}

fn description(pixels: &Path) -> Result<String> {
    // 1.2.840.10008.5.1.4.1.1.2 is CT Image Storage; 2.25 is the root of UIDs made from UUIDs.
    let elements = [
        ("0008,0016", "UI", "1.2.840.10008.5.1.4.1.1.2"),
        ("0008,0018", "UI", "2.25.4711.1.1"),
        ("0008,0020", "DA", "20260101"),
        ("0008,0030", "TM", "120000"),
        ("0008,0060", "CS", "CT"),
        ("0010,0010", "PN", "Test^Patient"),
        ("0010,0020", "LO", "4711"),
        ("0010,0030", "DA", "19700101"),
        ("0010,0040", "CS", "F"),
        ("0020,000d", "UI", "2.25.4711"),
        ("0020,000e", "UI", "2.25.4711.1"),
        ("0020,0013", "IS", "1"),
    ];
    let mut text = String::new();
    for (tag, representation, value) in elements {
        writeln!(text, "({tag}) {representation} [{value}]")?;
    }
    let numbers = [
        ("0028,0002", 1),
        ("0028,0010", SIDE),
        ("0028,0011", SIDE),
        ("0028,0100", 16),
        ("0028,0101", 16),
        ("0028,0102", 15),
        ("0028,0103", 0),
    ];
    for (tag, number) in numbers {
        writeln!(text, "({tag}) US {number}")?;
    }
    writeln!(text, "(0028,0004) CS [MONOCHROME2]\n(7fe0,0010) OW ={}", pixels.display())?;
    Ok(text)
}
