//! The running connections that a change would cut: asked of what is in force, and shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::anyhow;
use gateway_common::reason::Reason;
use serde::Serialize;

use super::super::instance::Instance;
use super::render::{kind, write};
use crate::assure::cut::{Cuts, Example, Group};
use crate::daemon::{self, Running};
use crate::packet::Transport;
use crate::policy::model::{Policy, RuleId, RuleKind, SegmentId, ServiceMatch};

/// Groups that people are shown. Programs get all.
const GROUPS_SHOWN: usize = 100;

/// How many connections of a group are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed(usize);

impl Listed {
    /// Unless somebody asks for others.
    pub(super) const SOME: Self = Self(5);
    /// See [`Listed::SOME`]; what is put into a merge request is seen by many.
    pub(super) const NONE: Self = Self(0);
}

impl FromStr for Listed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(usize::MAX)),
            number => number.parse().map(Self).map_err(|_| "expected a number, or `all`".to_owned()),
        }
    }
}

/// What is known about the running connections.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Connections {
    Known(Known),
    Unknown {
        /// Why nobody can tell.
        unknown: String,
    },
}

/// The connections that the change would cut.
#[derive(Serialize)]
pub(super) struct Known {
    /// Number of the generation in force.
    generation: u32,
    /// Live connections.
    examined: u64,
    /// Those that would be cut.
    cut: u64,
    /// Those that no rule would allow any more, and that the modes let go on.
    unenforced: u64,
    groups: Vec<Cut>,
}

/// Connections that one rule admitted between two segments.
#[derive(Serialize)]
struct Cut {
    /// The rule that allows them now; absent for the gateway's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Named>,
    from: String,
    to: String,
    /// `no-flow`, `denied`, or what else stops their packets.
    reason: &'static str,
    /// The deny of the new policy that forbids them.
    #[serde(skip_serializing_if = "Option::is_none")]
    deny: Option<Named>,
    count: u64,
    states: BTreeMap<&'static str, u64>,
    connections: Vec<Line>,
}

#[derive(Serialize)]
struct Named {
    kind: RuleKind,
    name: String,
    file: String,
    line: u32,
}

/// One connection.
#[derive(Serialize)]
struct Line {
    from: End,
    to: End,
    /// Such as `tcp/104`: the listener's port.
    service: String,
    /// What the rule calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    state: &'static str,
    /// Seconds since its last packet, give or take one.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<u64>,
}

#[derive(Serialize)]
struct End {
    address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

impl Connections {
    /// Asks what is in force, if that is `old`.
    pub(super) fn ask(instance: &Instance, old: &Policy, new: &Policy, listed: Listed) -> Self {
        match survey(instance, old, new, listed) {
            Ok(known) => known,
            Err(error) => unknown(format!("{error:#}")),
        }
    }

    pub(super) fn text(&self) -> String {
        let known = match self {
            Self::Known(known) => known,
            Self::Unknown { unknown } => {
                return format!("Running connections: cannot tell, {unknown}\n\n");
            }
        };
        let mut text = format!("Running connections: {}\n", known.summary());
        for group in known.groups.iter().take(GROUPS_SHOWN) {
            write(&mut text, format_args!("  {}: {}\n", group.title(""), group.number()));
            write(&mut text, format_args!("    because {}\n", group.why("")));
            for line in &group.connections {
                write(&mut text, format_args!("    {line}\n"));
            }
        }
        if known.groups.len() > GROUPS_SHOWN {
            let more = known.groups.len() - GROUPS_SHOWN;
            write(&mut text, format_args!("  and {more} more groups: see --format json\n"));
        }
        text.push('\n');
        text
    }

    pub(super) fn markdown(&self) -> String {
        let known = match self {
            Self::Known(known) => known,
            Self::Unknown { unknown } => return format!("\nRunning connections: cannot tell, {unknown}\n"),
        };
        let mut text = format!("\n### Running connections: {}\n", known.summary());
        if !known.groups.is_empty() {
            text += "\n| admitted by | connections | why |\n|---|---|---|\n";
        }
        for group in known.groups.iter().take(GROUPS_SHOWN) {
            let cells = [group.title("`"), group.number(), group.why("`")];
            write(
                &mut text,
                format_args!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")),
            );
        }
        let mut lines =
            known.groups.iter().take(GROUPS_SHOWN).flat_map(|group| &group.connections).peekable();
        if lines.peek().is_some() {
            text.push('\n');
        }
        for line in lines {
            write(&mut text, format_args!("- {line}\n"));
        }
        text
    }
}

impl Known {
    fn summary(&self) -> String {
        let Self { cut, examined, unenforced, .. } = self;
        let cut = if *cut == 0 { "none".to_owned() } else { cut.to_string() };
        let rest = match unenforced {
            0 => String::new(),
            more => format!("; {more} more are not allowed and go on, for no segment of theirs enforces"),
        };
        format!("{cut} of {examined} would be cut{rest}")
    }
}

impl Cut {
    fn title(&self, quote: &str) -> String {
        let rule = match &self.rule {
            Some(rule) => format!("{} (old {}:{})", rule.called(quote), rule.file, rule.line),
            None => "the gateway's own".to_owned(),
        };
        format!("{rule}, {} -> {}", self.from, self.to)
    }

    fn number(&self) -> String {
        let states: Vec<String> =
            self.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        states.join(", ")
    }

    fn why(&self, quote: &str) -> String {
        match (&self.deny, self.reason) {
            (Some(deny), _) => format!("{} forbids it ({}:{})", deny.called(quote), deny.file, deny.line),
            (None, NO_FLOW) => "no flow allows it any more".to_owned(),
            (None, reason) => format!("its packets are dropped: {reason}"),
        }
    }
}

impl Named {
    fn of(policy: &Policy, rule: RuleId) -> Self {
        let rule = &policy.rules[rule.0 as usize];
        let (file, line) = (rule.origin.file.to_string(), rule.origin.line);
        Self { kind: rule.kind, name: rule.name.clone(), file, line }
    }

    fn called(&self, quote: &str) -> String {
        format!("{} {quote}{}{quote}", kind(self.kind), self.name)
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {} {}", self.from, self.to, self.service)?;
        if let Some(name) = self.name.as_ref().filter(|name| **name != self.service) {
            write!(f, " ({name})")?;
        }
        write!(f, ", {}", self.state)?;
        self.idle.map_or(Ok(()), |idle| write!(f, ", idle {idle} s"))
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.address, port))?,
            None => write!(f, "{}", self.address)?,
        }
        self.device.as_ref().map_or(Ok(()), |device| write!(f, " ({device})"))
    }
}

const NO_FLOW: &str = "no-flow";

fn unknown(why: impl Into<String>) -> Connections {
    Connections::Unknown { unknown: why.into() }
}

fn survey(instance: &Instance, old: &Policy, new: &Policy, listed: Listed) -> anyhow::Result<Connections> {
    let root = instance.pin_root.display();
    if !instance.is_present().map_err(|_| anyhow!("only root sees {root}, where it would show"))? {
        return Ok(unknown("no gateway runs on this machine"));
    }
    let Running { generation, cuts } = match daemon::survey(&instance.options(), old, new, listed.0) {
        Ok(running) => running,
        Err(why) => return Ok(unknown(why)),
    };
    let Cuts { examined, cut, unenforced, groups } = cuts;
    let groups = groups.iter().map(|group| shown(old, new, group)).collect();
    Ok(Connections::Known(Known { generation, examined, cut, unenforced, groups }))
}

fn shown(old: &Policy, new: &Policy, group: &Group) -> Cut {
    let [from, to] = group.before.segments.map(|segment: SegmentId| old.segment(segment).name.clone());
    let deny = group.after.rule.map(|rule| Named::of(new, rule));
    let reason = match (group.after.reason, &deny) {
        (Reason::Revoked, None) => NO_FLOW,
        (Reason::Revoked, Some(_)) => Reason::Denied.name(),
        (reason, _) => reason.name(),
    };
    Cut {
        rule: group.before.rule.map(|rule| Named::of(old, rule)),
        from,
        to,
        reason,
        deny,
        count: group.count,
        states: group.states.iter().map(|(state, count)| (state.name(), *count)).collect(),
        connections: group.examples.iter().map(|example| line(old, group.before.rule, example)).collect(),
    }
}

fn line(policy: &Policy, rule: Option<RuleId>, example: &Example) -> Line {
    let (service, ports) = match example.transport {
        Transport::Tcp { destination, .. } => (format!("tcp/{destination}"), true),
        Transport::Udp { destination, .. } => (format!("udp/{destination}"), true),
        Transport::Icmp(kind) => (format!("icmp/{kind}"), false),
        Transport::Icmpv6(kind) => (format!("icmpv6/{kind}"), false),
        Transport::Other(protocol) => (format!("proto/{protocol}"), false),
    };
    let end = |(address, port): (IpAddr, u16)| {
        let device = policy.devices.iter().find(|device| device.addresses.contains(&address));
        End { address, port: ports.then_some(port), device: device.map(|device| device.name.clone()) }
    };
    // The listener's port stands in the service.
    let to = End { port: None, ..end(example.responder) };
    Line {
        from: end(example.initiator),
        to,
        service,
        name: rule.and_then(|rule| service_name(policy, rule, example.transport)),
        state: example.state.name(),
        idle: example.idle,
    }
}

/// The service of a rule that a packet belongs to.
fn service_name(policy: &Policy, rule: RuleId, transport: Transport) -> Option<String> {
    let within = |(first, last): (u16, u16), port: u16| (first..=last).contains(&port);
    let is_it = |matches: &ServiceMatch| match (*matches, transport) {
        (ServiceMatch::Tcp { source, destination }, Transport::Tcp { source: from, destination: to })
        | (ServiceMatch::Udp { source, destination }, Transport::Udp { source: from, destination: to }) => {
            within(source, from) && within(destination, to)
        }
        (ServiceMatch::Icmp((first, last)), Transport::Icmp(kind))
        | (ServiceMatch::Icmpv6((first, last)), Transport::Icmpv6(kind)) => (first..=last).contains(&kind),
        (ServiceMatch::Protocol(named), Transport::Other(protocol)) => named == protocol,
        _ => false,
    };
    let services = policy.rules[rule.0 as usize].services.iter().map(|service| &policy.services[*service]);
    services.filter(|service| service.matches.iter().any(is_it)).map(|service| service.name.clone()).next()
}
