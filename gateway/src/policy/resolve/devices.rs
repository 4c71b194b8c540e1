//! Devices: named hosts and what is known about them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::{Named, Resolver};
use crate::policy::address;
use crate::policy::decode::Text;
use crate::policy::diagnostic::{Diagnostic, Place};
use crate::policy::model::{Device, Risk, SegmentId};
use crate::policy::text::{DeviceText, PolicyText, RiskText};

impl Resolver {
    /// Resolves `devices`.
    pub(super) fn devices(&mut self, texts: &[PolicyText]) {
        let mut owners: HashMap<IpAddr, Place> = HashMap::new();
        for (name, text) in texts.iter().flat_map(|text| &text.devices.items) {
            let index = self.policy.devices.len();
            let Some(text) = text else {
                self.declare(name, Named::Broken);
                continue;
            };
            if !self.declare(name, Named::Device(index)) {
                continue;
            }
            let segment = self.device_segment(&text.segment);
            let addresses = self.device_addresses(name, text, segment, &mut owners);
            let labels = self.labels(text);
            self.policy.devices.push(Device {
                name: name.value.clone(),
                segment: segment.unwrap_or(SegmentId::UNKNOWN),
                addresses,
                labels,
                risk: text.risk.as_ref().and_then(risk),
                origin: name.place.origin(),
            });
        }
    }

    fn device_segment(&mut self, text: &Text) -> Option<SegmentId> {
        if text.as_str() == "wan" {
            return Some(SegmentId::WAN);
        }
        self.segment_named(text, "a segment")
    }

    fn device_addresses(
        &mut self,
        name: &Text,
        text: &DeviceText,
        segment: Option<SegmentId>,
        owners: &mut HashMap<IpAddr, Place>,
    ) -> Vec<IpAddr> {
        if text.address.is_none() && text.addresses.is_none() && !text.broken {
            let message = format!("device `{}` has no address", name.as_str());
            let diagnostic = Diagnostic::error("missing-key", name.place.clone(), message);
            self.report(diagnostic.expected("expected `address` or `addresses`"));
        }
        let several = text.addresses.iter().flat_map(|list| &list.items);
        let mut addresses = Vec::new();
        for text in text.address.iter().chain(several) {
            let address = match address::parse_host(text.as_str()) {
                Ok(address) => address,
                Err(error) => {
                    self.bad_address(text, error);
                    continue;
                }
            };
            if let Some(first) = owners.get(&address) {
                let diagnostic = Diagnostic::error(
                    "duplicate-address",
                    text.place.clone(),
                    format!("{address} is the address of a device already"),
                )
                .expected("expected an address of its own")
                .related(first.clone(), "the other device");
                self.report(diagnostic);
                continue;
            }
            owners.insert(address, text.place.clone());
            if let Some(segment) = segment {
                self.check_inside(text, address, segment);
            }
            addresses.push(address);
        }
        addresses
    }

    fn check_inside(&mut self, text: &Text, address: IpAddr, segment: SegmentId) {
        let actual = self.policy.segments.iter().find(|segment| segment.ranges.contains(address));
        let expected = self.policy.segment(segment);
        let inside = match segment {
            SegmentId::WAN => actual.is_none(),
            _ => expected.ranges.contains(address),
        };
        // A segment without a range has a mistake that was noted there.
        if inside || (segment != SegmentId::WAN && expected.ranges.is_empty()) {
            return;
        }
        let message = format!("{address} is outside the subnets of segment `{}`", expected.name);
        let mut diagnostic = Diagnostic::error("outside-segment", text.place.clone(), message)
            .expected(format!("expected an address of `{}`", expected.name));
        if expected.origin.line != 0 {
            diagnostic = diagnostic.related(&expected.origin, "the segment");
        }
        if let Some(actual) = actual {
            diagnostic = diagnostic.help(format!("it lies in segment `{}`", actual.name));
        }
        self.report(diagnostic);
    }

    fn labels(&mut self, text: &DeviceText) -> BTreeMap<String, String> {
        let known = [
            ("type", &text.kind),
            ("department", &text.department),
            ("vendor", &text.vendor),
            ("model", &text.model),
            ("os", &text.os),
            ("mac", &text.mac),
            ("owner", &text.owner),
            ("contact", &text.contact),
        ];
        if let Some(mac) = text.mac.as_ref().filter(|mac| !is_mac(mac.as_str())) {
            let diagnostic =
                Diagnostic::error("bad-mac", mac.place.clone(), "this is not a MAC address".to_owned());
            self.report(diagnostic.expected("expected six pairs of digits, such as \"00:1b:2c:3d:4e:5f\""));
        }
        let mut labels: BTreeMap<String, String> = known
            .into_iter()
            .filter_map(|(key, text)| Some((key.to_owned(), text.as_ref()?.value.clone())))
            .collect();
        for (key, value) in &text.labels.items {
            if let Some(value) = value {
                labels.insert(key.value.clone(), value.value.clone());
            }
        }
        labels
    }
}

fn risk(text: &RiskText) -> Option<Risk> {
    Some(Risk { safety: text.safety?, privacy: text.privacy?, outage: text.outage? })
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    parts.len() == 6
        && parts.iter().all(|part| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit()))
}
