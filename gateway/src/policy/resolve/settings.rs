//! Settings of the whole gateway.

use std::collections::BTreeMap;

use gateway_common::connection::State;

use super::Resolver;
use super::endpoints::Seen;
use crate::policy::decode::Text;
use crate::policy::diagnostic::{Diagnostic, Place};
use crate::policy::names::nearest;
use crate::policy::text::{PolicyText, SettingsText};

/// A year: longer than any connection should idle.
const TIMEOUT_LIMIT: u32 = 365 * 24 * 3600;
/// The table takes 64 to 128 bytes a connection.
const CONNECTION_LIMITS: (u32, u32) = (1 << 10, 1 << 24);
/// Packets or events a second.
const RATE_LIMITS: (u32, u32) = (1, 1_000_000);

impl Resolver {
    /// Resolves `settings`.
    pub(super) fn settings(&mut self, texts: &[PolicyText]) {
        let mut seen: BTreeMap<&'static str, Place> = BTreeMap::new();
        let mut states = Seen::new();
        for text in texts.iter().filter_map(|text| text.settings.as_ref()) {
            if let Some(midstream) = text.midstream {
                self.once("midstream", &text.place, &mut seen);
                self.policy.settings.midstream = midstream;
            }
            if let Some(forwarding) = text.forwarding {
                self.once("forwarding", &text.place, &mut seen);
                self.policy.settings.forwarding = forwarding;
            }
            self.numbers(text, &mut seen);
            for (state, time) in &text.timeouts.items {
                self.timeout(state, time.as_ref(), &mut states);
            }
        }
    }

    fn numbers(&mut self, text: &SettingsText, seen: &mut BTreeMap<&'static str, Place>) {
        if let Some(text) = &text.connections {
            self.once("connections", &text.place, seen);
            let number = self.number(text, CONNECTION_LIMITS);
            self.policy.settings.connections = number;
        }
        if let Some(text) = &text.neighbour_rate {
            self.once("neighbour-rate", &text.place, seen);
            let number = self.number(text, RATE_LIMITS);
            self.policy.settings.neighbour_rate = number;
        }
        if let Some(text) = &text.event_rate {
            self.once("event-rate", &text.place, seen);
            let number = self.number(text, RATE_LIMITS);
            self.policy.settings.event_rate = number;
        }
    }

    /// Notes a setting that stands in two files.
    fn once(&mut self, key: &'static str, place: &Place, seen: &mut BTreeMap<&'static str, Place>) {
        if let Some(first) = seen.insert(key, place.clone()) {
            let diagnostic =
                Diagnostic::error("duplicate-name", place.clone(), format!("`{key}` is set twice"))
                    .expected("a setting may stand once in a policy")
                    .related(first, "it is set here first");
            self.report(diagnostic);
        }
    }

    fn number(&mut self, text: &Text, (least, most): (u32, u32)) -> u32 {
        let number = text.as_str().parse().ok().filter(|number| (least..=most).contains(number));
        number.unwrap_or_else(|| {
            let shown: String = text.as_str().chars().take(40).collect();
            let diagnostic = Diagnostic::error(
                "bad-number",
                text.place.clone(),
                format!("`{shown}` is not possible here"),
            );
            self.report(diagnostic.expected(format!("expected a whole number from {least} to {most}")));
            least
        })
    }

    fn timeout(&mut self, name: &Text, time: Option<&Text>, seen: &mut Seen) {
        let known = || State::ALL.into_iter().skip(1).map(State::name);
        let Some(state) = State::ALL.into_iter().skip(1).find(|state| state.name() == name.as_str()) else {
            let names: Vec<&str> = known().collect();
            let shown: String = name.as_str().chars().take(40).collect();
            let mut diagnostic = Diagnostic::error(
                "unknown-state",
                name.place.clone(),
                format!("no connection is ever `{shown}`"),
            )
            .expected(format!("expected one of: {}", names.join(", ")));
            if let Some(near) = nearest(name.as_str(), known()) {
                diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
            }
            self.report(diagnostic);
            return;
        };
        if let Some(first) = seen.insert(name.value.clone(), name.place.clone()) {
            self.duplicate(name, first);
            return;
        }
        let Some(time) = time else { return };
        let Some(seconds) = seconds(time.as_str()) else {
            let shown: String = time.as_str().chars().take(40).collect();
            let message = format!("`{shown}` is not a time to wait");
            let diagnostic = Diagnostic::error("bad-duration", time.place.clone(), message);
            self.report(diagnostic.expected("expected a duration from 1s to 365d, such as 30s, 5m, 24h"));
            return;
        };
        self.policy.settings.timeouts[state as usize] = seconds;
    }
}

fn seconds(text: &str) -> Option<u32> {
    let unit = text.chars().last().filter(char::is_ascii_alphabetic)?;
    let number: u32 = text[..text.len() - 1].parse().ok()?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return None,
    };
    number.checked_mul(factor).filter(|seconds| (1..=TIMEOUT_LIMIT).contains(seconds))
}
