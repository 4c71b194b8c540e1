//! Ports, ICMP types and protocol numbers as text.

use super::model::{ANY_PORT, ServiceMatch};

/// What is wrong with a text that was meant as one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortError {
    pub(super) message: String,
    pub(super) expected: &'static str,
    pub(super) help: Option<String>,
}

impl PortError {
    fn new(message: String, expected: &'static str) -> Self {
        Self { message, expected, help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Reads `104`, `5000-5010` or `any`.
pub(super) fn ports(text: &str) -> Result<(u16, u16), PortError> {
    const EXPECTED: &str = "expected a port from 1 to 65535, or a range such as 5000-5010";
    if text == "any" {
        return Ok(ANY_PORT);
    }
    let (first, last) = range(text, "a port", EXPECTED, |text| text.parse().ok())?;
    if last == 0 {
        return Err(PortError::new("port 0 is not a port".to_owned(), EXPECTED));
    }
    Ok((first, last))
}

/// Reads an ICMP type, a range of them or `any`.
pub(super) fn icmp(text: &str) -> Result<(u8, u8), PortError> {
    const EXPECTED: &str = "expected an ICMP type such as echo-request, or its number from 0 to 255";
    types(text, ICMP_TYPES, EXPECTED)
}

/// Reads an ICMPv6 type, a range of them or `any`.
pub(super) fn icmpv6(text: &str) -> Result<(u8, u8), PortError> {
    const EXPECTED: &str = "expected an ICMPv6 type such as echo-request, or its number from 0 to 255";
    types(text, ICMPV6_TYPES, EXPECTED)
}

/// Reads a protocol number or name that has neither ports nor types.
pub(super) fn protocol(text: &str) -> Result<u8, PortError> {
    const EXPECTED: &str = "expected a protocol such as esp, or its number from 0 to 255";
    let number = match lookup(PROTOCOLS, text) {
        Some(number) => number,
        None => text
            .parse()
            .map_err(|_| PortError::new(format!("`{}` is not a protocol", shorten(text)), EXPECTED))?,
    };
    let key = match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        _ => return Ok(number),
    };
    let message = format!("protocol {number} is {}", key.to_uppercase());
    Err(PortError::new(message, "expected a protocol without ports or types")
        .help(format!("write `{key}: [any]` in a definition, or `{key}` in place")))
}

/// Reads a service written in place, such as `tcp/8443`. `None` where it is a name.
pub(super) fn in_place(text: &str) -> Option<Result<Vec<ServiceMatch>, PortError>> {
    let (key, rest) = text.split_once('/').map_or((text, None), |(key, rest)| (key, Some(rest)));
    let value = rest.unwrap_or("any");
    let found = match key {
        "any" if rest.is_none() => return Some(Ok(everything())),
        "tcp" => ports(value).map(|destination| ServiceMatch::Tcp { source: ANY_PORT, destination }),
        "udp" => ports(value).map(|destination| ServiceMatch::Udp { source: ANY_PORT, destination }),
        "icmp" => icmp(value).map(ServiceMatch::Icmp),
        "icmpv6" => icmpv6(value).map(ServiceMatch::Icmpv6),
        "proto" => protocol(value).map(ServiceMatch::Protocol),
        _ if rest.is_some() => {
            let expected = "expected tcp/PORT, udp/PORT, icmp/TYPE, icmpv6/TYPE or proto/NUMBER";
            Err(PortError::new(format!("`{}/` is not the beginning of a service", shorten(key)), expected))
        }
        _ => return None,
    };
    Some(found.map(|found| vec![found]))
}

/// Every packet of every protocol.
fn everything() -> Vec<ServiceMatch> {
    let others = (0..=u8::MAX).filter(|number| ![1, 6, 17, 58].contains(number)).map(ServiceMatch::Protocol);
    [
        ServiceMatch::Tcp { source: ANY_PORT, destination: ANY_PORT },
        ServiceMatch::Udp { source: ANY_PORT, destination: ANY_PORT },
        ServiceMatch::Icmp((0, u8::MAX)),
        ServiceMatch::Icmpv6((0, u8::MAX)),
    ]
    .into_iter()
    .chain(others)
    .collect()
}

fn types(text: &str, names: &[(&str, u8)], expected: &'static str) -> Result<(u8, u8), PortError> {
    if text == "any" {
        return Ok((0, u8::MAX));
    }
    if let Some(number) = lookup(names, text) {
        return Ok((number, number));
    }
    range(text, "an ICMP type", expected, |text| text.parse().ok()).map_err(|error| {
        match super::names::nearest(text, names.iter().map(|(name, _)| *name)) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error,
        }
    })
}

fn range<T: Ord + Copy>(
    text: &str,
    what: &str,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<(T, T), PortError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (Some(low), Some(high)) = (parse(first), parse(last)) else {
        return Err(PortError::new(format!("`{}` is not {what}", shorten(text)), expected));
    };
    if low > high {
        let message = format!("{} ends before it begins", shorten(text));
        return Err(
            PortError::new(message, "expected the lower number first").help(format!("write {last}-{first}"))
        );
    }
    Ok((low, high))
}

fn lookup(names: &[(&str, u8)], text: &str) -> Option<u8> {
    names.iter().find(|(name, _)| *name == text).map(|(_, number)| *number)
}

fn shorten(text: &str) -> String {
    text.chars().take(50).collect()
}

/// IANA "ICMP Type Numbers".
const ICMP_TYPES: &[(&str, u8)] = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
];

/// IANA "ICMPv6 type Numbers".
const ICMPV6_TYPES: &[(&str, u8)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbour-solicitation", 135),
    ("neighbour-advertisement", 136),
];

/// IANA "Assigned Internet Protocol Numbers".
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
];
