//! What people write on the command line, for fuzzing.

use crate::cli::explain::packet;
use crate::packet::PacketView;

use super::packets::Port;

/// Reads a packet as `clinigate explain --packet` does.
pub fn packet(text: &str) -> anyhow::Result<(Port, PacketView)> {
    let packet = packet::parse(text)?;
    let arrival = packet.arrival();
    let port = Port { interface: arrival.interface.to_owned(), outer: arrival.outer, vlan: arrival.vlan };
    Ok((port, packet.view))
}
