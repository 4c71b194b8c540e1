//! The connection table, read from outside.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use gateway_common::connection::{Bucket, Connection, State, WAYS};

use super::error::DataplaneError;
use super::shared::Shared;
use super::sys;

/// The table at one moment, more or less: packets go on changing it while it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionSummary {
    /// Connections whose time has not passed.
    pub live: u32,
    /// Connections that the table can hold.
    pub capacity: u32,
    /// Live ones by state.
    pub by_state: BTreeMap<State, u32>,
}

/// A live connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveConnection {
    /// As the programs keep it.
    pub entry: Connection,
    /// Its state.
    pub state: State,
    /// Nanoseconds (`CLOCK_MONOTONIC`) left until it ends, unless a packet comes before.
    pub remaining: u64,
}

impl LiveConnection {
    /// Address and port of the end that opened it.
    pub fn initiator(&self) -> (IpAddr, u16) {
        self.end(self.entry.flags & Connection::HIGH_INITIATED != 0)
    }

    /// Address and port of the other end.
    pub fn responder(&self) -> (IpAddr, u16) {
        self.end(self.entry.flags & Connection::HIGH_INITIATED == 0)
    }

    fn end(&self, high: bool) -> (IpAddr, u16) {
        let key = &self.entry.key;
        let (words, port) = if high { (key.high, key.high_port) } else { (key.low, key.low_port) };
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&words[0].to_ne_bytes());
        octets[8..].copy_from_slice(&words[1].to_ne_bytes());
        (Ipv6Addr::from_octets(octets).to_canonical(), u16::from_be(port))
    }
}

/// Empties the table.
pub(super) fn clear(shared: &Shared) -> Result<(), DataplaneError> {
    let empty = vec![0; size_of::<Bucket>() * shared.buckets as usize];
    sys::write_array(shared.connections.fd().as_fd(), size_of::<Bucket>(), &empty)
        .map_err(DataplaneError::bpf("cannot clear CONNECTIONS"))
}

/// Every connection that is live at `now`.
pub(super) fn dump(shared: &Shared, now: u64) -> Result<Vec<LiveConnection>, DataplaneError> {
    let mut live = Vec::new();
    each(shared.connections.fd().as_fd(), shared.buckets, now, |connection| live.push(connection))?;
    Ok(live)
}

/// Visits every connection that is live at `now`, some hundred buckets at a time.
pub(super) fn each(
    table: BorrowedFd<'_>,
    buckets: u32,
    now: u64,
    mut visit: impl FnMut(LiveConnection),
) -> Result<(), DataplaneError> {
    let empty = [0; size_of::<Bucket>()];
    let visit = |_, element: &[u8]| {
        if element == empty {
            return;
        }
        let Some(bucket) = sys::read::<Bucket>(element) else { return };
        for entry in bucket.entries {
            let Some(state) = State::from_number(entry.state) else { continue };
            if state != State::Free && entry.expires > now {
                visit(LiveConnection { entry, state, remaining: entry.expires - now });
            }
        }
    };
    sys::read_array(table, buckets, size_of::<Bucket>(), visit)
        .map_err(DataplaneError::bpf("cannot read the connection table"))
}

/// Counts what [`dump`] found.
pub(super) fn summarise(shared: &Shared, live: &[LiveConnection]) -> ConnectionSummary {
    let mut by_state = BTreeMap::new();
    for connection in live {
        *by_state.entry(connection.state).or_insert(0) += 1;
    }
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    ConnectionSummary {
        live: count(live.len()),
        capacity: shared.buckets.saturating_mul(count(WAYS)),
        by_state,
    }
}
