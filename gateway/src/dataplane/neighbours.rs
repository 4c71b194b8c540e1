//! The kernel's neighbours of both families: which addresses an Ethernet address was seen with.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{self, attributes};

/// `struct ndmsg` (include/uapi/linux/neighbour.h): family, padding, index, state, flags, type.
const NEIGHBOUR_HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

/// Addresses of the neighbour with this Ethernet address (lower case, with colons), as far as the kernel knows any; without
/// link-local ones, which nobody routes.
///
/// # Errors
/// Where the kernel does not say.
pub fn neighbours_with(mac: &str) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    netlink::list(libc::RTM_GETNEIGH, NEIGHBOUR_HEADER, |body| found.extend(address_of(body, mac)))?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The address of a neighbour, from its message without the message's own header, where it has this Ethernet address.
fn address_of(body: &[u8], mac: &str) -> Option<IpAddr> {
    let body = body.get(NEIGHBOUR_HEADER..)?;
    let find = |wanted| attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let octets: Vec<String> = find(NDA_LLADDR)?.iter().map(|octet| format!("{octet:02x}")).collect();
    if !octets.join(":").eq_ignore_ascii_case(mac) {
        return None;
    }
    match find(NDA_DST)? {
        v4 if v4.len() == 4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(v4).ok()?).into()),
        v6 => {
            let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(v6).ok()?);
            (!v6.is_unicast_link_local()).then_some(v6.into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn neighbour(address: &[u8], mac: &[u8]) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(value.len() + 4).unwrap();
            let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        [vec![0; NEIGHBOUR_HEADER], attribute(NDA_DST, address), attribute(NDA_LLADDR, mac)].concat()
    }

    #[test]
    fn neighbours_of_both_families_are_read() {
        let mac = [2, 0, 0, 0, 0, 0xaf];
        let v6: Ipv6Addr = "fd00:1::5".parse().unwrap();
        let local: Ipv6Addr = "fe80::5".parse().unwrap();
        let of = |body: &[u8]| address_of(body, "02:00:00:00:00:af").map(|it| it.to_string());
        assert_eq!(of(&neighbour(&[10, 0, 1, 5], &mac)).unwrap(), "10.0.1.5");
        assert_eq!(of(&neighbour(&v6.octets(), &mac)).unwrap(), "fd00:1::5");
        assert_eq!(of(&neighbour(&local.octets(), &mac)), None, "nobody routes it");
        assert_eq!(of(&neighbour(&[10, 0, 1, 5], &[2, 0, 0, 0, 0, 0xae])), None, "somebody else");
        assert_eq!(of(&neighbour(&[10, 0, 1], &mac)), None, "no address");
        let whole = neighbour(&v6.octets(), &mac);
        // The last two bytes are padding.
        for length in 0..whole.len() - 2 {
            assert_eq!(of(&whole[..length]), None, "{length} bytes");
        }
    }
}
