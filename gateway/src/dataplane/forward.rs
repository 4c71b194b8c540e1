//! What forwarding in XDP must know of the interfaces, worked out from the policy's places and from the
//! devices that there are now.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::MapData;
use gateway_common::forward::{Exit, Leg, TagKey, Tags};
use gateway_common::layout::generation;
use gateway_common::place::{Place, PlaceKey};

use super::apply::ROOM;
use super::attach::Target;
use super::devices::{self, Device, Vlan};
use super::error::DataplaneError;
use super::sys::{self, Plain};
use crate::compile::image::Manifest;

/// The contents of the tables of forwarding.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Forwarding {
    legs: Vec<(PlaceKey, Leg)>,
    exits: Vec<(u32, Exit)>,
    tags: Vec<(TagKey, Tags)>,
    /// Index of the interface in each slot.
    slots: Vec<(u32, u32)>,
}

/// Handles of the tables of forwarding of one generation.
pub(super) struct ForwardingMaps {
    legs: MapData,
    exits: MapData,
    tags: MapData,
    devices: MapData,
}

/// Entries that the four tables need at most, in the order of [`ForwardingMaps`]: an interface that is
/// made anew has other entries before its old ones go.
pub(super) fn sizes(places: usize, interfaces: usize) -> [(&'static str, usize); 4] {
    [
        (generation::LEGS, places * ROOM),
        (generation::EXITS, (places + interfaces) * 2),
        (generation::TAGS, places * 2),
        (generation::DEVICES, interfaces),
    ]
}

impl Forwarding {
    /// For these places on these interfaces. An interface's slot is its position in the manifest, whether
    /// the others exist or not.
    pub(super) fn of(
        manifest: &Manifest,
        places: &[(PlaceKey, Place)],
        targets: &[Target],
        devices: &BTreeMap<u32, Device>,
    ) -> Self {
        let mut forwarding = Self::default();
        for (entry, slot) in manifest.interfaces.iter().zip(0..) {
            let Some(target) = targets.iter().find(|target| target.name == entry.name) else { continue };
            // What has no link layer is the kernel's to send to, and a port of a bridge the bridge's.
            if target.is_bare() || devices::is_port(devices, target.ifindex) {
                continue;
            }
            forwarding.slots.push((slot, target.ifindex));
            let here: Vec<&(PlaceKey, Place)> = places
                .iter()
                .filter(|(key, _)| key.ifindex == target.ifindex && key.vlan != u16::MAX)
                .collect();
            let mut by_segment = false;
            for (key, _) in &here {
                let tags = Tags { outer: key.outer, vlan: key.vlan };
                let above = device_of(devices, target.ifindex, tags);
                let untag = above.is_none();
                by_segment |= untag;
                if above.is_some_and(|index| devices::is_port(devices, index)) {
                    continue;
                }
                let index = above.unwrap_or(target.ifindex);
                let Some(device) = devices.get(&index) else { continue };
                let flags = if untag { Leg::UNTAG } else { 0 };
                let leg = Leg { device: index, mac: device.mac, flags };
                let ports = [target.ifindex].into_iter().chain(target.links.iter().copied());
                forwarding.legs.extend(ports.map(|ifindex| (PlaceKey { ifindex, ..*key }, leg)));
                if index != target.ifindex {
                    let exit = Exit { port: target.ifindex, slot, tags, flags: 0 };
                    forwarding.exits.push((index, exit));
                }
            }
            let flags = if by_segment { Exit::BY_SEGMENT } else { 0 };
            let exit = Exit { port: target.ifindex, slot, tags: Tags::default(), flags };
            // A trunk of tagged segments alone sends nothing untagged.
            if by_segment || here.iter().any(|(key, _)| key.vlan == 0) {
                forwarding.exits.push((target.ifindex, exit));
            }
            forwarding.tags.extend(tags_of(target.ifindex, &here));
        }
        forwarding
    }
}

/// The tags of each segment that has only one way on this port: of two, none could be chosen.
fn tags_of(port: u32, here: &[&(PlaceKey, Place)]) -> Vec<(TagKey, Tags)> {
    let mut ways: BTreeMap<u16, Vec<Tags>> = BTreeMap::new();
    for (key, place) in here {
        ways.entry(place.segment).or_default().push(Tags { outer: key.outer, vlan: key.vlan });
    }
    let only = ways.into_iter().filter_map(|(segment, ways)| {
        let [tags] = ways[..] else { return None };
        Some((TagKey { port, segment: segment.into() }, tags))
    });
    only.collect()
}

/// The device that receives frames with these tags: the interface itself for untagged ones, else a VLAN
/// device above it, or one above that.
fn device_of(devices: &BTreeMap<u32, Device>, port: u32, tags: Tags) -> Option<u32> {
    let above = |lower, identifier, service| {
        let wanted = Some(Vlan { lower, identifier, service });
        devices.iter().find(|(_, device)| device.vlan == wanted).map(|(index, _)| *index)
    };
    match (tags.outer, tags.vlan) {
        (0, 0) => Some(port),
        (0, vlan) => above(port, vlan, false),
        (outer, vlan) => above(above(port, outer, true)?, vlan, false),
    }
}

impl ForwardingMaps {
    /// Takes the maps by their names.
    pub(super) fn open(
        map: impl Fn(&'static str) -> Result<MapData, DataplaneError>,
    ) -> Result<Self, DataplaneError> {
        Ok(Self {
            legs: map(generation::LEGS)?,
            exits: map(generation::EXITS)?,
            tags: map(generation::TAGS)?,
            devices: map(generation::DEVICES)?,
        })
    }

    /// Makes the tables exactly these: what a leg or an exit leads to is there before it.
    pub(super) fn set(&self, wanted: &Forwarding) -> Result<(), DataplaneError> {
        let devices = self.devices.fd().as_fd();
        for (slot, ifindex) in &wanted.slots {
            // struct bpf_devmap_val: the interface, and no program that runs there.
            let value = u64::from_ne_bytes(sys::bytes_of(&[*ifindex, 0]).try_into().expect("eight bytes"));
            sys::update(devices, slot, &value).map_err(DataplaneError::bpf("cannot fill DEVICES"))?;
        }
        set("TAGS", self.tags.fd().as_fd(), &wanted.tags)?;
        set("EXITS", self.exits.fd().as_fd(), &wanted.exits)?;
        set("LEGS", self.legs.fd().as_fd(), &wanted.legs)
    }
}

/// Makes a hash map hold exactly these entries: new ones first, so that what stays never misses.
pub(super) fn set<K: Plain + PartialEq, V: Plain>(
    name: &str,
    map: BorrowedFd<'_>,
    wanted: &[(K, V)],
) -> Result<(), DataplaneError> {
    let present: Vec<K> = sys::keys(map).map_err(DataplaneError::bpf(format!("cannot read {name}")))?;
    for (key, value) in wanted {
        sys::update(map, key, value).map_err(DataplaneError::bpf(format!("cannot fill {name}")))?;
    }
    for key in present.iter().filter(|key| wanted.iter().all(|(wanted, _)| wanted != *key)) {
        sys::delete(map, key).map_err(DataplaneError::bpf(format!("cannot clear {name}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::devices::{Kind, Link};
    use super::*;
    use crate::compile::image::InterfaceEntry;

    const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const WORLD: (PlaceKey, Place) = place(4, 0, 0, 0);

    const fn place(ifindex: u32, outer: u16, vlan: u16, segment: u16) -> (PlaceKey, Place) {
        (PlaceKey { ifindex, outer, vlan }, Place { segment, flags: 0, link_atom: 0 })
    }

    fn device(vlan: Option<Vlan>) -> Device {
        let link = Link::Ethernet;
        Device { mac: GATEWAY, master: None, vlan, kind: Kind::Other, mtu: 1500, queues: 1, link }
    }

    fn manifest(interfaces: &[&str]) -> Manifest {
        let entry = |name: &&str| InterfaceEntry {
            name: (*name).to_owned(),
            trunk: true,
            segments: Vec::new(),
            tunnel: false,
        };
        Manifest {
            hash: String::new(),
            segments: Vec::new(),
            rules: Vec::new(),
            interfaces: interfaces.iter().map(entry).collect(),
            table_bytes: 0,
            forwarding: true,
        }
    }

    fn target(name: &str, ifindex: u32) -> Target {
        Target {
            name: name.to_owned(),
            ifindex,
            links: Vec::new(),
            mtu: 1500,
            link: Link::Ethernet,
            tunnel: false,
        }
    }

    fn of(places: &[(PlaceKey, Place)], devices: &[(u32, Option<Vlan>)]) -> Forwarding {
        let devices = devices.iter().map(|(index, vlan)| (*index, device(*vlan))).collect();
        let targets = [target("trunk0", 3), target("wan0", 4)];
        Forwarding::of(&manifest(&["gone0", "trunk0", "wan0"]), places, &targets, &devices)
    }

    #[test]
    fn a_slot_is_the_interfaces_own_whether_others_exist_or_not() {
        let found = of(&[WORLD], &[(3, None), (4, None)]);
        assert_eq!(found.slots, [(1, 3), (2, 4)]);
        let exit = Exit { port: 4, slot: 2, tags: Tags::default(), flags: 0 };
        assert_eq!(found.exits, [(4, exit)], "a trunk without tags to send by has no way out");
        assert_eq!(found.legs, [(WORLD.0, Leg { device: 4, mac: GATEWAY, flags: 0 })]);
    }

    #[test]
    fn without_vlan_devices_tags_follow_from_the_segment() {
        let places = [place(3, 0, 70, 8), place(3, 0, 71, 9), place(3, 0, 72, 9)];
        let found = of(&places, &[(3, None)]);
        let exit = Exit { port: 3, slot: 1, tags: Tags::default(), flags: Exit::BY_SEGMENT };
        assert_eq!(found.exits, [(3, exit)]);
        let key = TagKey { port: 3, segment: 8 };
        assert_eq!(found.tags, [(key, Tags { outer: 0, vlan: 70 })], "of two ways none can be chosen");
        let leg = Leg { device: 3, mac: GATEWAY, flags: Leg::UNTAG };
        assert_eq!(found.legs, places.map(|(key, _)| (key, leg)));
    }

    #[test]
    fn a_vlan_device_is_the_way_in_and_out_of_its_tags() {
        let vlan = |lower, identifier, service| Some(Vlan { lower, identifier, service });
        let devices = [(3, None), (7, vlan(3, 70, false)), (8, vlan(3, 100, true)), (9, vlan(8, 71, false))];
        let found = of(&[place(3, 0, 70, 8), place(3, 100, 71, 9)], &devices);
        let exit = |outer, vlan| Exit { port: 3, slot: 1, tags: Tags { outer, vlan }, flags: 0 };
        assert_eq!(found.exits, [(7, exit(0, 70)), (9, exit(100, 71))]);
        let legs: Vec<_> = found.legs.iter().map(|(_, leg)| (leg.device, leg.flags)).collect();
        assert_eq!(legs, [(7, 0), (9, 0)]);
    }

    #[test]
    fn a_bond_s_frames_come_by_its_links_and_leave_by_itself() {
        let bond = Target { links: vec![5, 6], ..target("trunk0", 3) };
        let vlan = Some(Vlan { lower: 3, identifier: 70, service: false });
        let devices = [(3, None), (5, None), (6, None), (7, vlan)];
        let devices = devices.into_iter().map(|(index, vlan)| (index, device(vlan))).collect();
        let places = [3, 5, 6].map(|ifindex| place(ifindex, 0, 70, 8));
        let found = Forwarding::of(&manifest(&["trunk0"]), &places, &[bond], &devices);
        let leg = Leg { device: 7, mac: GATEWAY, flags: 0 };
        assert_eq!(found.legs, places.map(|(key, _)| (key, leg)));
        let exit = Exit { port: 3, slot: 0, tags: Tags { outer: 0, vlan: 70 }, flags: 0 };
        assert_eq!((found.exits, found.slots), (vec![(7, exit)], vec![(0, 3)]));
    }

    #[test]
    fn a_port_of_a_bridge_is_left_to_the_bridge() {
        let member = Device { master: Some(9), ..device(None) };
        let of = |kind| {
            let devices = [(3, member), (4, device(None)), (9, Device { kind, ..device(None) })].into();
            let places = [place(3, 0, 70, 8), WORLD];
            Forwarding::of(
                &manifest(&["trunk0", "wan0"]),
                &places,
                &[target("trunk0", 3), target("wan0", 4)],
                &devices,
            )
        };
        let bridged = of(Kind::Other);
        let legs = |found: &Forwarding| found.legs.iter().map(|(key, _)| key.ifindex).collect::<Vec<_>>();
        assert_eq!((legs(&bridged), &bridged.slots), (vec![4], &vec![(1, 4)]));
        assert!(
            bridged.tags.iter().all(|(key, _)| key.port == 4)
                && bridged.exits.iter().all(|(exit, _)| *exit == 4)
        );
        assert_eq!(legs(&of(Kind::Vrf)), [3, 4], "a member of a VRF is a router's port");
    }

    #[test]
    fn so_is_a_vlan_device_in_a_bridge() {
        let vlan = device(Some(Vlan { lower: 3, identifier: 70, service: false }));
        let of = |kind| {
            let member = Device { master: Some(9), ..vlan };
            let devices = [(3, device(None)), (7, member), (9, Device { kind, ..device(None) })].into();
            Forwarding::of(&manifest(&["trunk0"]), &[place(3, 0, 70, 8)], &[target("trunk0", 3)], &devices)
        };
        assert_eq!((of(Kind::Other).legs.len(), of(Kind::Other).exits.len()), (0, 0));
        assert_eq!((of(Kind::Vrf).legs.len(), of(Kind::Vrf).exits.len()), (1, 1));
    }

    #[test]
    fn the_place_of_no_frame_is_no_leg() {
        let found = of(&[(PlaceKey::interface(4), WORLD.1)], &[(4, None)]);
        assert_eq!((found.legs, found.exits, found.tags), (Vec::new(), Vec::new(), Vec::new()));
    }
}
