//! A trial forgets what its programs saw, which takes a fraction of the time of loading another.

use std::io;
use std::os::fd::AsFd;

use aya::maps::{Map, MapData};

use super::super::counters::Counts;
use super::super::error::DataplaneError;
use super::super::{connections, sys};
use super::Trial;

impl Trial {
    /// Forgets every connection.
    pub fn forget_connections(&self) -> Result<(), DataplaneError> {
        connections::clear(&self.shared)
    }

    /// Forgets all that its programs ever wrote, as if it were new: connections, fragments, who was seen where,
    /// budgets, counters and events.
    pub fn forget(&mut self) -> Result<(), DataplaneError> {
        self.forget_connections()?;
        self.events();
        self.retired = Counts::default();
        // What programs write is in these, and what the controller writes is in none of them.
        for (name, map) in self.loaded.maps() {
            let result = match map {
                Map::PerCpuArray(data) => zero(data),
                Map::LruHashMap(data) => empty(data),
                _ => Ok(()),
            };
            result.map_err(DataplaneError::bpf(format!("cannot clear {name}")))?;
        }
        Ok(())
    }
}

/// Makes every element zero, on every CPU.
fn zero(map: &MapData) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    // The kernel pads each CPU's value to 8 bytes.
    let size = (info.value_size() as usize).next_multiple_of(8) * cpus;
    sys::write_array(map.fd().as_fd(), size, &vec![0; size * info.max_entries() as usize])
}

/// Removes every element.
fn empty(map: &MapData) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    sys::clear_hash(map.fd().as_fd(), info.key_size() as usize)
}
