//! Interfaces: what arrives where.

use std::collections::BTreeMap;

use super::{Named, Resolver};
use crate::policy::decode::{List, Text};
use crate::policy::diagnostic::{Diagnostic, Place};
use crate::policy::model::{Interface, InterfaceKind, SegmentId, Tunnel};
use crate::policy::text::{InterfaceText, PolicyText};

/// Bytes of an interface's name in Linux (`IFNAMSIZ` less the final zero).
const NAME_LIMIT: usize = 15;

impl Resolver {
    /// Resolves `interfaces`.
    pub(super) fn interfaces(&mut self, texts: &[PolicyText]) {
        let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
        for (name, text) in texts.iter().flat_map(|text| &text.interfaces.items) {
            if let Some(first) = seen.insert(name.as_str(), &name.place) {
                self.duplicate(name, first.clone());
                continue;
            }
            self.check_interface_name(name);
            let kind = text.as_ref().and_then(|text| self.interface_kind(name, text));
            if let Some(kind) = kind {
                let origin = name.place.origin();
                let routed = text.as_ref().is_some_and(|text| text.routed);
                if routed && kind == InterfaceKind::Wan {
                    let message = format!("interface `{}` is the world, and `routed`", name.as_str());
                    let diagnostic = Diagnostic::error("interface-kind", name.place.clone(), message);
                    self.report(diagnostic.expected("`routed` belongs to `access` and `trunk`"));
                }
                let tunnel = text.as_ref().and_then(|text| text.tunnel);
                if tunnel.is_some() && (tunnel == Some(Tunnel::Direct) || kind != InterfaceKind::Wan) {
                    self.report(no_tunnel(name, &kind));
                }
                self.policy.interfaces.push(Interface {
                    name: name.value.clone(),
                    kind,
                    routed,
                    tunnel: tunnel.filter(|tunnel| *tunnel != Tunnel::Direct),
                    origin,
                });
            }
        }
    }

    fn check_interface_name(&mut self, name: &Text) {
        let text = name.as_str();
        let sound = (1..=NAME_LIMIT).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != ':')
            && text != "."
            && text != "..";
        if !sound {
            let shown: String = text.chars().take(40).collect();
            let message = format!("`{shown}` cannot be the name of an interface");
            let diagnostic = Diagnostic::error("bad-name", name.place.clone(), message);
            self.report(diagnostic.expected("expected at most 15 characters, without `/`, `:` and blanks"));
        }
    }

    fn interface_kind(&mut self, name: &Text, text: &InterfaceText) -> Option<InterfaceKind> {
        let wan = text.wan == Some(true);
        let kinds = usize::from(wan) + usize::from(text.access.is_some()) + usize::from(text.trunk.is_some());
        if kinds != 1 {
            if !text.broken || kinds > 1 {
                let message = match kinds {
                    0 => format!("interface `{}` does not say what arrives on it", name.as_str()),
                    _ => format!("interface `{}` says several things at once", name.as_str()),
                };
                let diagnostic = Diagnostic::error("interface-kind", name.place.clone(), message);
                self.report(diagnostic.expected("expected one of `access`, `trunk` and `wan: true`"));
            }
            return None;
        }
        let outer = text.outer.as_ref().map(|outer| (outer, self.vlan(outer)));
        if text.trunk.is_none() {
            for stray in text.outer.iter().chain(&text.untagged) {
                let diagnostic = Diagnostic::error(
                    "interface-kind",
                    stray.place.clone(),
                    format!("interface `{}` is not a trunk", name.as_str()),
                );
                self.report(diagnostic.expected("`outer` and `untagged` belong to `trunk`"));
            }
        }
        if let Some(access) = &text.access {
            return self.segment_at(access).map(InterfaceKind::Access);
        }
        let Some(trunk) = &text.trunk else { return Some(InterfaceKind::Wan) };
        let vlans = self.trunk(name, trunk, text.untagged.as_ref());
        Some(InterfaceKind::Trunk { outer: outer.and_then(|(_, outer)| outer).unwrap_or(0), vlans })
    }

    fn trunk(
        &mut self,
        name: &Text,
        trunk: &List<Text>,
        untagged: Option<&Text>,
    ) -> BTreeMap<u16, SegmentId> {
        let mut vlans = BTreeMap::new();
        if trunk.items.is_empty() && !trunk.broken {
            let message = format!("trunk `{}` carries no VLAN", name.as_str());
            let diagnostic = Diagnostic::error("empty-list", trunk.place.clone(), message);
            self.report(diagnostic.expected("expected VLAN identifiers or segments, such as [10, 30]"));
        }
        for text in &trunk.items {
            let Some(id) = self.segment_at(text) else { continue };
            let segment = self.policy.segment(id);
            let Some(vlan) = segment.vlan else {
                let message = format!("segment `{}` has no VLAN and cannot be on a trunk", segment.name);
                let diagnostic = Diagnostic::error("unknown-vlan", text.place.clone(), message)
                    .expected("expected a segment with `vlan`")
                    .related(&segment.origin, "the segment");
                self.report(diagnostic);
                continue;
            };
            if vlans.insert(vlan, id).is_some() {
                let message = format!("VLAN {vlan} stands twice on trunk `{}`", name.as_str());
                self.report(Diagnostic::error("duplicate-vlan", text.place.clone(), message));
            }
        }
        if let Some(id) = untagged.and_then(|text| self.segment_at(text)) {
            vlans.insert(0, id);
        }
        vlans
    }

    /// The segment that a VLAN identifier or a name stands for.
    fn segment_at(&mut self, text: &Text) -> Option<SegmentId> {
        if text.is_empty() {
            return None;
        }
        if text.as_str().chars().all(|c| c.is_ascii_digit()) {
            let vlan = self.vlan(text)?;
            let found = self.vlans.get(&vlan).copied();
            if found.is_none() && !self.lost.contains(text.as_str()) {
                let diagnostic = Diagnostic::error(
                    "unknown-vlan",
                    text.place.clone(),
                    format!("no segment has VLAN {vlan}"),
                )
                .expected("expected the VLAN of a segment");
                let help = match self.vlans.keys().min_by_key(|known| known.abs_diff(vlan)) {
                    Some(near) => format!("the nearest is {near}; or give a segment `vlan: {vlan}`"),
                    None => format!("give a segment `vlan: {vlan}`"),
                };
                self.report(diagnostic.help(help));
            }
            return found;
        }
        self.segment_named(text, "a segment or its VLAN")
    }

    /// The segment of this name; a mistake where there is none, by what was `expected` here.
    pub(super) fn segment_named(&mut self, text: &Text, expected: &str) -> Option<SegmentId> {
        match self.names.get(text.as_str()) {
            Some((Named::Segment(id), _)) => Some(*id),
            Some((Named::Broken, _)) => None,
            _ => {
                let known: Vec<String> = self.policy.own_segments().iter().map(|s| s.name.clone()).collect();
                self.unknown("unknown-name", text, expected, known.iter().map(String::as_str));
                None
            }
        }
    }
}

/// An interface that cannot be the end of a tunnel.
fn no_tunnel(name: &Text, kind: &InterfaceKind) -> Diagnostic {
    let name_of = name.as_str();
    let (message, expected) = if *kind == InterfaceKind::Wan {
        let message = format!("interface `{name_of}` is the end of no tunnel: `direct` is none");
        (message, "expected `ipsec`, `wireguard`, `openvpn` or `ip-vpn`; or no `tunnel`")
    } else {
        let message = format!("interface `{name_of}` is the end of a tunnel, and not the world");
        (message, "`tunnel` belongs to `wan: true`")
    };
    Diagnostic::error("interface-kind", name.place.clone(), message).expected(expected)
}
