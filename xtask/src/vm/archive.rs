//! The guest's first filesystem: a cpio archive of the form that the kernel unpacks at boot
//! (Documentation/driver-api/early-userspace/buffer-format.rst, `newc`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_600;
const ALIGNMENT: usize = 4;
/// Name of the entry that ends an archive.
const END: &str = "TRAILER!!!";

/// An archive that is being written.
pub(super) struct Archive {
    to: BufWriter<File>,
    path: PathBuf,
    entries: u32,
    present: BTreeSet<String>,
}

impl Archive {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { to: BufWriter::new(file), path: path.to_owned(), entries: 0, present: BTreeSet::new() })
    }

    /// A directory, and those above it.
    pub(super) fn directory(&mut self, path: &str) -> Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || self.present.contains(path) {
            return Ok(());
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above)?;
        }
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// A file with these bytes; nothing where the archive has one of this name.
    pub(super) fn file(&mut self, path: &str, executable: bool, bytes: &[u8]) -> Result<()> {
        let path = path.trim_matches('/');
        if self.present.contains(path) {
            return Ok(());
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above)?;
        }
        self.entry(path, FILE | if executable { 0o755 } else { 0o644 }, (0, 0), bytes)
    }

    /// A copy of a file of this machine.
    pub(super) fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let failed = || format!("cannot read {}", from.display());
        let executable = fs::metadata(from).with_context(failed)?.permissions().mode() & 0o111 != 0;
        self.file(to, executable, &fs::read(from).with_context(failed)?)
    }

    /// A character device.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) -> Result<()> {
        let path = path.trim_matches('/');
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above)?;
        }
        self.entry(path, CHARACTER_DEVICE, number, &[])
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.entry(END, 0, (0, 0), &[])?;
        let path = self.path;
        self.to.flush().with_context(|| format!("cannot write {}", path.display()))
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> Result<()> {
        self.entries += 1;
        let header = header(self.entries, name, mode, device, bytes.len())?;
        let write = |to: &mut BufWriter<File>| {
            to.write_all(&header)?;
            to.write_all(bytes)?;
            to.write_all(&[0; ALIGNMENT][..padding(bytes.len())])
        };
        write(&mut self.to).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.present.insert(name.to_owned());
        Ok(())
    }
}

/// The header of an entry with its name, up to where its bytes begin.
fn header(inode: u32, name: &str, mode: u32, device: (u32, u32), length: usize) -> Result<Vec<u8>> {
    let length = u32::try_from(length).with_context(|| format!("{name} is too large for the archive"))?;
    let name_length =
        u32::try_from(name.len() + 1).with_context(|| format!("the name {name} is too long"))?;
    // Inode, mode, owner, group, links, time, length, device of the file (two), device that it is (two),
    // length of the name, checksum.
    let fields = [inode, mode, 0, 0, 1, 0, length, 0, 0, device.0, device.1, name_length, 0];
    let mut header = b"070701".to_vec();
    for field in fields {
        write!(header, "{field:08x}").context("memory takes any byte")?;
    }
    header.extend(name.as_bytes());
    header.push(0);
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    Ok(header)
}

const fn padding(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT) - length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_form_that_the_kernel_reads() {
        let header = header(1, "dev/console", CHARACTER_DEVICE, (5, 1), 0).expect("a short name");
        let text = String::from_utf8(header).expect("plain text");
        assert_eq!(&text[..14], "07070100000001");
        assert_eq!(&text[14..22], "00002180");
        assert_eq!(&text[78..94], "0000000500000001", "major and minor of the device");
        assert_eq!(&text[94..102], "0000000c", "the name with its zero byte");
        assert_eq!(&text[110..121], "dev/console");
        assert_eq!(text.len() % ALIGNMENT, 0);
    }

    #[test]
    fn directories_come_before_what_is_in_them_and_once() {
        let path = std::env::temp_dir().join(format!("clinigate-archive-{}", std::process::id()));
        let mut archive = Archive::create(&path).expect("a temporary file");
        archive.file("/a/b/one", false, b"1").expect("written");
        archive.file("/a/b/two", true, b"22").expect("written");
        archive.finish().expect("written");
        let bytes = fs::read(&path).expect("it was written");
        fs::remove_file(&path).expect("it is there");
        let text = String::from_utf8_lossy(&bytes);
        let names = ["a\0", "a/b\0", "a/b/one\0", "a/b/two\0", "TRAILER!!!\0"];
        let places: Vec<usize> = names.iter().filter_map(|name| text.find(name)).collect();
        assert_eq!(places.len(), names.len());
        assert!(places.is_sorted());
        assert_eq!(text.matches("070701").count(), names.len());
    }
}
