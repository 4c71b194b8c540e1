//! What is in force, seen by somebody who does not own it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::MapData;
use aya::programs::ProgramInfo;
use gateway_common::layout::shared as map;

use super::connections::{self, LiveConnection};
use super::error::DataplaneError;
use super::links::Links;
use super::object::Declared;
use super::pins::Pins;
use super::shared::{self, Found};
use super::state::{Description, Record};
use super::{Options, sys};

/// A look at what is in force, beside the service or without one. Takes no lock, and opens the maps for
/// reading alone: it cannot change anything, and packets do not wait for it.
pub struct Onlooker {
    generation: u32,
    program: u32,
    slot: OwnedFd,
    table: OwnedFd,
    buckets: u32,
    record: Record,
    addresses: Vec<IpAddr>,
    interfaces: BTreeMap<u32, String>,
}

impl Onlooker {
    /// Looks at what is pinned; `None` where nothing is in force that this binary's programs understand
    /// and that has a description.
    pub fn open(options: &Options) -> Result<Option<Self>, DataplaneError> {
        let pins = Pins::new(&options.pin_root);
        if shared::inspect(&pins, &Declared::parse()?)? != Found::Fitting {
            return Ok(None);
        }
        let open = |name: &str| {
            let failed = DataplaneError::bpf(format!("cannot open {name}"));
            sys::open_pin_to_read(&pins.shared(name)).map_err(failed)
        };
        let (slot, table) = (open(map::GENERATION)?, open(map::CONNECTIONS)?);
        let Some(program) = in_force(&slot)? else { return Ok(None) };
        let is_it = |number: &u32| {
            let pin = ProgramInfo::from_pin(pins.generation(*number).join("judge"));
            pin.is_ok_and(|info| info.id() == program)
        };
        let Some(generation) = pins.generations()?.into_iter().find(is_it) else { return Ok(None) };
        let Some(description) = Description::read(&options.state_dir, generation) else { return Ok(None) };
        let info = MapData::from_pin(pins.shared(map::CONNECTIONS)).and_then(|map| map.info());
        let failed = DataplaneError::bpf("cannot look at CONNECTIONS");
        let buckets = info.map_err(|error| failed(std::io::Error::other(error)))?.max_entries();
        let interfaces = Links::read(&pins)?.names();
        let Description { record, addresses, .. } = description;
        Ok(Some(Self { generation, program, slot, table, buckets, record, addresses, interfaces }))
    }

    /// Number of the generation in force.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Where it comes from.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The gateway's own addresses that it was compiled for.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// What the policy calls an enforced interface.
    pub fn interface(&self, ifindex: u32) -> Option<&str> {
        self.interfaces.get(&ifindex).map(String::as_str)
    }

    /// Visits the live connections, some thousand at a time; packets go on changing them meanwhile.
    pub fn each_connection(&self, visit: impl FnMut(LiveConnection)) -> Result<(), DataplaneError> {
        connections::each(self.table.as_fd(), self.buckets, sys::monotonic(), visit)
    }

    /// Whether it still is in force.
    pub fn is_current(&self) -> Result<bool, DataplaneError> {
        Ok(in_force(&self.slot)? == Some(self.program))
    }
}

fn in_force(slot: &OwnedFd) -> Result<Option<u32>, DataplaneError> {
    sys::lookup(slot.as_fd(), &0_u32).map_err(DataplaneError::bpf("cannot read the generation slot"))
}
