//! Segments: their VLANs, subnets, zones and modes.

use std::collections::BTreeSet;

use gateway_common::place::{SEGMENT_FIRST, SEGMENT_LIMIT};

use super::{Named, Resolver};
use crate::policy::address::{self, Span};
use crate::policy::decode::Text;
use crate::policy::diagnostic::{Diagnostic, Place};
use crate::policy::model::{ModeSetting, Origin, Ranges, Segment, SegmentId};
use crate::policy::names::nearest;
use crate::policy::text::{PolicyText, SegmentText};

/// In the order of their numbers.
const BUILT_IN: [(&str, ModeSetting); SEGMENT_FIRST as usize] = [
    ("wan", ModeSetting::Enforce),
    ("gateway", ModeSetting::Enforce),
    ("multicast", ModeSetting::Enforce),
    // Its packets are judged by the mode of their other end.
    ("unknown", ModeSetting::Observe),
];

/// Addresses that no segment can have: they never stand in a routed packet of a host.
const NEVER_SUBNETS: [&str; 7] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"];

/// A prefix of a segment, for finding overlaps.
struct Subnet {
    span: Span,
    segment: String,
    text: Text,
}

impl Resolver {
    /// Resolves `segments` and `gateway`.
    pub(super) fn segments(&mut self, texts: &[PolicyText]) {
        self.policy.segments = BUILT_IN.iter().map(|(name, mode)| built_in(name, *mode)).collect();
        let mut subnets = Vec::new();
        for (name, text) in texts.iter().flat_map(|text| &text.segments.items) {
            match SegmentId::built_in(name.as_str()) {
                Some(id @ (SegmentId::WAN | SegmentId::GATEWAY)) => {
                    self.built_in_mode(id, name, text.as_ref());
                }
                _ => self.segment(name, text.as_ref(), &mut subnets),
            }
        }
        self.overlaps(subnets);
        for list in texts.iter().filter_map(|text| Some(&text.gateway.as_ref()?.addresses)) {
            let mut spans: Vec<Span> = Vec::new();
            for text in &list.items {
                match address::parse_host(text.as_str()) {
                    Ok(address) => spans.push(Span::host(address)),
                    Err(error) => self.bad_address(text, error),
                }
            }
            let gateway = &mut self.policy.segments[usize::from(SegmentId::GATEWAY.0)].ranges;
            spans.extend(gateway.v4.iter().map(|range| Span::V4(range.0, range.1)));
            spans.extend(gateway.v6.iter().map(|range| Span::V6(range.0, range.1)));
            *gateway = address::merge(spans);
        }
    }

    /// `wan` and `gateway` have a mode that can be set, once, and nothing else.
    fn built_in_mode(&mut self, id: SegmentId, name: &Text, text: Option<&SegmentText>) {
        let origin = &self.policy.segments[usize::from(id.0)].origin;
        if origin.line != 0 {
            let first = Place::from(origin);
            self.duplicate(name, first);
        }
        let Some(text) = text else { return };
        let more = text.vlan.is_some()
            || text.subnets.is_some()
            || text.zone.is_some()
            || text.routers
            || !text.ethertypes.items.is_empty();
        if more {
            let message = format!("`{}` is built in: only its mode can be set", name.as_str());
            self.report(
                Diagnostic::error("reserved-name", name.place.clone(), message)
                    .expected("expected `mode` alone"),
            );
        }
        let segment = &mut self.policy.segments[usize::from(id.0)];
        segment.mode = text.mode.unwrap_or(segment.mode);
        segment.origin = name.place.origin();
    }

    fn segment(&mut self, name: &Text, text: Option<&SegmentText>, subnets: &mut Vec<Subnet>) {
        let count = self.policy.segments.len();
        let Some(text) = text else {
            self.declare(name, Named::Broken);
            return;
        };
        if count >= SEGMENT_LIMIT {
            self.declare(name, Named::Broken);
            if !self.segments_full {
                self.segments_full = true;
                let most = SEGMENT_LIMIT - usize::from(SEGMENT_FIRST);
                let message = format!("a policy has at most {most} segments");
                self.report(Diagnostic::error("limit", name.place.clone(), message));
            }
            return;
        }
        let id = SegmentId(u16::try_from(count).expect("less than SEGMENT_LIMIT"));
        if !self.declare(name, Named::Segment(id)) {
            return;
        }
        let vlan = text.vlan.as_ref().and_then(|vlan| self.vlan_of(vlan, id));
        let ranges = self.subnets(name, text, subnets);
        let ethertypes = text.ethertypes.items.iter().filter_map(|text| self.ethertype(text)).collect();
        self.policy.segments.push(Segment {
            name: name.value.clone(),
            vlan,
            ranges,
            zone: text.zone.as_ref().map(|zone| zone.value.clone()),
            mode: text.mode.unwrap_or(ModeSetting::Enforce),
            ethertypes,
            routers: text.routers,
            origin: name.place.origin(),
        });
    }

    /// The segment's own VLAN, which no other segment may have.
    fn vlan_of(&mut self, text: &Text, id: SegmentId) -> Option<u16> {
        let vlan = self.vlan(text)?;
        if let Some(other) = self.vlans.get(&vlan) {
            let other = self.policy.segment(*other);
            let diagnostic = Diagnostic::error(
                "duplicate-vlan",
                text.place.clone(),
                format!("VLAN {vlan} is that of segment `{}` already", other.name),
            )
            .expected("expected a VLAN of its own")
            .related(&other.origin, "the other segment");
            self.report(diagnostic);
            return None;
        }
        self.vlans.insert(vlan, id);
        Some(vlan)
    }

    /// A VLAN identifier.
    pub(super) fn vlan(&mut self, text: &Text) -> Option<u16> {
        let vlan = text.as_str().parse().ok().filter(|vlan| (1..=4094).contains(vlan));
        if vlan.is_none() && !text.is_empty() {
            let shown: String = text.as_str().chars().take(40).collect();
            let message = format!("`{shown}` is not a VLAN identifier");
            let diagnostic = Diagnostic::error("bad-vlan", text.place.clone(), message);
            self.report(diagnostic.expected("expected a number from 1 to 4094"));
        }
        vlan
    }

    fn subnets(&mut self, name: &Text, text: &SegmentText, subnets: &mut Vec<Subnet>) -> Ranges {
        let list = text.subnets.as_ref();
        if list.is_none_or(|list| list.items.is_empty() && !list.broken) && !text.broken {
            let message = format!("segment `{}` has no subnets", name.as_str());
            let diagnostic = Diagnostic::error("missing-key", name.place.clone(), message);
            self.report(diagnostic.expected("expected `subnets` with a prefix such as 10.10.70.0/24"));
        }
        let mut spans = Vec::new();
        for text in list.into_iter().flat_map(|list| &list.items) {
            match address::parse_prefix(text.as_str()) {
                Ok(span) if never_subnet(span) => {
                    let message = format!("{} holds addresses that no segment can have", text.as_str());
                    let diagnostic = Diagnostic::error("reserved-range", text.place.clone(), message)
                        .expected("expected unicast addresses")
                        .help("loopback, link-local, multicast and unspecified addresses are never routed");
                    self.report(diagnostic);
                }
                Ok(span) => {
                    spans.push(span);
                    subnets.push(Subnet { span, segment: name.value.clone(), text: text.clone() });
                }
                Err(error) => self.bad_address(text, error),
            }
        }
        address::merge(spans)
    }

    /// Notes subnets of two segments that overlap.
    fn overlaps(&mut self, mut subnets: Vec<Subnet>) {
        subnets.sort_by(|a, b| {
            (a.span.widest_first(), &a.text.place).cmp(&(b.span.widest_first(), &b.text.place))
        });
        // Prefixes nest or are disjoint: one that overlaps an earlier one lies within the widest
        // of those that have not ended.
        let mut widest: Option<&Subnet> = None;
        for subnet in &subnets {
            match widest {
                Some(wide) if wide.span.overlaps(subnet.span) => {
                    if wide.segment != subnet.segment {
                        let (late, early) =
                            if wide.text.place > subnet.text.place { (wide, subnet) } else { (subnet, wide) };
                        let message = format!(
                            "{} of segment `{}` overlaps {} of segment `{}`",
                            late.text.as_str(),
                            late.segment,
                            early.text.as_str(),
                            early.segment
                        );
                        let diagnostic = Diagnostic::error("overlap", late.text.place.clone(), message)
                            .expected("expected addresses of no other segment")
                            .related(early.text.place.clone(), "the other subnet");
                        self.report(diagnostic);
                    }
                }
                _ => widest = Some(subnet),
            }
        }
    }

    fn ethertype(&mut self, text: &Text) -> Option<u16> {
        let word = text.as_str();
        let named = ETHERTYPES.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
        let number = named.or_else(|| match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(digits) => u16::from_str_radix(digits, 16).ok().filter(|number| *number >= 0x600),
            None => word.parse().ok().filter(|number| *number >= 0x600),
        });
        let Some(number) = number else {
            let shown: String = word.chars().take(40).collect();
            let mut diagnostic = Diagnostic::error(
                "bad-ethertype",
                text.place.clone(),
                format!("`{shown}` is not an EtherType"),
            )
            .expected("expected a name such as lldp, or a number from \"0x0600\" to \"0xffff\"");
            if let Some(near) = nearest(word, ETHERTYPES.iter().map(|(name, _)| *name)) {
                diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
            }
            self.report(diagnostic);
            return None;
        };
        if JUDGED.contains(&number) {
            let message = format!("EtherType {number:#06x} is always read and judged by its contents");
            let diagnostic = Diagnostic::error("bad-ethertype", text.place.clone(), message);
            self.report(
                diagnostic.expected("expected another EtherType than those of IP, ARP and VLAN tags"),
            );
            return None;
        }
        Some(number)
    }
}

impl SegmentId {
    /// The built-in segment of this name.
    fn built_in(name: &str) -> Option<Self> {
        let index = BUILT_IN.iter().position(|(built_in, _)| *built_in == name)?;
        Some(Self(u16::try_from(index).expect("there are four")))
    }
}

fn built_in(name: &str, mode: ModeSetting) -> Segment {
    Segment {
        name: name.to_owned(),
        vlan: None,
        ranges: Ranges::default(),
        zone: None,
        mode,
        ethertypes: BTreeSet::new(),
        routers: false,
        origin: Origin { file: "".into(), line: 0, column: 0 },
    }
}

fn never_subnet(span: Span) -> bool {
    NEVER_SUBNETS.iter().any(|never| {
        let never = address::parse_prefix(never).expect("a literal prefix without host bits");
        never.overlaps(span)
    })
}

/// IPv4, ARP, 802.1Q, IPv6 and 802.1ad.
const JUDGED: [u16; 5] = [0x0800, 0x0806, 0x8100, 0x86dd, 0x88a8];

/// IEEE "`EtherType`" registry; `llc` stands for 802.3 frames with a length.
const ETHERTYPES: &[(&str, u16)] = &[
    ("llc", 0),
    ("profinet", 0x8892),
    ("eapol", 0x888e),
    ("ethercat", 0x88a4),
    ("goose", 0x88b8),
    ("lldp", 0x88cc),
    ("macsec", 0x88e5),
    ("ptp", 0x88f7),
    ("loopback-test", 0x9000),
];
