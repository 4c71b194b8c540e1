//! One case through all three readings.

use std::collections::BTreeMap;
use std::fmt;

use clinigate::compile::image::Image;
use clinigate::compile::{Layering, compile_as};
use clinigate::dataplane::trial::{Buffers, FRAME_MIN, Trial};
use clinigate::dataplane::{DataplaneError, PairKey};
use clinigate::oracle::packet::{Flow, Packet, Payload};
use clinigate::oracle::{Gateway, LinkFrame, Oracle};
use clinigate::packet::{Arrival, Decision};
use clinigate::policy::model::{Policy, RuleId, SegmentId};
use clinigate::testing::frames;
use clinigate::testing::packets::Port;
use clinigate::testing::script::Event;
use gateway_common::connection::{Connection, State, WAYS};
use gateway_common::counter::Counter;
use gateway_common::reason::Reason;
use gateway_common::table::{Atom, NO_RULE, TestContext};

use crate::case::Case;
use crate::limits::Budgets;
use crate::tally::Tally;

/// When a case begins, in nanoseconds.
pub(crate) const START: u64 = 1_000_000_000_000;
/// Packets between two looks at the counters and the connections.
const BATCH: u64 = 500;

/// Where the readings differ.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// Number of the event.
    pub(crate) at: usize,
    /// Between which, and in what: the same for differences of the same kind.
    pub(crate) kind: String,
    text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {}: {}\n{}", self.at, self.kind, self.text)
    }
}

/// What is known of a connection, in the kernel and by the oracle.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    state: State,
    expires: u64,
    generation: u32,
    rule: Option<RuleId>,
    of_gateway: bool,
    fin: [bool; 2],
}

struct Readings<'t> {
    trial: Trial,
    image: Image,
    oracle: Gateway,
    interfaces: BTreeMap<String, u32>,
    now: u64,
    buffers: Buffers,
    budgets: Budgets,
    /// Counted by the decisions.
    pairs: BTreeMap<PairKey, Counter>,
    rules: BTreeMap<String, Counter>,
    /// The connection table has few buckets, and may be full.
    is_tight: bool,
    since_look: u64,
    tally: &'t mut Tally,
}

/// Runs a case; `tally` counts what happened.
pub(crate) fn run(case: &Case, tally: &mut Tally) -> Result<(), Difference> {
    let failed = |at, error: DataplaneError| Difference {
        at,
        kind: "it does not run".to_owned(),
        text: format!("{:#}", anyhow::Error::new(error)),
    };
    let mut readings = Readings::new(&case.policy, tally).map_err(|error| failed(0, error))?;
    for (at, event) in case.events.iter().enumerate() {
        let mut found = readings.step(event).map_err(|error| failed(at, error))?;
        if found.is_none() && readings.since_look >= BATCH {
            found = readings.look().map_err(|error| failed(at, error))?;
        }
        if let Some((kind, text)) = found {
            let event = match event {
                Event::Change(_) => "before a change of policy".to_owned(),
                event => format!("{event:?}"),
            };
            return Err(Difference { at, kind, text: format!("{event}\n{text}") });
        }
    }
    let at = case.events.len();
    match readings.look().map_err(|error| failed(at, error))? {
        Some((kind, text)) => Err(Difference { at, kind, text }),
        None => Ok(()),
    }
}

/// Kind and text of a difference.
type Found = Option<(String, String)>;

/// Of every other policy in layers, which none of them needs for its size.
fn image(policy: &Policy, tally: &mut Tally) -> Image {
    let layering = if policy.rules.len().is_multiple_of(2) { Layering::Always } else { Layering::BySize };
    tally.compiled[0] += 1;
    tally.compiled[1] += u64::from(layering == Layering::Always);
    compile_as(policy, layering).expect("random policies fit")
}

impl<'t> Readings<'t> {
    fn new(policy: &Policy, tally: &'t mut Tally) -> Result<Self, DataplaneError> {
        let interfaces: BTreeMap<String, u32> = policy
            .interfaces
            .iter()
            .zip(10..)
            .map(|(interface, index)| (interface.name.clone(), index))
            .collect();
        let image = image(policy, tally);
        let is_tight = policy.settings.connections < 1024;
        let ways = u32::try_from(WAYS).expect("few");
        let trial = if is_tight {
            let buckets = policy.settings.connections.div_ceil(ways).next_power_of_two();
            Trial::with_buckets(&image, &interfaces, buckets)?
        } else {
            Trial::new(&image, &interfaces)?
        };
        Ok(Self {
            trial,
            image,
            oracle: Gateway::new(policy.clone()),
            interfaces,
            now: START,
            buffers: Buffers::default(),
            budgets: Budgets::new(policy.settings.neighbour_rate),
            pairs: BTreeMap::new(),
            rules: BTreeMap::new(),
            is_tight,
            since_look: 0,
            tally,
        })
    }

    fn step(&mut self, event: &Event) -> Result<Found, DataplaneError> {
        match event {
            Event::Wait(nanoseconds) => {
                self.now += nanoseconds;
                Ok(None)
            }
            Event::Change(next) => self.change(next),
            Event::Send(packet) => self.send(packet),
            Event::Packet { port, sender, dress, packet } => {
                let frame = frames::dressed(port, mac(*sender), packet, *dress);
                let kernel = self.judge(port, &frame)?;
                let oracle = self.oracle.arrives(self.now, port.arrival(), packet);
                let oracle = self.limited(kernel, oracle, (port, *sender), Some(packet))?;
                Ok(self.compare(kernel, oracle, &frame).or_else(|| self.read_packet(kernel, port, packet)))
            }
            Event::Link { port, sender, frame: content } => {
                let frame = frames::link(port, mac(*sender), *content);
                let kernel = self.judge(port, &frame)?;
                let oracle =
                    Oracle::new(self.oracle.policy()).at(self.now).decide_link(port.arrival(), *content);
                let oracle = self.limited(kernel, oracle, (port, *sender), None)?;
                Ok(self.compare(kernel, oracle, &frame).or_else(|| self.read_link(kernel, port, *content)))
            }
            Event::Defect { port, defect, packet } => {
                let frame = defect.frame(port, mac(0), packet);
                let kernel = self.judge(port, &frame)?;
                let (reason, destination) = defect.reason(packet).expect("the packet can have the defect");
                let oracle = Oracle::new(self.oracle.policy()).at(self.now);
                let oracle = oracle.decide_unreadable(port.arrival(), reason, destination);
                Ok(self.compare(kernel, oracle, &frame))
            }
        }
    }

    fn change(&mut self, next: &Policy) -> Result<Found, DataplaneError> {
        let found = self.look()?;
        self.image = image(next, self.tally);
        self.trial.swap(&self.image)?;
        self.oracle.apply(next.clone());
        self.budgets = Budgets::new(next.settings.neighbour_rate);
        self.tally.changes += 1;
        Ok(found)
    }

    fn send(&mut self, packet: &Packet) -> Result<Found, DataplaneError> {
        let nowhere = Port { interface: String::new(), outer: 0, vlan: 0 };
        self.trial.send_at(self.now, &frames::frame(&nowhere, mac(0), packet))?;
        self.oracle.sends(self.now, packet);
        self.tally.sent += 1;
        if self.is_tight
            && let Some(flow) = packet.flow()
        {
            let live = self.kernel_connections()?;
            let is_known = live.contains_key(&flow) || live.contains_key(&reversed(&flow));
            if !is_known && live.len() >= WAYS {
                self.oracle.refuse(packet);
            }
        }
        Ok(None)
    }

    /// The kernel's reading.
    fn judge(&mut self, port: &Port, frame: &[u8]) -> Result<Decision, DataplaneError> {
        let ifindex = self.ifindex(port);
        let context = TestContext { now: self.now, ifindex, reserved: 0 };
        let policy = self.oracle.policy();
        // Senders are told apart by their Ethernet address, where their rate is limited.
        let has_tunnels = policy.has_tunnels() && policy.settings.neighbour_rate > 1000;
        let decision = match without_link_layer(frame) {
            // Of a policy with tunnels, whose interfaces may have no link layer, every second packet comes without one.
            Some(packet) if has_tunnels && self.since_look.is_multiple_of(2) => {
                self.tally.bare += 1;
                self.trial.judge_bare(context, packet, &mut self.buffers)?
            }
            _ => self.trial.judge(context, frame, &mut self.buffers)?,
        };
        *self.tally.reasons.entry(decision.reason).or_default() += 1;
        Ok(decision)
    }

    fn ifindex(&self, port: &Port) -> u32 {
        self.interfaces.get(&port.interface).copied().unwrap_or(99)
    }

    /// What the oracle would decide if it knew of limits: it takes the kernel's word where the limit can
    /// have been reached.
    fn limited(
        &mut self,
        kernel: Decision,
        oracle: Decision,
        (port, sender): (&Port, u16),
        packet: Option<&Packet>,
    ) -> Result<Decision, DataplaneError> {
        match oracle.reason {
            Reason::LinkLocal => {
                let limited = self.oracle.limited(self.now, oracle, packet, Reason::NeighbourRate);
                let passed = kernel.reason == Reason::LinkLocal;
                if !passed && kernel.reason != limited.reason {
                    return Ok(oracle);
                }
                let sender = (self.ifindex(port), port.vlan, sender);
                let allowed = self.budgets.allows(sender, self.now, passed);
                // Where it cannot be, the other of both was to be expected.
                Ok(if allowed == passed { oracle } else { limited })
            }
            Reason::Flow | Reason::MidStream if self.is_tight => {
                let Some(packet) = packet else { return Ok(oracle) };
                let limited =
                    self.oracle.limited(self.now, oracle, Some(packet), Reason::ConnectionTableFull);
                let is_full = kernel.reason == limited.reason
                    && self.trial.connections(self.now)?.len() >= WAYS
                    && self.oracle.refuse(packet);
                Ok(if is_full { limited } else { oracle })
            }
            _ => Ok(oracle),
        }
    }

    fn compare(&mut self, kernel: Decision, oracle: Decision, frame: &[u8]) -> Found {
        self.count(kernel, frame.len());
        (kernel != oracle).then(|| {
            let kind = format!("kernel {}, oracle {}", kernel.reason.name(), oracle.reason.name());
            (kind, format!("kernel: {kernel:?}\noracle: {oracle:?}\nframe: {}", hex(frame)))
        })
    }

    /// The image's reading of a packet: against the oracle's, as if the packet opened a connection, and
    /// against the kernel's where that did not depend on what came before.
    fn read_packet(&mut self, kernel: Decision, port: &Port, packet: &Packet) -> Found {
        if packet.is_later() {
            // Its ports stand in another packet.
            return None;
        }
        self.tally.read_in_image += 1;
        let view = packet.view();
        let image = self.image.decide_at(self.now, port.arrival(), &view);
        let oracle = Oracle::new(self.oracle.policy()).at(self.now).decide(port.arrival(), &view);
        if image != Some(oracle) {
            let kind = format!("image {}, oracle {}", name(image), oracle.reason.name());
            return Some((kind, format!("image:  {image:?}\noracle: {oracle:?}\nkernel: {kernel:?}")));
        }
        let is_stateless = matches!(
            kernel.reason,
            Reason::Flow
                | Reason::NoFlow
                | Reason::Denied
                | Reason::Spoofed
                | Reason::Martian
                | Reason::UnknownVlan
                | Reason::UnknownInterface
        );
        // An error that comes by another way than the connection that it quotes is refused for that.
        let is_of_connection = matches!(packet.payload, Payload::Error { .. });
        (is_stateless && !is_of_connection && image != Some(kernel)).then(|| {
            let kind = format!("kernel {}, image {}", kernel.reason.name(), name(image));
            (kind, format!("kernel: {kernel:?}\nimage:  {image:?}"))
        })
    }

    /// The image's reading of a frame without IP.
    fn read_link(&mut self, kernel: Decision, port: &Port, frame: LinkFrame) -> Found {
        self.tally.read_in_image += 1;
        let reason = read_link(&self.image, port.arrival(), frame);
        let is_same = reason.is_none_or(|reason| {
            reason == kernel.reason
                || (reason, kernel.reason) == (Reason::LinkLocal, Reason::NeighbourRate)
                // This reading knows no time; the oracle, with which the kernel agrees by now, does.
                || (kernel.reason == Reason::BreakGlass && (!reason.passes() || reason == Reason::LinkLocal))
        });
        (!is_same).then(|| {
            let kind = format!("kernel {}, image {}", kernel.reason.name(), reason.map_or("-", Reason::name));
            (kind, format!("kernel: {kernel:?}"))
        })
    }

    fn count(&mut self, decision: Decision, length: usize) {
        let policy = self.oracle.policy();
        let name = |id: SegmentId| policy.segment(id).name.clone();
        let pair = PairKey {
            source: name(decision.source_segment),
            destination: name(decision.destination_segment),
            verdict: decision.verdict,
            reason: decision.reason,
        };
        let rule = decision.rule.map(|rule| policy.rules[rule.0 as usize].name.clone());
        let pair = self.pairs.entry(pair).or_default();
        let rule = rule.map(|name| self.rules.entry(name).or_default());
        for counter in [Some(pair), rule].into_iter().flatten() {
            counter.packets += 1;
            counter.bytes += length as u64;
        }
        self.since_look += 1;
    }

    /// Compares what has gathered: counters and connections.
    fn look(&mut self) -> Result<Found, DataplaneError> {
        self.since_look = 0;
        let counters = self.trial.counters()?;
        self.tally.counters += (self.pairs.len() + self.rules.len()) as u64;
        if let Some(text) = unequal(&counters.pairs, &self.pairs) {
            return Ok(Some(("counters of pairs".to_owned(), text)));
        }
        if let Some(text) = unequal(&counters.rules, &self.rules) {
            return Ok(Some(("counters of rules".to_owned(), text)));
        }
        let kernel = self.kernel_connections()?;
        let oracle = self.oracle.connections(self.now).map(|connection| {
            let known = Known {
                state: connection.state,
                expires: connection.expires,
                generation: connection.generation,
                rule: connection.rule,
                of_gateway: connection.of_gateway,
                fin: connection.fin,
            };
            (connection.flow, known)
        });
        let oracle: BTreeMap<Flow, Known> = oracle.collect();
        self.tally.connections += oracle.len() as u64;
        Ok(unequal(&kernel, &oracle).map(|text| ("connections".to_owned(), text)))
    }

    fn kernel_connections(&self) -> Result<BTreeMap<Flow, Known>, DataplaneError> {
        let live = self.trial.connections(self.now)?;
        let known = live.iter().map(|live| {
            let entry = &live.entry;
            let has = |flag: u8| entry.flags & flag != 0;
            let flow = Flow {
                source: live.initiator(),
                destination: live.responder(),
                protocol: entry.key.protocol,
            };
            let known = Known {
                state: live.state,
                expires: entry.expires,
                generation: entry.generation,
                rule: (entry.rule != NO_RULE).then_some(RuleId(entry.rule)),
                of_gateway: has(Connection::GATEWAY),
                fin: [has(Connection::FIN_INITIATOR), has(Connection::FIN_RESPONDER)],
            };
            (flow, known)
        });
        Ok(known.collect())
    }
}

/// Why the image passes or refuses a frame that carries no IP; `None` where it does not say.
fn read_link(image: &Image, arrival: Arrival<'_>, frame: LinkFrame) -> Option<Reason> {
    let place = image.place(arrival)?;
    match frame {
        LinkFrame::Other(ethertype) => {
            let key = u32::from(place.segment) << 16 | u32::from(ethertype);
            let is_listed = image.ethertypes.contains(&key);
            Some(if is_listed { Reason::EtherType } else { Reason::UnlistedEtherType })
        }
        LinkFrame::Arp { request: false, sender, is_own: true } => {
            let atom = image.atom(sender.into())?;
            let is_here =
                atom.segment == place.segment && atom.flags & (Atom::NEVER_SOURCE | Atom::UNSPECIFIED) == 0;
            let is_fine = is_here || atom.flags & Atom::LINK_LOCAL != 0;
            Some(if is_fine { Reason::LinkLocal } else { Reason::SpoofedNeighbour })
        }
        LinkFrame::Arp { .. } | LinkFrame::MalformedArp => None,
    }
}

/// What stands in one of both only, or otherwise.
fn unequal<K: Ord + fmt::Debug, V: PartialEq + fmt::Debug>(
    kernel: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
) -> Option<String> {
    let keys = kernel.keys().chain(expected.keys().filter(|key| !kernel.contains_key(key)));
    let lines: Vec<String> = keys
        .filter(|key| kernel.get(key) != expected.get(key))
        .map(|key| format!("{key:?}\n  kernel:   {:?}\n  expected: {:?}", kernel.get(key), expected.get(key)))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What a device without a link layer would have for a frame, where it could have it and the kernel takes it.
fn without_link_layer(frame: &[u8]) -> Option<&[u8]> {
    let (header, packet) = frame.split_at_checked(14)?;
    let version = match header[12..] {
        [0x08, 0x00] => 4,
        [0x86, 0xdd] => 6,
        _ => return None,
    };
    (packet.len() >= FRAME_MIN && packet[0] >> 4 == version).then_some(packet)
}

fn reversed(flow: &Flow) -> Flow {
    Flow { source: flow.destination, destination: flow.source, ..*flow }
}

fn mac(sender: u16) -> [u8; 6] {
    let [high, low] = sender.to_be_bytes();
    [0x02, 0, 0, 0, high, low]
}

fn name(decision: Option<Decision>) -> &'static str {
    decision.map_or("has a hole", |decision| decision.reason.name())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
