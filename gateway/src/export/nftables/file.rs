//! The file: heading, declarations, maps, chains.

use super::chains::{Writer, counter};
use super::limits::{self, Limit};
use super::text;
use crate::policy::model::SegmentId;

/// Counters of the verdicts that are not plain passing.
const VERDICTS: [&str; 3] = ["dropped", "audited", "observed"];

/// What `nft -f` takes, once every chain is written.
pub(super) fn assemble(writer: &Writer<'_>, limits: &[Limit]) -> String {
    // Added first, so that there is something to delete.
    let table = "add table inet clinigate\ndelete table inet clinigate\n\ntable inet clinigate {\n";
    let active = writer.policy.rules.iter().filter(|rule| rule.is_active());
    let verdicts = VERDICTS.into_iter().map(str::to_owned);
    let reasons = writer.counters.iter().map(|reason| reason.name().to_owned());
    let counters = verdicts.chain(reasons).chain(active.map(counter));
    let counters: Vec<String> = counters.map(|name| format!("\tcounter {name} {{ }}\n")).collect();
    [
        limits::heading(writer.policy, writer.state, limits).as_str(),
        table,
        &counters.concat(),
        "\n",
        writer.sets.declarations(),
        &places(writer),
        &neighbours(writer),
        writer.chains.trim_end_matches('\n'),
        "\n}\n",
    ]
    .concat()
}

/// Devices and the chains of their segments.
fn places(writer: &Writer<'_>) -> String {
    let chain = |segment: &Option<SegmentId>| match segment {
        Some(id) => format!("from-{}", writer.name(*id)),
        None => "unknown-vlan".to_owned(),
    };
    let devices = writer.places.devices.iter();
    map("places", devices.map(|(device, segment)| (device, chain(segment))))
}

/// Devices and the chains for the neighbour discovery of their segments.
fn neighbours(writer: &Writer<'_>) -> String {
    let devices = writer.places.devices.iter();
    let carried = devices.filter_map(|(device, segment)| Some((device, (*segment)?)));
    map("neighbours", carried.map(|(device, id)| (device, format!("neighbours-{}", writer.name(id)))))
}

fn map<'d>(name: &str, devices: impl Iterator<Item = (&'d String, String)>) -> String {
    let elements: Vec<String> =
        devices.map(|(device, chain)| format!("\"{device}\" : goto {chain}")).collect();
    // An empty list is no list to nft.
    let elements = match elements.as_slice() {
        [] => String::new(),
        some => format!("\t\telements = {}\n", text::elements(some)),
    };
    format!("\tmap {name} {{\n\t\ttype ifname : verdict\n{elements}\t}}\n\n")
}
