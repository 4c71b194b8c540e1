//! Frames through a compiled policy and the oracle: both decide alike, whatever the frames say. What
//! replay tells of a frame stands in it.
//!
//! An input is a number that chooses a policy ([`policies::ALL`]), then frames: the number of an
//! interface, the frame's length, its bytes.

use clinigate::dataplane::trial::FRAME_MIN;
use clinigate::oracle::Oracle;
use clinigate::oracle::packet::Payload;
use clinigate::packet::{Arrival, Decision, PacketView, Transport};
use clinigate::replay::view::{Service, View};

use crate::policies::{self, Fixed};
use crate::wire::{self, Content};

/// Reads an input.
///
/// # Panics
/// Where the readings differ.
pub fn run(bytes: &[u8]) {
    let Some((policy, mut rest)) = bytes.split_first() else { return };
    let fixed = &policies::ALL[usize::from(*policy) % policies::ALL.len()];
    let mut is_first = true;
    while let [interface, length, frames @ ..] = rest {
        let (frame, next) = frames.split_at(frames.len().min(usize::from(*length)));
        told(frame);
        if std::mem::take(&mut is_first) {
            // As dear as all else together.
            cuts(frame);
        }
        decided(fixed, interface_of(fixed, *interface), frame);
        rest = next;
    }
}

/// What replay tells of a frame is what stands in it.
fn told(frame: &[u8]) {
    let view = View::of(frame);
    let read = wire::read(frame);
    if let Content::Ip { packet, .. } = &read.content {
        assert_eq!(
            (view.source, view.destination),
            (Some(packet.source), Some(packet.destination)),
            "{frame:02x?}"
        );
        let (service, ports) = match packet.payload {
            _ if packet.is_later() => (Service::Fragment(packet.protocol()), None),
            Payload::Tcp { source, destination, .. } => {
                (Service::Tcp(destination), Some((source, destination)))
            }
            Payload::Udp { source, destination } => (Service::Udp(destination), Some((source, destination))),
            Payload::Other(number) => (Service::Protocol(number), None),
            _ => match packet.view().transport {
                Transport::Icmp(kind) => (Service::Icmp(kind), None),
                Transport::Icmpv6(kind) => (Service::Icmpv6(kind), None),
                other => unreachable!("{other:?} is no ICMP"),
            },
        };
        assert_eq!((view.service, view.ports), (service, ports), "{frame:02x?}");
    }
}

/// A capture cut behind the headers that the view asks for is judged with zeros for the rest: as the
/// whole frame would be.
fn cuts(frame: &[u8]) {
    let whole = wire::read(frame);
    let mut cut = Vec::with_capacity(frame.len());
    for length in FRAME_MIN..frame.len() {
        let captured = &frame[..length];
        if length >= View::of(captured).headers {
            cut.clear();
            cut.extend_from_slice(captured);
            cut.resize(frame.len(), 0);
            assert_eq!(wire::read(&cut), whole, "{length} bytes of {frame:02x?}");
        }
    }
}

/// The interface that a number of an input means: one of the policy's, or one that it does not name.
pub fn interface_of(fixed: &Fixed, number: u8) -> &str {
    let interfaces = &fixed.policy.interfaces;
    interfaces.get(usize::from(number) % (interfaces.len() + 1)).map_or("nowhere0", |named| &named.name)
}

/// The decision on a frame, as far as it is a packet that could open a connection.
///
/// # Panics
/// Where image and oracle differ.
pub fn decided(fixed: &Fixed, interface: &str, frame: &[u8]) -> Option<Decision> {
    let view = View::of(frame);
    let (outer, vlan) = view.tag.unwrap_or_default();
    let arrival = Arrival { interface, outer, vlan };
    let packet = packet_of(&view)?;
    let decision = fixed.image.decide(arrival, &packet);
    assert_eq!(decision, Some(Oracle::new(&fixed.policy).decide(arrival, &packet)), "{arrival:?} {packet:?}");
    decision
}

fn packet_of(view: &View) -> Option<PacketView> {
    let (source, destination) = view.source.zip(view.destination)?;
    let ports = || view.ports.unwrap_or_default();
    let transport = match view.service {
        Service::Tcp(_) => Transport::Tcp { source: ports().0, destination: ports().1 },
        Service::Udp(_) => Transport::Udp { source: ports().0, destination: ports().1 },
        Service::Icmp(kind) => Transport::Icmp(kind),
        Service::Icmpv6(kind) => Transport::Icmpv6(kind),
        Service::Protocol(number) => Transport::Other(number),
        Service::Nothing | Service::Arp | Service::EtherType(_) | Service::Ip | Service::Fragment(_) => {
            return None;
        }
    };
    Some(PacketView { source, destination, transport })
}
