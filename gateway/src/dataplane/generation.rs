//! One pinned generation: a judge with its tables.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::MapData;
use aya::programs::ProgramInfo;
use gateway_common::layout::generation;
use gateway_common::place::{Place, PlaceKey};

use super::counters::{self, Counts};
use super::error::DataplaneError;
use super::forward::{self, Forwarding, ForwardingMaps};
use super::pins::Pins;
use super::sys;
use crate::compile::image::Manifest;

/// Handles of a pinned generation.
pub(super) struct Generation {
    pub(super) number: u32,
    /// The judge's number in the kernel.
    pub(super) program: u32,
    judge: OwnedFd,
    places: MapData,
    forwarding: ForwardingMaps,
    pair_counters: MapData,
    rule_counters: MapData,
}

impl Generation {
    /// Opens a whole generation.
    pub(super) fn open(pins: &Pins, number: u32) -> Result<Self, DataplaneError> {
        let directory = pins.generation(number);
        let open = |name: &str| {
            sys::open_pin(&directory.join(name))
                .map_err(DataplaneError::bpf(format!("cannot open {name} of generation {number}")))
        };
        let map = |name: &str| {
            MapData::from_fd(open(name)?).map_err(|error| {
                DataplaneError::bpf(format!("cannot open {name} of generation {number}"))(io::Error::other(
                    error,
                ))
            })
        };
        let program = ProgramInfo::from_pin(directory.join("judge")).map_err(|error| {
            DataplaneError::bpf(format!("cannot look at the judge of generation {number}"))(io::Error::other(
                error,
            ))
        })?;
        let places = map(generation::PLACES)?;
        // The kernel reads and writes keys and values of the map's size, whatever ours is.
        let fits = places.info().is_ok_and(|info| {
            info.key_size() as usize == size_of::<PlaceKey>()
                && info.value_size() as usize == size_of::<Place>()
        });
        if !fits {
            let what = format!("PLACES of generation {number} is of another layout");
            return Err(DataplaneError::bpf(what)(io::ErrorKind::InvalidData.into()));
        }
        Ok(Self {
            number,
            program: program.id(),
            judge: open("judge")?,
            places,
            forwarding: ForwardingMaps::open(map)?,
            pair_counters: map(generation::PAIR_COUNTERS)?,
            rule_counters: map(generation::RULE_COUNTERS)?,
        })
    }

    pub(super) fn judge(&self) -> BorrowedFd<'_> {
        self.judge.as_fd()
    }

    /// What its counters stand at, summed over CPUs, by the names of `manifest`.
    pub(super) fn counts(&self, manifest: Option<&Manifest>) -> Result<Counts, DataplaneError> {
        counters::read_generation(&self.pair_counters, &self.rule_counters, manifest)
    }

    /// Makes the places exactly these: new ones first, so that a place that stays never misses.
    pub(super) fn set_places(&self, wanted: &[(PlaceKey, Place)]) -> Result<(), DataplaneError> {
        forward::set("PLACES", self.places.fd().as_fd(), wanted)
    }

    /// Makes the tables of forwarding exactly these.
    pub(super) fn set_forwarding(&self, wanted: &Forwarding) -> Result<(), DataplaneError> {
        self.forwarding.set(wanted)
    }
}
