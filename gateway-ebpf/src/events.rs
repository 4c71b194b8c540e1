//! Reports of packets that did not pass, or would not have: one a second and flow, and no more in
//! all than the policy's rate, so that a flood costs neither packets nor the controller.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::XdpContext;
use gateway_common::event::Event;
use gateway_common::reason::Verdict;

use crate::maps::{EVENT_BUDGET, EVENT_GATE, EVENT_GATES, EVENTS, GATES_PER_ELEMENT, Gate};
use crate::packet::{Link, Packet, protocol};
use crate::work::Judgement;
use crate::{budget, config, frame, health, transport};

/// Nanoseconds between two events of one flow.
const INTERVAL: u64 = 1_000_000_000;

/// Reports a packet.
#[inline(always)]
pub(crate) fn report(
    context: &XdpContext,
    judgement: &Judgement,
    verdict: Verdict,
    link: &Link,
    packet: &Packet,
    now: u64,
) {
    let Some(packets) = admitted(judgement, packet, now) else {
        health::bump(|health| &raw mut health.events_suppressed);
        return;
    };
    let Some(mut entry) = EVENTS.reserve(0) else {
        health::bump(|health| &raw mut health.events_lost);
        return;
    };
    let event: *mut Event = entry.as_mut_ptr();
    let is_icmp = (packet.protocol == protocol::ICMP || packet.protocol == protocol::ICMPV6)
        && !transport::is_echo(packet);
    let icmp_kind = u16::from_ne_bytes([packet.icmp_type, packet.icmp_code]);
    // SAFETY: the ring gave room for one event, which is ours until it is submitted; every field is
    // written.
    unsafe {
        (*event).time = bpf_ktime_get_ns();
        (*event).source = packet.source;
        (*event).destination = packet.destination;
        (*event).generation = config::generation();
        (*event).rule = judgement.rule;
        (*event).ifindex = link.place.ifindex;
        (*event).length = frame::length(context) as u32;
        (*event).source_port = packet.source_port;
        (*event).destination_port = if is_icmp { icmp_kind } else { packet.destination_port };
        (*event).vlan = link.place.vlan;
        (*event).source_segment = judgement.source;
        (*event).destination_segment = judgement.destination;
        (*event).ethertype = link.ethertype;
        (*event).source_mac = frame::source_mac(context);
        (*event).protocol = packet.protocol;
        (*event).reason = judgement.reason as u8;
        (*event).verdict = verdict as u8;
        (*event).tcp_flags = packet.tcp_flags;
        (*event).reserved = [0; 2];
        (*event).packets = packets;
    }
    entry.submit(0);
}

/// Packets that an event now would stand for; `None` while its flow or the CPU has had its share.
#[inline(always)]
fn admitted(judgement: &Judgement, packet: &Packet, now: u64) -> Option<u64> {
    let mixed = packet.source[1]
        ^ packet.destination[1].rotate_left(21)
        ^ u64::from(packet.destination_port) << 24
        ^ u64::from(judgement.reason as u8) << 8
        ^ u64::from(judgement.source);
    let slot = (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32 & (EVENT_GATES as u32 - 1);
    let gates = EVENT_GATE.get_ptr_mut(slot / GATES_PER_ELEMENT as u32)?.cast::<Gate>();
    // SAFETY: a gate of this CPU's element, which no other writes.
    let gate = unsafe { &mut *gates.add(slot as usize % GATES_PER_ELEMENT) };
    if gate.last != 0 && now.wrapping_sub(gate.last) < INTERVAL {
        gate.held_back += 1;
        return None;
    }
    let tokens = EVENT_BUDGET.get_ptr_mut(0)?;
    // SAFETY: as above.
    if !budget::take(unsafe { &mut *tokens }, u64::from(config::event_rate()), now) {
        gate.held_back += 1;
        return None;
    }
    let packets = gate.held_back + 1;
    gate.last = now;
    gate.held_back = 0;
    Some(packets)
}
