//! What takes several packets: the life of a connection, of a datagram in fragments, of a conversation between
//! the gateway and hosts that have a link-local address in common; and what follows a change of policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_common::fragment::LIFETIME;

use super::super::packets::{Edges, Port};
use super::{Scribe, Step, answer, error, opening, packet_of, with_flags};
use crate::oracle::packet::{Fragment, Packet, Payload, flag};
use crate::policy::model::{RuleId, SegmentId};

impl Scribe {
    /// A connection from its first packet to its end, and often to a new one on the same ends.
    pub(super) fn course(&mut self, edges: &Edges<'_>, step: &Step) {
        const S: u8 = flag::SYN;
        const A: u8 = flag::ACK;
        const F: u8 = flag::FIN | flag::ACK;
        const R: u8 = flag::RST;
        // From the initiator or not, and the flags.
        const COURSES: [&[(bool, u8)]; 9] = [
            &[(false, S | A), (true, A), (true, F), (false, F), (true, A), (false, A), (true, S)],
            &[(false, S | A), (true, A), (false, F), (true, A), (true, F), (false, A), (false, S)],
            &[(false, S | A), (true, A), (false, R), (true, A), (true, S), (false, S | A)],
            &[(true, R), (true, A), (false, S | A), (true, R), (true, S)],
            &[(false, S), (true, S | A), (false, A), (true, A)],
            &[(false, S | A), (false, A), (false, F), (true, F), (true, S), (false, R)],
            &[(true, F), (false, S | A), (true, A), (false, F), (true, S)],
            &[(false, S | A), (true, A), (true, A), (false, A), (false, S), (true, S), (false, A), (true, A)],
            &[(true, S), (false, S | A), (true, S), (true, A), (true, F), (true, S)],
        ];
        let (port, fresh) = edges.packet(&step.draw);
        let first = with_flags(opening(&fresh, step), S);
        self.arrive(port.clone(), step, first.clone());
        let course = step.numbers[0].get(&COURSES);
        for &(by_initiator, flags) in &course[..=step.numbers[1].index(course.len())] {
            let next = if by_initiator { first.clone() } else { answer(first.clone()) };
            self.again(edges, step, with_flags(next, flags));
        }
    }

    /// For a change in three, a rule that has admitted a connection which still lives.
    pub(super) fn rule_in_use(&self, step: &Step) -> Option<RuleId> {
        let mut rules: Vec<RuleId> =
            self.gateway.connections(self.now).filter_map(|connection| connection.rule).collect();
        rules.sort_unstable();
        (step.numbers[1].index(3) == 0 && !rules.is_empty()).then(|| *step.numbers[2].get(&rules))
    }

    /// Packets of running connections, from either end, and errors about them: what the policy that has just
    /// come meets.
    pub(super) fn revisit(&mut self, edges: &Edges<'_>, step: &Step) {
        let mut running: Vec<_> = self
            .gateway
            .connections(self.now)
            .map(|connection| (connection.flow, connection.place.clone()))
            .collect();
        running.sort_unstable();
        let many = running.len();
        for number in 0..many.min(12) {
            let (flow, place) = &running[(step.earlier.index(many) + number) % many];
            let forward = with_flags(packet_of(flow), step.flags);
            match (step.numbers[1].index(64) >> number | number) % 4 {
                0 => self.again(edges, step, answer(forward)),
                1 => {
                    let error = error(edges, &forward, step);
                    self.again(edges, step, error);
                }
                _ => match place.clone() {
                    Some((interface, outer, vlan)) => {
                        self.arrive(Port { interface, outer, vlan }, step, forward);
                    }
                    None => self.again(edges, step, forward),
                },
            }
        }
    }

    /// A datagram in fragments: while its connection lives, and when it has just ended.
    pub(super) fn datagram(&mut self, edges: &Edges<'_>, step: &Step, packet: Packet) {
        if matches!(packet.payload, Payload::Neighbour { .. } | Payload::Error { .. }) {
            return;
        }
        let first = Packet { fragment: Fragment::First(3), ..with_flags(packet, step.flags) };
        let later = Packet { fragment: Fragment::Later(3), ..first.clone() };
        self.again(edges, step, first.clone());
        self.again(edges, step, later.clone());
        let Some(flow) = first.flow().filter(|_| step.numbers[0].index(2) == 0) else { return };
        let end = self
            .gateway
            .connections(self.now)
            .find(|connection| {
                [flow, answer(first.clone()).flow().unwrap_or(flow)].contains(&connection.flow)
            })
            .map(|connection| connection.expires - self.now);
        // Else the fragments end before it.
        if let Some(rest) = end.filter(|rest| *rest < u64::from(LIFETIME) * 1_000_000_000) {
            self.pass(rest);
            self.again(edges, step, later);
        }
    }

    /// The gateway and hosts of several segments that bear the same link-local address.
    pub(super) fn nearby(&mut self, edges: &Edges<'_>, step: &Step) {
        const FLAGS: [u8; 4] = [flag::ACK, flag::ACK, flag::SYN | flag::ACK, flag::SYN];
        let Some((port, mut view)) = edges.nearby(&step.draw) else { return };
        let own = &self.gateway.policy().segment(SegmentId::GATEWAY).ranges;
        let is_own = step.numbers[0].index(2) == 0;
        let hosts: [IpAddr; 2];
        (hosts, view.destination) = if view.source.is_ipv4() {
            let named = own.v4.first().filter(|_| is_own).map(|range| Ipv4Addr::from_bits(range.0));
            let hosts = [Ipv4Addr::new(169, 254, 1, 5), Ipv4Addr::new(169, 254, 1, 6)];
            (hosts.map(IpAddr::from), named.unwrap_or(Ipv4Addr::new(169, 254, 1, 1)).into())
        } else {
            let named = own.v6.first().filter(|_| is_own).map(|range| Ipv6Addr::from_bits(range.0));
            let hosts = [5, 6].map(|host| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host));
            let gateway = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
            (hosts.map(IpAddr::from), named.unwrap_or(gateway).into())
        };
        view.source = *step.numbers[2].get(&hosts);
        let port = port.clone();
        let opening = opening(&view, step);
        if step.numbers[1].index(3) == 0 {
            self.leave(answer(opening.clone()));
        } else {
            self.arrive(port.clone(), step, opening.clone());
        }
        let mut choice = step.numbers[1].index(1 << 20);
        while choice > 0 {
            let next = with_flags(opening.clone(), FLAGS[choice >> 3 & 3]);
            match choice & 7 {
                0..3 => self.arrive(port.clone(), step, next),
                3..6 => self.arrive(edges.known_place(choice >> 5).clone(), step, next),
                _ => self.leave(answer(next)),
            }
            choice >>= 5;
        }
    }
}
