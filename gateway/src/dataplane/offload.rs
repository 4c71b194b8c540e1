//! Offloads that hide from an XDP program what it must see.
//!
//! A NIC that takes off VLAN tags makes every tagged frame look untagged (on an access port too, where
//! a tag that does not belong there would go unnoticed), and one that merges TCP
//! segments hands over frames that nobody sent.

use super::XdpMode;
use super::attach::Target;
use super::error::DataplaneError;
use super::ethtool::Ethtool;

/// A feature that must be off.
struct Hiding {
    /// The kernel's name (net/ethtool/common.c, `netdev_features_strings`).
    name: &'static str,
    /// What `ethtool -K` calls it.
    option: &'static str,
    what: &'static str,
}

const STRIPS: &str = "its NIC takes off VLAN tags before they are seen";
const MERGES: &str = "its NIC merges segments before they are seen";
const HIDING: [Hiding; 4] = [
    Hiding { name: "rx-vlan-hw-parse", option: "rxvlan", what: STRIPS },
    Hiding { name: "rx-vlan-stag-hw-parse", option: "rx-vlan-stag-hw-parse", what: STRIPS },
    Hiding { name: "rx-lro", option: "lro", what: MERGES },
    Hiding { name: "rx-gro-hw", option: "rx-gro-hw", what: MERGES },
];

/// In generic mode programs run after the stack has merged what it could; and a packet of more than a page is one that the
/// kernel copies in pieces ([`super::copies`]).
const BEFORE_GENERIC: Hiding =
    Hiding { name: "rx-gro", option: "gro", what: "its segments are merged before they are seen" };

/// Turns off what must be off on an interface and, where it is a bond, on its links, which receive for it: each with what
/// `ethtool -K` calls it.
pub(super) fn settle(target: &Target, mode: XdpMode) -> Result<Vec<(String, &'static str)>, DataplaneError> {
    let mut off = Vec::new();
    for name in target.names() {
        off.extend(turn_off(&name, mode)?.into_iter().map(|feature| (name.clone(), feature)));
    }
    Ok(off)
}

/// Turns off what must be off on one device.
fn turn_off(interface: &str, mode: XdpMode) -> Result<Vec<&'static str>, DataplaneError> {
    let failed = DataplaneError::bpf(format!("cannot ask for the offloads of {interface}"));
    let ethtool = Ethtool::open(interface).map_err(failed)?;
    let failed = DataplaneError::bpf(format!("cannot ask for the offloads of {interface}"));
    let active = ethtool.active().map_err(failed)?;
    let mut off = Vec::new();
    let generic = (mode == XdpMode::Generic).then_some(&BEFORE_GENERIC);
    for hiding in HIDING.iter().chain(generic) {
        let Some((number, _)) = active.iter().find(|(_, name)| name == hiding.name) else { continue };
        ethtool.turn_off(*number).map_err(|source| DataplaneError::Offload {
            interface: interface.to_owned(),
            feature: hiding.option,
            what: hiding.what,
            source,
        })?;
        off.push(hiding.option);
    }
    Ok(off)
}

/// What must be off and is among the features that are on, as `ethtool -K` calls it.
pub(super) fn hiding(active: &[(usize, String)]) -> Vec<&'static str> {
    let is_on = |hiding: &&Hiding| active.iter().any(|(_, name)| name == hiding.name);
    HIDING.iter().filter(is_on).map(|hiding| hiding.option).collect()
}

/// Name of the driver, where the interface has one.
pub(super) fn driver(interface: &str) -> Option<String> {
    Ethtool::open(interface).ok()?.driver()
}
