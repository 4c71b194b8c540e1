//! The log of blocked flows as a file: whole lines of JSON, bounded in size and number of files.
//!
//! A disk that is full or slow holds nothing up: what cannot be written is counted and left out. The file
//! may be moved away (logrotate): it is then made anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the log is kept, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLogSettings {
    /// The file; older ones are beside it, `.1` the youngest.
    pub path: PathBuf,
    /// Bytes of one file, at most, unless a single line is longer.
    pub file_bytes: u64,
    /// Files that are kept, the one that is written included; at least 1.
    pub files: u32,
}

/// The file that is written.
#[derive(Debug)]
pub struct EventLog {
    settings: EventLogSettings,
    open: Option<Open>,
}

/// See [`EventLog`].
#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode: whether the path still leads here.
    identity: (u64, u64),
    /// Bytes of whole lines.
    length: u64,
}

/// What became of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines that stand in the file.
    pub lines: u64,
    /// Lines that do not.
    pub lost: u64,
}

impl EventLog {
    /// A log that is not open yet; its first line opens it.
    pub fn new(settings: EventLogSettings) -> Self {
        Self { settings, open: None }
    }

    /// Opens the path, anew where it was open already.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.open = None;
        self.open = Some(Open::at(&self.settings.path)?);
        Ok(())
    }

    /// Appends lines, each without its newline. The error is that of the first line that was lost.
    pub fn write<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) -> (Written, Option<io::Error>) {
        let (mut written, mut first_error) = (Written::default(), None);
        // Asked once for all of them: a file that is moved away meanwhile takes the rest along.
        if self.open.as_ref().is_some_and(|open| !open.is_at(&self.settings.path)) {
            self.open = None;
        }
        for line in lines {
            // One failure is enough: a full disk is asked again with the next lines.
            let result = if first_error.is_none() { self.append(line) } else { Ok(false) };
            match result {
                Ok(true) => written.lines += 1,
                Ok(false) => written.lost += 1,
                Err(error) => {
                    written.lost += 1;
                    first_error = Some(error);
                }
            }
        }
        (written, first_error)
    }

    fn append(&mut self, line: &str) -> io::Result<bool> {
        let bytes = [line.as_bytes(), b"\n"].concat();
        if let Some(open) = &self.open
            && open.length > 0
            && open.length + bytes.len() as u64 > self.settings.file_bytes
        {
            self.rotate()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::at(&self.settings.path)?),
        };
        match open.file.write_all(&bytes) {
            Ok(()) => {
                open.length += bytes.len() as u64;
                Ok(true)
            }
            Err(error) => {
                // Half a line would spoil the next one. Where it cannot be cut off, the next opening does it.
                if open.file.set_len(open.length).is_err() {
                    self.open = None;
                }
                Err(error)
            }
        }
    }

    /// `log.2` becomes `log.3`, `log.1` `log.2`, `log` `log.1`; what would be one too many goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        let EventLogSettings { path, files, .. } = &self.settings;
        let oldest = files.saturating_sub(1);
        if oldest == 0 {
            return fs::remove_file(path);
        }
        for number in (1..oldest).rev() {
            match fs::rename(numbered(path, number), numbered(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(path, numbered(path, 1))
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // Who talks to whom is nobody's business but the owner's and the group's.
        options.create(true).read(true).append(true).mode(0o640);
        options.custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let identity = (metadata.dev(), metadata.ino());
        let length = whole_lines(&file, metadata.len())?;
        if length < metadata.len() {
            file.set_len(length)?;
        }
        Ok(Self { file, identity, length })
    }

    fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }
}

/// Bytes up to the end of the last whole line: a crash may have left a part of one.
fn whole_lines(file: &File, length: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt as _;
    const STEP: u64 = 64 * 1024;
    let mut end = length;
    let mut buffer = vec![0; usize::try_from(STEP).unwrap_or(usize::MAX)];
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let part = &mut buffer[..usize::try_from(end - start).unwrap_or_default()];
        file.read_exact_at(part, start)?;
        if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn log(directory: &Path, file_bytes: u64, files: u32) -> EventLog {
        EventLog::new(EventLogSettings { path: directory.join("log"), file_bytes, files })
    }

    fn text(directory: &Path, name: &str) -> String {
        fs::read_to_string(directory.join(name)).unwrap()
    }

    #[test]
    fn files_are_bounded_in_size_and_number() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 10, 3);
        for number in 0..20 {
            let (written, error) = log.write([format!("line{number:02}").as_str()]);
            assert!(error.is_none());
            assert_eq!(written, Written { lines: 1, lost: 0 });
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
        assert_eq!(text(directory.path(), "log"), "line19\n");
        assert_eq!(text(directory.path(), "log.1"), "line18\n");
        assert_eq!(text(directory.path(), "log.2"), "line17\n");
    }

    #[test]
    fn one_file_alone_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 14, 1);
        log.write(["line01", "line02", "line03"]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(text(directory.path(), "log"), "line03\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 1000, 3);
        log.write(["first"]);
        fs::rename(directory.path().join("log"), directory.path().join("elsewhere")).unwrap();
        log.write(["second"]);
        assert_eq!(text(directory.path(), "elsewhere"), "first\n");
        assert_eq!(text(directory.path(), "log"), "second\n");
    }

    #[test]
    fn half_a_line_that_a_crash_left_goes() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("log"), "whole\nha").unwrap();
        log(directory.path(), 1000, 3).write(["next"]);
        assert_eq!(text(directory.path(), "log"), "whole\nnext\n");
        fs::write(directory.path().join("log"), "x".repeat(200_000)).unwrap();
        log(directory.path(), 1_000_000, 3).write(["next"]);
        assert_eq!(text(directory.path(), "log"), "next\n");
    }

    /// A file system of 64 KiB that fills up: lines are lost and counted, whole ones stay, and after room was
    /// made the log goes on.
    #[test]
    #[expect(clippy::print_stderr, reason = "a test that does nothing says so")]
    fn a_full_disk_loses_lines_and_leaves_no_half_ones() {
        use nix::mount::{MntFlags, MsFlags, mount, umount2};
        let directory = tempfile::tempdir().unwrap();
        let mounted =
            mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64k"));
        if mounted.is_err() {
            eprintln!("skipped: only root can mount a file system");
            return;
        }
        let mut log = log(directory.path(), 1 << 30, 3);
        let line = "y".repeat(999);
        let ballast = directory.path().join("ballast");
        fs::write(&ballast, vec![0; 40_000]).unwrap();
        let (written, error) = log.write(std::iter::repeat_n(line.as_str(), 100));
        assert_eq!(
            (written.lines + written.lost, error.map(|error| error.kind())),
            (100, Some(io::ErrorKind::StorageFull))
        );
        assert!(written.lines > 5 && written.lost > 5, "{written:?}");
        fs::remove_file(&ballast).unwrap();
        let (after, error) = log.write([line.as_str()]);
        assert!(error.is_none());
        let text = text(directory.path(), "log");
        assert_eq!(text.lines().count() as u64, written.lines + after.lines);
        assert!(text.lines().all(|found| found == line));
        drop(log);
        umount2(directory.path(), MntFlags::MNT_DETACH).unwrap();
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link")).unwrap();
        for path in [directory.path().join("link"), directory.path().to_owned(), "/dev/null".into()] {
            EventLog::new(EventLogSettings { path, file_bytes: 10, files: 2 }).reopen().unwrap_err();
        }
    }
}
