//! Hosts, prefixes and ranges as text.

use std::cmp::Reverse;
use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use super::model::Ranges;
use super::ranges::normalise;

/// Inclusive range of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Span {
    /// IPv4, as numbers.
    V4(u32, u32),
    /// IPv6, as numbers.
    V6(u128, u128),
}

impl Span {
    pub(super) fn host(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4.to_bits(), v4.to_bits()),
            IpAddr::V6(v6) => Self::V6(v6.to_bits(), v6.to_bits()),
        }
    }

    fn prefix(prefix: IpNet) -> Self {
        match prefix {
            IpNet::V4(v4) => Self::V4(v4.network().to_bits(), v4.broadcast().to_bits()),
            IpNet::V6(v6) => Self::V6(v6.network().to_bits(), v6.broadcast().to_bits()),
        }
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(a, b), Self::V4(c, d)) => a <= d && c <= b,
            (Self::V6(a, b), Self::V6(c, d)) => a <= d && c <= b,
            _ => false,
        }
    }

    /// Sorts by the first address, and of those that begin alike the widest first.
    pub(super) fn widest_first(self) -> (bool, u128, Reverse<u128>) {
        match self {
            Self::V4(first, last) => (false, first.into(), Reverse(last.into())),
            Self::V6(first, last) => (true, first, Reverse(last)),
        }
    }
}

/// Sorted, disjoint and merged.
pub(super) fn merge(spans: impl IntoIterator<Item = Span>) -> Ranges {
    let mut ranges = Ranges::default();
    for span in spans {
        match span {
            Span::V4(first, last) => ranges.v4.push((first, last)),
            Span::V6(first, last) => ranges.v6.push((first, last)),
        }
    }
    Ranges { v4: normalise(ranges.v4), v6: normalise(ranges.v6) }
}

/// What is wrong with a text that was meant as an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressError {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) expected: String,
    pub(super) help: Option<String>,
}

impl AddressError {
    fn new(code: &'static str, message: impl Display, expected: &str) -> Self {
        Self { code, message: message.to_string(), expected: expected.to_owned(), help: None }
    }

    fn help(mut self, help: impl Display) -> Self {
        self.help = Some(help.to_string());
        self
    }
}

/// Whether a text can only be meant as an address: no name looks like this.
pub(super) fn looks_like_address(text: &str) -> bool {
    text.contains([':', '/']) || !text.contains(|c: char| c.is_alphabetic())
}

/// Reads a host, a prefix or a range.
pub(super) fn parse(text: &str) -> Result<Span, AddressError> {
    if text.contains('/') {
        parse_prefix(text)
    } else if let Some((first, last)) = text.split_once('-') {
        parse_range(first, last)
    } else {
        parse_host(text).map(Span::host)
    }
}

/// Reads one address.
pub(super) fn parse_host(text: &str) -> Result<IpAddr, AddressError> {
    let address = text.trim().parse().map_err(|_| {
        AddressError::new(
            "bad-address",
            format_args!("`{}` is not an address", shorten(text)),
            "expected an IPv4 or IPv6 address",
        )
    })?;
    refuse_mapped(address)?;
    Ok(address)
}

/// Reads a prefix; an address alone is one of full length.
pub(super) fn parse_prefix(text: &str) -> Result<Span, AddressError> {
    let Some((address, length)) = text.split_once('/') else {
        return parse_host(text).map(Span::host);
    };
    let address = parse_host(address)?;
    let longest: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix =
        length.parse().ok().and_then(|length| IpNet::new(address, length).ok()).ok_or_else(|| {
            AddressError::new(
                "bad-prefix",
                format_args!("`/{}` is not the length of a prefix", shorten(length)),
                &format!("expected /0 to /{longest}"),
            )
        })?;
    if prefix.trunc() != prefix {
        let expected = "expected zeros behind the prefix's length";
        return Err(AddressError::new("host-bits", format_args!("{prefix} has host bits set"), expected)
            .help(format_args!("write {} for the prefix, or {address} for the host", prefix.trunc())));
    }
    Ok(Span::prefix(prefix))
}

fn parse_range(first: &str, last: &str) -> Result<Span, AddressError> {
    let (first, last) = (parse_host(first)?, parse_host(last)?);
    let span = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (first <= last).then(|| Span::V4(first.to_bits(), last.to_bits()))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            (first <= last).then(|| Span::V6(first.to_bits(), last.to_bits()))
        }
        _ => {
            return Err(AddressError::new(
                "bad-range",
                format_args!("{first}-{last} mixes IPv4 and IPv6"),
                "expected two addresses of one family",
            ));
        }
    };
    span.ok_or_else(|| {
        let expected = "expected the lower address first";
        AddressError::new("bad-range", format_args!("{first}-{last} ends before it begins"), expected)
            .help(format_args!("write {last}-{first}"))
    })
}

/// An IPv4-mapped address never stands in a packet; the IPv4 address was meant.
fn refuse_mapped(address: IpAddr) -> Result<(), AddressError> {
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        let message = format_args!("{address} is an IPv4 address in IPv6 clothes").to_string();
        let expected = "expected an address that stands in packets";
        return Err(AddressError::new("mapped-address", message, expected).help(format_args!("write {v4}")));
    }
    Ok(())
}

fn shorten(text: &str) -> String {
    text.chars().take(50).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> (&'static str, Option<String>) {
        parse(text).map_or_else(|error| (error.code, error.help), |span| panic!("{text} is {span:?}"))
    }

    #[test]
    fn hosts_prefixes_and_ranges_are_their_first_and_last_address() {
        let v6 = |last: u128| 0xfd00_0070_u128 << 96 | last;
        for (text, span) in [
            ("10.0.0.9", Span::V4(0x0a00_0009, 0x0a00_0009)),
            ("10.0.0.8/30", Span::V4(0x0a00_0008, 0x0a00_000b)),
            ("0.0.0.0/0", Span::V4(0, u32::MAX)),
            ("10.0.0.1/32", Span::V4(0x0a00_0001, 0x0a00_0001)),
            ("10.0.0.1-10.0.1.0", Span::V4(0x0a00_0001, 0x0a00_0100)),
            ("10.0.0.1-10.0.0.1", Span::V4(0x0a00_0001, 0x0a00_0001)),
            ("fd00:70::9", Span::V6(v6(9), v6(9))),
            ("fd00:70::8/126", Span::V6(v6(8), v6(11))),
            ("::/0", Span::V6(0, u128::MAX)),
            ("fd00:70::1-fd00:70::ff", Span::V6(v6(1), v6(255))),
            ("fd00:70::1-fd00:70::1", Span::V6(v6(1), v6(1))),
        ] {
            assert_eq!(parse(text), Ok(span), "{text}");
        }
        assert_eq!(parse_prefix("10.0.0.9"), Ok(Span::V4(0x0a00_0009, 0x0a00_0009)));
    }

    #[test]
    fn what_is_no_address_says_what_was_meant() {
        let write = |text: &str| Some(format!("write {text}"));
        assert_eq!(code("10.0.0.256"), ("bad-address", None));
        assert_eq!(code("10.0.0.0/33"), ("bad-prefix", None));
        assert_eq!(code("fd00::/129"), ("bad-prefix", None));
        assert_eq!(code("10.0.0.9-10.0.0.8"), ("bad-range", write("10.0.0.8-10.0.0.9")));
        assert_eq!(code("fd00::9-fd00::8"), ("bad-range", write("fd00::8-fd00::9")));
        assert_eq!(code("10.0.0.9-fd00::8"), ("bad-range", None));
        assert_eq!(code("::ffff:10.0.0.9"), ("mapped-address", write("10.0.0.9")));
        assert_eq!(code("::ffff:10.0.0.9/128"), ("mapped-address", write("10.0.0.9")));
        let (found, help) = code("10.0.0.9/24");
        assert_eq!(found, "host-bits");
        assert_eq!(help.as_deref(), Some("write 10.0.0.0/24 for the prefix, or 10.0.0.9 for the host"));
        let longest = |text: &str| parse(text).map_err(|error| error.expected);
        assert_eq!(longest("10.0.0.0/x"), Err("expected /0 to /32".to_owned()));
        assert_eq!(longest("fd00::/x"), Err("expected /0 to /128".to_owned()));
    }

    #[test]
    fn no_name_looks_like_an_address() {
        assert!(
            ["10.0.0.9", "10.0.0.0/8", "zone/x", "fd00::", "1-2", "7"].map(looks_like_address) == [true; 6]
        );
        assert!(["pacs", "ct-1", "1a", "a.b.c"].map(looks_like_address) == [false; 4]);
    }

    #[test]
    fn spans_overlap_where_they_share_an_address() {
        for (a, b, c, d, shared) in [(1, 5, 5, 9, true), (1, 4, 5, 9, false), (1, 9, 4, 5, true)] {
            for (one, other) in [
                (Span::V4(a, b), Span::V4(c, d)),
                (Span::V6(a.into(), b.into()), Span::V6(c.into(), d.into())),
            ] {
                assert_eq!((one.overlaps(other), other.overlaps(one)), (shared, shared), "{one:?} {other:?}");
            }
        }
        assert!(!Span::V4(1, 5).overlaps(Span::V6(1, 5)));
    }

    #[test]
    fn the_widest_of_those_that_begin_alike_comes_first() {
        let mut spans = [Span::V6(0, 9), Span::V4(4, 5), Span::V4(0, 1), Span::V4(0, 9), Span::V6(0, 10)];
        spans.sort_by_key(|span| span.widest_first());
        let sorted = [Span::V4(0, 9), Span::V4(0, 1), Span::V4(4, 5), Span::V6(0, 10), Span::V6(0, 9)];
        assert_eq!(spans, sorted);
    }
}
