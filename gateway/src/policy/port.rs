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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, PortError>) -> (String, Option<String>) {
        let error = result.unwrap_err();
        (error.message, error.help)
    }

    #[test]
    fn ports_are_numbers_ranges_or_any() {
        assert_eq!(ports("104"), Ok((104, 104)));
        assert_eq!(ports("5000-5010"), Ok((5000, 5010)));
        assert_eq!(ports("7-7"), Ok((7, 7)));
        assert_eq!(ports("0-65535"), Ok(ANY_PORT));
        assert_eq!(ports("any"), Ok(ANY_PORT));
        assert_eq!(message(ports("0")).0, "port 0 is not a port");
        assert_eq!(message(ports("65536")).0, "`65536` is not a port");
        let (reversed, help) = message(ports("9-8"));
        assert_eq!((reversed.as_str(), help.as_deref()), ("9-8 ends before it begins", Some("write 8-9")));
    }

    #[test]
    fn types_have_names_and_numbers() {
        assert_eq!((icmp("echo-request"), icmpv6("echo-request")), (Ok((8, 8)), Ok((128, 128))));
        assert_eq!((icmp("any"), icmpv6("133-136")), (Ok((0, 255)), Ok((133, 136))));
        let (unknown, help) = message(icmp("echo-requst"));
        assert_eq!(unknown, "`echo-requst` is not an ICMP type");
        assert_eq!(help.as_deref(), Some("did you mean `echo-request`?"));
        assert_eq!(message(icmp("256")).0, "`256` is not an ICMP type");
    }

    /// They have keys of their own, and packets of them never count as other protocols.
    #[test]
    fn protocols_with_ports_or_types_are_not_numbers() {
        assert_eq!((protocol("esp"), protocol("50"), protocol("255")), (Ok(50), Ok(50), Ok(255)));
        for (name, number) in [("icmp", 1), ("tcp", 6), ("udp", 17), ("icmpv6", 58)] {
            let refused = format!("protocol {number} is {}", name.to_uppercase());
            let help = format!("write `{name}: [any]` in a definition, or `{name}` in place");
            for text in [name.to_owned(), number.to_string()] {
                assert_eq!(message(protocol(&text)), (refused.clone(), Some(help.clone())));
            }
        }
        assert_eq!(message(protocol("256")).0, "`256` is not a protocol");
    }

    #[test]
    fn services_in_place_begin_with_their_protocol() {
        let one = |text| in_place(text).map(|found| found.map(|matches| (matches.len(), matches[0])));
        let tcp = |destination| ServiceMatch::Tcp { source: ANY_PORT, destination };
        let udp = |destination| ServiceMatch::Udp { source: ANY_PORT, destination };
        assert_eq!(one("tcp/8443"), Some(Ok((1, tcp((8443, 8443))))));
        assert_eq!(one("tcp"), Some(Ok((1, tcp(ANY_PORT)))));
        assert_eq!(one("udp/1-9"), Some(Ok((1, udp((1, 9))))));
        assert_eq!(one("icmp/8"), Some(Ok((1, ServiceMatch::Icmp((8, 8))))));
        assert_eq!(one("icmpv6"), Some(Ok((1, ServiceMatch::Icmpv6((0, 255))))));
        assert_eq!(one("proto/esp"), Some(Ok((1, ServiceMatch::Protocol(50)))));
        assert_eq!((one("dicom"), one("tcp8443")), (None, None));
        assert_eq!(message(one("any/80").unwrap()).0, "`any/` is not the beginning of a service");
    }

    #[test]
    fn any_is_every_packet_once() {
        let any = in_place("any").unwrap().unwrap();
        let protocols = (0..=255u8).filter(|number| any.contains(&ServiceMatch::Protocol(*number)));
        assert_eq!(protocols.count(), 252);
        assert_eq!(any.len(), 256);
        for number in [1, 6, 17, 58] {
            assert!(!any.contains(&ServiceMatch::Protocol(number)));
        }
        assert!(any.contains(&ServiceMatch::Icmp((0, 255))) && any.contains(&ServiceMatch::Icmpv6((0, 255))));
    }
}
