//! Reports of packets that did not pass, or would not have.

use std::io;

use aya::maps::{Map, MapData, RingBuf};
use gateway_common::event::Event;
use gateway_common::layout::shared;
use tokio::io::unix::AsyncFd;

use super::error::DataplaneError;
use super::pins::Pins;
use super::sys;

/// The reports, in the order in which the packets were judged. One reader at a time: a report that
/// one has read is gone for others.
pub struct EventStream {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl EventStream {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        // SAFETY: the ring keeps its descriptor, and the same one, until it is dropped.
        let ring = unsafe { AsyncFd::register(open_ring(pins)?) }.map_err(io::Error::from);
        Ok(Self { ring: ring.map_err(DataplaneError::bpf("cannot wait for events"))? })
    }

    /// The next report. Nothing is lost where the future is dropped.
    pub async fn next(&mut self) -> Result<Event, DataplaneError> {
        loop {
            if let Some(event) = take(self.ring.get_mut()) {
                return Ok(event);
            }
            let mut guard =
                self.ring.readable_mut().await.map_err(DataplaneError::bpf("cannot wait for events"))?;
            // Cleared before the ring is looked at again: a report that comes in between wakes anew.
            guard.clear_ready();
            if let Some(event) = take(guard.get_inner_mut()) {
                return Ok(event);
            }
        }
    }
}

/// The ring of this layout.
pub(super) fn open_ring(pins: &Pins) -> Result<RingBuf<MapData>, DataplaneError> {
    let failed = |error| DataplaneError::bpf("cannot open EVENTS")(io::Error::other(error));
    let map = MapData::from_pin(pins.shared(shared::EVENTS)).map_err(failed)?;
    RingBuf::try_from(Map::RingBuf(map)).map_err(failed)
}

/// The next report that is there already; one of another length than ours is skipped.
pub(super) fn take(ring: &mut RingBuf<MapData>) -> Option<Event> {
    loop {
        let item = ring.next()?;
        if let Some(event) = sys::read::<Event>(&item) {
            return Some(event);
        }
    }
}
