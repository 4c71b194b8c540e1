//! What a change would do, looked at before it is made: what is held back unless somebody said that it is meant.

use gateway_common::connection::State;
use serde::{Deserialize, Serialize};

use super::repository::Allowed;
use super::running::{self, Running};
use crate::assure::difference::zones::crossings;
use crate::assure::difference::{Change, compare};
use crate::dataplane::Options;
use crate::policy::model::Policy;

/// Rules, sentences and groups that a plan names.
const NAMED: usize = 20;

/// Rules of both policies together that are compared for a record's sake, while somebody waits.
const RULES_COMPARED: usize = 2_000;

/// What a change of policy does, in short: part of a generation's record. `clinigate plan` says all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// `nothing`, `narrowing`, `widening` or `both`.
    pub effect: String,
    /// Rules that open something, by name; the first twenty.
    pub widening: Vec<String>,
    /// Rules that closed something by changing or going, by name; the first twenty.
    pub narrowing: Vec<String>,
    /// What changes besides rules, in sentences; the first twenty.
    pub setup: Vec<String>,
    /// What is opened across zones, in sentences; the first twenty.
    pub crossings: Vec<String>,
    /// Connections in use that the change would cut, where that could be told.
    pub cut: Option<u64>,
    /// What they are, by rule and segments; the first twenty groups.
    pub cuts: Vec<String>,
    /// What could not be told, and why.
    pub unknown: Option<String>,
}

impl Plan {
    /// What a change from `old`, which is in force, to `new` does.
    pub(super) fn of(options: &Options, old: &Policy, new: &Policy) -> Self {
        let mut plan = Self::default();
        plan.compare(old, new);
        plan.look_at_connections(options, old, new);
        plan
    }

    fn compare(&mut self, old: &Policy, new: &Policy) {
        let plan = self;
        match compare(old, new) {
            Ok(difference) => {
                difference.effect().word().clone_into(&mut plan.effect);
                let names = |changes: &[Change], policy: &Policy| -> Vec<String> {
                    changes.iter().take(NAMED).map(|it| policy.rules[it.allow].name.clone()).collect()
                };
                plan.widening = names(&difference.widening, new);
                plan.narrowing = names(&difference.narrowing, old);
                plan.setup = difference.setup.iter().take(NAMED).map(|setup| setup.what.clone()).collect();
                plan.crossings = crossings(old, new, &difference).into_iter().take(NAMED).collect();
            }
            Err(error) => {
                "unknown".clone_into(&mut plan.effect);
                plan.unknown = Some(error.to_string());
            }
        }
    }

    /// What a change of the text does, whatever runs.
    pub(super) fn of_text(old: &Policy, new: &Policy) -> Self {
        if old.rules.len() + new.rules.len() > RULES_COMPARED {
            let unknown = Some("there are too many rules to compare them at every change".to_owned());
            return Self { effect: "unknown".to_owned(), unknown, ..Self::default() };
        }
        let mut plan = Self::default();
        plan.compare(old, new);
        plan
    }

    fn look_at_connections(&mut self, options: &Options, old: &Policy, new: &Policy) {
        let plan = self;
        match running::survey(options, old, new, 0) {
            Ok(Running { cuts, .. }) => {
                let of_use = |states: &std::collections::BTreeMap<State, u64>| -> u64 {
                    states.iter().filter(|(state, _)| is_in_use(**state)).map(|(_, count)| count).sum()
                };
                let groups = cuts.groups.iter().map(|group| (group, of_use(&group.states)));
                let groups: Vec<_> = groups.filter(|(_, count)| *count > 0).collect();
                plan.cut = Some(groups.iter().map(|(_, count)| count).sum());
                plan.cuts = groups
                    .iter()
                    .take(NAMED)
                    .map(|(group, count)| {
                        let [from, to] = group.before.segments.map(|segment| &old.segment(segment).name);
                        let rule = group.before.rule.and_then(|rule| old.rules.get(rule.0 as usize));
                        let rule = rule.map_or("the gateway's own", |rule| rule.name.as_str());
                        format!("{rule}, {from} -> {to}: {count}")
                    })
                    .collect();
            }
            Err(why) => plan.unknown = Some(why),
        }
    }

    /// Where the text in force is not at hand.
    pub(super) fn blind() -> Self {
        let unknown = "the text of the policy in force is not at hand".to_owned();
        Self { effect: "unknown".to_owned(), unknown: Some(unknown), ..Self::default() }
    }

    /// What of it is held back, unless it is allowed.
    pub(super) fn held(&self, allowed: Allowed) -> Option<Held> {
        let list = |sentences: &[String]| sentences.join("; ");
        let unknown = || self.unknown.clone().unwrap_or_default();
        let cuts = match self.cut {
            Some(0) => None,
            Some(count) => Some(format!("it would cut {count} running: {}", list(&self.cuts))),
            None => Some(format!("nobody can tell which connections it would cut: {}", unknown())),
        };
        let widens = match self.effect.as_str() {
            "unknown" => Some(format!("nobody can tell what it opens: {}", unknown())),
            _ if self.crossings.is_empty() => None,
            _ => Some(format!("it would widen what may cross zones: {}", list(&self.crossings))),
        };
        let held = Held { cuts: cuts.filter(|_| !allowed.cuts), widens: widens.filter(|_| !allowed.widens) };
        (held.cuts.is_some() || held.widens.is_some()).then_some(held)
    }
}

/// Why a change is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Connections that it would cut.
    pub cuts: Option<String>,
    /// What it would open.
    pub widens: Option<String>,
}

impl Held {
    /// The words that would let it through, and are missing.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let words = [(self.cuts.is_some(), "cut-connections"), (self.widens.is_some(), "widen-zones")];
        words.into_iter().filter(|(is_missing, _)| *is_missing).map(|(_, word)| word).collect()
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sentences: Vec<&str> =
            [&self.cuts, &self.widens].into_iter().flatten().map(String::as_str).collect();
        f.write_str(&sentences.join("; "))
    }
}

/// Whether somebody would miss it: not one that ends anyway, nor a single question and its answer.
fn is_in_use(state: State) -> bool {
    matches!(
        state,
        State::SynReceived
            | State::Established
            | State::FinWait
            | State::UdpNew
            | State::UdpStream
            | State::Other
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_held() {
        let plan = Plan {
            effect: "both".to_owned(),
            cut: Some(2),
            cuts: vec!["store, ct -> pacs: 2".to_owned()],
            ..Plan::default()
        };
        let held = plan.held(Allowed::default()).expect("it cuts");
        assert_eq!(
            (held.missing(), held.to_string()),
            (vec!["cut-connections"], "it would cut 2 running: store, ct -> pacs: 2".to_owned())
        );
        assert_eq!(plan.held(Allowed { cuts: true, widens: false }), None);
        let wide = Plan { cut: Some(0), crossings: vec!["x".to_owned()], ..plan };
        assert_eq!(
            wide.held(Allowed { cuts: true, widens: false }).map(|held| held.missing()),
            Some(vec!["widen-zones"])
        );
        let calm = Plan { crossings: Vec::new(), ..wide };
        assert_eq!(calm.held(Allowed::default()), None);
        // Who cannot see must not open.
        let both = Plan::blind().held(Allowed::default()).expect("blind");
        assert_eq!(both.missing(), ["cut-connections", "widen-zones"]);
    }
}
