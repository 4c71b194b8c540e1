//! The devices of this network namespace, as rtnetlink lists them: hardware addresses, and which are VLAN
//! devices above which.

use std::collections::BTreeMap;
use std::io;

use super::netlink::{self, LINK_HEADER, attributes, number};

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Hardware address; zeros where it has none of Ethernet's length.
    pub(super) mac: [u8; 6],
    /// Index of the bond, bridge or VRF that it is a member of.
    pub(super) master: Option<u32>,
    /// What it is above, where it is a VLAN device.
    pub(super) vlan: Option<Vlan>,
    /// What sort of device it is.
    pub(super) kind: Kind,
    /// Largest packet, in bytes.
    pub(super) mtu: u32,
    /// Receive queues.
    pub(super) queues: u32,
    /// What stands before its packets.
    pub(super) link: Link,
}

/// A sort of device, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bond.
    Bond {
        /// It hands programs down to its links, if these run them (`bond_xdp_check` in `drivers/net/bonding/bond_main.c`).
        native: bool,
    },
    /// A table of routes of its own: what its members receive is routed as ever.
    Vrf,
    /// Any other.
    Other,
}

impl Kind {
    fn of(info: &[u8]) -> Self {
        let data = inside(info, IFLA_INFO_DATA).unwrap_or_default();
        let number = |wanted| inside(data, wanted).and_then(|value| value.first().copied());
        match kind(info) {
            Some(b"bond") => {
                let policy = number(IFLA_BOND_XMIT_HASH_POLICY) != Some(VLAN_AND_SOURCE);
                let native = match number(IFLA_BOND_MODE) {
                    Some(BALANCE_RR | ACTIVE_BACKUP) | None => true,
                    Some(BALANCE_XOR | LACP) => policy,
                    Some(_) => false,
                };
                Self::Bond { native }
            }
            Some(b"vrf") => Self::Vrf,
            _ => Self::Other,
        }
    }
}

/// What stands before a device's packets, as XDP sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The header of Ethernet.
    Ethernet,
    /// Nothing: they begin at the IP header.
    Bare,
    /// What is not known, or not always the same; with the hardware type.
    Other(u16),
}

impl Link {
    /// By hardware type (`ARPHRD_*`, `include/uapi/linux/if_arp.h`) and by what `ip link add type` calls the device.
    fn of(hardware: u16, kind: Option<&[u8]>) -> Self {
        match (hardware, kind) {
            // What IPsec of the kernel decrypts gets the link header of the packet around it, where that had one.
            (_, Some(b"xfrm" | b"vti" | b"vti6")) => Self::Other(hardware),
            // Ethernet; loopback, which has its header too.
            (1 | 772, _) => Self::Ethernet,
            // TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, RAWIP, NONE.
            (768 | 769 | 776 | 778 | 823 | 519 | 65534, _) => Self::Bare,
            _ => Self::Other(hardware),
        }
    }
}

/// What a VLAN device is above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vlan {
    /// Index of the lower device.
    pub(super) lower: u32,
    /// VLAN identifier.
    pub(super) identifier: u16,
    /// It is of 802.1ad, not of 802.1Q.
    pub(super) service: bool,
}

// include/uapi/linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const IFLA_BOND_MODE: u16 = 1;
const IFLA_BOND_XMIT_HASH_POLICY: u16 = 14;
// Modes of bonds that take programs, and a hash policy that does not (include/uapi/linux/if_bonding.h).
const BALANCE_RR: u8 = 0;
const ACTIVE_BACKUP: u8 = 1;
const BALANCE_XOR: u8 = 2;
const LACP: u8 = 4;
const VLAN_AND_SOURCE: u8 = 5;
/// The lower device is in another network namespace.
const IFLA_LINK_NETNSID: u16 = 37;
/// EtherType of 802.1ad.
const SERVICE_TAG: u16 = 0x88a8;

/// All devices by index.
pub(super) fn list() -> io::Result<BTreeMap<u32, Device>> {
    let mut devices = BTreeMap::new();
    netlink::list(libc::RTM_GETLINK, LINK_HEADER, |body| devices.extend(device(body)))?;
    Ok(devices)
}

/// The links of a bond, which receive for it; none where the device is something else.
pub(super) fn links(devices: &BTreeMap<u32, Device>, index: u32) -> Vec<u32> {
    if !devices.get(&index).is_some_and(|device| matches!(device.kind, Kind::Bond { .. })) {
        return Vec::new();
    }
    devices.iter().filter(|(_, device)| device.master == Some(index)).map(|(link, _)| *link).collect()
}

/// Whether what the device receives is its master's to see to, and not routed: it is a port of a bridge, or of a switch in software.
pub(super) fn is_port(devices: &BTreeMap<u32, Device>, index: u32) -> bool {
    let master = devices.get(&index).and_then(|device| device.master);
    master.is_some_and(|master| devices.get(&master).is_none_or(|master| master.kind != Kind::Vrf))
}

/// A device from its message, without the message's own header.
fn device(body: &[u8]) -> Option<(u32, Device)> {
    // struct ifinfomsg: family, padding, hardware type, index.
    let hardware = u16::from_ne_bytes(body.get(2..4)?.try_into().ok()?);
    let index = number(body.get(4..)?)?;
    let body = body.get(LINK_HEADER..)?;
    let find = |wanted| attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let mac = find(IFLA_ADDRESS).and_then(|address| address.try_into().ok()).unwrap_or_default();
    let lower = find(IFLA_LINK).filter(|_| find(IFLA_LINK_NETNSID).is_none()).and_then(number);
    let info = find(IFLA_LINKINFO);
    let vlan = lower.zip(info).and_then(|(lower, info)| vlan(lower, info));
    let link = Link::of(hardware, info.and_then(kind));
    let kind = info.map_or(Kind::Other, Kind::of);
    let word = |wanted| find(wanted).and_then(number).unwrap_or_default();
    let master = find(IFLA_MASTER).and_then(number);
    let (mtu, queues) = (word(IFLA_MTU), word(IFLA_NUM_RX_QUEUES));
    Some((index, Device { mac, master, vlan, kind, mtu, queues, link }))
}

/// What `ip link add type` calls a device.
fn kind(info: &[u8]) -> Option<&[u8]> {
    inside(info, IFLA_INFO_KIND)?.strip_suffix(b"\0")
}

fn inside(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn vlan(lower: u32, info: &[u8]) -> Option<Vlan> {
    if kind(info)? != b"vlan" {
        return None;
    }
    let data = inside(info, IFLA_INFO_DATA)?;
    let word = |wanted| inside(data, wanted)?.get(..2)?.try_into().ok();
    let identifier = u16::from_ne_bytes(word(IFLA_VLAN_ID)?);
    let service = word(IFLA_VLAN_PROTOCOL).map(u16::from_be_bytes) == Some(SERVICE_TAG);
    Some(Vlan { lower, identifier, service })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::dataplane::netlink::MESSAGE_HEADER;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(index: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut message = vec![0; MESSAGE_HEADER + LINK_HEADER];
        message.extend(attributes.concat());
        let length = u32::try_from(message.len()).unwrap();
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        message[18..20].copy_from_slice(&1_u16.to_ne_bytes());
        message[20..24].copy_from_slice(&index.to_ne_bytes());
        message
    }

    fn bond(mode: u8, policy: u8) -> Vec<u8> {
        let data = [attribute(IFLA_BOND_MODE, &[mode]), attribute(IFLA_BOND_XMIT_HASH_POLICY, &[policy])];
        let info = [attribute(IFLA_INFO_KIND, b"bond\0"), attribute(IFLA_INFO_DATA, &data.concat())];
        attribute(IFLA_LINKINFO, &info.concat())
    }

    fn datagram() -> Vec<u8> {
        let data =
            [attribute(IFLA_VLAN_ID, &70_u16.to_ne_bytes()), attribute(IFLA_VLAN_PROTOCOL, &[0x88, 0xa8])];
        let info = [attribute(IFLA_INFO_KIND, b"vlan\0"), attribute(IFLA_INFO_DATA, &data.concat())];
        let address = attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 9]);
        let lower = attribute(IFLA_LINK, &5_u32.to_ne_bytes());
        let elsewhere = attribute(IFLA_LINK_NETNSID, &[0; 4]);
        let info = attribute(IFLA_LINKINFO, &info.concat());
        [
            link(
                5,
                &[
                    address.clone(),
                    attribute(IFLA_MTU, &1500_u32.to_ne_bytes()),
                    attribute(IFLA_MASTER, &12_u32.to_ne_bytes()),
                ],
            ),
            link(7, &[address.clone(), lower.clone(), info.clone()]),
            link(8, &[lower, info, elsewhere]),
            link(12, &[address.clone(), bond(4, 2)]),
            link(13, &[address.clone(), attribute(IFLA_MASTER, &12_u32.to_ne_bytes())]),
            link(14, &[address.clone(), attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"vrf\0"))]),
            link(15, &[address, attribute(IFLA_MASTER, &14_u32.to_ne_bytes())]),
        ]
        .concat()
    }

    #[test]
    fn vlan_devices_and_bonds_are_told_from_others() {
        let mut devices = BTreeMap::new();
        let last =
            netlink::messages(&datagram(), &mut |message| devices.extend(device(&message[MESSAGE_HEADER..])));
        assert!(!last.unwrap());
        let mac = [2, 0, 0, 0, 0, 9];
        let vlan = Some(Vlan { lower: 5, identifier: 70, service: true });
        let link = Link::Ethernet;
        let plain = Device { mac, master: None, vlan: None, kind: Kind::Other, mtu: 0, queues: 0, link };
        let expected = [
            (5, Device { master: Some(12), mtu: 1500, ..plain }),
            (7, Device { vlan, ..plain }),
            (8, Device { mac: [0; 6], ..plain }),
            (12, Device { kind: Kind::Bond { native: true }, ..plain }),
            (13, Device { master: Some(12), ..plain }),
            (14, Device { kind: Kind::Vrf, ..plain }),
            (15, Device { master: Some(14), ..plain }),
        ];
        assert_eq!(devices, BTreeMap::from(expected));
        assert_eq!(links(&devices, 12), [5, 13]);
        assert_eq!((links(&devices, 7), links(&devices, 99)), (vec![], vec![]), "no bond, or gone");
        assert_eq!([5, 7, 15, 99].map(|index| is_port(&devices, index)), [true, false, false, false]);
    }

    #[test]
    fn bonds_that_take_no_programs_are_known() {
        let native = |mode, policy| {
            let message = link(3, &[bond(mode, policy)]);
            device(&message[MESSAGE_HEADER..]).unwrap().1.kind == Kind::Bond { native: true }
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6].map(|mode| native(mode, 1)),
            [true, true, true, false, true, false, false]
        );
        assert_eq!([1, 2, 4].map(|mode| native(mode, 5)), [true, false, false], "vlan+srcmac");
    }

    #[test]
    fn short_and_senseless_answers_do_no_harm() {
        let whole = datagram();
        for length in MESSAGE_HEADER..whole.len() {
            let _ = device(&whole[MESSAGE_HEADER..length]);
        }
    }
}
