//! Vendors: where each comes from, what it may reach, and when.

use std::collections::HashSet;

use super::Resolver;
use super::endpoints::{Seen, Side};
use super::rules::value;
use crate::policy::decode::Text;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::model::{AddressSet, Limits, Rule, RuleKind, Tunnel, Window};
use crate::policy::names;
use crate::policy::text::{AccessText, Grant, PolicyText, VendorText, WindowText};

impl Resolver {
    /// Resolves `vendors`.
    pub(super) fn vendors(&mut self, texts: &[PolicyText], seen: &mut Seen) {
        let mut vendors = Seen::new();
        // Names that the text gives come first: those made from vendor and target give way.
        for text in texts {
            for (vendor, text) in &text.vendors.items {
                if let Some(diagnostic) = names::check(vendor) {
                    self.report(diagnostic);
                } else if let Some(first) = vendors.insert(vendor.value.clone(), vendor.place.clone()) {
                    self.duplicate(vendor, first);
                }
                for access in text.iter().flat_map(|text| &text.access.items) {
                    if let Some(name) = &access.name {
                        self.rule_name(name, seen);
                    }
                }
            }
        }
        let mut made: HashSet<String> = HashSet::new();
        for (vendor, text) in texts.iter().flat_map(|text| &text.vendors.items) {
            if let Some(text) = text {
                self.vendor(vendor, text, &mut made);
            }
        }
    }

    fn vendor(&mut self, vendor: &Text, text: &VendorText, made: &mut HashSet<String>) {
        let sources = self.endpoints("sources", &text.sources, Side::From);
        if text.access.items.is_empty() && !text.access.broken && !text.broken {
            let message = format!("vendor `{}` may reach nothing", vendor.as_str());
            let diagnostic = Diagnostic::error("empty-list", vendor.place.clone(), message);
            self.report(diagnostic.expected("expected `access` with `to` and `services`"));
        }
        for access in &text.access.items {
            self.access(vendor, text, &sources, access, made);
        }
    }

    fn access(
        &mut self,
        vendor: &Text,
        text: &VendorText,
        sources: &AddressSet,
        access: &AccessText,
        made: &mut HashSet<String>,
    ) {
        let window = access.window.as_ref().map(|window| self.window(window));
        let limits =
            Limits { vendor: vendor.value.clone(), window, grant: access.grant == Some(Grant::Required) };
        // Where nothing comes through a tunnel everything is direct.
        let through = access.through.filter(|way| *way != Tunnel::Direct || self.policy.has_tunnels());
        let name = match &access.name {
            Some(name) => name.value.clone(),
            None => make_name(vendor, access, made),
        };
        self.ranges = self.ranges.saturating_add(sources.ranges.v4.len() + 4 * sources.ranges.v6.len());
        let limited = limits.window.is_some() || limits.grant;
        let mut rule = Rule {
            name,
            kind: RuleKind::Vendor,
            from: sources.clone(),
            to: self.endpoints("to", &access.to, Side::To),
            services: self.rule_services(&access.services),
            purpose: value(access.purpose.as_ref()),
            owner: value(access.owner.as_ref().or(text.owner.as_ref())),
            review: self.review(access.review.as_ref()),
            unenforced: limited,
            condition: None,
            through,
            limits: limited.then(|| Box::new(limits)),
            origin: access.name.as_ref().map_or(&access.place, |name| &name.place).origin(),
        };
        rule.unenforced |= self.policy.is_out_of_reach(&rule);
        self.policy.rules.push(rule);
    }

    fn window(&mut self, window: &WindowText) -> Window {
        if window.days.items.is_empty() && !window.days.broken && !window.broken {
            let diagnostic =
                Diagnostic::error("empty-list", window.days.place.clone(), "this window has no day");
            self.report(diagnostic.expected("expected days such as [mon, tue]"));
        }
        for time in [&window.from, &window.to] {
            let ends = std::ptr::eq(time, &raw const window.to);
            if !time.is_empty() && !is_time(time.as_str(), ends) {
                let shown: String = time.as_str().chars().take(40).collect();
                let diagnostic = Diagnostic::error(
                    "bad-time",
                    time.place.clone(),
                    format!("`{shown}` is not a time of day"),
                );
                self.report(diagnostic.expected("expected HH:MM in quotes, such as \"01:00\""));
            }
        }
        if !window.from.is_empty() && window.from.as_str() == window.to.as_str() {
            let message = "this window ends when it begins";
            self.report(
                Diagnostic::error("bad-time", window.to.place.clone(), message)
                    .expected("expected another time"),
            );
        }
        let zone = &window.timezone;
        if !zone.is_empty() && !is_timezone(zone.as_str()) {
            let shown: String = zone.as_str().chars().take(40).collect();
            let diagnostic = Diagnostic::error(
                "bad-timezone",
                zone.place.clone(),
                format!("`{shown}` is not a time zone"),
            );
            self.report(diagnostic.expected("expected a name such as Asia/Tokyo, or UTC"));
        }
        Window {
            days: window.days.items.iter().flatten().map(|day| *day as u8).collect(),
            from: minutes(window.from.as_str()),
            to: minutes(window.to.as_str()),
            timezone: zone.value.clone(),
        }
    }
}

fn make_name(vendor: &Text, access: &AccessText, made: &mut HashSet<String>) -> String {
    let target = access.to.items.first().map_or("", Text::as_str);
    let base = format!("{}/{target}", vendor.as_str());
    let mut name = base.clone();
    let mut number = 2;
    while !made.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

fn is_time(text: &str, ends: bool) -> bool {
    let Some((hours, minutes)) = text.split_once(':') else { return false };
    // Numbers are read with a sign, too.
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return false;
    }
    match (hours.parse::<u8>(), minutes.parse::<u8>()) {
        (Ok(24), Ok(0)) => ends,
        (Ok(hours), Ok(minutes)) => hours < 24 && minutes < 60,
        _ => false,
    }
}

/// Minutes since midnight of a time of day; of anything else 0, which has been noted.
fn minutes(text: &str) -> u16 {
    let part = |part: Option<&str>| part.and_then(|part| part.parse::<u16>().ok()).unwrap_or(0);
    let mut parts = text.split(':');
    part(parts.next()).saturating_mul(60).saturating_add(part(parts.next()))
}

/// Whether a text is a name of the IANA time zone database: of the machine's, else of the one that is built in.
fn is_timezone(text: &str) -> bool {
    is_shaped_like_a_timezone(text) && jiff::tz::TimeZone::get(text).is_ok()
}

fn is_shaped_like_a_timezone(text: &str) -> bool {
    let sound = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_uppercase())
            && part.len() <= 30
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-+".contains(c))
    };
    text == "UTC" || (text.contains('/') && text.split('/').count() <= 3 && text.split('/').all(sound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_has_two_digits_twice() {
        for text in ["00:00", "01:05", "23:59"] {
            assert!(is_time(text, false) && is_time(text, true), "{text}");
        }
        assert!(is_time("24:00", true) && !is_time("24:00", false));
        for text in [
            "24:01", "25:00", "23:60", "1:00", "01:0", "001:00", "01:000", "0100", "+1:00", "01:+5", "aa:bb",
            "",
        ] {
            assert!(!is_time(text, true) && !is_time(text, false), "{text}");
        }
    }

    #[test]
    fn a_time_zone_has_the_shape_of_the_database() {
        for text in
            ["UTC", "Asia/Tokyo", "America/Argentina/Buenos_Aires", "America/Port-au-Prince", "Etc/GMT+1"]
        {
            assert!(is_timezone(text), "{text}");
        }
        let long = format!("Asia/T{}", "o".repeat(30));
        for text in
            ["Tokyo", "asia/tokyo", "Asia/tokyo", "Asia/", "/Tokyo", "A/B/C/D", "Asia/To kyo", &long, ""]
        {
            assert!(!is_timezone(text), "{text}");
        }
        assert!(!is_timezone("Asia/Takyo"), "there is none of this name");
    }
}
