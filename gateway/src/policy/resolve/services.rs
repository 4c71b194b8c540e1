//! Services: the built-in catalogue, those of the text, and those written in place.

use super::Resolver;
use super::limits::SERVICE_LIMIT;
use crate::policy::catalogue;
use crate::policy::decode::{OneOrMany, Text};
use crate::policy::diagnostic::Diagnostic;
use crate::policy::model::{ANY_PORT, IN_PLACE, Service, ServiceClass, ServiceMatch};
use crate::policy::names;
use crate::policy::port::{self, PortError};
use crate::policy::text::{PolicyText, PortsText, ServiceText};

impl Resolver {
    /// Resolves `services`.
    pub(super) fn services(&mut self, texts: &[PolicyText]) {
        let mut catalogue = catalogue::builtin();
        for (name, text) in texts.iter().flat_map(|text| &text.services.items) {
            if !self.check_service_name(name) {
                continue;
            }
            let Some(text) = text else {
                self.broken_services.insert(name.value.clone());
                continue;
            };
            let built_in = catalogue.iter().position(|service| service.name == name.as_str());
            match built_in {
                Some(index) if text.replaces => {
                    catalogue.swap_remove(index);
                }
                Some(index) => {
                    let standard = catalogue[index].standard.clone().unwrap_or_default();
                    let message = format!("`{}` is a built-in service ({standard})", name.as_str());
                    let diagnostic = Diagnostic::error("duplicate-name", name.place.clone(), message)
                        .expected("expected another name")
                        .help("if it is to take the place of the built-in one, say `override: true`");
                    self.report(diagnostic);
                    continue;
                }
                None if text.replaces => {
                    let message = format!("there is no built-in service `{}` to override", name.as_str());
                    let diagnostic = Diagnostic::error("unknown-name", name.place.clone(), message);
                    self.report(diagnostic.expected("expected the name of a built-in service"));
                }
                None => {}
            }
            let service = self.service(name, text);
            self.service_index.insert(name.value.clone(), self.policy.services.len());
            self.policy.services.push(service);
        }
        self.catalogue = catalogue;
    }

    fn check_service_name(&mut self, name: &Text) -> bool {
        if let Some(diagnostic) = names::check(name) {
            self.report(diagnostic);
            return false;
        }
        if IN_PLACE.contains(&name.as_str()) {
            let message = format!("`{}` has a meaning of its own", name.as_str());
            let diagnostic = Diagnostic::error("reserved-name", name.place.clone(), message);
            self.report(diagnostic.expected("expected another name"));
            return false;
        }
        let first = self
            .service_index
            .get(name.as_str())
            .and_then(|index| self.policy.services[*index].origin.clone());
        if let Some(first) = first {
            self.duplicate(name, (&first).into());
            return false;
        }
        true
    }

    fn service(&mut self, name: &Text, text: &ServiceText) -> Service {
        let mut matches = Vec::new();
        for (source, destination) in self.port_pairs(text.tcp.as_ref()) {
            matches.push(ServiceMatch::Tcp { source, destination });
        }
        for (source, destination) in self.port_pairs(text.udp.as_ref()) {
            matches.push(ServiceMatch::Udp { source, destination });
        }
        matches.extend(self.words(text.icmp.as_ref(), port::icmp).into_iter().map(ServiceMatch::Icmp));
        matches.extend(self.words(text.icmpv6.as_ref(), port::icmpv6).into_iter().map(ServiceMatch::Icmpv6));
        matches.extend(
            self.words(text.protocol.as_ref(), port::protocol).into_iter().map(ServiceMatch::Protocol),
        );
        let lists_ports = text.tcp.as_ref().or(text.udp.as_ref()).is_some();
        let lists_words = text.icmp.as_ref().or(text.icmpv6.as_ref()).or(text.protocol.as_ref()).is_some();
        if matches.is_empty() && !text.broken && !lists_ports && !lists_words {
            let message = format!("service `{}` matches nothing", name.as_str());
            let diagnostic = Diagnostic::error("empty-list", name.place.clone(), message);
            self.report(diagnostic.expected("expected one of `tcp`, `udp`, `icmp`, `icmpv6`, `protocol`"));
        }
        matches.sort_unstable();
        matches.dedup();
        Service {
            name: name.value.clone(),
            matches,
            class: text.class.unwrap_or(ServiceClass::Unknown),
            phi: text.phi,
            cleartext: text.cleartext,
            standard: text.standard.as_ref().map(|standard| standard.value.clone()),
            origin: Some(name.place.origin()),
        }
    }

    fn port_pairs(&mut self, list: Option<&OneOrMany<PortsText>>) -> Vec<((u16, u16), (u16, u16))> {
        let Some(list) = list else { return Vec::new() };
        self.check_filled(list);
        let mut pairs = Vec::new();
        for text in &list.items {
            let (ports, source) = match text {
                PortsText::Word(ports) => (ports, None),
                PortsText::Pair(pair) => (&pair.ports, pair.source.as_ref()),
            };
            let destination = self.port_word(ports, port::ports);
            let source = match source {
                Some(source) => self.port_word(source, port::ports),
                None => Some(ANY_PORT),
            };
            pairs.extend(source.zip(destination));
        }
        pairs
    }

    fn words<T>(
        &mut self,
        list: Option<&OneOrMany<Text>>,
        parse: impl Fn(&str) -> Result<T, PortError>,
    ) -> Vec<T> {
        let Some(list) = list else { return Vec::new() };
        self.check_filled(list);
        list.items.iter().filter_map(|text| self.port_word(text, &parse)).collect()
    }

    fn port_word<T>(&mut self, text: &Text, parse: impl Fn(&str) -> Result<T, PortError>) -> Option<T> {
        if text.is_empty() {
            return None;
        }
        parse(text.as_str()).map_err(|error| self.bad_port(text, error)).ok()
    }

    fn check_filled<T>(&mut self, list: &OneOrMany<T>) {
        if list.items.is_empty() && !list.broken {
            let diagnostic = Diagnostic::error("empty-list", list.place.clone(), "this list is empty");
            self.report(diagnostic.expected("expected at least one"));
        }
    }

    /// Resolves `services` of a rule to indices into [`crate::policy::model::Policy::services`].
    pub(super) fn rule_services(&mut self, list: &OneOrMany<Text>) -> Vec<usize> {
        if list.items.is_empty() && !list.broken && list.place.line != 0 {
            let diagnostic = Diagnostic::error("empty-list", list.place.clone(), "`services` is empty");
            self.report(diagnostic.expected("expected a service such as dicom or tcp/8443"));
        }
        let mut indices: Vec<usize> = list.items.iter().filter_map(|text| self.rule_service(text)).collect();
        indices.sort_unstable();
        indices.dedup();
        self.named_services = self.named_services.saturating_add(indices.len());
        if self.named_services > SERVICE_LIMIT {
            let message = format!("the rules of a policy name at most {SERVICE_LIMIT} services together");
            self.report(Diagnostic::error("limit", list.place.clone(), message));
            return Vec::new();
        }
        indices
    }

    fn rule_service(&mut self, text: &Text) -> Option<usize> {
        let word = text.as_str();
        if word.is_empty() || self.broken_services.contains(word) {
            return None;
        }
        if let Some(index) = self.service_index.get(word) {
            return Some(*index);
        }
        let service = match port::in_place(word) {
            Some(Ok(matches)) => Service {
                name: text.value.clone(),
                matches,
                class: ServiceClass::Unknown,
                phi: false,
                cleartext: false,
                standard: None,
                origin: Some(text.place.origin()),
            },
            Some(Err(error)) => {
                self.bad_port(text, error);
                return None;
            }
            None => {
                let Some(service) = self.catalogue.iter().find(|service| service.name == word) else {
                    self.unknown_service(text);
                    return None;
                };
                service.clone()
            }
        };
        let index = self.policy.services.len();
        self.service_index.insert(text.value.clone(), index);
        self.policy.services.push(service);
        Some(index)
    }

    fn unknown_service(&mut self, text: &Text) {
        let defined = self.service_index.keys().filter(|name| !name.contains('/')).cloned();
        let mut known: Vec<String> =
            self.catalogue.iter().map(|service| service.name.clone()).chain(defined).collect();
        known.extend(IN_PLACE.map(str::to_owned));
        let expected = "a service, or one in place such as tcp/8443";
        self.unknown("unknown-service", text, expected, known.iter().map(String::as_str));
    }
}
