//! The chains, in the order of a packet's way.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use gateway_common::reason::Reason;

use super::addresses::{Addresses, mapped};
use super::limits::Limit;
use super::places::{Places, pattern};
use super::rules;
use super::sets::{Family, Sets};
use super::text;
use super::{State, file};
use crate::policy::model::{Policy, Rule, RuleKind, SegmentId};

/// ICMPv6 types of neighbour discovery (RFC 4861).
const NEIGHBOUR_DISCOVERY: &str = "icmpv6 type 133-137";

/// What the kernel knows to be the gateway's, whatever the text names.
pub(super) const OWN: &str = "type { local, broadcast, anycast }";

/// Writes the ruleset of one policy.
#[derive(Debug)]
pub(super) struct Writer<'p> {
    pub(super) policy: &'p Policy,
    pub(super) places: &'p Places<'p>,
    pub(super) addresses: Addresses,
    pub(super) sets: Sets,
    pub(super) state: State,
    /// What is written so far.
    pub(super) chains: String,
    /// Reasons that are counted.
    pub(super) counters: BTreeSet<Reason>,
}

impl<'p> Writer<'p> {
    pub(super) fn new(policy: &'p Policy, places: &'p Places<'p>, state: State) -> Self {
        Self {
            policy,
            places,
            addresses: Addresses::of(policy),
            sets: Sets::default(),
            state,
            chains: String::new(),
            counters: BTreeSet::new(),
        }
    }

    /// The whole file.
    pub(super) fn write(mut self, limits: &[Limit]) -> String {
        let segments = self.places.segments();
        let gateway = SegmentId::GATEWAY;
        for id in segments.iter().copied().chain([gateway]) {
            for family in Family::BOTH {
                self.segment(id, family);
            }
        }
        self.prerouting();
        self.guard();
        self.neighbour_checks();
        for &id in &segments {
            self.from(id);
            self.neighbours(id);
        }
        self.decide();
        self.opens();
        self.chain("forward", Self::forward);
        self.chain("gateway", Self::gateway);
        self.chain("gateway-nameless", Self::gateway_nameless);
        self.refuse();
        file::assemble(&self, limits)
    }

    fn prerouting(&mut self) {
        self.chain("prerouting", |writer| {
            writer.line("type filter hook prerouting priority mangle; policy accept;");
            writer.line("iifname vmap @places");
            for port in &writer.places.ports {
                if let Some(pattern) = pattern(port) {
                    writer.line(format_args!("iifname \"{pattern}\" goto unknown-vlan"));
                }
            }
        });
        self.chain("unknown-vlan", |writer| {
            let counted = writer.counted(Reason::UnknownVlan);
            writer.line(format_args!("{counted} goto drop-it"));
        });
    }

    /// Sources that no segment has.
    fn guard(&mut self) {
        let never = self.addresses.never.clone();
        self.chain("guard", |writer| {
            let martian = writer.counted(Reason::Martian);
            for family in Family::BOTH {
                let header = family.header();
                if let Some(set) = writer.sets.named("never-a-source", family, &never) {
                    writer.line(format_args!("{header} saddr {set} {martian} goto refuse"));
                }
            }
            let mapped = text::v6(mapped().v6[0]);
            writer.line(format_args!("ip6 daddr {mapped} {martian} goto refuse"));
            writer.line("ip saddr 0.0.0.0 udp sport 68 udp dport 67 return");
            writer.line(format_args!("ip saddr 0.0.0.0 {martian} goto refuse"));
            let nameless = writer.addresses.nameless.clone();
            for family in Family::BOTH {
                let header = family.header();
                if let Some(set) = writer.sets.named("nameless", family, &nameless) {
                    writer.line(format_args!("{header} saddr {set} return"));
                }
            }
            let spoofed = writer.counted(Reason::Spoofed);
            writer.line(format_args!("fib saddr {OWN} {spoofed} goto refuse"));
        });
    }

    /// Frames of one segment.
    fn from(&mut self, id: SegmentId) {
        let name = self.name(id);
        self.chain(&format!("from-{name}"), |writer| {
            writer.line("jump guard");
            let spoofed = writer.counted(Reason::Spoofed);
            for family in Family::BOTH {
                let (header, suffix) = (family.header(), family.suffix());
                let foreign = match writer.segment(id, family) {
                    Some(own) => format!("{header} saddr != {own} "),
                    None => String::new(),
                };
                writer.line(format_args!(
                    "{foreign}{header} saddr != @nameless-{suffix} {spoofed} goto refuse"
                ));
            }
            if let Some(own) = writer.segment(id, Family::V6) {
                writer.line(format_args!("{NEIGHBOUR_DISCOVERY} ip6 daddr {own} goto neighbours-{name}"));
            }
            writer.line("goto decide");
        });
    }

    /// Neighbour discovery within a segment, or with the gateway.
    fn neighbours(&mut self, id: SegmentId) {
        let name = self.name(id);
        let targets = self.addresses.targets(id);
        self.chain(&format!("neighbours-{name}"), |writer| {
            writer.line("jump neighbours");
            if !writer.policy.segment(id).routers {
                let refused = writer.counted(Reason::RouterAdvertisement);
                writer.line(format_args!("icmpv6 type nd-router-advert {refused} goto refuse"));
            }
            let spoofed = writer.counted(Reason::SpoofedNeighbour);
            let range = |(first, last): &(u128, u128)| format!("0x{first:032x}-0x{last:032x}");
            let targets: Vec<String> = targets.v6.iter().map(range).collect();
            // The target's field has no name in nft before 1.0.8.
            writer.line(format_args!(
                "icmpv6 type nd-neighbor-advert @th,64,128 != {{ {} }} {spoofed} goto refuse",
                targets.join(", ")
            ));
            let fine = writer.counted(Reason::LinkLocal);
            writer.line(format_args!("{fine} accept"));
        });
    }

    /// What neighbour discovery must be in any segment (RFC 4861, 7.1 and 8.1). Redirects would send
    /// traffic around the gateway.
    fn neighbour_checks(&mut self) {
        self.chain("neighbours", |writer| {
            let invalid = writer.counted(Reason::InvalidNeighbour);
            let with_target = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }";
            writer.line(format_args!("ip6 hoplimit != 255 {invalid} goto refuse"));
            writer.line(format_args!("icmpv6 code != 0 {invalid} goto refuse"));
            writer.line(format_args!("icmpv6 type nd-redirect {invalid} goto refuse"));
            writer.line(format_args!("{with_target} ip6 length < 24 {invalid} goto refuse"));
        });
    }

    /// A packet whose source is right.
    fn decide(&mut self) {
        self.chain("decide", |writer| {
            if writer.state == State::Tracked {
                let established = writer.counted(Reason::Established);
                writer.line(format_args!("ct state established {established} accept"));
                let related = writer.counted(Reason::Related);
                writer.line(format_args!(
                    "ct state related meta l4proto {{ icmp, ipv6-icmp }} {related} accept"
                ));
            }
            let fine = writer.counted(Reason::LinkLocal);
            let groups = "ip6 daddr ff00::/8 ip6 hoplimit 1";
            writer.line(format_args!("icmpv6 type {{ 130-132, 143 }} {groups} {fine} accept"));
            writer.line(format_args!("meta l4proto igmp {groups} {fine} accept"));
            writer.line(format_args!(
                "meta l4proto igmp ip daddr {{ 224.0.0.0/4, 255.255.255.255 }} ip ttl 1 {fine} accept"
            ));
            for family in Family::BOTH {
                if let Some(own) = writer.segment(SegmentId::GATEWAY, family) {
                    writer.line(format_args!("{} daddr {own} goto gateway", family.header()));
                }
            }
            writer.own("gateway");
            let martian = writer.counted(Reason::Martian);
            writer.line(format_args!("ip saddr @nameless-v4 {martian} goto refuse"));
            writer.line(format_args!("ip6 saddr @nameless-v6 {martian} goto refuse"));
            writer.line("jump opens");
            writer.line("goto forward");
        });
    }

    /// What belongs to no connection, and cannot open one.
    fn opens(&mut self) {
        self.chain("opens", |writer| {
            if writer.state == State::None {
                return;
            }
            let unrelated = writer.counted(Reason::UnrelatedIcmp);
            writer.line(format_args!("icmp type {{ 3, 11, 12 }} {unrelated} goto refuse"));
            writer.line(format_args!("icmpv6 type 1-4 {unrelated} goto refuse"));
            let stray = writer.counted(Reason::NotInConnection);
            if writer.policy.settings.midstream {
                writer.line(format_args!("tcp flags & rst == rst {stray} goto refuse"));
            } else {
                writer.line(format_args!("tcp flags & (fin|syn|rst|ack) != syn {stray} goto refuse"));
            }
        });
    }

    fn forward(&mut self) {
        rules::forward(self);
        self.none();
    }

    fn gateway(&mut self) {
        self.line(format_args!("{NEIGHBOUR_DISCOVERY} iifname vmap @neighbours"));
        self.line("jump opens");
        self.line("ip saddr @nameless-v4 goto gateway-nameless");
        self.line("ip6 saddr @nameless-v6 goto gateway-nameless");
        rules::gateway(self);
        self.none();
    }

    fn gateway_nameless(&mut self) {
        rules::gateway_nameless(self);
        self.none();
    }

    /// No rule has decided.
    fn none(&mut self) {
        let none = self.counted(Reason::NoFlow);
        self.line(format_args!("{none} goto refuse"));
    }

    /// Writes a chain; what is in it, `write` writes line by line.
    pub(super) fn chain(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        writeln!(self.chains, "\tchain {name} {{").expect("writing to a String does not fail");
        write(self);
        self.chains += "\t}\n\n";
    }

    /// Writes a line of a chain.
    pub(super) fn line(&mut self, line: impl fmt::Display) {
        writeln!(self.chains, "\t\t{line}").expect("writing to a String does not fail");
    }

    /// Writes a comment in a chain.
    pub(super) fn comment(&mut self, comment: &str) {
        self.chains += &text::paragraph(comment, "\t\t# ", "\t\t#   ");
    }

    /// The set of a segment's addresses.
    fn segment(&mut self, id: SegmentId, family: Family) -> Option<String> {
        let name = format!("segment-{}", self.name(id));
        self.sets.named(&name, family, self.addresses.of_segment(id))
    }

    /// A segment's name as a part of an object's.
    pub(super) fn name(&self, id: SegmentId) -> String {
        text::word(&self.policy.segment(id).name)
    }

    /// The statement that counts a reason.
    fn counted(&mut self, reason: Reason) -> String {
        self.counters.insert(reason);
        format!("counter name \"{}\"", reason.name())
    }
}

/// Name of a rule's counter.
pub(super) fn counter(rule: &Rule) -> String {
    let kind = match rule.kind {
        RuleKind::Flow => "flow",
        RuleKind::Vendor => "vendor",
        RuleKind::Deny => "deny",
        RuleKind::Kept => "kept",
        RuleKind::Quarantine => "quarantine",
    };
    format!("{kind}-{}", text::word(&rule.name))
}

/// The match on frames that arrive on one of these devices.
pub(super) fn from_devices(devices: &[&str]) -> String {
    let quoted: Vec<String> = devices.iter().map(|device| format!("\"{device}\"")).collect();
    match quoted.as_slice() {
        [one] => format!("iifname {one}"),
        several => format!("iifname {{ {} }}", several.join(", ")),
    }
}
