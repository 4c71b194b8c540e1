//! What of a policy the ruleset does not do, and the heading that says so.

use serde::Serialize;

use super::State;
use super::places::Places;
use super::text;
use crate::policy::model::{InterfaceKind, Origin, Policy};

/// Something that the XDP programs do and the ruleset does not, or does otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// In a sentence.
    pub what: String,
    /// What of the policy asks for it; absent where it is a difference between the two in general.
    pub origin: Option<Origin>,
}

impl Limit {
    fn general(what: &str) -> Self {
        Self { what: what.to_owned(), origin: None }
    }

    fn at(origin: &Origin, what: String) -> Self {
        Self { what, origin: Some(origin.clone()) }
    }

    /// As a line, with its place in front.
    pub fn line(&self) -> String {
        match &self.origin {
            Some(origin) => text::plain(&format!("{}:{}: {}", origin.file, origin.line, self.what)),
            None => self.what.clone(),
        }
    }
}

/// All of them: those of this policy first, then the general ones.
pub(super) fn limits(policy: &Policy, places: &Places<'_>, state: State) -> Vec<Limit> {
    let mut limits = Vec::new();
    for lost in &places.lost {
        let what = format!(
            "`{}` is not guarded: {}. What arrives there passes untouched; keep it down",
            lost.device, lost.why
        );
        limits.push(Limit::at(&lost.interface.origin, what));
    }
    for interface in policy.interfaces.iter().filter(|interface| interface.routed) {
        let what = format!(
            "`{}`: what a router forwards to it from other segments is dropped as spoofed; the ruleset does not know `routed`",
            interface.name
        );
        limits.push(Limit::at(&interface.origin, what));
    }
    for interface in &policy.interfaces {
        if let InterfaceKind::Trunk { outer, .. } = interface.kind {
            let name = &interface.name;
            let example = if outer == 0 { format!("{name}.VLAN") } else { format!("{name}.{outer}.VLAN") };
            let what = format!(
                "the VLANs of trunk `{name}` are known by the names of their devices, `{example}`; a device with another name is not guarded"
            );
            limits.push(Limit::at(&interface.origin, what));
        }
    }
    for rule in policy.rules.iter().filter(|rule| !rule.is_active()) {
        let what = format!("`{}` stays closed: its window, grant or tunnel is not enforced", rule.name);
        limits.push(Limit::at(&rule.origin, what));
    }
    for rule in policy.rules.iter().filter(|rule| rule.is_active() && rule.through.is_some()) {
        if state == State::Tracked {
            let what = format!(
                "`{}`: the first packet of a connection must arrive as it wants; what follows passes wherever it arrives",
                rule.name
            );
            limits.push(Limit::at(&rule.origin, what));
        }
    }
    for segment in policy.segments.iter().filter(|segment| !segment.ethertypes.is_empty()) {
        let what = format!(
            "the EtherTypes of segment `{}` are not judged, listed or not: the ruleset sees IPv4 and IPv6 alone",
            segment.name
        );
        limits.push(Limit::at(&segment.origin, what));
    }
    if policy.settings.midstream && state == State::Tracked {
        limits.push(Limit::general(
            "`midstream`: a connection is taken up in its middle by a packet of its initiator only",
        ));
    }
    limits.extend(general(state).map(Limit::general));
    limits
}

/// Differences that no policy can do without.
fn general(state: State) -> impl Iterator<Item = &'static str> {
    let connections: &[&str] = match state {
        State::Tracked => &[
            "running connections outlive a change of policy that no longer allows them; `conntrack --flush` ends them",
            "number and idle times of connections are those of the kernel (net.netfilter.nf_conntrack_*)",
            "fragments are put together by the kernel and judged as a whole",
        ],
        State::None => &[
            "there are no connections: an answer passes only where a flow allows it as if it opened one, and so does any TCP packet",
            "later fragments are judged by their addresses and protocol: a flow or deny with ports does not match them",
        ],
    };
    let always = [
        "ARP is not judged: a host may claim the address of another",
        "neighbour discovery is checked, and not limited in its rate",
        "headers are checked as far as the kernel does: source routes, extension headers and odd combinations of TCP flags have no counter",
        "devices are those that the kernel routes by: of a bridge or a bond that one, and not its ports",
        "a VLAN tag that no device of the kernel has is dropped by the kernel, and not counted",
        "what the kernel's own IPsec decrypts is judged once more, as if it had come in plain on the same device",
        "drops and audits are in the kernel's log, without the rule; counters begin anew when the ruleset is loaded",
    ];
    connections.iter().copied().chain(always)
}

/// What stands at the top of the file.
pub(super) fn heading(policy: &Policy, state: State, limits: &[Limit]) -> String {
    let mut heading = String::from("#!/usr/sbin/nft -f\n");
    let kind = match state {
        State::Tracked => "connections are tracked by the kernel",
        State::None => "stateless",
    };
    let hash: String = policy.hash.chars().take(12).collect();
    let about = format!(
        "Policy {hash} as an nftables ruleset ({kind}), written by clinigate {}.",
        env!("CARGO_PKG_VERSION")
    );
    heading += &text::paragraph(&about, "# ", "# ");
    heading += "# It replaces an earlier one in one transaction: nft -f FILE\n#\n";
    heading += "# What it does not do, or not as Clinigate does:\n";
    for limit in limits {
        heading += &text::paragraph(&limit.line(), "# - ", "#   ");
    }
    heading.push('\n');
    heading
}
