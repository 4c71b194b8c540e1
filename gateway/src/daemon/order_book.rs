//! Where orders are kept: `<state>/orders.json`, exchanged as a whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::daemon::control::Standing;
use crate::orders::{Clock, Orders, Term};

const FILE: &str = "orders.json";

/// The orders of a state directory, none where there are none. Orders that cannot be read are an error, which is not to
/// be taken for none.
pub(super) fn read(state: &Path) -> io::Result<Orders> {
    match fs::read(path(state)) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Orders::default()),
        Err(error) => Err(error),
    }
}

/// Keeps orders in place of those before; they are on disk when this returns.
pub(super) fn write(state: &Path, orders: &Orders) -> io::Result<()> {
    fs::create_dir_all(state)?;
    let next = state.join(format!("{FILE}.next"));
    let mut file = File::create(&next)?;
    file.write_all(&serde_json::to_vec_pretty(orders)?)?;
    file.sync_all()?;
    fs::rename(&next, path(state))?;
    File::open(state)?.sync_all()
}

/// Where orders are that could not be read and are not in force, until somebody has looked at them and removed the file.
pub(super) fn set_aside(state: &Path) -> Option<PathBuf> {
    let aside = aside(state);
    // A disk that does not answer has not removed it.
    aside.try_exists().unwrap_or(true).then_some(aside)
}

fn aside(state: &Path) -> PathBuf {
    state.join(format!("{FILE}.unreadable"))
}

/// Puts orders that cannot be read aside, for somebody to look at.
pub(super) fn put_aside(state: &Path) -> io::Result<PathBuf> {
    let aside = aside(state);
    fs::rename(path(state), &aside)?;
    Ok(aside)
}

fn path(state: &Path) -> PathBuf {
    state.join(FILE)
}

/// What stands, as it is told. What is over is over in the kernel, also before it is taken out of the book.
pub(super) fn standing(orders: &Orders, clock: &Clock) -> Vec<Standing> {
    let row = |kind: &str, id, subject: &str, reason: &str, by: &str, term: &Term| Standing {
        kind: kind.to_owned(),
        id,
        subject: subject.to_owned(),
        vendor: None,
        addresses: Vec::new(),
        reason: reason.to_owned(),
        by: by.to_owned(),
        since: term.begun,
        until: term.until(),
        remaining_s: term
            .remaining(clock)
            .map(|left| left.as_millis().div_ceil(1000))
            .map(|left| u64::try_from(left).unwrap_or(u64::MAX)),
        open: !term.is_over(clock),
    };
    let quarantines = orders.quarantines.iter().filter(|it| !it.term.is_over(clock)).map(|it| Standing {
        addresses: it.addresses.clone(),
        ..row("quarantine", it.id, &it.target.word(), &it.reason, &it.by, &it.term)
    });
    let grants = orders.grants.iter().filter(|it| !it.term.is_over(clock)).map(|it| Standing {
        vendor: Some(it.vendor.clone()),
        ..row("grant", it.id, &it.device, &it.ticket, &it.by, &it.term)
    });
    let broken = orders.break_glass.iter().map(|it| {
        let row = row("break-glass", it.id, &it.segment, &it.reason, &it.by, &it.term);
        let open = it.is_open(clock);
        Standing { open, until: it.ended.or(row.until), remaining_s: row.remaining_s.filter(|_| open), ..row }
    });
    quarantines.chain(grants).chain(broken).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn orders_are_kept_as_a_whole_and_broken_ones_are_not_none() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), Orders::default());
        let orders = Orders { last: 7, ..Orders::default() };
        write(directory.path(), &orders).unwrap();
        assert_eq!(read(directory.path()).unwrap(), orders);
        fs::write(directory.path().join(FILE), "{").unwrap();
        assert!(read(directory.path()).is_err());
        assert_eq!(set_aside(directory.path()), None);
        let aside = put_aside(directory.path()).unwrap();
        assert_eq!(set_aside(directory.path()), Some(aside));
        assert_eq!(read(directory.path()).unwrap(), Orders::default());
    }
}
