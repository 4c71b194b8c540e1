//! What is said of a packet and of a whole replay, by names.

use std::net::IpAddr;

use gateway_common::place::SEGMENT_UNKNOWN;
use gateway_common::reason::Verdict;
use serde::{Serialize, Serializer};

use crate::compile::image::Manifest;
use crate::policy::model::{RuleId, SegmentId};
use crate::replay::summary::{Count, Row, Summary};
use crate::replay::view::Service;
use crate::replay::{Judged, place::PlacedBy};

/// A packet. Fields without a value are left out.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    pub(super) file: &'a str,
    /// Counts from 1 in each file.
    pub(super) packet: u64,
    #[serde(serialize_with = "time")]
    pub(super) time: u64,
    /// Bytes on the wire.
    pub(super) length: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interface: Option<&'a str>,
    /// How it is known that it arrives there.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "placed")]
    pub(super) placed: Option<PlacedBy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outer_vlan: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vlan: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination: Option<IpAddr>,
    #[serde(serialize_with = "service")]
    pub(super) service: Service,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source_segment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination_segment: Option<&'a str>,
    /// A [`Verdict`]'s name, or `not-judged`.
    pub(super) verdict: &'static str,
    /// A reason's name, or why it was not judged.
    pub(super) reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<&'a str>,
    /// File and line of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<&'a str>,
}

/// The last line of JSON.
#[derive(Serialize)]
pub(super) struct Last<'a> {
    pub(super) summary: Whole<'a>,
}

/// A replay.
#[derive(Serialize)]
pub(super) struct Whole<'a> {
    pub(super) captures: u64,
    pub(super) packets: u64,
    pub(super) pass: u64,
    pub(super) observe: u64,
    pub(super) audit: u64,
    pub(super) drop: u64,
    pub(super) not_judged: Vec<NotJudged>,
    pub(super) out_of_order: u64,
    /// What the policy does not allow.
    pub(super) not_allowed: Vec<Blocked<'a>>,
    /// Packets that are not allowed and in none of its rows.
    pub(super) unlisted: u64,
}

#[derive(Serialize)]
pub(super) struct NotJudged {
    pub(super) reason: &'static str,
    pub(super) packets: u64,
}

/// Packets that the policy does not allow.
#[derive(Serialize)]
pub(super) struct Blocked<'a> {
    pub(super) verdict: &'static str,
    pub(super) source_segment: &'a str,
    pub(super) destination_segment: &'a str,
    #[serde(serialize_with = "service")]
    pub(super) service: Service,
    /// They come from the service's port.
    pub(super) reply: bool,
    pub(super) reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<&'a str>,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// What the numbers of a policy stand for.
pub(super) struct Names<'a> {
    manifest: &'a Manifest,
    /// By rule, written once: a replay names rules millions of times.
    origins: Vec<String>,
}

impl<'a> Names<'a> {
    pub(super) fn new(manifest: &'a Manifest) -> Self {
        let origin =
            |rule: &crate::compile::image::RuleEntry| format!("{}:{}", rule.origin.file, rule.origin.line);
        Self { manifest, origins: manifest.rules.iter().map(origin).collect() }
    }

    pub(super) fn line<'b>(&'b self, file: &'b str, judged: &Judged<'_>) -> Line<'b> {
        let Judged { packet, view, placement, outcome } = judged;
        let decision = outcome.ok();
        let (rule, origin) = self.rule(decision.and_then(|decision| decision.rule));
        // A tag that was put in counts: that is how the frame arrived.
        let put_in = placement.map(|placement| placement.put_in).filter(|&tags| tags != (0, 0));
        let tag = view.tag.or(put_in);
        Line {
            file,
            packet: packet.number,
            time: packet.time,
            length: packet.length,
            interface: placement.and_then(|placement| {
                self.manifest.interfaces.get(placement.interface).map(|interface| interface.name.as_str())
            }),
            placed: placement.map(|placement| placement.by),
            outer_vlan: tag.map(|(outer, _)| outer).filter(|&outer| outer != 0),
            vlan: tag.map(|(_, vlan)| vlan),
            source: view.source,
            source_port: view.ports.map(|(source, _)| source),
            destination: view.destination,
            service: view.service,
            source_segment: decision.map(|decision| self.segment(decision.source_segment)),
            destination_segment: decision.map(|decision| self.segment(decision.destination_segment)),
            verdict: decision.map_or("not-judged", |decision| decision.verdict.name()),
            reason: match outcome {
                Ok(decision) => decision.reason.name(),
                Err(why) => why.name(),
            },
            rule,
            origin,
        }
    }

    pub(super) fn summary(&self, summary: &Summary) -> Whole<'_> {
        let count = |verdict: Verdict| summary.by_verdict[verdict as usize];
        let not_judged = summary.unjudged.iter();
        Whole {
            captures: summary.captures,
            packets: summary.packets,
            pass: count(Verdict::Pass),
            observe: count(Verdict::Observe),
            audit: count(Verdict::Audit),
            drop: count(Verdict::Drop),
            not_judged: not_judged.map(|(why, &packets)| NotJudged { reason: why.name(), packets }).collect(),
            out_of_order: summary.disordered,
            not_allowed: summary.rows().into_iter().map(|(row, count)| self.blocked(row, count)).collect(),
            unlisted: summary.unlisted,
        }
    }

    fn blocked(&self, row: Row, count: Count) -> Blocked<'_> {
        let (rule, origin) = self.rule(row.rule);
        Blocked {
            verdict: row.verdict.name(),
            source_segment: self.segment(row.source),
            destination_segment: self.segment(row.destination),
            service: row.service,
            reply: row.is_reply,
            reason: row.reason.name(),
            rule,
            origin,
            packets: count.packets,
            bytes: count.bytes,
        }
    }

    fn segment(&self, SegmentId(number): SegmentId) -> &str {
        match self.manifest.segments.get(usize::from(number)) {
            Some(segment) if number != SEGMENT_UNKNOWN => &segment.name,
            _ => "unknown",
        }
    }

    fn rule(&self, rule: Option<RuleId>) -> (Option<&str>, Option<&str>) {
        let index = rule.and_then(|RuleId(rule)| usize::try_from(rule).ok());
        let name = index.and_then(|index| self.manifest.rules.get(index)).map(|rule| rule.name.as_str());
        (name, index.and_then(|index| self.origins.get(index)).map(String::as_str))
    }
}

/// RFC 3339, to the microsecond.
pub(super) fn timestamp(nanoseconds: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(jiff::Timestamp::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
fn time<S: Serializer>(time: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:.6}", timestamp(*time)))
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands the field over by reference"
)]
fn placed<S: Serializer>(placed: &Option<PlacedBy>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(placed.map_or("", PlacedBy::name))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
fn service<S: Serializer>(service: &Service, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(service)
}
