//! Places as the kernel's devices: a port, or the VLAN device on it by its usual name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::policy::model::{Interface, InterfaceKind, Policy, SegmentId, Tunnel};

/// Bytes of a device's name (`IFNAMSIZ` less the final zero).
const NAME_LIMIT: usize = 15;

/// Which device carries which segment.
#[derive(Debug, Default)]
pub(super) struct Places<'p> {
    /// By device. `None`: a port whose untagged frames the policy does not name.
    pub(super) devices: BTreeMap<String, Option<SegmentId>>,
    /// Ports whose other VLAN devices carry tags that the policy does not name.
    pub(super) ports: Vec<&'p str>,
    /// Devices that cannot be named.
    pub(super) lost: Vec<Lost<'p>>,
}

/// A device that the ruleset does not touch though the policy names it.
#[derive(Debug)]
pub(super) struct Lost<'p> {
    pub(super) interface: &'p Interface,
    pub(super) device: String,
    pub(super) why: &'static str,
}

impl<'p> Places<'p> {
    pub(super) fn of(policy: &'p Policy) -> Self {
        let mut places = Self::default();
        // Ports first: a device that the policy names as one is not somebody's VLAN.
        for interface in &policy.interfaces {
            let segment = match &interface.kind {
                InterfaceKind::Access(segment) => Some(*segment),
                InterfaceKind::Wan => Some(SegmentId::WAN),
                InterfaceKind::Trunk { outer: 0, vlans } => vlans.get(&0).copied(),
                InterfaceKind::Trunk { .. } => None,
            };
            if places.add(interface, interface.name.clone(), segment) {
                places.ports.push(&interface.name);
            }
        }
        for interface in &policy.interfaces {
            let InterfaceKind::Trunk { outer, vlans } = &interface.kind else { continue };
            for (&vlan, &segment) in vlans {
                if (*outer, vlan) != (0, 0) {
                    places.add(interface, device(&interface.name, *outer, vlan), Some(segment));
                }
            }
        }
        places
    }

    /// Devices of one of these segments.
    pub(super) fn of_segments(&self, wanted: impl Fn(SegmentId) -> bool) -> Vec<&str> {
        let devices = self.devices.iter().filter(|(_, segment)| segment.is_some_and(&wanted));
        devices.map(|(device, _)| device.as_str()).collect()
    }

    /// Devices on which packets arrive this way.
    pub(super) fn on_way(&self, policy: &Policy, way: Tunnel) -> Vec<&str> {
        let of_device = |device: &str| {
            let port = policy.interfaces.iter().find(|interface| interface.name == *device);
            port.map_or(Tunnel::Direct, Interface::way)
        };
        self.devices.keys().map(String::as_str).filter(|device| of_device(device) == way).collect()
    }

    /// Segments that some device carries, in their order.
    pub(super) fn segments(&self) -> Vec<SegmentId> {
        let mut segments: Vec<SegmentId> = self.devices.values().flatten().copied().collect();
        segments.sort_unstable();
        segments.dedup();
        segments
    }

    fn add(&mut self, interface: &'p Interface, device: String, segment: Option<SegmentId>) -> bool {
        let why = if device.len() > NAME_LIMIT {
            "a device's name has at most 15 characters"
        } else if device.contains(['"', '\\', '*']) {
            "its name cannot be written in nftables"
        } else if let Entry::Vacant(place) = self.devices.entry(device.clone()) {
            place.insert(segment);
            return true;
        } else {
            "another interface of the policy has this name"
        };
        self.lost.push(Lost { interface, device, why });
        false
    }
}

/// Name of the VLAN device that carries these tags on `port`, as `ip link` users name them.
fn device(port: &str, outer: u16, vlan: u16) -> String {
    match (outer, vlan) {
        (0, vlan) => format!("{port}.{vlan}"),
        (outer, 0) => format!("{port}.{outer}"),
        (outer, vlan) => format!("{port}.{outer}.{vlan}"),
    }
}

/// The pattern of all VLAN devices on a port, where there can be any.
pub(super) fn pattern(port: &str) -> Option<String> {
    (port.len() + ".1".len() <= NAME_LIMIT).then(|| format!("{port}.*"))
}
