//! Addresses that have been seen in a segment, so that a new one is noticed.
//!
//! What is seen first while the site is being learned is known from then on; later ones are news. The list
//! outlives restarts, and is bounded.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;

/// Addresses that are remembered; of more, those that were quiet for longest are forgotten.
pub const REMEMBERED: usize = 65_536;
/// Bytes of a file that is read, at most: some more than the largest that is written.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;
/// First line of the file.
const HEAD: &str = "clinigate talkers 1";

/// Who has been seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Talkers {
    /// Unix time at which learning began; 0 where it has not.
    since: u64,
    known: HashMap<IpAddr, Talker>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Talker {
    segment: String,
    /// Unix time.
    last: u64,
}

impl Talkers {
    /// Nobody has been seen, and learning begins now.
    pub fn new(now: u64) -> Self {
        Self { since: now, known: HashMap::new() }
    }

    /// Reads what [`Talkers::write`] wrote. `None` where there is nothing.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() > FILE_LIMIT {
            return Err(broken("it is too large"));
        }
        let mut lines = BufReader::new(file).lines();
        let head = lines.next().transpose()?.unwrap_or_default();
        let since = head.strip_prefix(HEAD).and_then(|since| since.trim().parse().ok());
        let mut talkers =
            Self { since: since.ok_or_else(|| broken("it has no head"))?, known: HashMap::new() };
        for line in lines {
            let line = line?;
            let mut words = line.split_ascii_whitespace();
            let mut next = || words.next().ok_or_else(|| broken("a line is too short"));
            let (address, last, segment) = (next()?, next()?, next()?);
            let address = address.parse().map_err(|_| broken("a line begins with no address"))?;
            let last = last.parse().map_err(|_| broken("a time is no number"))?;
            talkers.known.insert(address, Talker { segment: segment.to_owned(), last });
            talkers.make_room();
        }
        Ok(Some(talkers))
    }

    /// Writes it, in place of what is there; as a whole or not at all.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let aside = path.with_extension("new");
        let mut file = BufWriter::new(File::create(&aside)?);
        writeln!(file, "{HEAD} {}", self.since)?;
        for (address, Talker { segment, last }) in &self.known {
            writeln!(file, "{address} {last} {segment}")?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(aside, path)
    }

    /// For how many seconds it has been learning at `now`.
    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.since)
    }

    /// Takes note of an address; true where it was not known, or was in another segment.
    pub fn note(&mut self, address: IpAddr, segment: &str, now: u64) -> bool {
        if let Some(known) = self.known.get_mut(&address) {
            known.last = now;
            if known.segment == segment {
                return false;
            }
            segment.clone_into(&mut known.segment);
            return true;
        }
        self.known.insert(address, Talker { segment: segment.to_owned(), last: now });
        self.make_room();
        true
    }

    /// How many are known, by segment.
    pub fn by_segment(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for talker in self.known.values() {
            *counts.entry(talker.segment.as_str()).or_default() += 1;
        }
        counts
    }

    fn make_room(&mut self) {
        if self.known.len() > REMEMBERED {
            let mut times: Vec<u64> = self.known.values().map(|talker| talker.last).collect();
            let (_, limit, _) = times.select_nth_unstable(REMEMBERED / 8);
            let limit = *limit;
            let mut surplus = REMEMBERED / 8;
            self.known.retain(|_, talker| {
                let goes = talker.last <= limit && surplus > 0;
                surplus -= usize::from(goes);
                !goes
            });
        }
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0a0a_0000 + number).into())
    }

    #[test]
    fn a_talker_is_new_once_and_in_each_segment() {
        let mut talkers = Talkers::new(100);
        assert!(talkers.note(address(1), "pumps", 101));
        assert!(!talkers.note(address(1), "pumps", 102));
        assert!(talkers.note(address(1), "pacs", 103));
        assert!(talkers.note(address(2), "pacs", 104));
        assert_eq!(talkers.by_segment(), BTreeMap::from([("pacs", 2)]));
        assert_eq!(talkers.age(160), 60);
    }

    #[test]
    fn it_outlives_a_restart_and_a_broken_file_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("talkers");
        assert_eq!(Talkers::read(&path).unwrap(), None);
        let mut talkers = Talkers::new(100);
        talkers.note(address(1), "pumps", 101);
        talkers.note("fd00:70::1".parse().unwrap(), "pumps", 102);
        talkers.write(&path).unwrap();
        assert_eq!(Talkers::read(&path).unwrap(), Some(talkers));
        for text in ["", "other\n", "clinigate talkers 1 5\n10.0.0.1\n", "clinigate talkers 1 5\nx 1 pumps\n"]
        {
            fs::write(&path, text).unwrap();
            Talkers::read(&path).unwrap_err();
        }
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let mut talkers = Talkers::new(0);
        let count = u32::try_from(REMEMBERED).unwrap() + 20_000;
        for number in 0..count {
            talkers.note(address(number), "pumps", u64::from(number));
            assert!(talkers.known.len() <= REMEMBERED);
        }
        assert!(!talkers.note(address(count - 1), "pumps", 0) && talkers.note(address(0), "pumps", 0));
    }
}
