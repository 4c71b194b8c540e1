//! What somebody asks about a policy, in its own words.

use super::Resolver;
use super::endpoints::Side;
use crate::policy::decode::{OneOrMany, Text};
use crate::policy::expectation::Inquiry;
use crate::policy::model::RuleId;

impl Resolver {
    /// Looks the words of an inquiry up; mistakes are noted.
    pub(in crate::policy) fn inquiry(
        &mut self,
        from: &OneOrMany<Text>,
        to: &OneOrMany<Text>,
        services: &OneOrMany<Text>,
    ) -> Inquiry {
        Inquiry {
            from: self.endpoints("from", from, Side::From),
            to: self.endpoints("to", to, Side::To),
            services: self.rule_services(services),
        }
    }

    /// Looks a rule up.
    pub(in crate::policy) fn rule_named(&mut self, name: &Text) -> Option<RuleId> {
        let found = self.policy.rules.iter().position(|rule| rule.name == name.as_str());
        if let Some(index) = found {
            return u32::try_from(index).ok().map(RuleId);
        }
        let names: Vec<String> = self.policy.rules.iter().map(|rule| rule.name.clone()).collect();
        self.unknown("unknown-name", name, "the name of a rule", names.iter().map(String::as_str));
        None
    }
}
