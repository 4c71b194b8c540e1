//! What becomes of a packet that no rule allows: the modes of both segments say.

use super::addresses::mapped;
use super::chains::{OWN, Writer, from_devices};
use super::sets::Family;
use super::text;
use crate::policy::model::{ModeSetting, Ranges, SegmentId};

impl Writer<'_> {
    /// What the modes of both segments make of a refusal: the stricter one counts.
    pub(super) fn refuse(&mut self) {
        let places = self.places;
        let modes: Vec<ModeSetting> = self.policy.segments.iter().map(|segment| segment.mode).collect();
        let of = |id: SegmentId| modes[usize::from(id.0)];
        let devices = |mode| places.of_segments(|id| of(id) == mode);
        let of_all = places.of_segments(|_| true);
        self.chain("refuse", |writer| {
            let strict = devices(ModeSetting::Enforce);
            if strict == of_all {
                return writer.line("goto drop-it");
            }
            writer.devices_to(&strict, "drop-it");
            if modes.iter().any(|mode| *mode != of(SegmentId::GATEWAY)) {
                writer.own(chain_of(of(SegmentId::GATEWAY)));
            }
            for family in Family::BOTH {
                let elements = writer.destinations(family);
                if !elements.is_empty() {
                    let header = family.header();
                    writer.line(format_args!("{header} daddr vmap {}", text::elements(&elements)));
                }
            }
            writer.line(format_args!("goto {}", chain_of(of(SegmentId::WAN))));
        });
        self.chain("report-it", |writer| {
            writer.log("audit");
            writer.line("counter name \"audited\" accept");
        });
        self.chain("observe-it", |writer| {
            writer.devices_to(&devices(ModeSetting::Audit), "report-it");
            writer.line("counter name \"observed\" accept");
        });
        self.chain("drop-it", |writer| {
            writer.log("drop");
            writer.line("counter name \"dropped\" drop");
        });
    }

    /// Destinations of which their segments' modes make something else than of the world.
    fn destinations(&self, family: Family) -> Vec<String> {
        let unseen = mapped();
        let default = self.policy.segment(SegmentId::WAN).mode;
        let others = [ModeSetting::Observe, ModeSetting::Audit, ModeSetting::Enforce];
        let mut elements = Vec::new();
        for mode in others.into_iter().filter(|mode| *mode != default) {
            let of_mode = (0..).map(SegmentId).zip(&self.policy.segments);
            let of_mode = of_mode.filter(|(id, segment)| segment.mode == mode && *id != SegmentId::UNKNOWN);
            let mut ranges = Ranges::default();
            for (id, _) in of_mode {
                ranges = ranges.union(self.addresses.of_segment(id));
            }
            ranges = ranges.difference(&unseen);
            if mode == ModeSetting::Observe {
                // Of no segment at all: the sender's mode alone counts.
                ranges = ranges.union(&unseen);
            }
            let chain = chain_of(mode);
            elements.extend(family.elements(&ranges).iter().map(|range| format!("{range} : goto {chain}")));
        }
        elements
    }

    /// What is for the machine itself. Loopback is not the gateway's: nobody outside reaches it.
    pub(super) fn own(&mut self, chain: &str) {
        self.line(format_args!("ip daddr != 127.0.0.0/8 fib daddr {OWN} goto {chain}"));
        self.line(format_args!("ip6 daddr != ::1 fib daddr {OWN} goto {chain}"));
    }

    fn devices_to(&mut self, devices: &[&str], chain: &str) {
        if !devices.is_empty() {
            self.line(format_args!("{} goto {chain}", from_devices(devices)));
        }
    }

    fn log(&mut self, word: &str) {
        let rate = self.policy.settings.event_rate;
        self.line(format_args!("limit rate {rate}/second log prefix \"clinigate {word}: \""));
    }
}

fn chain_of(mode: ModeSetting) -> &'static str {
    match mode {
        ModeSetting::Observe => "observe-it",
        ModeSetting::Audit => "report-it",
        ModeSetting::Enforce => "drop-it",
    }
}
