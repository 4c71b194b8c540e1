//! The frames into which the driver writes addresses.

use anyhow::Result;
use etherparse::{PacketBuilder, VlanId};
use gateway_common::bench::Plan;

/// What stands above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Syn,
    SynAck,
    Ack,
    Udp,
}

/// A frame of a shape ([`Plan`]), as short as Ethernet lets it be.
pub(crate) fn frame(shape: u32, segment: Segment) -> Result<Vec<u8>> {
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let (v6, tagged) = (shape & Plan::V6 != 0, shape & Plan::TAGGED != 0);
    // The driver writes the real addresses, ports and tag.
    let ip = match (v6, tagged) {
        (false, false) => link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
        (false, true) => link.single_vlan(VlanId::try_new(1)?).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
        (true, false) => link.ipv6([1; 16], [2; 16], 64),
        (true, true) => link.single_vlan(VlanId::try_new(1)?).ipv6([1; 16], [2; 16], 64),
    };
    let mut frame = Vec::new();
    if segment == Segment::Udp {
        ip.udp(1, 2).write(&mut frame, &[0; 8])?;
    } else {
        let tcp = ip.tcp(1, 2, 0, 64_000);
        let tcp = match segment {
            Segment::Syn => tcp.syn(),
            Segment::SynAck => tcp.syn().ack(1),
            Segment::Ack | Segment::Udp => tcp.ack(1),
        };
        tcp.write(&mut frame, &[])?;
    }
    // Without the checksum that the card adds.
    frame.resize(frame.len().max(60), 0);
    Ok(frame)
}
